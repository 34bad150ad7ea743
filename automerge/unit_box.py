"""Genotypes as points of the unit box, for optimizers that know nothing but a box of real numbers.

A gene with choices takes an interval of equal length for each of its codes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from automerge.protocols import Genotypes, Space


class UnitBox:
    """The map between a space's genotypes and the box [0, 1]^n_genes."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._lower = np.array([gene.lower for gene in space.genes])
        self._span = np.array([gene.upper - gene.lower for gene in space.genes])
        self._n_choices = np.array([gene.n_choices for gene in space.genes])

    @property
    def n_dims(self) -> int:
        """Number of dimensions."""
        return len(self._lower)

    def genotypes(self, points: NDArray[np.float64]) -> Genotypes:
        """The canonical genotypes of points of shape (n, n_genes); what lies outside the box is clipped to it."""
        inside = np.clip(points, 0.0, 1.0)
        codes = np.minimum(np.floor(inside * self._n_choices), self._n_choices - 1)
        real = self._lower + inside * self._span
        return self._space.repair(np.where(self._n_choices > 0, codes, real))

    def points(self, X: Genotypes) -> NDArray[np.float64]:
        """A point of every genotype, shape (n, n_genes); choices lie in the middle of their intervals."""
        real = (X - self._lower) / np.where(self._span > 0, self._span, 1.0)
        middle = (X + 0.5) / np.maximum(self._n_choices, 1)
        return np.asarray(np.where(self._n_choices > 0, middle, real))
