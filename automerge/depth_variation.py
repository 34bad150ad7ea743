"""Edits of stacks: blocks swapped, repeated, left out, replaced or inserted over a short segment of depth.

A good stack is a small edit of a source, and a stack drawn at random is as good as never a model that can speak, so
stacks are varied by edits of a few neighbouring positions, and their scales by small shifts around 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from automerge.variation import Layout

Stack = NDArray[np.int64]
"""Codes of the blocks at every position, shape (n_positions, n_slots): 0 for none, which stand behind the others."""

JITTER = 0.3
"""Share of mutations that move scales instead of blocks, where there are scales."""

JITTERS = (0.02, 0.05, 0.15)
"""Standard deviations of a shift of scales."""

RESET = 0.15
"""Share of those that set scales to 1 instead."""

SECOND = 0.25
"""Share of mutations that make a second edit."""


def depth_mutation(x: NDArray[np.float64], layout: Layout, rng: np.random.Generator) -> NDArray[np.float64]:
    """A mutant of shape (n_genes,): one edit of the blocks, sometimes two, or moved scales.

    It is still to be repaired. Raises ValueError if the layout has no blocks.
    """
    if not layout.blocks.size:
        raise ValueError("this space has no genes of the role `block:SLOT` that could be edited; use block_mutation")
    child = x.copy()
    if layout.scales.size and rng.random() < JITTER:
        genes = layout.scales
        child[genes] = jitter(x[genes], rng)
        return np.clip(child, layout.lower, layout.upper)
    stack = x[layout.blocks].astype(np.int64)
    for _ in range(1 + (rng.random() < SECOND)):
        stack = edit(stack, int(layout.n_choices[layout.blocks].max()), rng)
    child[layout.blocks] = stack
    return child


def edit(stack: Stack, n_codes: int, rng: np.random.Generator) -> Stack:
    """A stack with one random edit of a random segment; the same stack if none of the edits changes anything there."""
    segment = _segment(len(stack), rng)
    code = int(rng.integers(1, n_codes))
    edits: tuple[Callable[[], Stack], ...] = (
        lambda: exchanged(stack, segment),
        lambda: turned(stack, segment),
        lambda: duplicated(stack, segment),
        lambda: inserted(stack, segment, code),
        lambda: thinned(stack, segment),
        lambda: emptied(stack, segment),
        lambda: replaced(stack, segment, code),
    )
    for k in rng.permutation(len(edits)):
        edited = edits[int(k)]()
        if (edited != stack).any():
            return edited
    return stack


def jitter(scales: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Scales of shape (n_positions,) moved over a segment or all depth, alike or each by itself, or set to 1 there."""
    segment = slice(None) if rng.random() < 0.2 else _segment(len(scales), rng)
    moved = scales.copy()
    if rng.random() < RESET:
        moved[segment] = 1.0
        return moved
    n = 1 if rng.random() < 0.5 else len(moved[segment])
    moved[segment] += rng.normal(size=n) * rng.choice(JITTERS)
    return moved


def exchanged(stack: Stack, segment: slice) -> Stack:
    """The blocks of the segment's last position at the next one, if there is one, and those at its."""
    edited = stack.copy()
    edited[segment.stop - 1 : segment.stop + 1] = stack[segment.stop - 1 : segment.stop + 1][::-1]
    return edited


def turned(stack: Stack, segment: slice) -> Stack:
    """The blocks of every position of the segment in reverse order."""
    edited = stack.copy()
    for row in edited[segment]:
        row[row > 0] = row[row > 0][::-1]
    return edited


def duplicated(stack: Stack, segment: slice) -> Stack:
    """The last block of every position of the segment once more, where there is room."""
    edited = stack.copy()
    for row in edited[segment]:
        n = _count(row)
        if 0 < n < len(row):
            row[n] = row[n - 1]
    return edited


def inserted(stack: Stack, segment: slice, code: int) -> Stack:
    """A block of this code behind those at every position of the segment, where there are any and there is room."""
    edited = stack.copy()
    for row in edited[segment]:
        n = _count(row)
        if 0 < n < len(row):
            row[n] = code
    return edited


def thinned(stack: Stack, segment: slice) -> Stack:
    """One block less at those positions of the segment that hold several."""
    edited = stack.copy()
    for row in edited[segment]:
        n = _count(row)
        if n > 1:
            row[n - 1] = 0
    return edited


def emptied(stack: Stack, segment: slice) -> Stack:
    """No blocks in the segment."""
    edited = stack.copy()
    edited[segment] = 0
    return edited


def replaced(stack: Stack, segment: slice, code: int) -> Stack:
    """One block of this code at every position of the segment."""
    edited = emptied(stack, segment)
    edited[segment, 0] = code
    return edited


def _count(row: NDArray[np.int64]) -> int:
    return int((row > 0).sum())


def _segment(n: int, rng: np.random.Generator) -> slice:
    """Some neighbouring positions of n: one half of the time, and each further one with half the chance."""
    width = min(int(rng.geometric(0.5)), n)
    start = int(rng.integers(n - width + 1))
    return slice(start, start + width)
