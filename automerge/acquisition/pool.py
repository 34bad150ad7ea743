"""Candidates: NSGA-II of pymoo evolves them for several generations inside the model of the landscape.

Merges respond to blocks of layers, so the operators are those of `variation`: pymoo's own for mixed variables redraw a
third of all choices in every child. Every candidate that is ever looked at is kept, not the last generation alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.evaluator import Evaluator
from pymoo.core.infill import InfillCriterion
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.problems.static import StaticProblem

from automerge.pareto import Points
from automerge.protocols import Genotypes, Space
from automerge.records import genotype_key

Vary = Callable[[NDArray[np.float64], NDArray[np.float64], np.random.Generator], NDArray[np.float64]]
"""A child, still to be repaired, of two parents; may be of the first alone."""


def evolve(
    space: Space,
    start: Genotypes,
    fitness: Callable[[Genotypes], Points],
    vary: Vary,
    rng: np.random.Generator,
    *,
    n_generations: int,
    n_children: int,
    n_parents: int,
) -> Genotypes:
    """All distinct canonical genotypes seen on the way, shape (n, n_genes), without those of `start`.

    `fitness` gives values to be made large, shape (n, n_objectives).
    """
    first = fitness(start)
    problem = Problem(n_var=start.shape[1], n_obj=first.shape[1], xl=-np.inf, xu=np.inf)
    algorithm = NSGA2(
        pop_size=n_parents,
        n_offsprings=n_children,
        sampling=Population.new(X=start),
        mating=_Mating(space, vary, rng),
        eliminate_duplicates=False,
    )
    algorithm.setup(problem, termination=NoTermination(), seed=int(rng.integers(2**31)), verbose=False)
    seen = {genotype_key(x) for x in start}
    kept = []
    for generation in range(n_generations + 1):
        infills = algorithm.ask()
        X = np.asarray(infills.get("X"), dtype=np.float64)
        F = -(first if generation == 0 else fitness(X))
        Evaluator().eval(StaticProblem(problem, F=F), infills)
        algorithm.tell(infills=infills)
        for x in X:
            key = genotype_key(x)
            if key not in seen:
                seen.add(key)
                kept.append(x)
    return np.array(kept).reshape(-1, start.shape[1])


class _Mating(InfillCriterion):  # type: ignore[misc]  # pymoo has no types
    """Tournaments by rank and crowding choose parents, `vary` makes one child of two, and the space repairs it."""

    def __init__(self, space: Space, vary: Vary, rng: np.random.Generator) -> None:
        super().__init__()
        self._space = space
        self._vary = vary
        self._rng = rng
        self._selection = TournamentSelection(func_comp=_better)

    def _do(self, problem: Problem, pop: Population, n_offsprings: int, **_: Any) -> Population:
        pairs = self._selection.do(problem, pop, n_offsprings, 2, to_pop=False, random_state=self._rng)
        X = pop.get("X")
        children = np.array([self._vary(X[first], X[second], self._rng) for first, second in pairs])
        return Population.new(X=self._space.repair(children))


def _better(pop: Population, P: NDArray[np.int64], **_: Any) -> NDArray[np.int64]:
    """Of every row of P the individual of the better front, within a front the one in the less crowded place."""
    rank = pop.get("rank").astype(np.float64)
    crowding = pop.get("crowding").astype(np.float64)
    a, b = P[:, 0], P[:, 1]
    first_wins = (rank[a] < rank[b]) | ((rank[a] == rank[b]) & (crowding[a] >= crowding[b]))
    return np.where(first_wins, a, b)[:, None]
