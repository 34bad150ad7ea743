"""What the first items of a task say of all of them, when every recipe is evaluated on the same first ones.

Merges that resemble each other answer the same items right, so the sampling errors of their means are correlated, the
more the closer the models are. Taken as independent, the errors of a hundred neighbours would average out to a gain
that is none: a search then climbs the items of its first rung and nothing else. Two things are learned from scores
item by item:

- how large and how correlated the errors of two models are, by their distance (`Likeness`);
- what the first items hide: of a model that went further its error on fewer items is known, and by the correlations it
  tells the errors of those that did not.

In angles (`angles`) the mean of n random items, right or wrong, errs by a variance of 1 / (4 n). The order of a search
is stratified, so means of its first items err less from that of all N, by s (1 / n - 1 / N) / 4, and are less alike:
what easy and hard items would make alike is balanced. All N are a random sample themselves, which adds v / (4 N), and
is as alike as single items are. The errors of two models on m and n items have the covariance of the larger of m and n,
times their correlation: the fewer items are part of the more.
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
fits better. Scores alone choose among them: what is usual holds only how far correlations go up and down."""

DOUBT = 100.0
"""Blocks, or items, of a single model that what is usual counts for."""

MOST = 0.97
"""Largest correlation of two models, so that none is taken for the copy of another."""

TELLING = 0.09
"""Product of the shares of right and wrong items below which a model's errors resemble others' less, unless such models
are usual: where nearly all items are wrong, or right, there is little left to be alike."""

TINY = 1e-9
"""Variance of sums, over that of random items, up to which there is nothing to correlate: in a perfect balance."""

SURE = 2.0
"""Standard errors by which a model may be worse than it looks."""


@dataclass(frozen=True)
class Decay:
    """Correlations of two models by their distance: `far` + `near` exp(-distance / `reach`)."""

    far: float
    near: float
    reach: float = REACHES[0]

    def correlations(self, distances: Array) -> Array:
        """Those of models at these distances, shape (n, n); 1 of each with itself."""
        found = self.far + self.near * np.exp(-distances / self.reach)
        np.fill_diagonal(found, 1.0)
        return np.asarray(found)


USUAL_PARTS = Decay(0.3, 0.5)
"""Of sums of BLOCK consecutive items in a stratified order: as found on layer-wise fusions of the zoo."""

USUAL_WHOLE = Decay(0.45, 0.45)
"""Of single items, found on the same."""


@dataclass(frozen=True)
class Likeness:
    """How large and how alike the errors of models on the same items are.

    `parts` correlates means of the first items around that of all, `whole` those of all; `scatter` and `spread` are
    their variances, over what random items that are right or wrong would have, at most 1. `chance` is the usual product
    of the shares of right and wrong items. As it stands, what is usual.
    """

    parts: Decay = USUAL_PARTS
    whole: Decay = USUAL_WHOLE
    scatter: float = 1.0
    spread: float = 1.0
    chance: float = 0.25

    @staticmethod
    def of(items: Sequence[Array], distances: Array) -> Likeness:
        """What fits the scores best, pair by pair; what is usual of fewer than LEAST models with two blocks of items.

        So it is where hardly a model has right and wrong items. `items` are scores item by item of n models, all in one
        order; `distances` has shape (n, n).
        """
        kept = [k for k, scores in enumerate(items) if len(scores) >= 2 * BLOCK]
        if len(kept) < LEAST:
            return Likeness()
        scores = [items[k] for k in kept]
        apart = distances[np.ix_(kept, kept)]
        chances = np.array([each.mean() * (1 - each.mean()) for each in scores])
        if not chances.any():
            return Likeness()
        spread, whole = _learned(scores, 1, chances, apart, usual=USUAL_WHOLE, before=1.0)
        scatter, parts = _learned(scores, BLOCK, chances, apart, usual=USUAL_PARTS, before=spread)
        return Likeness(parts, whole, min(1.0, scatter), min(1.0, spread), float((chances**2).sum() / chances.sum()))

    def alike(self, totals: Array, n: Array) -> Array:
        """How far the errors of models, by the sums of their first n scores, are as alike as correlations say: (k, k).

        A model that has nearly all of few items right may be no better than the rest, and the search looks for such
        models: it is as alike as it would be at the least of what it may be worth.
        """
        shares = (totals + 0.5) / (n + 1)
        shares = np.where(shares > 0.5, np.maximum(0.5, _least(totals, n)), shares)
        telling = np.minimum(1.0, shares * (1 - shares) / min(TELLING, self.chance))
        return np.outer(telling, telling)


def _learned(
    items: Sequence[Array], size: int, chances: Array, apart: Array, *, usual: Decay, before: float
) -> tuple[float, Decay]:
    """Of sums of so many consecutive items their variance over that of random right or wrong ones, and correlations.

    `before` is the variance, and `usual` the correlations, that are taken as long as little is known.
    """
    n = np.array([len(scores) // size for scores in items])
    sums = np.zeros((len(items), n.max()))
    for row, scores in enumerate(items):
        parts = scores[: n[row] * size]
        sums[row, : n[row]] = (parts - parts.mean()).reshape(-1, size).sum(axis=1) / np.sqrt(size)
    squares, expected, doubt = (sums**2).sum(), (chances * (n - 1)).sum(), DOUBT * chances.mean()
    variance = float((squares + before * doubt) / (expected + doubt))
    if squares <= TINY * expected or np.count_nonzero(chances) < 2:
        return variance, usual

    first, second = np.triu_indices(len(items), 1)
    common = np.minimum(n[first], n[second])
    # Divided by the root of their number, sums over blocks scatter equally. The means that were taken off hide one.
    found = (sums @ sums.T)[first, second] / np.sqrt(common)
    largest = squares / expected * np.sqrt(chances[first] * chances[second]) * (common - 1) / np.sqrt(common)
    # Pairs are not independent: all of them say no more than as many models do.
    doubt = DOUBT * len(first) / len(items) * float((largest**2 / common).mean())
    fits = []
    for reach in REACHES:
        closeness = np.exp(-apart[first, second] / reach)
        far, near = _fitted(found, largest, closeness, usual=usual, doubt=doubt)
        misfit = float(((found - largest * (far + near * closeness)) ** 2).sum())
        fits.append((misfit, Decay(far, near, reach)))
    return variance, min(fits, key=lambda fit: fit[0])[1]


def _fitted(found: Array, largest: Array, closeness: Array, *, usual: Decay, doubt: float) -> tuple[float, float]:
    """The least squares of found = largest (far + near closeness), both at least 0 and together at most MOST.

    What is usual counts for so much, half of it as close pairs, half as far ones.
    """
    columns = np.stack([largest, largest * closeness], axis=1)
    prior = np.array([[2.0, 1.0], [1.0, 1.0]]) * doubt / 2
    matrix = columns.T @ columns + prior
    target = columns.T @ found + prior @ np.array([usual.far, usual.near])
    far, near = np.linalg.solve(matrix, target)
    if near < 0:
        far, near = target[0] / matrix[0, 0], 0.0
    elif far < 0:
        far, near = 0.0, target[1] / matrix[1, 1]
    scale = min(1.0, MOST / max(far + near, 1e-9))
    return float(max(far, 0.0) * scale), float(max(near, 0.0) * scale)


def _least(totals: Array, n: Array) -> Array:
    """Shares that lie SURE standard errors below `totals` of n (Wilson, JASA 1927)."""
    square = SURE**2
    half = SURE * np.sqrt(np.maximum(totals * (n - totals), 0.0) / n + square / 4)
    return np.asarray((totals + square / 2 - half) / (n + square))


def corrected(
    totals: Array, n: Array, items: Sequence[Array | None], likeness: Likeness | None, distances: Array
) -> tuple[Array, Array]:
    """Angles without the errors that other models give away, shape (k,), and the covariance of what is left, (k, k).

    `totals` are the sums of scores of k models on the first `n` items each, `items` the scores one by one where they
    are known in the common order; as many as any model has stand for all. Without `likeness` errors are independent.
    Exact for normal errors: what a mean changes by from one stop to the next is independent of what it changes by
    later.
    """
    means = angles(totals, n)
    if likeness is None:
        return means, np.diag(1 / (4 * n))
    telling = likeness.alike(totals, n)
    np.fill_diagonal(telling, 1.0)
    alike = likeness.parts.correlations(distances) * telling
    last = n.max()
    sizes = likeness.scatter * (1 / np.maximum(n[:, None], n[None, :]) - 1 / last)
    noise = (alike * sizes + likeness.whole.correlations(distances) * telling * likeness.spread / last) / 4
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
