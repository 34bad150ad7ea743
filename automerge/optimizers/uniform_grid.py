"""A grid over uniform merges, what practitioners do by hand: every layer alike, a few strengths of every method.

First all sources have one strength, then each its own; then all steps are halved, and what was left at its default is
varied too. Nothing of what was measured steers the grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from automerge.blocks.features import FUSED
from automerge.fidelity import Ladder
from automerge.ledger import Ledger
from automerge.protocols import Genotypes, Space
from automerge.records import Constraint, Objective, Proposal, Trial
from automerge.variation import BLOCK, new_sample

STEP = 0.5
"""Distance of the strengths in the coarsest grid."""

N_LEVELS = 7
"""How many grids there are, each of half the step; the last is finer than differences between merges."""

MOST = 4096
"""Points tried of a grid that has more; they are drawn at random."""

CHUNK = 128
"""Points that are repaired together."""

WEIGHT = "weight:"
"""How the roles of genes begin that are the weight of a source."""

Axis = tuple[NDArray[np.int64], NDArray[np.float64]]
"""The genes that are set alike, and the values that they take."""


class UniformGrid:
    """Proposes the points of a grid, from coarse to fine, and promotes the best of them up the ladder.

    All genes of one role have one value throughout the model, the part outside the layers included: the method, the
    weight of each source, and from the second grid on whatever else the space has, such as densities and scales.
    Positions of stacks hold the fused block if the space has one, else any block in all of them alike. The seed gives
    the order within a grid. `halving: false` evaluates every point at full fidelity. When all grids are used up it goes
    on with samples of the space.
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
    ) -> None:
        self._space = space
        self._seed = seed
        self._ledger = Ledger(objectives=objectives, ladder=ladder, constraints=constraints, halving=halving)
        self._points = self._grids()
        self._n_asked = 0

    def ask(self) -> Proposal:
        """A promotion if one is due, else the next point of the grid that is new, else a sample."""
        self._n_asked += 1
        promotion = self._ledger.promotion()
        if promotion is not None:
            return promotion
        genotype = next((point for point in self._points if self._ledger.is_new(point)), None)
        operator = "grid"
        if genotype is None:
            operator = "sample"
            genotype = new_sample(self._space, self._ledger.seen, np.random.default_rng([self._seed, self._n_asked]))
        self._ledger.see(genotype)
        return Proposal(genotype, self._ledger.first_stop, {"operator": operator})

    def tell(self, trial: Trial) -> None:
        """Takes the state of a trial."""
        self._ledger.tell(trial)

    def promising(self, n: int) -> list[int]:
        """Ids of at most n partly evaluated trials that most likely belong on the front, best first."""
        return self._ledger.promising(n)

    def _grids(self) -> Iterator[NDArray[np.float64]]:
        """The canonical genotypes of all grids in order; some come more than once."""
        for level in range(N_LEVELS):
            for is_common in (True, False):
                rng = np.random.default_rng([self._seed, level, is_common])
                axes = self._axes(level, is_common=is_common)
                choices = _choices(axes, rng)
                for start in range(0, len(choices), CHUNK):
                    yield from self._genotypes(axes, choices[start : start + CHUNK])

    def _genotypes(self, axes: Sequence[Axis], choices: NDArray[np.int64]) -> Genotypes:
        X = np.tile([gene.default for gene in self._space.genes], (len(choices), 1))
        for (columns, values), codes in zip(axes, choices.T, strict=True):
            X[:, columns] = values[codes][:, None]
        return self._space.repair(X)

    def _axes(self, level: int, *, is_common: bool) -> list[Axis]:
        """The axes of a grid; `is_common` makes one of all weights."""
        by_role: dict[str, list[int]] = {}
        for column, gene in enumerate(self._space.genes):
            role = WEIGHT if is_common and gene.role.startswith(WEIGHT) else gene.role
            by_role.setdefault(role, []).append(column)
        return [(np.array(columns), self._values(columns[0], level)) for columns in by_role.values()]

    def _values(self, column: int, level: int) -> NDArray[np.float64]:
        """The values that a gene takes in a grid."""
        gene = self._space.genes[column]
        if gene.role.startswith(WEIGHT):
            step = STEP / 2**level
            return np.asarray(step * np.arange(math.ceil(gene.lower / step), math.floor(gene.upper / step) + 1))
        if level == 0 and gene.role.startswith(BLOCK):
            return self._blocks(column)
        if gene.n_choices:
            return np.arange(gene.n_choices, dtype=np.float64)
        if level == 0:
            return np.array([gene.default])
        return np.unique([gene.default, *np.linspace(gene.lower, gene.upper, 2**level + 1)])

    def _blocks(self, column: int) -> NDArray[np.float64]:
        """The blocks that a slot of a stack holds in the coarsest grid: only first slots hold any."""
        gene = self._space.genes[column]
        if gene.role != f"{BLOCK}0":
            return np.array([gene.default])
        choices = self._space.to_configspace()[gene.name].choices
        return np.array([choices.index(FUSED)] if FUSED in choices else range(gene.n_choices), dtype=np.float64)


def _choices(axes: Sequence[Axis], rng: np.random.Generator) -> NDArray[np.int64]:
    """The points of a grid in random order as numbers of values by axis, shape (n, n_axes); MOST of a large one."""
    sizes = [len(values) for _, values in axes]
    if math.prod(sizes) > MOST:
        return rng.integers(sizes, size=(MOST, len(sizes)))
    return np.stack(np.unravel_index(rng.permutation(math.prod(sizes)), sizes), axis=1)
