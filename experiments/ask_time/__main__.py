"""Seconds that an optimizer thinks about its next proposal, by the number of trials, on one thread.

The scores are a cheap known function of layer-wise fusions of 25 layers (304 genes, 380 features).

python -m experiments.ask_time                                  # bayes_evolution, 500 trials; writes results.json
python -m experiments.ask_time --optimizers evolution tpe --trials 100 --write no
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
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
from automerge.protocols import HypervolumeOptimizer, Optimizer
from automerge.records import REFERENCE, Objective, Proposal, Result, Trial
from automerge.spaces.lfs import LayerwiseFusion
from experiments.machine import describe

FOLDER = Path(__file__).parent
LADDER = Ladder(minimum=30, maximum=300)
N_LAYERS = 25
BOUNDS = (100, 200, 300, 400, 500)
"""Numbers of trials up to which times are put together."""


class Scores:
    """Bernoulli items whose chance is a smooth function of the features, one for each task."""

    def __init__(self, n_tasks: int) -> None:
        self.space = LayerwiseFusion(sources=["left", "right"], n_layers=N_LAYERS, strengths=(0.5, 0.7, 0.9))
        self.objectives = tuple(Objective(f"task{k}") for k in range(n_tasks))
        n_features = len(self.space.feature_names)
        rng = np.random.default_rng(0)
        self._wanted = rng.uniform(0, 1, size=(n_tasks, n_features))
        self._items = rng.random((n_tasks, LADDER.rungs[-1]))
        self.trials: dict[int, Trial] = {}

    def tell(self, optimizer: Optimizer, proposal: Proposal) -> None:
        """Evaluates a proposal and tells the trial."""
        features = self.space.features(proposal.genotype[None])[0]
        chances = 1.1 - 1.2 * np.abs(features - self._wanted).mean(axis=1)
        right = self._items[:, : proposal.stop] < chances[:, None]
        number = len(self.trials) if proposal.trial is None else proposal.trial
        results = {each.name: Result(proposal.stop, float(right[k].sum())) for k, each in enumerate(self.objectives)}
        # The items of uniform merges, one by one, tell how easy the first ones are.
        uniform = proposal.origin.get("kind") == "uniform"
        items = {each.name: tuple(right[k].tolist()) for k, each in enumerate(self.objectives)} if uniform else {}
        recipe = self.space.decode(proposal.genotype)
        costs = {"layers": float(N_LAYERS)}
        known = Trial(number, proposal.genotype, recipe, proposal.origin, "ok", results, costs, items=items)
        self.trials[number] = known
        optimizer.tell(self.trials[number])


def times(name: str, n_tasks: int, n_trials: int, n_workers: int) -> list[tuple[int, float]]:
    """(Trials so far, seconds) of every `ask`, with `n_workers` proposals in flight at a time."""
    scores = Scores(n_tasks)
    spec = composed(["experiment=demo", f"optimizer={name}"])["optimizer"]
    optimizer: Optimizer = build(spec, space=scores.space, objectives=scores.objectives, ladder=LADDER, seed=0)
    for reference, known in scores.space.references().items():
        if known.genotype is not None:
            origin = {"operator": REFERENCE, "name": reference, "kind": known.kind}
            scores.tell(optimizer, Proposal(known.genotype, LADDER.rungs[-1], origin))
    if isinstance(optimizer, HypervolumeOptimizer):
        sources = [trial for trial in scores.trials.values() if trial.origin["kind"] == "source"]
        optimizer.count_above(reference_point(sources, scores.objectives, chances={}, depth=1.0))
    found: list[tuple[int, float]] = []
    flying: deque[Proposal] = deque()
    n_new = 0
    while n_new < n_trials:
        start = time.perf_counter()
        flying.append(optimizer.ask())
        found.append((n_new, time.perf_counter() - start))
        n_new += flying[-1].trial is None
        if len(flying) == n_workers:
            scores.tell(optimizer, flying.popleft())
    return found


def summary(found: list[tuple[int, float]]) -> dict[str, Any]:
    """Median, worst and mean seconds, overall and between the bounds of trials."""
    parts = {"all": [seconds for _, seconds in found]}
    for low, high in zip((0, *BOUNDS), BOUNDS, strict=False):
        if within := [seconds for n, seconds in found if low <= n < high]:
            parts[f"{low}-{high}"] = within
    return {
        name: {"median": float(np.median(values)), "worst": max(values), "mean": float(np.mean(values))}
        for name, values in parts.items()
    }


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizers", nargs="+", default=["bayes_evolution"])
    parser.add_argument("--tasks", nargs="+", type=int, default=[2, 3])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--write", choices=("yes", "no"), default="yes")
    options = parser.parse_args()
    size = len(Scores(1).space.feature_names)
    torch.set_num_threads(1)
    table = Table(title=f"seconds of ask, {options.trials} trials, one thread", title_justify="left")
    columns = ("optimizer", "tasks", "in flight", "median", "worst", "mean", "median of the last", "worst of the last")
    for column in columns:
        table.add_column(column, justify="right")
    rows = []
    for name in options.optimizers:
        for n_tasks in options.tasks:
            for n_workers in options.workers:
                figures = summary(times(name, n_tasks, options.trials, n_workers))
                rows.append({"optimizer": name, "tasks": n_tasks, "in_flight": n_workers, "seconds": figures})
                whole, last = figures["all"], list(figures.values())[-1]
                values = (whole["median"], whole["worst"], whole["mean"], last["median"], last["worst"])
                table.add_row(name, str(n_tasks), str(n_workers), *(f"{value:.3f}" for value in values))
    Console().print(table)
    if options.write == "yes":
        results = {"machine": describe(), "trials": options.trials, "features": size, "rows": rows}
        (FOLDER / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
