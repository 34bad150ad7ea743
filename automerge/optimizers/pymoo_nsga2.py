"""NSGA-II (Deb et al. 2002) as pymoo has it: simulated binary crossover and polynomial mutation of real vectors."""

from __future__ import annotations

from collections.abc import Sequence

from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.algorithm import Algorithm

from automerge.fidelity import Ladder
from automerge.protocols import Space
from automerge.pymoo_algorithm import PymooAlgorithm
from automerge.records import Constraint, Objective


class PymooNsga2(PymooAlgorithm):
    """pymoo's NSGA2 with its stock operators on the unit box, where a choice is an interval.

    The first generation of `population` is the best references, at most half of it, and samples of the space.
    """

    operator = "pymoo_nsga2"

    def __init__(
        self,
        *,
        space: Space,
        objectives: Sequence[Objective],
        ladder: Ladder,
        seed: int,
        constraints: Sequence[Constraint] = (),
        halving: bool = True,
        population: int = 20,
    ) -> None:
        """Raises ValueError for a population that is too small."""
        super().__init__(
            space=space,
            objectives=objectives,
            ladder=ladder,
            seed=seed,
            constraints=constraints,
            halving=halving,
            population=population,
        )

    def _build(self) -> tuple[Algorithm, int]:
        algorithm = NSGA2(pop_size=self._population_size, sampling=self._initial, seed=self._start_seed)
        return algorithm, len(self._ledger.objectives)
