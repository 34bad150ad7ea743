"""Item scores by recipe, shared by all runs of the study: what one run evaluated, no other evaluates again.

Only the seconds of a run depend on what is stored; its item scores, and so everything it proposes and finds, do not::

    with ScoreStore(Path("cache.db")) as store:
        evaluate = CachedEvaluator(model, tasks, orders, store)
        evaluate(query)           # an Evaluation, as automerge.evaluate.Evaluator gives it
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import numpy as np

from automerge.evaluate import Evaluator
from automerge.model import ResidentModel
from automerge.protocols import Task
from automerge.recipe import Recipe
from automerge.records import Evaluation, Orders, Query, Scores, Slice, Split, Status

PATIENCE = 120.0
"""Seconds to wait for another process that is writing."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS scores (
    model TEXT NOT NULL, task TEXT NOT NULL, split TEXT NOT NULL, items BLOB NOT NULL, vals BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS scores_by_model ON scores(model, task, split);
CREATE TABLE IF NOT EXISTS faults (model TEXT PRIMARY KEY, status TEXT NOT NULL, reason TEXT NOT NULL);
"""

Place = tuple[str, Split]
"""A task and a split of its items."""

Rows = dict[Place, list[int]]
"""Row numbers of items by task and split."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a model gave no scores: the status and the reason of its evaluation."""

    status: Status
    reason: str


class ScoreStore:
    """Item scores by model, task, split and row number, in one SQLite file. Holds the connection; use it as a context.

    Several processes may read and write at once. Scores are appended, never changed: what two processes evaluate at
    the same time is stored twice.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        # What a crash of the machine loses is evaluated again; a killed process loses nothing.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def scores(self, model: str, task: str, split: Split) -> dict[int, float]:
        """All stored scores by row number."""
        rows = self._connection.execute(
            "SELECT items, vals FROM scores WHERE model = ? AND task = ? AND split = ?", (model, task, split)
        )
        found: dict[int, float] = {}
        for items, values in rows:
            numbers = np.frombuffer(zlib.decompress(items), dtype="<i4").tolist()
            found.update(zip(numbers, np.frombuffer(zlib.decompress(values), dtype="<f8").tolist(), strict=True))
        return found

    def fault(self, model: str) -> Fault | None:
        """Why the model gave no scores when it was evaluated, None if it never failed to."""
        row = self._connection.execute("SELECT status, reason FROM faults WHERE model = ?", (model,)).fetchone()
        return None if row is None else Fault(cast(Status, row[0]), row[1])

    def write_scores(self, model: str, found: Sequence[tuple[str, Scores]]) -> None:
        """Stores scores of a model, given with the name under which their task is stored, in one transaction."""
        rows = [
            (
                model,
                task,
                scores.slice.split,
                zlib.compress(np.array(scores.items, dtype="<i4").tobytes()),
                zlib.compress(np.array(scores.values, dtype="<f8").tobytes()),
            )
            for task, scores in found
        ]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO scores VALUES (?, ?, ?, ?, ?)", rows)
        self._connection.execute("COMMIT")

    def write_fault(self, model: str, fault: Fault) -> None:
        """Stores why a model gives no scores; the first reason stays."""
        self._connection.execute("INSERT OR IGNORE INTO faults VALUES (?, ?, ?)", (model, fault.status, fault.reason))


class CachedEvaluator:
    """Answers queries as `Evaluator` does, and evaluates only the items of which no score is stored.

    Scores, their order, status, reason, layers and parameters are those of an evaluation without the store, as far as
    a model's answer to an item does not depend on the items beside it in a batch, which nested fidelities rest on
    too. A model that once was `invalid` stays so, but for items of which scores are stored. Seconds, and
    the tokens among the costs, are those really spent: none where everything is stored, but for the look-up.
    """

    def __init__(self, model: ResidentModel, tasks: Mapping[str, Task], orders: Orders, store: ScoreStore) -> None:
        self._model = model
        self._orders = orders
        self._store = store
        self._missing: Orders = {}
        self._evaluate = Evaluator(model, tasks, self._missing)
        # Equal recipes are equal models, and equal names equal items, only of the same weights, precision and data.
        weights = [sorted(model.sources.fingerprints.items()), str(model.lm.model.dtype)]
        self._weights = hashlib.sha256(json.dumps(weights).encode()).hexdigest()[:16]
        self._stored_as = {name: f"{name}:{task.fingerprint}" for name, task in tasks.items()}

    def __call__(self, query: Query) -> Evaluation:
        """The evaluation of a query. Raises ValueError for a query that names unknown tasks, items or sources."""
        start = time.perf_counter()
        model = f"{self._weights}:{query.recipe.id}"
        wanted: Rows = {}
        for part in query.slices:
            wanted.setdefault((part.task, part.split), []).extend(self._rows(part))
        known = {place: self._store.scores(model, self._stored_as[place[0]], place[1]) for place in wanted}
        missing = {place: [row for row in rows if row not in known[place]] for place, rows in wanted.items()}
        missing = {place: rows for place, rows in missing.items() if rows}
        answer = self._answer(query.recipe, model, missing)
        for scores in answer.scores:
            known[scores.slice.task, scores.slice.split].update(zip(scores.items, scores.values, strict=True))
        elapsed = time.perf_counter() - start
        working = answer.seconds.get("merge", 0.0) + answer.seconds.get("forward", 0.0)
        return Evaluation(
            status=answer.status,
            scores=tuple(self._scores(part, known) for part in query.slices) if answer.status == "ok" else (),
            seconds={"merge": 0.0, "forward": 0.0, **answer.seconds, "score": elapsed - working},
            costs={**self._model.costs(query.recipe), "tokens": answer.costs.get("tokens", 0.0)},
            reason=answer.reason,
        )

    def _answer(self, recipe: Recipe, model: str, missing: Rows) -> Evaluation:
        """What the model says to the missing items, which is stored; nothing is evaluated if there are none."""
        if not missing:
            return Evaluation(status="ok")
        fault = self._store.fault(model)
        if fault is not None:
            return Evaluation(status=fault.status, reason=fault.reason)
        self._missing.clear()
        self._missing.update({place: np.array(rows, dtype=np.int64) for place, rows in missing.items()})
        answer = self._evaluate(Query(recipe, tuple(Slice(*place, 0, len(rows)) for place, rows in missing.items())))
        if answer.status == "ok":
            self._store.write_scores(model, [(self._stored_as[scores.slice.task], scores) for scores in answer.scores])
        elif answer.status == "invalid":  # what failed may succeed with more memory or another neighbour
            self._store.write_fault(model, Fault(answer.status, answer.reason))
        return answer

    def _rows(self, part: Slice) -> list[int]:
        order = self._orders.get((part.task, part.split))
        if order is None or part.task not in self._stored_as:
            raise ValueError(f"unknown task or split {part.task!r}/{part.split!r}; there are {sorted(self._orders)}")
        if part.stop > len(order):
            raise ValueError(f"{part.task!r} has {len(order)} {part.split} items, the query asks for item {part.stop}")
        return [int(row) for row in order[part.start : part.stop]]

    def _scores(self, part: Slice, known: Mapping[Place, Mapping[int, float]]) -> Scores:
        rows = self._rows(part)
        return Scores(part, tuple(rows), tuple(known[part.task, part.split][row] for row in rows))
