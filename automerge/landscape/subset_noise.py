"""What the first items of a task say of all of them, when every recipe is evaluated on the same first ones.

Merges that resemble each other answer the same items right, so the sampling errors of their means are correlated, the
more the closer the models are. Taken as independent, the errors of a hundred neighbours would average out to a gain
that is none: a search then climbs the items of its first rung and nothing else. Two things are learned from scores
item by item:

- how correlated the errors of two models are, by their distance (`Likeness`);
- what the first items hide: of a model that went further its error on fewer items is known, and by the correlations it
  tells the errors of those that did not.

In angles (`angles`) the error of the mean of the first n items has the variance 1 / (4 n), and those of two models with
m and n items the covariance r / (4 max(m, n)), where r is the correlation item by item: the fewer items are part of the
more. The sample of items is taken as drawn from all that a task might ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from automerge.landscape.angles import Array, angles

LEAST = 3
"""Models with item scores from which on correlations are learned."""

REACHES = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Distances over which correlations may fall by 1/e, over that between two samples of the space."""

USUAL = (0.3, 0.5)
"""Correlation of far models, and how much more that of close ones is: found on layer-wise fusions of the zoo."""

DOUBT = 1000.0
"""Items, over all pairs of models, that the usual correlations count for."""

MOST = 0.97
"""Largest correlation of two models, so that none is taken for the copy of another."""

RIDGE = 1e-9
"""Added to the variances of known differences, which are some 1e-3, so that they can be inverted."""

TELLING = 0.09
"""Product of the shares of right and wrong items below which a model's errors resemble others' less: where nearly all
items are wrong, or right, there is little left to be alike."""


@dataclass(frozen=True)
class Likeness:
    """How correlated the errors of two models on the same items are: `far` + `near` exp(-distance / `reach`)."""

    far: float
    near: float
    reach: float

    @staticmethod
    def of(items: Sequence[Array], distances: Array) -> Likeness | None:
        """The correlations that fit those measured best, pair by pair; None of fewer than LEAST models.

        `items` are scores item by item of n models, all in one order; `distances` has shape (n, n).
        """
        if len(items) < LEAST:
            return None
        n = np.array([len(scores) for scores in items])
        residuals = np.zeros((len(items), n.max()))
        for k, scores in enumerate(items):
            residuals[k, : len(scores)] = scores - scores.mean()
        first, second = np.triu_indices(len(items), 1)
        common = np.minimum(n[first], n[second])
        # Divided by the root of the items, sums over items scatter equally.
        found = (residuals @ residuals.T)[first, second] / np.sqrt(common)
        spread = np.sqrt((residuals**2).sum(axis=1) / n)
        largest = spread[first] * spread[second] * np.sqrt(common)
        fits = []
        for reach in REACHES:
            closeness = np.exp(-distances[first, second] / reach)
            far, near = _fitted(found, largest, closeness)
            misfit = float(((found - largest * (far + near * closeness)) ** 2).sum())
            fits.append((misfit, Likeness(far, near, reach)))
        return min(fits, key=lambda fit: fit[0])[1]

    def correlations(self, distances: Array) -> Array:
        """Those of models at these distances, shape (n, n); 1 of each with itself."""
        found = self.far + self.near * np.exp(-distances / self.reach)
        np.fill_diagonal(found, 1.0)
        return np.asarray(found)


def _fitted(found: Array, largest: Array, closeness: Array) -> tuple[float, float]:
    """The least squares of found = largest (far + near closeness), both at least 0 and together at most MOST."""
    columns = np.stack([largest, largest * closeness], axis=1)
    # The usual ones count as DOUBT items of pairs whose scores scatter most, half of them close, half far.
    weight = DOUBT / 16 / 2
    prior = np.array([[2.0, 1.0], [1.0, 1.0]]) * weight
    matrix = columns.T @ columns + prior
    target = columns.T @ found + prior @ np.array(USUAL)
    far, near = np.linalg.solve(matrix, target)
    if near < 0:
        far, near = target[0] / matrix[0, 0], 0.0
    elif far < 0:
        far, near = 0.0, target[1] / matrix[1, 1]
    scale = min(1.0, MOST / max(far + near, 1e-9))
    return float(max(far, 0.0) * scale), float(max(near, 0.0) * scale)


def corrected(
    totals: Array, n: Array, items: Sequence[Array | None], likeness: Likeness | None, distances: Array
) -> tuple[Array, Array]:
    """Angles without the errors that other models give away, shape (k,), and the covariance of what is left, (k, k).

    `totals` are the sums of scores of k models on the first `n` items each, `items` the scores one by one where they
    are known in the common order. Without `likeness` errors are independent. Exact for normal errors, which are
    conditioned on all known differences between the angles of a model on fewer and on all its items.
    """
    means = angles(totals, n)
    if likeness is None:
        return means, np.diag(1 / (4 * n))
    shares = (totals + 0.5) / (n + 1)
    telling = np.minimum(1.0, shares * (1 - shares) / TELLING)
    alike = likeness.correlations(distances) * np.outer(telling, telling)
    np.fill_diagonal(alike, 1.0)
    every = np.arange(len(means))
    noise = _covariance(alike, every, n, every, n)
    stops = np.unique(n)
    known = [(k, stop) for k, scores in enumerate(items) if scores is not None for stop in stops[stops < n[k]]]
    if not known:
        return means, noise
    who = np.array([k for k, _ in known])
    stop = np.array([stop for _, stop in known])
    fewer = np.array([items[k][: int(stop)].sum() for k, stop in known])  # type: ignore[index]
    differences = angles(fewer, stop) - means[who]
    between = _covariance(alike, every, n, who, stop) - _covariance(alike, every, n, who, n[who])
    within = (
        _covariance(alike, who, stop, who, stop)
        - _covariance(alike, who, stop, who, n[who])
        - _covariance(alike, who, n[who], who, stop)
        + _covariance(alike, who, n[who], who, n[who])
    )
    gain = np.linalg.solve(within + RIDGE * np.eye(len(known)), between.T).T
    left = noise - gain @ between.T
    return means - gain @ differences, (left + left.T) / 2


def _covariance(alike: Array, first: NDArray[np.int64], m: Array, second: NDArray[np.int64], n: Array) -> Array:
    """Of the errors of the `first` models on m items each with those of the `second` on n items each."""
    return np.asarray(alike[np.ix_(first, second)] / (4 * np.maximum(m[:, None], n[None, :])))
