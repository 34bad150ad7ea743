"""A hill without noise: how near the weights of a merge are to those of a hidden one, over all layers or by halves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from automerge.fidelity import Ladder
from automerge.optimizers.random_search import RandomSearch
from automerge.pareto import hypervolume
from automerge.protocols import Optimizer, Space
from automerge.records import Objective, Result, Trial
from automerge.spaces.smm_ps import SmmParameterSpace

N_ITEMS = 10_000
SEEDS = (0, 1, 2)
HIDDEN = np.array([0.9, 0.2, 0.8, 0.3, 0.7, 0.1, 0.6, 0.4])

Make = Callable[[Space, Sequence[Objective], Ladder, int], Optimizer]


def scores(x: np.ndarray, n_objectives: int) -> np.ndarray:
    """One less the mean distance to the hidden weights, for each share of the layers."""
    parts = np.split(1 - np.abs(x - HIDDEN), n_objectives)
    return np.array([part.mean() for part in parts])


def climbed(make: Make, seed: int, *, n_objectives: int = 1, n: int = 120) -> float:
    """The best score or, of several objectives, the hypervolume above 0.5 after n trials."""
    space = SmmParameterSpace(sources=["left", "right"], n_layers=4, uniform=True)
    objectives = [Objective(f"half {k}") for k in range(n_objectives)]
    optimizer = make(space, objectives, Ladder(minimum=N_ITEMS, maximum=N_ITEMS), seed)
    points = []
    for number in range(n):
        proposal = optimizer.ask()
        points.append(scores(proposal.genotype, n_objectives))
        results = {
            objective.name: Result(N_ITEMS, float(N_ITEMS * value))
            for objective, value in zip(objectives, points[-1], strict=True)
        }
        recipe = space.decode(proposal.genotype)
        optimizer.tell(Trial(number, proposal.genotype, recipe, proposal.origin, "ok", results))
    if n_objectives == 1:
        return float(np.max(points))
    return hypervolume(np.array(points), np.full(n_objectives, 0.5))


def lead(make: Make, *, n_objectives: int = 1) -> float:
    """By how much an optimizer climbs higher than random search, on average over the seeds."""

    def drawn(space: Space, objectives: Sequence[Objective], ladder: Ladder, seed: int) -> Optimizer:
        return RandomSearch(space=space, objectives=objectives, ladder=ladder, seed=seed)

    leads = [
        climbed(make, seed, n_objectives=n_objectives) - climbed(drawn, seed, n_objectives=n_objectives)
        for seed in SEEDS
    ]
    return float(np.mean(leads))
