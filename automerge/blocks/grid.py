"""Grid: the positions of a space of stacks, and how many blocks they may hold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from automerge.options import whole_faults

Blocks = NDArray[np.int64]
"""Codes of blocks, shape (n, n_free, max_blocks) of n stacks or (n_free, max_blocks) of one."""


@dataclass(frozen=True)
class Grid:
    """The layers of the sources in groups of `granularity`, the last maybe shorter: the positions of a stack.

    Positions that hold any of the first `fixed_first` or last `fixed_last` layers are fixed: they keep one block. The
    others, free, hold up to `max_blocks`, the same one at most `max_repeats` times. A stack has `min_layers` to
    `max_layers` layers. `fuses` says whether there is a code for the fusion of all sources.
    """

    n_layers: int
    n_sources: int
    fuses: bool
    granularity: int
    max_blocks: int
    max_repeats: int
    fixed_first: int
    fixed_last: int
    min_layers: int
    max_layers: int

    def faults(self) -> list[str]:
        """Every reason why there are no such stacks, as messages; empty if there is none."""
        ones = ("n_layers", "granularity", "max_blocks", "max_repeats", "min_layers", "max_layers")
        found = whole_faults(1, **{name: getattr(self, name) for name in ones})
        found += whole_faults(0, fixed_first=self.fixed_first, fixed_last=self.fixed_last)
        if found:
            return found
        if not len(self.free):
            found.append(
                f"fixed_first {self.fixed_first} and fixed_last {self.fixed_last} leave none of {self.n_layers} layers "
                f"in groups of {self.granularity} free; lower them or the granularity"
            )
        if self.min_layers > self.max_layers:
            found.append(f"min_layers {self.min_layers} lies above max_layers {self.max_layers}; lower it or raise max")
        if self.min_layers > self.n_layers:
            found.append(
                f"min_layers {self.min_layers} lies above the sources' {self.n_layers} layers, so that stacks could "
                "not be filled up to it by taking every layer once; lower it"
            )
        if self.max_layers < self.n_fixed:
            found.append(
                f"max_layers {self.max_layers} lies below the {self.n_fixed} layers of fixed positions; raise it or "
                "lower fixed_first and fixed_last"
            )
        return found or self._room_faults()

    @property
    def fused(self) -> int:
        """The code of a fused block, also of what stands at a fixed position and is no source as it is."""
        return self.n_sources + 1

    @property
    def n_codes(self) -> int:
        """Number of codes of a block, with 0 for none."""
        return 1 + self.n_sources + self.fuses

    @cached_property
    def positions(self) -> tuple[range, ...]:
        """The layers of every position."""
        starts = range(0, self.n_layers, self.granularity)
        return tuple(range(start, min(start + self.granularity, self.n_layers)) for start in starts)

    @cached_property
    def is_free(self) -> NDArray[np.bool_]:
        """Whether each position is free, shape (n_positions,)."""
        last = self.n_layers - self.fixed_last
        return np.array([self.fixed_first <= layers.start and layers.stop <= last for layers in self.positions])

    @cached_property
    def free(self) -> NDArray[np.int64]:
        """The numbers of the free positions, shape (n_free,)."""
        return np.flatnonzero(self.is_free).astype(np.int64)

    @cached_property
    def widths(self) -> NDArray[np.int64]:
        """The number of layers at every position, shape (n_positions,)."""
        return np.array([len(layers) for layers in self.positions], dtype=np.int64)

    @property
    def n_fixed(self) -> int:
        """Number of layers at fixed positions."""
        return int(self.widths[~self.is_free].sum())

    @property
    def most_layers(self) -> int:
        """The layers of the deepest stack, at most: `max_layers`, or fewer if the positions cannot hold as many."""
        n_blocks = min(self.max_blocks, self.max_repeats * (self.n_codes - 1))
        return min(self.max_layers, self.n_fixed + n_blocks * int(self.widths[self.free].sum()))

    @property
    def holds_sources(self) -> bool:
        """Whether a stack may be as deep as the sources, so that each of them is one."""
        return self.min_layers <= self.n_layers <= self.max_layers

    def depths(self, blocks: Blocks) -> NDArray[np.int64]:
        """The number of layers of every stack, shape (n,)."""
        return np.asarray(self.n_fixed + ((blocks > 0).sum(axis=-1) * self.widths[self.free]).sum(axis=-1))

    def everywhere(self, blocks: Blocks, fixed: NDArray[np.int64]) -> Blocks:
        """The blocks of all positions, shape (n, n_positions, max_blocks).

        `fixed` holds for every stack the code of its block at fixed positions, shape (n,).
        """
        found = np.zeros((len(blocks), len(self.positions), self.max_blocks), dtype=np.int64)
        found[:, self.free] = blocks
        found[:, ~self.is_free, 0] = fixed[:, None]
        return found

    def _room_faults(self) -> list[str]:
        """Blocks are dropped or added one by one, so a depth within bounds must not be jumped over."""
        widths = np.unique(self.widths[self.free])
        if len(widths) == 1:
            deepest = self.max_layers - (self.max_layers - self.n_fixed) % int(widths[0])
            met = deepest >= self.min_layers
        else:
            met = self.max_layers - self.min_layers >= self.granularity - 1
        if met:
            return []
        return [
            f"with groups of {self.granularity} layers no depth from min_layers {self.min_layers} to max_layers "
            f"{self.max_layers} is sure to be met; let {self.granularity - 1} layers lie between them, or set "
            "granularity: 1"
        ]
