"""One child of two genotypes: crossover over intervals of depth, then a move of the whole model, a block or a slot."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from automerge.depth_variation import depth_mutation
from automerge.variation import Layout, block_mutation, depth_crossover, slot_mutation

TIED = 50
"""Models over which mutation goes from moving the whole model to moving blocks of depth."""

STACKED = 0.7
"""Share of mutations that edit stacks, in spaces of stacks; the others move what the layers and the outside hold."""


def tied_share(n_models: int) -> float:
    """The share of block mutations that move the whole depth, after so many models.

    First the whole model is moved alike, which searches a few dimensions nested in the many; then blocks.
    """
    return 0.2 + 0.6 * math.exp(-n_models / TIED)


def mate(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    layout: Layout,
    rng: np.random.Generator,
    *,
    tied: float,
    crossover: float = 0.7,
    mutation: float = 0.7,
    stacked: float = STACKED,
) -> tuple[NDArray[np.float64], list[str]]:
    """A child of shape (n_genes,), still to be repaired, and the names of the operators that made it.

    `crossover` and `mutation` are the probabilities of each, `tied` that of `tied_share`, `stacked` that a mutation of
    a stack edits it; parents that are one and the same are only mutated, and there is at least one operator.
    """
    child, operators = first, []
    if not np.array_equal(first, second) and rng.random() < crossover:
        child = depth_crossover(first, second, layout, rng)
        operators.append("depth_crossover")
    if not operators or rng.random() < mutation:
        if layout.blocks.size and rng.random() < stacked:
            child = depth_mutation(child, layout, rng)
            operators.append("depth_mutation")
        elif rng.random() < max(tied, 0.6):
            child = block_mutation(child, layout, rng, tied=tied)
            operators.append("block_mutation")
        else:
            child = slot_mutation(child, layout, rng)
            operators.append("slot_mutation")
    return child, operators


def mate_by_gene(
    first: NDArray[np.float64], second: NDArray[np.float64], layout: Layout, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A child of shape (n_genes,), still to be repaired, by operators that know nothing of models.

    Uniform crossover, then a few genes drawn anew or shifted, each on its own: what blocks of depth are compared with.
    """
    child = np.where(rng.random(len(first)) < 0.5, first, second)
    moved = rng.random(len(first)) < 2 / len(first)
    if not moved.any():
        moved[rng.integers(len(first))] = True
    span = layout.upper - layout.lower
    real = child + rng.normal(size=len(first)) * 0.15 * span
    code = np.floor(rng.random(len(first)) * layout.n_choices)
    return np.clip(np.where(moved, np.where(layout.n_choices > 0, code, real), child), layout.lower, layout.upper)
