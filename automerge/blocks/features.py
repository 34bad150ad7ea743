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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from automerge.blocks.grid import Blocks, Grid
from automerge.recipe import Scaling
from automerge.scaling import MAX_GAIN

FUSED = "fused"
"""The name of fused blocks."""

TOTALS = ("depth", "repeats", "skips", "switches", "longest_run")
"""Names of the columns that tell of the whole stack."""


Number = TypeVar("Number", bound=np.generic)

Slots = list[NDArray[Number]]
"""Something of every block, slot by slot, shape (n, n_positions) each: sums over a few slots, row by row, are slow."""


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
        # By code, then by slot.
        is_code = {code: [slot == code for slot in slots] for code in range(1, self.grid.fused + 1)}
        shares = [self._shares(source, is_code, weights) for source in range(len(self.sources))]
        counts = [_total(each) for each in shares]
        most = self.grid.max_blocks * (self.max_weight if self.grid.fuses else 1.0)
        found = [count / most for count in counts]
        if scales is not None:
            gains = self._gains(slots, scales)
            found += [self._average(gains, *each) for each in zip(shares, counts, strict=True)]
            found.append(scales / self.max_scale)
        found += [_share_before(is_code[first], is_code[second]) for first, second in self._pairs()]
        if self.grid.fuses:
            found.append(_total(is_code[self.grid.fused]) / self.grid.max_blocks)
        by_position = np.stack(found, axis=2).reshape(len(blocks), len(found) * blocks.shape[1])
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

    def _shares(
        self, source: int, is_code: Mapping[int, Slots[np.bool_]], weights: NDArray[np.float64] | None
    ) -> Slots[np.float64]:
        """How much of the source every block holds."""
        passed = is_code[source + 1]
        if weights is None:
            return [here.astype(np.float64) for here in passed]
        weight = weights[:, :, source]
        return [here + fused * weight for here, fused in zip(passed, is_code[self.grid.fused], strict=True)]

    def _gains(self, slots: Slots[np.int16], scales: NDArray[np.float64]) -> Slots[np.float64]:
        """The mean factor of what the layers of each block, or their mlps, add."""
        if self.scaling == "branch_mlp":
            widths = self.grid.widths[self.grid.free]
            scaled = (widths - 1 + scales) / widths  # only the last layer of a position is scaled
            behind = [*slots[1:], np.zeros_like(slots[0])]
            return [np.where((here > 0) & (after == 0), scaled, 1.0) for here, after in zip(slots, behind, strict=True)]
        before = np.cumprod(scales, axis=1) / scales
        return [1 / before] * len(slots)

    def _average(
        self, gains: Slots[np.float64], shares: Slots[np.float64], count: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        total = _total([gain * share for gain, share in zip(gains, shares, strict=True)])
        return np.where(count > 0, self._squashed(total / np.where(count > 0, count, 1.0)), 0.0)

    def _squashed(self, gains: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.scaling == "branch_mlp":
            return gains / self.max_scale
        inside = np.clip(gains, 1 / MAX_GAIN, MAX_GAIN)  # gains at a bound may lie beyond it by a rounding error
        return np.asarray(0.5 + np.log(inside) / (2 * np.log(MAX_GAIN)))

    def _totals(self, blocks: Blocks, fixed: NDArray[np.int64]) -> NDArray[np.float64]:
        grid = self.grid
        codes = grid.everywhere(blocks, fixed)
        slots = _slots(codes)
        there = [here > 0 for here in slots]
        again = [
            there[slot] & np.logical_or.reduce([slots[slot] == earlier for earlier in slots[:slot]])
            for slot in range(1, grid.max_blocks)
        ]
        depth = _total(there) @ grid.widths
        repeats = _total([np.zeros(there[0].shape), *again]) @ grid.widths
        skips = ~np.logical_or.reduce(there) @ grid.widths
        switches, longest = _runs(codes, grid)
        most = grid.max_layers
        totals = [depth / most, repeats / most, skips / grid.n_layers, switches / max(1, most - 1), longest / most]
        return np.stack(totals, axis=1)


def _slots(blocks: Blocks) -> Slots[np.int16]:
    return list(np.moveaxis(blocks, 2, 0).astype(np.int16, order="C"))


def _total(slots: Slots[Any]) -> NDArray[np.float64]:
    """The sum over the slots, shape (n, n_positions)."""
    found = slots[0].astype(np.float64)
    for each in slots[1:]:
        found += each
    return found


def _share_before(first: Slots[np.bool_], second: Slots[np.bool_]) -> NDArray[np.float64]:
    """The share of pairs of blocks in which the first code's comes first, shape (n, n_free).

    The arguments tell where the blocks of both codes are.
    """
    n_first, n_second, ahead = (np.zeros(first[0].shape) for _ in range(3))
    for is_first, is_second in zip(first, second, strict=True):
        n_first += is_first
        n_second += is_second
        ahead += n_first * is_second
    pairs = n_first * n_second
    return np.where(pairs > 0, ahead / np.maximum(pairs, 1), 0.5)


def _runs(codes: Blocks, grid: Grid) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """How often the code changes from block to block, and the longest run of layers of one source; shape (n,) each."""
    previous, run, longest, switches = (np.zeros(len(codes), dtype=np.int32) for _ in range(4))
    in_order = codes.reshape(len(codes), codes.shape[1] * codes.shape[2]).T.astype(np.int32, order="C")
    for code, width in zip(in_order, np.repeat(grid.widths, grid.max_blocks).tolist(), strict=True):
        there = code > 0
        same = code == previous
        switches += there & ~same & (previous > 0)
        run = np.where(there, run * same + width, run)
        np.maximum(longest, run, out=longest, where=there & (code < grid.fused))
        previous = np.where(there, code, previous)
    return switches, longest
