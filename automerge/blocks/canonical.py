"""Canonical blocks: equal stacks as equal arrays, within the bounds of their space."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from automerge.blocks.grid import Blocks, Grid
from automerge.scaling import MAX_GAIN


def compact(blocks: Blocks, grid: Grid) -> Blocks:
    """The blocks moved up, so that none stands behind a gap, without those that repeat an earlier one too often."""
    kept = blocks.copy()
    for slot in range(grid.max_repeats, grid.max_blocks):
        earlier = (kept[:, :, :slot] == kept[:, :, slot, None]).sum(axis=2)
        kept[:, :, slot][earlier >= grid.max_repeats] = 0
    for end in range(grid.max_blocks - 1, 0, -1):
        for slot in range(end):
            gap = kept[:, :, slot] == 0
            kept[:, :, slot][gap] = kept[:, :, slot + 1][gap]
            kept[:, :, slot + 1][gap] = 0
    return kept


def drop(blocks: Blocks, grid: Grid) -> Blocks:
    """Compact blocks without as many as make a stack too deep.

    Those of the highest slots go first, evenly over the depth: every second free position, then the ones between, and
    so on. When one block is left at each position, positions are emptied from the middle outwards: the first and last
    layers are those that a model can spare least.
    """
    n, n_free, n_slots = blocks.shape
    excess = grid.depths(blocks) - grid.max_layers
    rows = np.flatnonzero(excess > 0)
    if not len(rows):
        return blocks
    evenly = _evenly(n_free) * n_slots
    order = [evenly + slot for slot in range(n_slots - 1, 0, -1)] + [_from_middle(n_free) * n_slots]
    places = np.concatenate(order)
    flat = blocks.reshape(n, -1).copy()
    taken = flat[np.ix_(rows, places)]
    widths = np.repeat(grid.widths[grid.free], n_slots)[places] * (taken > 0)
    taken[np.cumsum(widths, axis=1) - widths < excess[rows, None]] = 0
    flat[np.ix_(rows, places)] = taken
    return flat.reshape(blocks.shape)


def fill(blocks: Blocks, grid: Grid, filler: NDArray[np.int64]) -> Blocks:
    """Compact blocks with those of code `filler`, shape (n,), at as many empty positions as a stack is too shallow.

    The ends are filled first, the middle last: the reverse of the order in which positions are emptied.
    """
    lack = grid.min_layers - grid.depths(blocks)
    rows = np.flatnonzero(lack > 0)
    if not len(rows):
        return blocks
    order = _from_middle(blocks.shape[1])[::-1]
    filled = blocks.copy()
    first = filled[rows[:, None], order, 0]
    widths = grid.widths[grid.free][order] * (first == 0)
    added = (first == 0) & (np.cumsum(widths, axis=1) - widths < lack[rows, None])
    filled[rows[:, None], order, 0] = np.where(added, filler[rows, None], first)
    return filled


def last_free(blocks: Blocks, grid: Grid) -> NDArray[np.int64]:
    """Which of the free positions ends with the stack's last layer, shape (n,): -1 where none does."""
    if not grid.is_free[-1]:
        return np.full(len(blocks), -1)
    occupied = blocks[:, :, 0] > 0
    last = blocks.shape[1] - 1 - np.argmax(occupied[:, ::-1], axis=1)
    return np.where(occupied.any(axis=1), last, -1)


def bounded(scales: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scales of the residual stream, shape (n, n_free), with a 1 for each that leaves the bounds of their product."""
    # The same products in the same order as in `gains`, so that both see the same side of a bound.
    products = np.cumprod(scales, axis=1)
    rows = np.flatnonzero(((products < 1 / MAX_GAIN) | (products > MAX_GAIN)).any(axis=1))
    kept = scales.copy()
    if not len(rows):
        return kept
    leaving = kept[rows]
    product = np.ones(len(rows))
    for column in leaving.T:
        after = product * column
        column[(after < 1 / MAX_GAIN) | (after > MAX_GAIN)] = 1.0
        product *= column
    kept[rows] = leaving
    return kept


def _evenly(n: int) -> NDArray[np.int64]:
    """0 to n - 1 in an order whose beginnings are spread evenly: by the reversed bits (van der Corput)."""
    n_bits = max(1, (n - 1).bit_length())
    return np.array(sorted(range(n), key=lambda k: f"{k:0{n_bits}b}"[::-1]), dtype=np.int64)


def _from_middle(n: int) -> NDArray[np.int64]:
    """0 to n - 1 from the middle outwards, of two at the same distance the later first."""
    return np.array(sorted(range(n), key=lambda k: (abs(2 * k - n + 1), -k)), dtype=np.int64)
