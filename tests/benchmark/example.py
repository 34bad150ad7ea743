"""Tiny runs whose truth is known, without models, and the benchmark that is exported from them.

The simulator of `tests.simulation` answers; what differs here is that evaluations take time by rule, that some merges
are broken, and that enough trials are tested for a model of the test scores.
"""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from automerge.benchmark.export import export_benchmark
from automerge.components import build
from automerge.fidelity import Ladder
from automerge.log import LOG, RunLog
from automerge.measures import to_settings
from automerge.protocols import Measures
from automerge.recipe import COMPONENTS, OUTER
from automerge.records import Evaluation, Query, Slice
from automerge.runners.serial import SerialRunner
from automerge.search import Budget, Search
from tests.simulation import N_ITEMS, OBJECTIVES, TASKS, Simulator, SizedTask

N_LAYERS = 4
SPACE = {"_target_": "automerge.spaces.lfs.LayerwiseFusion", "granularity": 2, "strengths": [0.5]}
LAYOUT = {"sources": ["left", "right"], "n_layers": N_LAYERS}
EVOLUTION = {"_target_": "automerge.optimizers.evolution.Evolution", "n_initial": 6}
RANDOM = {"_target_": "automerge.optimizers.random_search.RandomSearch", "halving": True, "tied": False}
MEASURES = Measures(
    {
        **{(layer, c): np.array([0.1 + 0.02 * layer, 0.2]) for layer in range(N_LAYERS) for c in COMPONENTS},
        (None, OUTER): np.array([0.1, 0.1]),
    },
    {None: 100, **dict.fromkeys(range(N_LAYERS), 50)},
)

MERGE_SECONDS, ITEM_SECONDS = 0.02, 0.001
"""What merging two sources takes, one source half of it, and what evaluating an item does."""


class TimedSimulator(Simulator):
    """The simulator with exact costs and seconds that are a function of the query."""

    def __call__(self, query: Query) -> Evaluation:
        answer = super().__call__(query)
        merge = MERGE_SECONDS * len(query.recipe.sources) / 2
        return Evaluation(
            answer.status,
            answer.scores,
            {"merge": merge, "forward": ITEM_SECONDS * query.n_items, "score": 0.0},
            {"layers": float(N_LAYERS), "parameters": 300.0, "tokens": 2.0 * query.n_items},
            answer.reason,
        )


def example_run(
    folder: Path,
    *,
    optimizer: dict[str, Any] | None = None,
    seed: int = 0,
    trials: int = 40,
    breaks: bool = True,
    steps: int | None = None,
    **changes: Any,
) -> Path:
    """A run folder with the log of a search, finished or stopped after some steps; `changes` replace its settings."""
    chosen = optimizer or EVOLUTION
    folder.mkdir(parents=True)
    with RunLog(folder / LOG) as log:
        # Tests do not outlive a power cut, and waiting for the disk takes most of their time.
        log._connection.execute("PRAGMA synchronous = OFF")
        space = build(SPACE, **LAYOUT).measured(MEASURES)
        ladder = Ladder(minimum=12, maximum=60)
        orders: dict[Any, Any] = {}
        simulator = TimedSimulator(orders, breaks=breaks)
        settings = {
            "config": {
                "space": SPACE,
                "optimizer": chosen,
                "fidelity": {"min": 12, "max": 60, "eta": 3},
                "budget": {"trials": trials, "items": None, "minutes": None},
                "report": {"verify": 3, "recommend": 12, "test_items": None, "baseline": None},
                "start": [],
            },
            "identity": {"sources": {"left": "1", "right": "2"}, "tasks": {"a": "a", "b": "b"}, "start": {}},
            "objectives": [asdict(objective) for objective in OBJECTIVES],
            "constraints": [],
            "seed": seed,
            "layout": LAYOUT,
            "measures": to_settings(MEASURES),
            "versions": {"automerge": "0.1.0"},
        }
        log.write_settings({**settings, **changes})
        search = Search(
            space=space,
            tasks={name: SizedTask(name) for name in TASKS},
            objectives=OBJECTIVES,
            optimizer=build(chosen, space=space, objectives=OBJECTIVES, ladder=ladder, constraints=(), seed=seed),
            runner=SerialRunner(simulator),
            log=log,
            orders=orders,
            ladder=ladder,
            budget=Budget(trials=trials),
            seed=seed,
            n_verify=3,
            n_recommend=12,
        )
        for _ in islice(search.run(), steps):
            pass
        if steps is None:
            _test_all(log, simulator)
    return folder


def _test_all(log: RunLog, simulator: TimedSimulator) -> None:
    """Evaluates the trials on the test items that the search did not."""
    tested = {row.trial for row in log.evaluations() if row.phase == "test" or row.evaluation.status != "ok"}
    slices = tuple(Slice(task, "test", 0, N_ITEMS) for task in TASKS)
    for trial in log.trials():
        if trial.id not in tested:
            evaluation = simulator(Query(trial.recipe, slices))
            log.write_evaluation(trial, phase="test", slices=slices, evaluation=evaluation, wall=0.1)


def example_runs(folder: Path) -> list[Path]:
    """Three run folders of one problem: evolution with two seeds, whose subsets differ, and random search."""
    return [
        example_run(folder / "evolution-0"),
        example_run(folder / "evolution-1", seed=1),
        example_run(folder / "random_search-2", optimizer=RANDOM, seed=2),
    ]


def example_benchmark(folder: Path) -> Path:
    """The exported benchmark of the example runs, in a folder of its own below this one."""
    export_benchmark(example_runs(folder / "runs"), folder / "example")
    return folder / "example"


def truth(query: Query) -> dict[str, float]:
    """Expected scores by task of what a query asks for."""
    return Simulator({}).truth(query)


__all__ = ["N_ITEMS", "example_benchmark", "example_run", "example_runs", "truth"]
