"""sep-CMA-ES: the CMA-ES with a diagonal covariance (Ros and Hansen 2008), for many dimensions and few evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge.fidelity import Ladder
from automerge.generational import Answer, Generational, places
from automerge.options import positive_faults, refuse, whole_faults
from automerge.protocols import Space
from automerge.records import Constraint, Objective

try:
    from cmaes import SepCMA
except ImportError as fault:
    raise ImportError('it needs cmaes: pip install cmaes, or in a checkout pip install -e ".[rivals]"') from fault


class SepCma(Generational):
    """The sep-CMA-ES of cmaes on the unit box, where a choice is an interval.

    It starts at the best trial known with the standard deviation `sigma`, and anew when it has converged. With several
    objectives a generation is ranked by front and crowding. `population` is the size of a generation, None for the
    library's rule 4 + 3 ln(n_genes).
    """

    operator = "sep_cma"

    def __init__(
        self,
        *,
        space: Space,
        objectives: Sequence[Objective],
        ladder: Ladder,
        seed: int,
        constraints: Sequence[Constraint] = (),
        halving: bool = True,
        population: int | None = None,
        sigma: float = 0.2,
    ) -> None:
        """Raises ValueError for options that cannot be, and for a space of one gene."""
        if len(space.genes) < 2:
            raise ValueError("sep_cma needs two genes at least, the space has one; take another optimizer")
        sizes = {} if population is None else {"population": population}
        refuse([*whole_faults(2, **sizes), *positive_faults(sigma=sigma)])
        super().__init__(
            space=space, objectives=objectives, ladder=ladder, seed=seed, constraints=constraints, halving=halving
        )
        self._population_size = population
        self._sigma = sigma
        self._strategy: SepCMA

    def _start(self) -> None:
        n = self._box.n_dims
        self._strategy = SepCMA(
            mean=self._box.points(self._best()[None])[0],
            sigma=self._sigma,
            bounds=np.tile([0.0, 1.0], (n, 1)),
            population_size=self._population_size,
            seed=self._start_seed,
        )

    def _draw(self) -> Sequence[Any]:
        return [self._strategy.ask() for _ in range(self._strategy.population_size)]

    def _genotype(self, suggestion: Any) -> NDArray[np.float64]:
        return np.asarray(self._box.genotypes(suggestion[None])[0])

    def _advance(self, answers: Sequence[Answer]) -> None:
        ranked = zip(answers, places(answers), strict=True)
        self._strategy.tell([(answer.suggestion, float(place)) for answer, place in ranked])

    def _has_ended(self) -> bool:
        return bool(self._strategy.should_stop())
