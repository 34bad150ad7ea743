"""Simulated runs on a handmade benchmark: its folder with all that a search asks of it, and settings of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from automerge.benchmark.simulation import assemble
from automerge.log import LOG, RunLog
from automerge.parts import search
from tests.benchmark.handmade import SIZES, handmade

TASKS = {
    task: {"chance": 0.25, "sizes": sizes, "binary": True, "fingerprint": f"items of {task}"}
    for task, sizes in SIZES.items()
}
SMM = {"_target_": "automerge.spaces.smm_ps.SmmParameterSpace"}
VIRTUAL = {"_target_": "automerge.runners.virtual.VirtualRunner", "n_workers": 1}
EVOLUTION = {"_target_": "automerge.optimizers.evolution.Evolution", "n_initial": 6}
RANDOM = {"_target_": "automerge.optimizers.random_search.RandomSearch", "halving": True, "tied": False}


def make_benchmark(folder: Path, **options: Any) -> Path:
    """A benchmark of the tasks math and code, in this order, whose searches had rungs of 6, 20 and 60 items."""
    changes = {
        "tasks": TASKS,
        "objectives": [{"name": task, "kind": "task", "weights": []} for task in SIZES],
        "constraints": [],
        "fidelity": {"min": 6, "max": 60, "eta": 3},
        "n_trials": 300,
        "layout": {"sources": ["left", "right"], "n_layers": 4},
        **options.pop("changes", {}),
    }
    return handmade(folder, changes=changes, **options)


def make_settings(benchmark: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a short simulated run, as the command line composes them."""
    settings = {
        "seed": 0,
        "benchmark": {"path": str(benchmark), "seed": 0},
        "optimizer": EVOLUTION,
        "runner": VIRTUAL,
        "budget": {"trials": 20, "items": None, "minutes": None},
        "costs": None,
        "weights": None,
        "constraints": None,
        "model": {},
        "report": {"verify": 2, "recommend": 3, "test_items": None, "baseline": None},
    }
    return {**settings, **changes}


def run(settings: dict[str, Any], folder: Path, n_steps: int | None = None) -> Path:
    """The folder of a run after so many steps, or to its end, from where its log ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with RunLog(folder / LOG) as log:
        # Tests do not outlive a power cut, and waiting for the disk takes most of their time.
        log._connection.execute("PRAGMA synchronous = OFF")
        steps = search(settings, assemble(settings), log)
        for number, _ in enumerate(steps, start=1):
            if number == n_steps:
                break
    return folder
