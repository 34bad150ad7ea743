"""CatCMA with margin: the CMA-ES for real genes, together with a categorical distribution for every choice.

Hamano et al. 2025 (arXiv 2504.07884), which keeps some probability for every category (the margin).
"""

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
    from cmaes import CatCMAwM
except ImportError as fault:
    raise ImportError('it needs cmaes: pip install cmaes, or in a checkout pip install -e ".[rivals]"') from fault

KEPT = 0.5
"""Probability with which a choice is first that of the best trial known; the rest is shared by all equally."""


class CatCma(Generational):
    """The CatCMAwM of cmaes: real genes scaled to the unit box, genes with choices as categories.

    It starts at the best trial known with the standard deviation `sigma`, and anew when it has converged. With several
    objectives a generation is ranked by front and crowding. `population` is the size of a generation, None for the
    library's rule 4 + 3 ln(n_genes).
    """

    operator = "catcma"

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
        """Raises ValueError for options that cannot be."""
        sizes = {} if population is None else {"population": population}
        refuse([*whole_faults(2, **sizes), *positive_faults(sigma=sigma)])
        super().__init__(
            space=space, objectives=objectives, ladder=ladder, seed=seed, constraints=constraints, halving=halving
        )
        self._population_size = population
        self._sigma = sigma
        n_choices = np.array([gene.n_choices for gene in space.genes])
        # A gene with one choice is neither a number nor a choice.
        self._reals, self._codes = np.flatnonzero(n_choices == 0), np.flatnonzero(n_choices > 1)
        self._n_choices = n_choices[self._codes]
        self._strategy: CatCMAwM

    def _start(self) -> None:
        best = self._best()
        n = len(self._reals)
        self._strategy = CatCMAwM(
            x_space=np.tile([0.0, 1.0], (n, 1)).tolist() if n else None,
            c_space=self._n_choices.tolist() if len(self._codes) else None,
            mean=self._box.points(best[None])[0, self._reals] if n else None,
            cov=np.eye(n) if n else None,
            sigma=self._sigma,
            cat_param=self._probabilities(best) if len(self._codes) else None,
            population_size=self._population_size,
            seed=self._start_seed,
        )

    def _probabilities(self, best: NDArray[np.float64]) -> NDArray[np.float64]:
        """The first distribution of every choice, shape (n_codes, most choices), padded with zeros."""
        allowed = np.arange(self._n_choices.max()) < self._n_choices[:, None]
        found = allowed * (1 - KEPT) / self._n_choices[:, None]
        found[np.arange(len(self._codes)), best[self._codes].astype(int)] += KEPT
        return np.asarray(found)

    def _draw(self) -> Sequence[Any]:
        return [self._strategy.ask() for _ in range(self._strategy.population_size)]

    def _genotype(self, suggestion: Any) -> NDArray[np.float64]:
        point = np.zeros(self._box.n_dims)
        if suggestion.x is not None:
            point[self._reals] = suggestion.x
        if suggestion.c is not None:
            point[self._codes] = (suggestion.c.argmax(axis=1) + 0.5) / self._n_choices
        return np.asarray(self._box.genotypes(point[None])[0])

    def _advance(self, answers: Sequence[Answer]) -> None:
        ranked = zip(answers, places(answers), strict=True)
        self._strategy.tell([(answer.suggestion, float(place)) for answer, place in ranked])

    def _has_ended(self) -> bool:
        return len(self._reals) > 0 and bool(self._strategy.should_stop())
