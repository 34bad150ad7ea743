"""What a model of the landscape should see of a stack: how often and how strongly blocks act, not their codes.

All columns lie in [0, 1]. For every free position there are, in this order,

- `P.SOURCE`: how often the source's block occurs, a fused block counting with the source's weight;
- `P.SOURCE.gain`: the mean gain with which the layers of these blocks are added to the residual stream, 0 without any:
  on a logarithmic scale with 1 at 0.5 where scales multiply the stream, else that of their mlps as a share of the
  largest scale;
- `P.scale`: the scale as a share of the largest;
- `P.A.before.B`: the share of pairs of A's and B's blocks in which A's comes first, 0.5 without any;
- `P.fused`: how often the fused block occurs;

and for the whole stack its depth, the layers that repeat a block of their position, the layers of empty positions, the
changes from one source to another, and the longest run of layers of one source.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge.blocks.grid import Blocks, Grid
from automerge.recipe import Scaling
from automerge.scaling import MAX_GAIN

FUSED = "fused"
"""The name of fused blocks."""

TOTALS = ("depth", "repeats", "skips", "switches", "longest_run")
"""Names of the columns that tell of the whole stack."""


Slots = NDArray[Any]
"""Something of every block, shape (..., n_slots, n, n_positions): sums over a few slots, row by row, are slow."""


@dataclass(frozen=True)
class StackFeatures:
    """The features of stacks on a grid.

    Weights of fused blocks lie in [0, max_weight], scales, which act as `scaling` says, in [0, max_scale]; without
    scaling there are no scales and no gains.
    """

    grid: Grid
    sources: Sequence[str]
    max_weight: float
    scaling: Scaling | None
    max_scale: float

    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(f"{position}.{name}" for position in self.grid.free for name in self._names()) + TOTALS

    def columns(
        self,
        blocks: Blocks,
        scales: NDArray[np.float64] | None,
        weights: NDArray[np.float64] | None,
        fixed: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """The features of n canonical stacks, shape (n, n_columns).

        `blocks` has shape (n, n_free, max_blocks), `scales` (n, n_free), `weights` of the sources in the fused blocks
        (n, n_free, n_sources), `fixed` holds for every stack the code of the block at fixed positions, shape (n,).
        """
        slots = _slots(blocks)
        # By code from 1, then by slot.
        is_code = slots == np.arange(1, self.grid.fused + 1, dtype=np.int16)[:, None, None, None]
        shares = self._shares(is_code, weights)
        counts = shares.sum(axis=1)
        most = self.grid.max_blocks * (self.max_weight if self.grid.fuses else 1.0)
        found = [counts / most]
        if scales is not None:
            found += [self._average(self._gains(slots, scales), shares, counts), scales[None] / self.max_scale]
        if pairs := self._pairs():
            first, second = np.array(pairs).T - 1
            found.append(_share_before(is_code[first], is_code[second]))
        if self.grid.fuses:
            found.append(is_code[-1:].sum(axis=1) / self.grid.max_blocks)
        by_position = np.concatenate(found).transpose(1, 2, 0).reshape(len(blocks), -1)
        return np.concatenate([by_position, self._totals(blocks, fixed)], axis=1)

    def weight_columns(self) -> NDArray[np.int64]:
        """Which columns tell how often and how strongly each source's block occurs, shape (n_free, n_sources)."""
        width = len(list(self._names()))
        return np.arange(len(self.grid.free))[:, None] * width + np.arange(len(self.sources))

    def _names(self) -> Iterator[str]:
        kinds = [*self.sources, FUSED]
        yield from self.sources
        if self.scaling is not None:
            yield from (f"{source}.gain" for source in self.sources)
            yield "scale"
        yield from (f"{kinds[first - 1]}.before.{kinds[second - 1]}" for first, second in self._pairs())
        if self.grid.fuses:
            yield FUSED

    def _pairs(self) -> list[tuple[int, int]]:
        """Codes of blocks that may stand at one position in either order."""
        return list(combinations(range(1, self.grid.n_codes), 2)) if self.grid.max_blocks > 1 else []

    def _shares(self, is_code: Slots, weights: NDArray[np.float64] | None) -> Slots:
        """How much of every source the blocks hold, shape (n_sources, n_slots, n, n_positions)."""
        passed = is_code[: len(self.sources)]
        if weights is None:
            return passed.astype(np.float64)
        return np.asarray(passed + is_code[-1] * np.moveaxis(weights, 2, 0)[:, None])

    def _gains(self, slots: Slots, scales: NDArray[np.float64]) -> Slots:
        """The mean factor of what the layers of blocks, or their mlps, add, shape (n_slots or 1, n, n_positions)."""
        if self.scaling == "branch_mlp":
            widths = self.grid.widths[self.grid.free]
            scaled = (widths - 1 + scales) / widths  # only the last layer of a position is scaled
            behind = np.zeros_like(slots)
            behind[:-1] = slots[1:]
            return np.where((slots > 0) & (behind == 0), scaled, 1.0)
        before = np.cumprod(scales, axis=1) / scales
        return np.asarray(1 / before)[None]

    def _average(self, gains: Slots, shares: Slots, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean gains of every source, shape (n_sources, n, n_positions)."""
        total = (gains * shares).sum(axis=1)
        there = counts > 0
        return np.where(there, self._squashed(total / np.where(there, counts, 1.0)), 0.0)

    def _squashed(self, gains: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.scaling == "branch_mlp":
            return gains / self.max_scale
        inside = np.clip(gains, 1 / MAX_GAIN, MAX_GAIN)  # gains at a bound may lie beyond it by a rounding error
        return np.asarray(0.5 + np.log(inside) / (2 * np.log(MAX_GAIN)))

    def _totals(self, blocks: Blocks, fixed: NDArray[np.int64]) -> NDArray[np.float64]:
        grid = self.grid
        codes = grid.everywhere(blocks, fixed)
        slots = _slots(codes)
        there = slots > 0
        again = np.zeros(there.shape[1:])
        for slot in range(1, grid.max_blocks):
            again += there[slot] & (slots[slot] == slots[:slot]).any(axis=0)
        depth = there.sum(axis=0, dtype=np.float64) @ grid.widths
        repeats = again @ grid.widths
        skips = ~there.any(axis=0) @ grid.widths
        switches, longest = _runs(codes, grid)
        most = grid.max_layers
        totals = [depth / most, repeats / most, skips / grid.n_layers, switches / max(1, most - 1), longest / most]
        return np.stack(totals, axis=1)


def _slots(blocks: Blocks) -> Slots:
    return blocks.transpose(2, 0, 1).astype(np.int16, order="C")


def _share_before(first: Slots, second: Slots) -> NDArray[np.float64]:
    """The share of pairs of blocks in which the first code's comes first, shape (n_pairs, n, n_free).

    The arguments tell where the blocks of both codes of every pair are.
    """
    n_first = np.cumsum(first, axis=1, dtype=np.int16)
    ahead = (n_first * second).sum(axis=1, dtype=np.int16)
    pairs = n_first[:, -1] * second.sum(axis=1, dtype=np.int16)
    return np.where(pairs > 0, ahead / np.maximum(pairs, 1), 0.5)


def _runs(codes: Blocks, grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """How often the code changes from block to block, and the longest run of layers of one source; shape (n,) each."""
    in_order = codes.reshape(len(codes), codes.shape[1] * codes.shape[2]).astype(np.int32)
    there = in_order > 0
    before = np.zeros_like(in_order)
    # The place of the last block up to here, and from it the code of the block before this place.
    last = np.maximum.accumulate(np.where(there, np.arange(in_order.shape[1]), 0), axis=1)
    before[:, 1:] = np.take_along_axis(in_order, last[:, :-1], axis=1)
    changes = there & (in_order != before)
    layers = np.where(there, np.repeat(grid.widths, grid.max_blocks).astype(np.int32), 0)
    so_far = np.cumsum(layers, axis=1, dtype=np.int32)
    run = so_far - np.maximum.accumulate(np.where(changes, so_far - layers, 0), axis=1)
    switches = np.count_nonzero(changes & (before > 0), axis=1)
    return switches, np.where(there & (in_order < grid.fused), run, 0).max(axis=1)
