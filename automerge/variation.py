"""Variation operators on genotypes that know the structure of a model: depth, components and roles.

Merges respond to whole blocks of layers rather than to single genes, so crossover exchanges intervals of depth and
mutation moves the same role by the same amount over an interval. All take the number generator of the caller. Genes of
stacks, blocks and their scales, are exchanged here but not moved: redrawn in many places at once they leave no model
that can speak, so `depth_variation` edits them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from automerge.protocols import Gene, Space
from automerge.records import genotype_key

WIDTHS = (1, 2, 4, 8)
"""Lengths of the depth intervals that block mutation moves; the whole model is one more."""

BLOCK = "block:"
"""How the roles of genes begin that choose a block of a stack; the number of the slot follows.

Code 0 is no block. Where a position has genes of weights too, its last code is the block that is fused by them.
"""

SCALE = "scale"
"""The role of genes that scale a position of a stack."""

SIGMAS = (0.05, 0.15, 0.4)
"""Sizes of a shift, as shares of a gene's range."""

N_TRIES = 20
"""Attempts at a genotype that was not proposed before."""


@dataclass(frozen=True)
class Layout:
    """The genes as arrays of shape (n_genes,): depth, component and role as codes, bounds, number of choices.

    `blocks` are the genes that choose the blocks of a stack, shape (n_positions, n_slots) in order of depth, `scales`
    those that scale its positions, shape (n_positions,); both are empty where a space has none.
    """

    depth: NDArray[np.int64]
    component: NDArray[np.int64]
    role: NDArray[np.int64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    n_choices: NDArray[np.int64]
    blocks: NDArray[np.int64]
    scales: NDArray[np.int64]

    @staticmethod
    def of(genes: Sequence[Gene]) -> Layout:
        """The layout of a space's genes."""

        def codes(names: list[str]) -> NDArray[np.int64]:
            return np.unique(names, return_inverse=True)[1].astype(np.int64)

        return Layout(
            depth=np.array([gene.depth for gene in genes], dtype=np.int64),
            component=codes([gene.component for gene in genes]),
            role=codes([gene.role for gene in genes]),
            lower=np.array([gene.lower for gene in genes]),
            upper=np.array([gene.upper for gene in genes]),
            n_choices=np.array([gene.n_choices for gene in genes], dtype=np.int64),
            blocks=_blocks(genes),
            scales=_scales(genes),
        )

    # Known once for the thousands of children that one proposal takes.

    @cached_property
    def n_depths(self) -> int:
        """Number of layer groups."""
        return int(self.depth.max()) + 1

    @cached_property
    def n_roles(self) -> int:
        """Number of different roles."""
        return len(np.unique(self.role))

    @cached_property
    def components(self) -> NDArray[np.int64]:
        """The codes of all components."""
        return np.unique(self.component)

    @cached_property
    def inner_components(self) -> NDArray[np.int64]:
        """The codes of the components inside the layers."""
        return np.unique(self.component[self.depth >= 0])

    @cached_property
    def movable(self) -> NDArray[np.bool_]:
        """Whether a gene is none of a stack's, shape (n_genes,)."""
        found = np.ones(len(self.depth), dtype=bool)
        found[np.concatenate([self.blocks.ravel(), self.scales])] = False
        return found

    @cached_property
    def is_fused(self) -> bool:
        """Whether genes inside the layers say more than which layers are stacked and at which scale."""
        return bool((self.movable & (self.depth >= 0)).any())

    @cached_property
    def slots(self) -> NDArray[np.int64]:
        """The codes of slots, which are pairs of depth and component, shape (n_genes,)."""
        pairs = np.stack([self.depth, self.component], axis=1)
        return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)

    @cached_property
    def n_slots(self) -> int:
        """Number of slots."""
        return int(self.slots.max()) + 1

    @cached_property
    def movable_slots(self) -> NDArray[np.int64]:
        """The codes of the slots that have movable genes."""
        return np.unique(self.slots[self.movable])


def new_sample(space: Space, seen: Collection[bytes], rng: np.random.Generator) -> NDArray[np.float64]:
    """A sample of the space in canonical form, shape (n_genes,), that is none of `seen`, the bytes of genotypes.

    If none of N_TRIES samples is new, the space may be used up: then the last of them, which is a known one.
    """
    for _ in range(N_TRIES):
        genotype = space.sample(1, rng)[0]
        if genotype_key(genotype) not in seen:
            break
    return np.asarray(genotype)


def depth_crossover(
    first: NDArray[np.float64], second: NDArray[np.float64], layout: Layout, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A child of shape (n_genes,): the first parent with an interval of depth, or random slots, of the second.

    Two times in three the interval takes all components, else one; the part outside the layers comes from either.
    """
    if rng.random() < 0.25:
        taken = _random_slots(layout, rng, share=0.5)
    else:
        start, stop = np.sort(rng.integers(0, layout.n_depths + 1, size=2))
        taken = (layout.depth >= start) & (layout.depth < stop)
        if rng.random() < 1 / 3:
            taken &= layout.component == rng.choice(layout.inner_components)
        if rng.random() < 0.5:
            taken |= layout.depth < 0
    return np.where(taken, second, first)


def block_mutation(
    x: NDArray[np.float64], layout: Layout, rng: np.random.Generator, *, tied: float = 0.2
) -> NDArray[np.float64]:
    """A mutant of shape (n_genes,): one role moved alike over an interval of depth, in one component or in all.

    `tied` is the probability that the interval is the whole depth.
    """
    width = layout.n_depths if rng.random() < tied else int(rng.choice(WIDTHS))
    start = int(rng.integers(1 - width, layout.n_depths)) if width < layout.n_depths else 0
    inside = (layout.depth >= start) & (layout.depth < start + width)
    if width >= layout.n_depths:
        inside |= layout.depth < 0
    inside &= layout.movable
    if rng.random() < 0.5:
        inside &= layout.component == rng.choice(layout.components)
    if not inside.any():
        return slot_mutation(x, layout, rng)
    role = rng.choice(np.flatnonzero(np.bincount(layout.role[inside])))
    return _move(x, inside & (layout.role == role), layout, rng, alike=True)


def slot_mutation(x: NDArray[np.float64], layout: Layout, rng: np.random.Generator) -> NDArray[np.float64]:
    """A mutant of shape (n_genes,): one or two genes moved on their own in a few random slots."""
    expected = float(rng.choice(WIDTHS))
    chosen = _random_slots(layout, rng, share=min(1.0, expected / layout.n_slots)) & layout.movable
    if not chosen.any():
        known = layout.movable_slots
        chosen = (layout.slots == known[rng.integers(len(known))]) & layout.movable
    moved = chosen & (rng.random(len(x)) < 1.5 / max(1, layout.n_roles))
    if not moved.any():
        moved[rng.choice(np.flatnonzero(chosen))] = True
    return _move(x, moved, layout, rng, alike=False)


def _move(
    x: NDArray[np.float64], moved: NDArray[np.bool_], layout: Layout, rng: np.random.Generator, *, alike: bool
) -> NDArray[np.float64]:
    n = 1 if alike else int(moved.sum())
    child = x.copy()
    span = (layout.upper - layout.lower)[moved]
    shift = rng.normal(size=n) * float(rng.choice(SIGMAS)) * span
    # Now and then all genes take one new value: repeated shifts alone never bring scattered genes together.
    fresh = layout.lower[moved] + rng.random(n) * span
    real = np.where(alike and rng.random() < 0.2, fresh, child[moved] + shift)
    code = np.floor(rng.random(n) * layout.n_choices[moved])
    child[moved] = np.where(layout.n_choices[moved] > 0, code, real)
    return np.clip(child, layout.lower, layout.upper)


def _blocks(genes: Sequence[Gene]) -> NDArray[np.int64]:
    found: dict[int, list[int]] = {}
    for k, gene in enumerate(genes):
        if gene.role.startswith(BLOCK):
            found.setdefault(gene.depth, []).append(k)
    rows = [sorted(found[depth], key=lambda k: int(genes[k].role.removeprefix(BLOCK))) for depth in sorted(found)]
    return np.array(rows, dtype=np.int64)


def _scales(genes: Sequence[Gene]) -> NDArray[np.int64]:
    stacked = {gene.depth for gene in genes if gene.role.startswith(BLOCK)}
    found = [k for k, gene in enumerate(genes) if gene.role == SCALE and gene.depth in stacked]
    return np.array(sorted(found, key=lambda k: genes[k].depth), dtype=np.int64)


def _random_slots(layout: Layout, rng: np.random.Generator, *, share: float) -> NDArray[np.bool_]:
    return (rng.random(layout.n_slots) < share)[layout.slots]
