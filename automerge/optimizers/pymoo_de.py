"""Differential evolution as pymoo has it: DE/best/1/bin (Storn and Price 1997) for one objective, GDE3 for several.

GDE3 (Kukkonen and Lampinen 2005) has a child replace its parent if it dominates it, and cuts back what neither
dominates by front and crowding.
"""

from __future__ import annotations

from collections.abc import Sequence

from pymoo.algorithms.soo.nonconvex.de import DE
from pymoo.core.algorithm import Algorithm

from automerge.fidelity import Ladder
from automerge.protocols import Space
from automerge.pymoo_algorithm import PymooAlgorithm
from automerge.records import Constraint, Objective

try:
    from pymoo.algorithms.moo.gde3 import GDE3
except ImportError as fault:
    raise ImportError("it needs pymoo 0.6.2 or newer: pip install --upgrade pymoo") from fault


class PymooDe(PymooAlgorithm):
    """pymoo's DE or GDE3 with their stock settings on the unit box, where a choice is an interval.

    The first generation of `population` is the best references, at most half of it, and samples of the space.
    """

    operator = "pymoo_de"

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
        n_objectives = len(self._ledger.objectives)
        kind = DE if n_objectives == 1 else GDE3
        return kind(pop_size=self._population_size, sampling=self._initial, seed=self._start_seed), n_objectives
