"""Seconds that an optimizer thinks about its next proposal, by the number of trials, on one thread.

The scores are a cheap known function of layer-wise fusions of 25 layers (304 genes, 380 features) or of stacks of 43,
fused or not (305 genes, 482 features). Every fifth new stack on average is broken, by chance, and counts as a trial.

python -m experiments.ask_time                                  # bayes_evolution, 500 trials; into results.json
python -m experiments.ask_time --optimizers evolution tpe --trials 100 --write no
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from collections.abc import Callable
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from automerge.components import build
from automerge.composition import composed
from automerge.fidelity import Ladder
from automerge.history import reference_point
from automerge.protocols import HypervolumeOptimizer, Optimizer, Space
from automerge.records import REFERENCE, Objective, Proposal, Result, Trial
from automerge.spaces.dis import DepthIntegration
from automerge.spaces.lfs import LayerwiseFusion
from experiments.machine import describe

FOLDER = Path(__file__).parent
LADDER = Ladder(minimum=30, maximum=300)
SOURCES = ("left", "right")
STRENGTHS = (0.5, 0.7, 0.9)
SPACES: dict[str, Callable[[], Space]] = {
    "lfs": lambda: LayerwiseFusion(sources=SOURCES, n_layers=25, strengths=STRENGTHS),
    "dis": lambda: DepthIntegration(
        sources=SOURCES, n_layers=43, methods=("linear", "task_arithmetic", "ties"), strengths=STRENGTHS
    ),
}
BROKEN = {"lfs": 0.0, "dis": 0.2}
"""Chance of a new model to be broken."""

BOUNDS = (100, 200, 300, 400, 500)
"""Numbers of trials up to which times are put together."""


class Scores:
    """Bernoulli items whose chance is a smooth function of the features, one for each task."""

    def __init__(self, space: Space, n_tasks: int, broken: float) -> None:
        self.space = space
        self._broken = broken
        self.objectives = tuple(Objective(f"task{k}") for k in range(n_tasks))
        rng = np.random.default_rng(0)
        self._wanted = rng.uniform(0, 1, size=(n_tasks, len(space.feature_names)))
        self._items = rng.random((n_tasks, LADDER.rungs[-1]))
        self._luck = np.random.default_rng(1)
        self.trials: dict[int, Trial] = {}

    def tell(self, optimizer: Optimizer, proposal: Proposal) -> None:
        """Evaluates a proposal and tells the trial."""
        number = len(self.trials) if proposal.trial is None else proposal.trial
        recipe = self.space.decode(proposal.genotype)
        is_new = proposal.trial is None and proposal.origin["operator"] != REFERENCE
        if is_new and self._luck.random() < self._broken:
            known = Trial(number, proposal.genotype, recipe, proposal.origin, "invalid", reason="by chance")
        else:
            features = self.space.features(proposal.genotype[None])[0]
            chances = 1.1 - 1.2 * np.abs(features - self._wanted).mean(axis=1)
            right = self._items[:, : proposal.stop] < chances[:, None]
            results = {
                task.name: Result(proposal.stop, float(right[k].sum())) for k, task in enumerate(self.objectives)
            }
            # As in a search: of the sources they are not known in order.
            known_in_order = proposal.origin.get("kind") != "source"
            items = {task.name: right[k].astype(float) for k, task in enumerate(self.objectives) if known_in_order}
            costs = {"layers": float(len(recipe.layers))}
            known = Trial(number, proposal.genotype, recipe, proposal.origin, "ok", results, costs, items=items)
        self.trials[number] = known
        optimizer.tell(known)


def times(name: str, scores: Scores, n_trials: int, n_workers: int) -> list[tuple[int, float, float]]:
    """(Trials so far, seconds, seconds of the processor) of every `ask`, with `n_workers` proposals in flight."""
    spec = composed(["experiment=demo", f"optimizer={name}"])["optimizer"]
    optimizer: Optimizer = build(spec, space=scores.space, objectives=scores.objectives, ladder=LADDER, seed=0)
    for reference, known in scores.space.references().items():
        if known.genotype is not None:
            origin = {"operator": REFERENCE, "name": reference, "kind": known.kind}
            scores.tell(optimizer, Proposal(known.genotype, LADDER.rungs[-1], origin))
    if isinstance(optimizer, HypervolumeOptimizer):
        sources = [trial for trial in scores.trials.values() if trial.origin["kind"] == "source"]
        optimizer.count_above(reference_point(sources, scores.objectives, chances={}, depth=1.0))
    found: list[tuple[int, float, float]] = []
    flying: deque[Proposal] = deque()
    n_new = 0
    while n_new < n_trials:
        start, worked = time.perf_counter(), time.process_time()
        flying.append(optimizer.ask())
        found.append((n_new, time.perf_counter() - start, time.process_time() - worked))
        n_new += flying[-1].trial is None
        if len(flying) == n_workers:
            scores.tell(optimizer, flying.popleft())
    return found


def summary(found: list[tuple[int, float, float]]) -> dict[str, Any]:
    """Median, worst and mean seconds, and the worst of the processor, overall and between the bounds of trials."""
    parts = {"all": found}
    for low, high in zip((0, *BOUNDS), BOUNDS, strict=False):
        if within := [each for each in found if low <= each[0] < high]:
            parts[f"{low}-{high}"] = within
    figures = {}
    for name, rows in parts.items():
        _, seconds, worked = zip(*rows, strict=True)
        median, mean = float(np.median(seconds)), float(np.mean(seconds))
        figures[name] = {"median": median, "mean": mean, "worst": max(seconds), "worst_processor": max(worked)}
    return figures


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizers", nargs="+", default=["bayes_evolution"])
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=list(SPACES))
    parser.add_argument("--tasks", nargs="+", type=int, default=[2, 3, 4])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--write", choices=("yes", "no"), default="yes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(title=f"seconds of ask, {options.trials} trials, one thread", title_justify="left")
    columns = ("optimizer", "space", "tasks", "in flight", "broken", "median", "mean", "worst", "processor")
    for column in columns:
        table.add_column(column, justify="right")
    for name, kind, n_tasks, n_workers in product(options.optimizers, options.spaces, options.tasks, options.workers):
        space = SPACES[kind]()
        scores = Scores(space, n_tasks, BROKEN[kind])
        figures = summary(times(name, scores, options.trials, n_workers))
        n_broken = sum(trial.status == "invalid" for trial in scores.trials.values())
        row: dict[str, Any] = {"optimizer": name, "space": kind, "genes": len(space.genes)}
        row |= {"features": len(space.feature_names), "tasks": n_tasks, "in_flight": n_workers, "broken": n_broken}
        row |= {"trials": options.trials, "machine": describe(), "seconds": figures}
        if options.write == "yes":
            _keep(row)
        values = figures["all"].values()
        shown = (name, kind, str(n_tasks), str(n_workers), str(n_broken), *(f"{value:.3f}" for value in values))
        table.add_row(*shown)
        Console().print(*shown)  # at once, because a row takes minutes
    Console(width=120).print(table)


def _keep(row: dict[str, Any]) -> None:
    """Writes the row into the results, in place of an earlier one of the same kind."""
    file = FOLDER / "results.json"
    rows = json.loads(file.read_text()) if file.is_file() else []
    kind = itemgetter("optimizer", "space", "tasks", "in_flight", "trials")
    rows = sorted([*(each for each in rows if kind(each) != kind(row)), row], key=kind)
    file.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
