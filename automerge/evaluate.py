"""Query to Evaluation: write the recipe into the resident model, ask the tasks, score item by item.

A broken model or a lost evaluation becomes a status with a reason; it is never a bad score.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

from automerge.language_model import InvalidModelError, Monitor
from automerge.model import ResidentModel
from automerge.protocols import Task
from automerge.records import Evaluation, Orders, Query, Scores, Slice, Status


class Evaluator:
    """Answers queries with one resident model.

    `orders` is shared with the search, which fixes the order of the search items once the sources are evaluated.
    """

    def __init__(self, model: ResidentModel, tasks: Mapping[str, Task], orders: Orders) -> None:
        self._model = model
        self._tasks = tasks
        self._orders = orders

    def __call__(self, query: Query) -> Evaluation:
        """The evaluation of a query.

        Status `invalid` if weights or outputs are not finite or all outputs are one token, `failed` if the device ran
        out of memory or could not compute. Raises ValueError for a query that names unknown tasks, items or sources,
        and for a task that does not give a number from 0 to 1 for every item.
        """
        monitor = self._model.lm.monitor = Monitor()
        start = time.perf_counter()
        merged = start
        scores: list[Scores] = []
        status: Status = "ok"
        reason = ""
        try:
            self._model.write(query.recipe)
            device = self._model.lm.model.device
            if device.type == "cuda":
                # There merging is only queued, and its time would be told as that of the first forward pass.
                torch.cuda.synchronize(device)
            merged = time.perf_counter()
            scores = [self._score(part) for part in query.slices]
            monitor.refuse_collapse()
        except InvalidModelError as fault:
            status, reason = "invalid", str(fault)
        except (torch.OutOfMemoryError, MemoryError) as fault:
            remedy = "lower model.batch_tokens" if merged > start else "merging needs more memory than the device has"
            status, reason = "failed", f"out of memory: {fault}; {remedy}"
        except (RuntimeError, IndexError) as fault:
            # What a device or a kernel cannot do with one candidate must not end a night's run.
            status, reason = "failed", f"{type(fault).__name__}: {fault}"
        end = time.perf_counter()
        merged = merged if merged > start else end
        seconds = {
            "merge": merged - start,
            "forward": monitor.forward_seconds,
            "score": end - merged - monitor.forward_seconds,
        }
        return Evaluation(
            status=status,
            scores=tuple(scores) if status == "ok" else (),
            seconds=seconds,
            costs={**self._model.costs(query.recipe), "tokens": float(monitor.n_tokens)},
            reason=reason,
        )

    def _score(self, part: Slice) -> Scores:
        order = self._orders.get((part.task, part.split))
        if part.task not in self._tasks or order is None:
            raise ValueError(f"unknown task or split {part.task!r}/{part.split!r}; there are {sorted(self._orders)}")
        if part.stop > len(order):
            raise ValueError(f"{part.task!r} has {len(order)} {part.split} items, the query asks for item {part.stop}")
        items = [int(item) for item in order[part.start : part.stop]]
        values = self._tasks[part.task].score(self._model.lm, part.split, items)
        if len(values) != len(items):
            raise ValueError(f"task {part.task!r}: expected a score for each of {len(items)} items, got {len(values)}")
        for item, value in zip(items, values, strict=True):
            if not 0 <= value <= 1:
                raise ValueError(
                    f"task {part.task!r}: scores lie between 0 and 1, {part.split} item {item} got {value}"
                )
        return Scores(slice=part, items=tuple(items), values=tuple(values))
