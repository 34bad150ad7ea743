"""Evolution: NSGA-II (Deb et al. 2002) with operators on blocks of depth and successive halving.

The steady-state form: every `ask` selects the best of all trials by pymoo's rank and crowding, mates two of them by
tournament, and proposes one child, so it can be asked at any time while other evaluations are under way. pymoo's
mixed-variable mating is not used: it resamples a third of all categorical genes in every child.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import binary_tournament
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from automerge.fidelity import Ladder
from automerge.ledger import Ledger
from automerge.mating import mate, tied_share
from automerge.options import number_faults, refuse, share_faults, whole_faults
from automerge.protocols import Space
from automerge.records import Constraint, Objective, Proposal, Trial
from automerge.variation import N_TRIES, Layout, new_sample

IMMIGRANTS = 0.1
"""Share of proposals that stay samples of the space after the first ones, against a population grown alike."""


class Evolution:
    """Proposes children of the best trials, at the first rung, and promotes the best up the ladder.

    `population` is the number of parents, `n_initial` the number of samples before mating starts; `caution` is how
    many standard errors are taken off a measured mean when parents are selected, so that a lucky short evaluation
    does not outrank a long one. Holds the trials told and the genotypes asked.
    """

    def __init__(
        self,
        *,
        space: Space,
        objectives: Sequence[Objective],
        ladder: Ladder,
        seed: int,
        constraints: Sequence[Constraint] = (),
        population: int = 16,
        n_initial: int = 24,
        crossover: float = 0.7,
        caution: float = 0.5,
    ) -> None:
        """Raises ValueError for options that cannot be."""
        refuse(
            [
                *whole_faults(1, population=population),
                *whole_faults(0, n_initial=n_initial),
                *share_faults(crossover=crossover),
                *number_faults(caution=caution),
            ]
        )
        self._space = space
        self._layout = Layout.of(space.genes)
        self._ledger = Ledger(objectives=objectives, ladder=ladder, constraints=constraints)
        self._seed = seed
        self._population = population
        self.n_initial = n_initial
        self._crossover = crossover
        self._caution = caution
        self._problem = Problem(n_var=len(space.genes), n_obj=len(self._ledger.objectives))
        self._n_asked = 0
        self._n_new = 0

    def ask(self) -> Proposal:
        """A promotion if one is due, else a new genotype at the first rung: first samples, then children.

        It is a known one only if neither N_TRIES children nor `new_sample` find another, as where the space is used up.
        """
        self._n_asked += 1
        rng = np.random.default_rng([self._seed, self._n_asked])
        promotion = self._ledger.promotion()
        if promotion is not None:
            return promotion
        genotype, origin = self._new(rng)
        self._n_new += 1
        self._ledger.see(genotype)
        return Proposal(genotype, self._ledger.first_stop, origin)

    def tell(self, trial: Trial) -> None:
        """Takes the state of a trial."""
        self._ledger.tell(trial)

    def promising(self, n: int) -> list[int]:
        """Ids of at most n partly evaluated trials that most likely belong on the front, best first."""
        return self._ledger.promising(n)

    def _new(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], Mapping[str, Any]]:
        alive = self._ledger.alive
        if self._n_new >= self.n_initial and len(alive) >= 2 and rng.random() >= IMMIGRANTS:
            for _ in range(N_TRIES):
                child, origin = self._child(alive, rng)
                if self._ledger.is_new(child):
                    return child, origin
        return new_sample(self._space, self._ledger.seen, rng), {"operator": "sample"}

    def _child(self, alive: Sequence[Trial], rng: np.random.Generator) -> tuple[NDArray[np.float64], Mapping[str, Any]]:
        first, second = self._parents(alive, rng)
        child, operators = mate(
            first.genotype,
            second.genotype,
            self._layout,
            rng,
            tied=tied_share(self._n_new),
            crossover=self._crossover,
        )
        parents = [first.id, second.id] if "depth_crossover" in operators else [first.id]
        repaired = self._space.repair(child[None])[0]
        return repaired, {"operator": "+".join(operators), "parents": parents}

    def _parents(self, alive: Sequence[Trial], rng: np.random.Generator) -> tuple[Trial, Trial]:
        F = -self._ledger.points(alive, caution=self._caution)
        population = Population.new(X=np.arange(len(alive))[:, None].astype(float), F=F)
        n_survive = min(self._population, len(alive))
        best = RankAndCrowding().do(self._problem, population, n_survive=n_survive, random_state=rng)
        tournament = TournamentSelection(func_comp=binary_tournament)
        pairs = tournament.do(self._problem, best, 1, 2, to_pop=False, random_state=rng, algorithm=_Tournament(rng))
        chosen = [alive[int(best[index].X[0])] for index in pairs[0]]
        return chosen[0], chosen[1]


@dataclass(frozen=True)
class _Tournament:
    """The two attributes of an algorithm that pymoo's binary tournament looks at."""

    random_state: np.random.Generator
    tournament_type: str = "comp_by_rank_and_crowding"
