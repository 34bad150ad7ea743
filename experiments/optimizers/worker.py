"""One run of the study from its settings to its figures, in a process of its own."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge import run
from automerge.composition import composed
from automerge.history import History
from automerge.log import LOG, RunLog
from automerge.parts import Parts
from automerge.protocols import HypervolumeOptimizer, Optimizer
from automerge.records import Proposal, Slice, Trial
from automerge.runners.serial import SerialRunner
from automerge.subsets import shuffled
from experiments.machine import describe
from experiments.optimizers.cache import CachedEvaluator, ScoreStore
from experiments.optimizers.checkpoints import SHARES, TestItems, recommended_by, trajectory

FIGURES = "figures.json"
"""Name of the file in a run's folder that says that the run is finished, and holds what came out."""

DEVELOPMENT = 600
"""Test items of every task, the first of their order, that served the development of bayes_evolution: fronts are judged
on the others."""

ASKS = "ask_seconds.json"
"""Name of the file in a run's folder that holds the seconds of every `ask`."""

FAULT = "fault.txt"
"""Name of the file in a run's folder that holds the traceback of a run that raised."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run to do: which problem, optimizer and seed, with its Hydra overrides, folder and score store."""

    problem: str
    optimizer: str
    seed: int
    overrides: tuple[str, ...]
    folder: Path
    store: Path

    @property
    def name(self) -> str:
        """What the run is called in messages."""
        return f"{self.problem} {self.optimizer} seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether the run is done and measured."""
        return (self.folder / FIGURES).is_file()


class TimedOptimizer:
    """An optimizer that keeps the seconds of every `ask`, and of all `tell` together."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self.asks: list[float] = []
        self.tell_seconds = 0.0

    def count_above(self, reference_point: NDArray[np.float64]) -> None:
        """Takes the point above which hypervolume is counted."""
        if isinstance(self._optimizer, HypervolumeOptimizer):
            self._optimizer.count_above(reference_point)

    def ask(self) -> Proposal:
        """The next proposal."""
        start = time.perf_counter()
        proposal = self._optimizer.ask()
        self.asks.append(time.perf_counter() - start)
        return proposal

    def tell(self, trial: Trial) -> None:
        """Takes the state of a trial."""
        start = time.perf_counter()
        self._optimizer.tell(trial)
        self.tell_seconds += time.perf_counter() - start

    def promising(self, n: int) -> list[int]:
        """Ids of at most n partly evaluated trials that most likely belong on the front, best first."""
        return self._optimizer.promising(n)


def work(job: Job) -> str:
    """Runs a job to its end and writes its figures; returns why it could not, empty if it could.

    A fault is data here, because one optimizer must not end the study, and not every exception can be sent between
    processes; its traceback lies in the job's folder.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        figures = measured(job)
    except Exception as fault:
        (job.folder / FAULT).write_text(traceback.format_exc())
        return f"{type(fault).__name__}: {fault}"
    (job.folder / FAULT).unlink(missing_ok=True)
    _write(job.folder / FIGURES, figures)
    return ""


def measured(job: Job) -> dict[str, Any]:
    """Figures of one run, which is searched to its end, from its beginning or from where its log ends.

    A search that is resumed asks again for all that its log answers, so the seconds of `ask` are always whole; they
    are those of the last process.
    """
    quieten()
    settings = composed([*job.overrides, f"seed={job.seed}"])
    parts = run.assemble(settings, log=job.folder / LOG)
    timed = TimedOptimizer(parts.optimizer)
    with ScoreStore(job.store) as store, RunLog(job.folder / LOG) as log:
        evaluate = CachedEvaluator(parts.model, parts.tasks, parts.orders, store)
        for _ in run.search(settings, replace(parts, optimizer=timed, runner=SerialRunner(evaluate)), log):
            pass
        history = History.of(log)
        judged = _judged(history, judges(parts, history, evaluate), settings, parts.ladder.rungs[-1])
    _write(job.folder / ASKS, timed.asks)
    return {
        "problem": job.problem,
        "optimizer": job.optimizer,
        "seed": job.seed,
        "budget": settings["budget"]["items"],
        **judged,
        **_spent(history),
        "n_asks": len(timed.asks),
        "ask_seconds": sum(timed.asks),
        "ask_median": float(np.median(timed.asks)),
        "ask_worst": max(timed.asks),
        "tell_seconds": timed.tell_seconds,
        "machine": describe(),
    }


def judges(parts: Parts, history: History, evaluate: CachedEvaluator) -> TestItems:
    """The test items by which fronts are judged, evaluated as needed; their orders are those of the parts from now."""
    for number, (name, task) in enumerate(parts.tasks.items()):
        parts.orders[name, "test"] = shuffled(task.size("test"), (number, 2))[DEVELOPMENT:]
    slices = [Slice(name, "test", 0, len(parts.orders[name, "test"])) for name in parts.tasks]
    return TestItems(history, evaluate, slices)


def _judged(history: History, tests: TestItems, settings: Mapping[str, Any], full: int) -> dict[str, Any]:
    budget, limit = int(settings["budget"]["items"]), int(settings["report"]["recommend"])
    references = tests.volume(history.trials[number] for number in history.references)
    checkpoints = []
    for share in SHARES:
        # The last evaluation may go beyond the budget; at the end it counts for everyone.
        items = share * budget if share < 1 else np.inf
        found = recommended_by(history, items, n_items=full, limit=limit)
        volume = tests.volume(found)
        checkpoints.append({"share": share, "n_models": len(found), "hypervolume": volume, "gain": volume - references})
    final = tests.volume(history.trials[number] for number in history.recommended)
    return {
        "sources": tests.volume(history.trials[number] for number in history.sources),
        "references": references,
        "reference_point": history.reference_point.tolist(),
        "checkpoints": checkpoints,
        "final": {"n_models": len(history.recommended), "hypervolume": final, "gain": final - references},
        "trajectory": [round(volume, 6) for volume in trajectory(history, budget)],
    }


def _spent(history: History) -> dict[str, Any]:
    searched = [row for row in history.evaluations if row.phase == "search"]
    proposed = [trial for number, trial in history.trials.items() if number not in history.references]
    return {
        "n_trials": len(proposed),
        "statuses": dict(Counter(trial.status for trial in proposed)),
        "items_nested": sum(part.stop - part.start for row in searched for part in row.slices),
        "items_verified": sum(
            part.stop - part.start for row in history.evaluations if row.phase == "verify" for part in row.slices
        ),
        "n_evaluations": len(searched),
        "items_full": sum(part.stop for row in searched for part in row.slices),
        "seconds": sum(row.wall for row in history.evaluations),
        "seconds_evaluating": sum(sum(row.evaluation.seconds.values()) for row in history.evaluations),
    }


def _write(path: Path, values: Any) -> None:
    """Writes a JSON file whole or not at all."""
    draft = path.with_name(f"{path.name}.part")
    draft.write_text(json.dumps(values, indent=1) + "\n")
    draft.replace(path)


def quieten() -> None:
    """Switches progress bars of libraries off."""
    import datasets  # noqa: PLC0415 (slow to import, and only processes that run need it)
    import transformers  # noqa: PLC0415 (likewise)

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
