"""What the first n items of a task say of all of them, learned from models whose every item is known.

All recipes are evaluated on the same first items. If these are easier than the rest they are so for all, and what is
left of the sampling error once that common offset is removed is smaller than for items drawn anew for every recipe.
Both are measured on the uniform merges, which are evaluated on all items and were not chosen for their scores (the
order of the items was balanced for the sources, so these say nothing).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

LEAST = 3
"""Models from which on something is learned."""

TRUST = 0.5
"""Share of the common offset that is taken off: uniform merges resemble each other more than they do other models, so
part of what they have in common is theirs alone."""

DOUBT = 8.0
"""Models of independent sampling that are added to those measured."""

FRACTIONS = (0.1, 0.2, 0.35, 0.6)
"""Shares of the items at which the sampling error is measured."""


class SubsetNoise:
    """Offsets of subsets, and by how much less than independent sampling they scatter, by task.

    `items` are, by task, scores of shape (n_models, n_items) in the task's order; tasks without at least LEAST models
    have no offsets and independent noise.
    """

    def __init__(self, items: Sequence[NDArray[np.float64]]) -> None:
        self._items = items
        self.factors = np.array([_factor(scores) for scores in items])

    @staticmethod
    def of(known: Sequence[Mapping[str, Sequence[float]]], tasks: Sequence[str]) -> SubsetNoise:
        """What item scores by task of several models tell."""
        return SubsetNoise([np.array([scores[task] for scores in known if task in scores]) for task in tasks])

    def offsets(self, n: int) -> NDArray[np.float64]:
        """By how much the first n items are easier than all, in mean scores, shape (n_tasks,).

        TRUST times the mean difference over the models, shrunk towards 0 by its own standard error.
        """
        found = np.zeros(len(self._items))
        for task, scores in enumerate(self._items):
            if len(scores) >= LEAST and n < scores.shape[1]:
                differences = scores[:, :n].mean(axis=1) - scores.mean(axis=1)
                mean, error = differences.mean(), differences.var(ddof=1) / len(differences)
                found[task] = TRUST * mean * mean**2 / (mean**2 + error + 1e-12)
        return found


def _factor(scores: NDArray[np.float64]) -> float:
    """The variance of subset means around their common offset, over that of independent sampling; at most 1."""
    if len(scores) < LEAST:
        return 1.0
    full = scores.mean(axis=1)
    n_items = scores.shape[1]
    ratios = []
    for n in sorted({max(2, round(share * n_items)) for share in FRACTIONS}):
        differences = scores[:, :n].mean(axis=1) - full
        expected = float((full * (1 - full)).mean()) * (1 / n - 1 / n_items)
        if expected > 0:
            ratios.append(differences.var(ddof=1) / expected)
    measured = float(np.mean(ratios)) if ratios else 1.0
    return min(1.0, (len(scores) * measured + DOUBT) / (len(scores) + DOUBT))
