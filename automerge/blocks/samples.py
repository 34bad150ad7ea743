"""Random stacks that may well work: a source, or some one after the other, with a few small edits.

Uniform draws are no use: of three sources almost none is within bounds of depth, and none can speak.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from automerge.blocks.canonical import compact
from automerge.blocks.grid import Grid
from automerge.depth_variation import JITTERS, Stack, edit

MAX_EDITS = 4
"""Most edits of a sample; fewer are as likely."""

SHORTENED = 0.25
"""Share of samples that are first shortened to a random depth below the sources'."""


class Sample(NamedTuple):
    """A stack: its blocks, shape (n_free, max_blocks), and for every free position its segment, shape (n_free,)."""

    blocks: Stack
    segments: NDArray[np.int64]


def sample_stack(grid: Grid, rng: np.random.Generator) -> Sample:
    """A stack within bounds, tied to a random degree.

    A third each: one kind of block all through, two or three segments of depth, and up to half as many segments as
    positions. Then layers are left out, if there are too many or now and then, and edits made: none is enough where
    there are segments.
    """
    n = len(grid.free)
    most = max(3, n // 2)
    n_segments = (1, int(rng.integers(2, 4)), int(rng.integers(2, most + 1)))[rng.integers(3)]
    edges = np.sort(rng.integers(1, n + 1, size=n_segments - 1))
    segments = np.searchsorted(edges, np.arange(n), side="right")
    stack = np.zeros((n, grid.max_blocks), dtype=np.int64)
    stack[:, 0] = rng.integers(1, grid.n_codes, size=n_segments)[segments]
    most = grid.max_layers
    if rng.random() < SHORTENED:
        most = min(most, int(rng.integers(grid.min_layers, grid.n_layers + 1)))
    stack = _shortened(stack, most, grid, rng)
    for _ in range(rng.integers(n_segments == 1, MAX_EDITS + 1)):
        edited = compact(edit(stack, grid.n_codes, rng)[None], grid)[0]
        if grid.min_layers <= _depth(edited, grid) <= grid.max_layers:
            stack = edited
    return Sample(stack, segments)


def sample_scales(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Scales of shape (n,) around 1: all 1 half of the time, else moved alike, each by itself, or a few of them."""
    scales = np.ones(n)
    if rng.random() < 0.5:
        return scales
    size = rng.choice(JITTERS)
    way = rng.integers(3)
    if way == 0:
        return scales + float(rng.normal() * size)
    moved = np.ones(n, dtype=bool) if way == 1 else rng.random(n) < min(1.0, 3 / n)
    return np.asarray(scales + moved * rng.normal(size=n) * size)


def _shortened(stack: Stack, most: int, grid: Grid, rng: np.random.Generator) -> Stack:
    """The stack with positions emptied, here and there, until it has at most `most` layers, or can spare none."""
    left = stack.copy()
    while _depth(left, grid) > most and len(full := np.flatnonzero(left[:, 0])):
        start = int(rng.integers(len(full)))
        for width in (int(rng.geometric(0.5)), 1):
            shorter = left.copy()
            shorter[full[start : start + width]] = 0
            if _depth(shorter, grid) >= grid.min_layers:
                left = shorter
                break
        else:
            return left
    return left


def _depth(stack: Stack, grid: Grid) -> int:
    return int(grid.depths(stack[None])[0])
