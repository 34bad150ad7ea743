"""Layers tied to a random degree, so that random models differ: many independent draws all look like their average."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def tied_layers(n_layers: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """For every layer the number of its interval of depth, shape (n_layers,), below n_layers.

    A third each: one interval, a few of random lengths, every layer on its own. The layers of an interval are to share
    what is drawn for it.
    """
    degree = rng.integers(3)
    few = np.unique(rng.integers(1, max(2, n_layers), size=rng.integers(1, n_layers // 2 + 2)))
    starts = (np.empty(0), few, np.arange(1, n_layers))[degree]
    return np.searchsorted(starts, np.arange(n_layers), side="right").astype(np.int64)
