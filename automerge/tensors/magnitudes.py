"""Tables of magnitudes: from which value on a tensor keeps exactly the share of entries that a density asks for.

A table is a histogram of float32 values by their leading bits, so it is made in one pass and without sorting, and is
the same whether a search, an export, a CPU or a GPU asks it. Differences of bfloat16 weights take few values: one
value alone may hold two percent of a tensor's entries, and a single threshold would miss the density by as much. So a
threshold is a row of PATTERN numbers, laid over the flattened tensor again and again: at a fixed share of its places it
is the lower edge of the boundary bin, at the others the upper one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PATTERN = 512
"""Length of a row of thresholds."""

DROPPED_BITS = 15
"""Trailing bits of a float32 that a bin disregards: 256 bins between a power of two and the next."""

EXACT = 2**14
"""Tensors of at most this many entries are tabled value by value."""

# Each place has its own number in (0, 1), so exactly a share of q places lies below q.
PLACES: NDArray[np.float64] = (np.random.default_rng(2306_01708).permutation(PATTERN) + 0.5) / PATTERN


@dataclass(frozen=True)
class Magnitudes:
    """The distribution of non-negative numbers over ascending bins, with sums of other quantities by bin.

    `lower` and `upper` bound the bins, float32 of shape (n_bins,); a number x is in a bin if lower <= x < upper.
    `counts` has shape (n_bins,); `sums` has shape (n_quantities, n_bins).
    """

    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    counts: NDArray[np.int64]
    sums: NDArray[np.float64]

    @property
    def size(self) -> int:
        """How many numbers were counted."""
        return int(self.counts.sum())

    def threshold(self, n_kept: int) -> NDArray[np.float32]:
        """The row of thresholds, shape (PATTERN,), at or above which the `n_kept` largest numbers lie."""
        if n_kept <= 0:
            return np.full(PATTERN, np.inf, dtype=np.float32)
        bin_, share = self._boundary(n_kept)
        return np.asarray(np.where(share > PLACES, self.lower[bin_], self.upper[bin_]))

    def sums_above(self, n_kept: int) -> NDArray[np.float64]:
        """The quantities' sums over the `n_kept` largest numbers, shape (n_quantities,)."""
        if n_kept <= 0:
            return np.zeros(len(self.sums))
        bin_, share = self._boundary(n_kept)
        return np.asarray(self.sums[:, bin_ + 1 :].sum(axis=1) + share * self.sums[:, bin_])

    def _boundary(self, n_kept: int) -> tuple[int, float]:
        """The bin in which the `n_kept` largest numbers end, and which share of that bin is among them."""
        bin_ = int(np.searchsorted(-self._from_here, -n_kept, side="right")) - 1
        above = int(self._from_here[bin_] - self.counts[bin_])
        return bin_, (n_kept - above) / int(self.counts[bin_])

    @cached_property
    def _from_here(self) -> NDArray[np.int64]:
        """For each bin the number of entries in it and above, which falls from bin to bin."""
        return np.asarray(np.cumsum(self.counts[::-1])[::-1])


def tabulate(pieces: Iterable[tuple[Tensor, list[Tensor]]], *, size: int) -> Magnitudes:
    """The table of non-negative float32 numbers that come in flat pieces, each with its other quantities.

    `size` is the number of all numbers; it decides how fine the bins are.
    """
    dropped = 0 if size <= EXACT else DROPPED_BITS
    bits, counts, sums = _exact(pieces) if dropped == 0 else _binned(pieces)
    lower = (bits << dropped).astype(np.uint32).view(np.float32)
    upper = ((bits + 1) << dropped).astype(np.uint32).view(np.float32)
    return Magnitudes(lower=lower, upper=upper, counts=counts, sums=sums)


def _exact(
    pieces: Iterable[tuple[Tensor, list[Tensor]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    listed = [(numbers, quantities) for numbers, quantities in pieces]
    codes = torch.cat([_codes(numbers) for numbers, _ in listed]).cpu().numpy()
    bits, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    columns = zip(*(quantities for _, quantities in listed), strict=True)
    whole = [torch.cat(list(column)).double().cpu().numpy() for column in columns]
    sums = [np.bincount(inverse, weights=column, minlength=len(bits)) for column in whole]
    stacked = np.array(sums, dtype=np.float64).reshape(len(sums), len(bits))
    return bits.astype(np.int64), counts.astype(np.int64), stacked


def _binned(
    pieces: Iterable[tuple[Tensor, list[Tensor]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    n_bins = 2 ** (31 - DROPPED_BITS)
    counts: Tensor | None = None
    sums: list[Tensor] = []
    for numbers, quantities in pieces:
        codes = _codes(numbers) >> DROPPED_BITS
        found = torch.bincount(codes, minlength=n_bins)
        added = [torch.bincount(codes, weights=quantity.double(), minlength=n_bins) for quantity in quantities]
        counts = found if counts is None else counts.add_(found)
        sums = [a.add_(b) for a, b in zip(sums, added, strict=True)] if sums else added
    if counts is None:
        raise ValueError("there is nothing to tabulate")
    # Magnitudes of a tensor spread over a dozen powers of two, so most bins are empty.
    filled = counts.cpu().numpy()
    bits = np.flatnonzero(filled)
    stacked = [column.cpu().numpy()[bits] for column in sums]
    return bits, filled[bits], np.array(stacked).reshape(len(stacked), len(bits))


def _codes(numbers: Tensor) -> Tensor:
    """The bits of non-negative float32 numbers, which order as the numbers do."""
    return numbers.contiguous().view(torch.int32)
