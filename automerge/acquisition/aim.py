"""What counts as an improvement of a front: hypervolume above a point, or the way towards an aspiration."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from automerge.acquisition.improvement import boxes, expected_improvement, probability_of_improvement
from automerge.acquisition.preference import achievements
from automerge.landscape.model import Belief
from automerge.pareto import Points

N_DRAWS = 128
"""Draws over which improvements towards an aspiration are averaged."""


class Aim:
    """Improvements of this front, of shape (n, n_objectives), perhaps of no points.

    They count above `reference`. Given an aspiration the share of the way to it counts instead, from `reference` on,
    until a point of the front reaches it; from then on hypervolume above it. `reference` and `aspiration` are those
    that hold for this front.
    """

    def __init__(
        self, front: Points, reference: NDArray[np.float64], aspiration: NDArray[np.float64] | None, *, seed: int
    ) -> None:
        if aspiration is not None:
            # An aspiration below the reference point in some objective asks nothing of it.
            aspiration = np.maximum(aspiration, reference + 1e-6 * np.maximum(1.0, np.abs(reference)))
            if (front >= aspiration).all(axis=1).any():
                reference, aspiration = aspiration, None
        self.reference = reference
        self.aspiration = aspiration
        self._front = front
        self._seed = seed

    def expected(self, belief: Belief) -> NDArray[np.float64]:
        """What each candidate is expected to add, shape (n,)."""
        if self.aspiration is None:
            return expected_improvement(belief.means, belief.deviations, self._cells)
        return np.asarray(np.maximum(self._steps(belief, self.aspiration), 0).mean(axis=0))

    def chance(self, belief: Belief) -> NDArray[np.float64]:
        """The chance of each candidate to add anything, shape (n,)."""
        if self.aspiration is None:
            return probability_of_improvement(belief.means, belief.deviations, self._cells)
        return np.asarray((self._steps(belief, self.aspiration) > 0).mean(axis=0))

    @cached_property
    def _cells(self) -> NDArray[np.float64]:
        return boxes(self._front, self.reference)

    def _steps(self, belief: Belief, aspiration: NDArray[np.float64]) -> NDArray[np.float64]:
        """By how much further than the front each candidate comes, shape (N_DRAWS, n)."""
        draws = np.random.default_rng(self._seed).normal(size=(N_DRAWS, *belief.means.shape))
        reached = achievements(belief.means + draws * belief.deviations, self.reference, aspiration)
        return np.asarray(reached - achievements(self._front, self.reference, aspiration).max(initial=0.0))
