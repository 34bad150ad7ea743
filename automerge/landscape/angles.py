"""Mean scores as angles, in which their noise does not depend on the score: z = arcsin(sqrt(score)).

The variance of the mean of n right or wrong items is p (1 - p) / n; that of its angle is 1 / (4 n) whatever p (Bartlett
1936). Beliefs about angles are normal; the moments of the score sin(z)^2 = (1 - cos(2 z)) / 2 then follow in closed
form, lie within [0, 1], and are sure where scores saturate: nothing is believed to be better than perfect.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def angles(totals: Array, n: Array) -> Array:
    """The angles of mean scores totals / n.

    Half an item more of either kind keeps scores of 0 and 1 off the ends (Anscombe 1948 with 3/8).
    """
    share = (totals + 0.5) / (n + 1)
    return np.asarray(np.arcsin(np.sqrt(np.clip(share, 0.0, 1.0))))


def scores(means: Array, deviations: Array) -> tuple[Array, Array]:
    """Means and standard deviations of scores whose angles are normal with these."""
    z, v = np.clip(means, 0.0, np.pi / 2), deviations**2
    first = np.cos(2 * z) * np.exp(-2 * v)
    second = np.cos(4 * z) * np.exp(-8 * v)
    variance = (1 + second) / 8 - first**2 / 4
    return (1 - first) / 2, np.sqrt(np.maximum(variance, 0.0))


def covariances(means: Array, angular: Array) -> Array:
    """Covariances of scores from means of angles, shape (n, n_tasks), and their covariances; both (n_tasks, n, n).

    With cos(a) cos(b) = (cos(a + b) + cos(a - b)) / 2, and E[cos(x)] = cos(mean) exp(-variance / 2) for a normal x.
    """
    z = np.clip(means, 0.0, np.pi / 2).T
    variance = np.einsum("tii->ti", angular)
    both = variance[:, :, None] + variance[:, None, :]
    product = 0.5 * (
        np.cos(2 * (z[:, :, None] + z[:, None, :])) * np.exp(-2 * (both + 2 * angular))
        + np.cos(2 * (z[:, :, None] - z[:, None, :])) * np.exp(-2 * (both - 2 * angular))
    )
    first = np.cos(2 * z) * np.exp(-2 * variance)
    return np.asarray(0.25 * (product - first[:, :, None] * first[:, None, :]))
