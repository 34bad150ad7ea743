"""CMA-ES with a full covariance (Hansen and Ostermeier 2001) by pycma, as pymoo wraps it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.soo.nonconvex.cmaes import SimpleCMAES
from pymoo.core.algorithm import Algorithm

from automerge.fidelity import Ladder
from automerge.generational import Answer, places
from automerge.options import positive_faults, refuse
from automerge.protocols import Space
from automerge.pymoo_algorithm import PymooAlgorithm
from automerge.records import Constraint, Objective


class PymooCmaEs(PymooAlgorithm):
    """pymoo's SimpleCMAES on the unit box, where a choice is an interval.

    It starts at the best trial known with the standard deviation `sigma`, and anew when it has converged. With several
    objectives a generation is ranked by front and crowding. `population` is the size of a generation. (pymoo's CMAES
    holds back the next generation until the last is told, so it could not be asked while evaluations are under way.)
    """

    operator = "pymoo_cma_es"

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
        sigma: float = 0.2,
    ) -> None:
        """Raises ValueError for a population that is too small, and for a sigma that is none."""
        refuse(positive_faults(sigma=sigma))
        super().__init__(
            space=space,
            objectives=objectives,
            ladder=ladder,
            seed=seed,
            constraints=constraints,
            halving=halving,
            population=population,
        )
        self._sigma = sigma

    def _start(self) -> None:
        super()._start()
        # pymoo hands on its seed, with which pycma would seed numpy's global generator.
        self._algorithm.opts["seed"] = np.nan

    def _build(self) -> tuple[Algorithm, int]:
        rng = np.random.default_rng(self._start_seed)
        # pycma draws from numpy's global generator unless it is given another.
        options = {"popsize": self._population_size, "randn": lambda *shape: rng.standard_normal(shape), "verbose": -9}
        start = self._box.points(self._best()[None])
        return SimpleCMAES(sigma=self._sigma, opts=options, x0=start, seed=self._start_seed), 1

    def _losses(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        """The places in the generation, shape (n, 1)."""
        return places(answers)[:, None].astype(np.float64)
