"""pymoo's algorithms behind `ask` and `tell`, on the unit box."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.algorithm import Algorithm
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination

from automerge.fidelity import Ladder
from automerge.foreign import worst_values
from automerge.generational import Answer, Generational
from automerge.options import refuse, whole_faults
from automerge.protocols import Space
from automerge.records import Constraint, Objective

FEWEST = 5
"""The smallest population: with fewer, differential evolution finds no distinct parents."""


class PymooAlgorithm(Generational):
    """The part that pymoo's algorithms have in common. Holds the algorithm.

    A member builds the algorithm, and says what it is told as values, of which pymoo takes smaller for better.
    """

    def __init__(
        self,
        *,
        space: Space,
        objectives: Sequence[Objective],
        ladder: Ladder,
        seed: int,
        constraints: Sequence[Constraint] = (),
        halving: bool = True,
        population: int,
    ) -> None:
        """Raises ValueError for a population that is too small."""
        refuse(whole_faults(FEWEST, population=population))
        super().__init__(
            space=space, objectives=objectives, ladder=ladder, seed=seed, constraints=constraints, halving=halving
        )
        self._population_size = population
        self._algorithm: Algorithm
        self._worst = -worst_values(self._ledger.objectives, space)

    def _start(self) -> None:
        self._algorithm, n_values = self._build()
        problem = Problem(n_var=self._box.n_dims, n_obj=n_values, xl=0.0, xu=1.0)
        self._algorithm.setup(problem, termination=NoTermination())

    def _draw(self) -> Sequence[Any]:
        drawn = self._algorithm.ask()
        if drawn is None:
            # It found no child that differs from its population.
            self._n_starts += 1
            self._start()
            drawn = self._algorithm.ask()
        return list(drawn)

    def _genotype(self, suggestion: Any) -> NDArray[np.float64]:
        return np.asarray(self._box.genotypes(suggestion.X[None])[0])

    def _advance(self, answers: Sequence[Answer]) -> None:
        told = Population.create(*(answer.suggestion for answer in answers))
        told.set("F", self._losses(answers))
        self._algorithm.tell(infills=told)

    def _has_ended(self) -> bool:
        return bool(self._algorithm.termination.has_terminated())

    @property
    def _initial(self) -> NDArray[np.float64]:
        """The points of the first population, shape (population, n_genes)."""
        return self._box.points(self._population(self._population_size))

    @abstractmethod
    def _build(self) -> tuple[Algorithm, int]:
        """The algorithm, not yet set up, and the number of values that it is told of each suggestion."""

    def _losses(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        """What the algorithm is told, smaller is better, shape (n, n_values): here the values with their sign turned.

        A model that broke or failed is worse than all others, but finite, so that it can be compared.
        """
        found = [-answer.values for answer in answers if answer.values is not None]
        self._worst = np.max([self._worst, *found], axis=0)
        broken = self._worst + 1 + np.abs(self._worst)
        return np.array([broken if answer.values is None else -answer.values for answer in answers])
