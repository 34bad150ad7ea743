"""Grids over uniform merges, from coarse to fine, and draws from them: all layers alike, strengths of every method.

First all sources have one strength, then each its own; then all steps are halved, and what was left at its default is
varied too. All genes of one role have one value throughout the model, the part outside the layers included: the method,
the weight of each source, and from the second grid on whatever else the space has, such as densities and scales.
Positions of stacks hold the fused block if the space has one, else any block in all of them alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from automerge.protocols import Genotypes, Space
from automerge.variation import BLOCK

STEP = 0.5
"""Distance of the strengths in the coarsest grid."""

N_LEVELS = 7
"""How many grids there are, each of half the step; the last is finer than differences between merges."""

MOST = 4096
"""Points tried of a grid that has more; they are drawn at random."""

CHUNK = 128
"""Points that are repaired together."""

ABSENT = 0.5
"""Chance of each source to be absent from a random uniform merge, if two others are there."""

WEIGHT = "weight:"
"""How the roles of genes begin that are the weight of a source."""

FIRST_BLOCK = f"{BLOCK}0"
"""The role of the genes that choose the first block of a position; in the others there may be none."""

Axis = tuple[NDArray[np.int64], NDArray[np.float64]]
"""The genes that are set alike, and the values that they take."""


class UniformSamples:
    """Draws points of the first grid, but with half the step of strengths, in which two or more sources take part.

    Which of them is tossed, and those with the two best tosses always do: of many sources a grid has mostly merges of
    nearly all of them, which seldom are the best. Weights are taken to begin at 0; methods that take sources by pairs,
    or not below some share, leave out more of them.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._axes = _axes(space, 0, is_common=False, step=STEP / 2)
        roles = [space.genes[columns[0]].role for columns, _ in self._axes]
        inside = [any(space.genes[column].depth >= 0 for column in columns) for columns, _ in self._axes]
        self._weights = [k for k, role in enumerate(roles) if role.startswith(WEIGHT) and inside[k]]

    @property
    def n_weighted(self) -> int:
        """Number of sources that have weights in layers; none where layers are stacked as they are."""
        return len(self._weights)

    def draw(self, n: int, rng: np.random.Generator) -> Genotypes:
        """n canonical genotypes, shape (n, n_genes), some of which may be equal; none where no source has weights."""
        if not self._weights:
            return np.empty((0, len(self._space.genes)))
        choices = rng.integers([len(values) for _, values in self._axes], size=(n, len(self._axes)))
        luck = rng.random((n, self.n_weighted))
        absent = (luck < ABSENT) & (luck < np.sort(luck, axis=1)[:, -2:][:, :1])
        choices[:, self._weights] = np.where(absent, 0, np.maximum(choices[:, self._weights], 1))
        return _genotypes(self._space, self._axes, choices)


def uniform_points(space: Space, *, seed: int) -> Iterator[NDArray[np.float64]]:
    """The canonical genotypes of all grids in order, each of shape (n_genes,); some come more than once.

    The seed gives the order within a grid.
    """
    for level in range(N_LEVELS):
        for is_common in (True, False):
            rng = np.random.default_rng([seed, level, is_common])
            axes = _axes(space, level, is_common=is_common, step=STEP / 2**level)
            choices = _choices(axes, rng)
            for start in range(0, len(choices), CHUNK):
                yield from _genotypes(space, axes, choices[start : start + CHUNK])


def _genotypes(space: Space, axes: Sequence[Axis], choices: NDArray[np.int64]) -> Genotypes:
    X = np.tile([gene.default for gene in space.genes], (len(choices), 1))
    for (columns, values), codes in zip(axes, choices.T, strict=True):
        X[:, columns] = values[codes][:, None]
    return space.repair(X)


def _axes(space: Space, level: int, *, is_common: bool, step: float) -> list[Axis]:
    """The axes of a grid; `is_common` makes one of all weights, which lie `step` apart."""
    by_role: dict[str, list[int]] = {}
    for column, gene in enumerate(space.genes):
        role = WEIGHT if is_common and gene.role.startswith(WEIGHT) else gene.role
        by_role.setdefault(role, []).append(column)
    return [(np.array(columns), _values(space, columns[0], level, step)) for columns in by_role.values()]


def _values(space: Space, column: int, level: int, step: float) -> NDArray[np.float64]:
    """The values that a gene takes in a grid."""
    gene = space.genes[column]
    if gene.role.startswith(WEIGHT):
        return np.asarray(step * np.arange(math.ceil(gene.lower / step), math.floor(gene.upper / step) + 1))
    if level == 0 and gene.role.startswith(BLOCK):
        return _blocks(space, column)
    if gene.n_choices:
        # A first slot without a block throughout is no merge: repair would leave a few layers of it.
        least = 1 if gene.role == FIRST_BLOCK else 0
        return np.arange(least, gene.n_choices, dtype=np.float64)
    if level == 0:
        return np.array([gene.default])
    return np.unique([gene.default, *np.linspace(gene.lower, gene.upper, 2**level + 1)])


def _blocks(space: Space, column: int) -> NDArray[np.float64]:
    """The blocks that a slot of a stack holds in the coarsest grid: only first slots hold any."""
    gene = space.genes[column]
    if gene.role != FIRST_BLOCK:
        return np.array([gene.default])
    is_fusable = any(each.depth == gene.depth and each.role.startswith(WEIGHT) for each in space.genes)
    return np.array([gene.n_choices - 1] if is_fusable else range(1, gene.n_choices), dtype=np.float64)


def _choices(axes: Sequence[Axis], rng: np.random.Generator) -> NDArray[np.int64]:
    """The points of a grid in random order as numbers of values by axis, shape (n, n_axes); MOST of a large one."""
    sizes = [len(values) for _, values in axes]
    if math.prod(sizes) > MOST:
        return rng.integers(sizes, size=(MOST, len(sizes)))
    return np.stack(np.unravel_index(rng.permutation(math.prod(sizes)), sizes), axis=1)
