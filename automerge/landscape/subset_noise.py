"""What the first items of a task say of all of them, when every recipe is evaluated on the same first ones.

Merges that resemble each other answer the same items right, so the sampling errors of their means are correlated, the
more the closer the models are. Taken as independent, the errors of a hundred neighbours would average out to a gain
that is none: a search then climbs the items of its first rung and nothing else. Two things are learned from scores
item by item:

- how large and how correlated the errors of two models are, by their distance (`Likeness`);
- what the first items hide: of a model that went further its error on fewer items is known, and by the correlations it
  tells the errors of those that did not.

In angles (`angles`) the mean of n random items, right or wrong, errs by a variance of 1 / (4 n). The order of a search
is stratified, so means of its first items err less from that of all N: by s (1 / n - 1 / N) / 4. All N are a random
sample themselves, which adds v / (4 N). The errors of two models on m and n items have the covariance of the larger of
m and n, times their correlation: the fewer items are part of the more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from automerge.landscape.angles import Array, angles

LEAST = 3
"""Models with item scores from which on correlations are learned."""

BLOCK = 10
"""Consecutive items whose sums are compared: what strata balance among neighbours in the order does not count."""

REACHES = (0.4, 0.8, 0.2, 1.6, 0.1)
"""Distances over which correlations may fall by 1/e, over that between two samples of the space; the first where none
fits better."""

USUAL = (0.3, 0.5)
"""Correlation of far models, and how much more that of close ones is: found on layer-wise fusions of the zoo."""

DOUBT = 100.0
"""Blocks, over all pairs of models, that the usual correlations count for, and as many that independent sampling does
in the size of errors."""

MOST = 0.97
"""Largest correlation of two models, so that none is taken for the copy of another."""

TELLING = 0.09
"""Product of the shares of right and wrong items below which a model's errors resemble others' less: where nearly all
items are wrong, or right, there is little left to be alike."""


@dataclass(frozen=True)
class Likeness:
    """How correlated the errors of two models on the same items are: `far` + `near` exp(-distance / `reach`).

    `scatter` is the variance of means of the first items around that of all, `spread` that of single scores, both over
    what random items that are right or wrong would have; at most 1.
    """

    far: float
    near: float
    reach: float
    scatter: float = 1.0
    spread: float = 1.0

    @staticmethod
    def of(items: Sequence[Array], distances: Array) -> Likeness | None:
        """What fits the scores best, pair by pair; None of fewer than LEAST models with two blocks of items.

        `items` are scores item by item of n models, all in one order; `distances` has shape (n, n).
        """
        kept = [k for k, scores in enumerate(items) if len(scores) >= 2 * BLOCK]
        if len(kept) < LEAST:
            return None
        n = np.array([len(items[k]) // BLOCK for k in kept])
        blocks = np.zeros((len(kept), n.max()))
        chance = np.zeros(len(kept))
        for row, k in enumerate(kept):
            scores = items[k][: n[row] * BLOCK]
            chance[row] = scores.mean() * (1 - scores.mean())
            blocks[row, : n[row]] = (scores - scores.mean()).reshape(-1, BLOCK).sum(axis=1) / np.sqrt(BLOCK)
        squares = (blocks**2).sum(axis=1)
        single = sum(float(items[k].var()) * m for k, m in zip(kept, n, strict=True))
        scatter = (squares.sum() + DOUBT / 4) / ((chance * (n - 1)).sum() + DOUBT / 4)
        spread = (single + DOUBT / 4) / ((chance * n).sum() + DOUBT / 4)

        first, second = np.triu_indices(len(kept), 1)
        common = np.minimum(n[first], n[second])
        # Divided by the root of the blocks, sums over blocks scatter equally.
        found = (blocks @ blocks.T)[first, second] / np.sqrt(common)
        size = np.sqrt(squares / n)
        largest = size[first] * size[second] * np.sqrt(common)
        apart = distances[np.ix_(kept, kept)][first, second]
        fits = []
        for reach in REACHES:
            closeness = np.exp(-apart / reach)
            far, near = _fitted(found, largest, closeness)
            misfit = float(((found - largest * (far + near * closeness)) ** 2).sum())
            fits.append((misfit, Likeness(far, near, reach, min(1.0, float(scatter)), min(1.0, float(spread)))))
        return min(fits, key=lambda fit: fit[0])[1]

    def correlations(self, distances: Array) -> Array:
        """Those of models at these distances, shape (n, n); 1 of each with itself."""
        found = self.far + self.near * np.exp(-distances / self.reach)
        np.fill_diagonal(found, 1.0)
        return np.asarray(found)


def _fitted(found: Array, largest: Array, closeness: Array) -> tuple[float, float]:
    """The least squares of found = largest (far + near closeness), both at least 0 and together at most MOST."""
    columns = np.stack([largest, largest * closeness], axis=1)
    # The usual ones count as DOUBT blocks of pairs whose scores scatter most, half of them close, half far.
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
    are known in the common order. Without `likeness` errors are independent. Exact for normal errors: what a mean
    changes by from one stop to the next is independent of what it changes by later.
    """
    means = angles(totals, n)
    if likeness is None:
        return means, np.diag(1 / (4 * n))
    shares = (totals + 0.5) / (n + 1)
    telling = np.minimum(1.0, shares * (1 - shares) / TELLING)
    alike = likeness.correlations(distances) * np.outer(telling, telling)
    np.fill_diagonal(alike, 1.0)
    last = n.max()
    sizes = likeness.scatter * (1 / np.maximum(n[:, None], n[None, :]) - 1 / last) + likeness.spread / last
    noise = alike * sizes / 4
    for low, high in pairwise(np.unique(n)):
        further = np.array([k for k, scores in enumerate(items) if scores is not None and n[k] >= high], dtype=np.int64)
        if not len(further):
            continue
        behind = np.flatnonzero(n <= low)
        before, after = (angles(np.array([items[k][: int(stop)].sum() for k in further]), stop) for stop in (low, high))
        shared = alike[np.ix_(further, behind)]
        gain = np.linalg.solve(alike[np.ix_(further, further)], shared)
        means[behind] -= gain.T @ (before - after)
        told = likeness.scatter * (1 / low - 1 / high) / 4 * shared.T @ gain
        noise[np.ix_(behind, behind)] -= (told + told.T) / 2
    return means, noise
