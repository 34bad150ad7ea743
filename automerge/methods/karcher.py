"""Karcher mean: the sources' mean on the sphere, times their mean norm (Karcher 1977; model merging: arXiv 2603.04972).

The point m on the unit sphere with sum_k w_k log_m(u_k) = 0, u_k = x_k / |x_k|, found by Riemannian gradient steps
m <- exp_m(sum_k w_k log_m(u_k)) from the normalized weighted mean; the result is m sum_k w_k |x_k|. All points lie in
the span of the sources, so the iteration runs on their inner products. Equal weights are mergekit's `karcher`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from automerge.protocols import Statistics, WeightedSum
from automerge.tensors.geometry import of_weights

MAX_STEPS = 10
TOLERANCE = 1e-5


def coefficients(weights: Sequence[float], statistics: Statistics) -> list[float]:
    """0 for the base and the sources' coefficients. Raises ValueError unless all weights are >= 0 and not all 0."""
    if min(weights) < 0 or sum(weights) == 0:
        raise ValueError(f"karcher takes weights >= 0, not all 0, got {list(weights)}")
    gram = of_weights(statistics.inner_products())
    norms = np.sqrt(np.diag(gram).clip(min=0))
    shares = np.array(weights) / sum(weights)
    directed = (norms > TOLERANCE) & (shares > 0)
    if not directed.any():
        return [0.0, *shares]
    scale = float(shares @ norms)
    inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=directed)
    mean = _mean(gram * np.outer(inverse, inverse), np.where(directed, shares, 0.0) / shares[directed].sum())
    return [0.0, *(scale * mean * inverse)]


def _mean(cosine: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean direction as coefficients of the unit vectors with these cosines."""
    squared = float(shares @ cosine @ shares)
    # Opposite directions may cancel; the iteration then begins at the first.
    mean = shares / np.sqrt(squared) if squared > TOLERANCE**2 else np.eye(len(shares))[np.flatnonzero(shares)[0]]
    for _ in range(MAX_STEPS):
        dots = (cosine @ mean).clip(-1, 1)
        angles = np.arccos(dots)
        sines = np.sin(angles)
        # Neither the mean itself nor what is opposite to it tells a direction.
        factors = np.where(sines < TOLERANCE, 0.0, shares * angles / sines.clip(min=TOLERANCE))
        tangent = factors - (factors @ dots) * mean
        length = float(np.sqrt(max(tangent @ cosine @ tangent, 0.0)))
        if length < TOLERANCE:
            break
        mean = np.cos(length) * mean + np.sin(length) * tangent / length
        mean = mean / np.sqrt(mean @ cosine @ mean)
    return np.asarray(mean)


METHOD = WeightedSum("karcher", coefficients, weighting="ratio", same=False, vectors=False)
