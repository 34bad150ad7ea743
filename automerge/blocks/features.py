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

import numpy as np
from numpy.typing import NDArray

from automerge.blocks.grid import Blocks, Grid
from automerge.recipe import Scaling
from automerge.scaling import MAX_GAIN

FUSED = "fused"
"""The name of fused blocks."""

TOTALS = ("depth", "repeats", "skips", "switches", "longest_run")
"""Names of the columns that tell of the whole stack."""


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
        # (n, n_free, max_blocks, n_sources): how much of each source every block holds
        shares = (blocks[..., None] == np.arange(1, len(self.sources) + 1)).astype(np.float64)
        if weights is not None:
            shares += (blocks == self.grid.fused)[..., None] * weights[:, :, None, :]
        counts = shares.sum(axis=2)
        found = [counts / (self.grid.max_blocks * (self.max_weight if self.grid.fuses else 1.0))]
        if scales is not None:
            gains = np.einsum("npb,npbk->npk", self._gains(blocks, scales), shares)
            found.append(np.where(counts > 0, self._squashed(gains / np.where(counts > 0, counts, 1.0)), 0.0))
            found.append(scales[:, :, None] / self.max_scale)
        found.extend(_share_before(blocks, *pair)[:, :, None] for pair in self._pairs())
        if self.grid.fuses:
            found.append((blocks == self.grid.fused).sum(axis=2)[:, :, None] / self.grid.max_blocks)
        by_position = np.concatenate(found, axis=2).reshape(len(blocks), -1)
        return np.concatenate([by_position, self._totals(blocks, fixed)], axis=1)

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

    def _gains(self, blocks: Blocks, scales: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean factor of what the layers of each block, or their mlps, add; shape of `blocks`."""
        if self.scaling == "branch_mlp":
            behind = np.concatenate([blocks[:, :, 1:], np.zeros_like(blocks[:, :, :1])], axis=2)
            widths = self.grid.widths[self.grid.free]
            scaled = (widths - 1 + scales) / widths  # only the last layer of a position is scaled
            return np.where((blocks > 0) & (behind == 0), scaled[:, :, None], 1.0)
        before = np.cumprod(scales, axis=1) / scales
        return np.broadcast_to(1 / before[:, :, None], blocks.shape)

    def _squashed(self, gains: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.scaling == "branch_mlp":
            return gains / self.max_scale
        inside = np.clip(gains, 1 / MAX_GAIN, MAX_GAIN)  # gains at a bound may lie beyond it by a rounding error
        return np.asarray(0.5 + np.log(inside) / (2 * np.log(MAX_GAIN)))

    def _totals(self, blocks: Blocks, fixed: NDArray[np.int64]) -> NDArray[np.float64]:
        grid = self.grid
        codes = grid.everywhere(blocks, fixed)
        there = codes > 0
        depth = (there.sum(axis=2) * grid.widths).sum(axis=1)
        repeated = np.zeros_like(there)
        for slot in range(1, grid.max_blocks):
            repeated[:, :, slot] = there[:, :, slot] & (codes[:, :, :slot] == codes[:, :, slot, None]).any(axis=2)
        repeats = (repeated.sum(axis=2) * grid.widths).sum(axis=1)
        skips = (~there.any(axis=2) * grid.widths).sum(axis=1)
        switches, longest = _runs(codes, grid)
        most = grid.max_layers
        totals = [depth / most, repeats / most, skips / grid.n_layers, switches / max(1, most - 1), longest / most]
        return np.stack(totals, axis=1)


def _share_before(blocks: Blocks, first: int, second: int) -> NDArray[np.float64]:
    """The share of pairs of blocks of these codes in which the first code's comes first, shape (n, n_free)."""
    is_first, is_second = blocks == first, blocks == second
    # Blocks of one code before each slot, times those of the other in it.
    ahead = (np.cumsum(is_first, axis=2) * is_second).sum(axis=2)
    pairs = is_first.sum(axis=2) * is_second.sum(axis=2)
    return np.where(pairs > 0, ahead / np.maximum(pairs, 1), 0.5)


def _runs(codes: Blocks, grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often the code changes from block to block, and the longest run of layers of one source; shape (n,) each."""
    n = len(codes)
    previous, run, longest, switches = (np.zeros(n, dtype=np.int64) for _ in range(4))
    for position, width in enumerate(grid.widths):
        for slot in range(grid.max_blocks):
            code = codes[:, position, slot]
            there = code > 0
            same = code == previous
            switches += there & ~same & (previous > 0)
            run = np.where(there, np.where(same, run, 0) + width, run)
            longest = np.where(there & (code < grid.fused), np.maximum(longest, run), longest)
            previous = np.where(there, code, previous)
    return switches, longest
