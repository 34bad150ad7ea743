"""Fidelities: one seeded, stratified order of items per task, whose prefixes are the nested subsets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def shuffled(n_items: int, seed: Sequence[int], limit: int | None = None) -> NDArray[np.int64]:
    """A seeded random order of the first-to-last row numbers, cut to `limit` items, shape (min(n_items, limit),)."""
    order = np.random.default_rng(list(seed)).permutation(n_items)
    return order[:limit].astype(np.int64)


def stratified(items: NDArray[np.int64], scores: NDArray[np.float64], seed: Sequence[int]) -> NDArray[np.int64]:
    """The items reordered so that every prefix holds each stratum in its share of the whole, shape (n_items,).

    `scores` has shape (n_models, n_items): what the sources score on the items. Items on which the sources do alike
    (scores at or above one half count as right) form a stratum; each stratum is spread evenly over the order from a
    random offset.
    """
    if scores.shape[1] != len(items):
        raise ValueError(f"scores of shape (n_models, {len(items)}) expected, got {scores.shape}")
    rng = np.random.default_rng(list(seed))
    patterns = np.unique(scores >= 0.5, axis=1, return_inverse=True)[1].reshape(-1)
    position = np.empty(len(items))
    for pattern in np.unique(patterns):
        members = rng.permutation(np.flatnonzero(patterns == pattern))
        position[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return items[np.argsort(position, kind="stable")]
