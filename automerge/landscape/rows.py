"""What was measured, as rows for a model: one per recipe, with its mean scores as angles and their errors' covariance.

A subset of n items is an unbiased view of a task, so no fidelity has a term of its own: a promotion replaces a row by a
surer one. All recipes see the same items, so their errors are correlated, and some are known (`subset_noise`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from automerge.landscape.subset_noise import Likeness, corrected
from automerge.records import Trial

WINSOR = 3.0
"""Robust standard deviations below the median at which means are cut off: a broken model would bend all the rest."""


@dataclass(frozen=True)
class Rows:
    """n recipes: their genotypes, shape (n, n_genes), and by task the angles of their mean scores, shape (n, n_tasks).

    `noise` are the covariances of what they err by, shape (n_tasks, n, n).
    """

    X: NDArray[np.float64]
    means: NDArray[np.float64]
    noise: NDArray[np.float64]

    @staticmethod
    def of(
        known: Sequence[Trial],
        tasks: Sequence[str],
        distances: NDArray[np.float64],
        likeness: Sequence[Likeness | None] | None = None,
    ) -> Rows:
        """The rows of one trial and more, all `known_on` the tasks.

        `distances` are those between them, shape (n, n). Without `likeness`, by task, errors are taken as independent.
        """
        means, noise = [], []
        for k, task in enumerate(tasks):
            n = np.array([trial.results[task].n for trial in known], dtype=np.float64)
            totals = np.array([trial.results[task].total for trial in known])
            items = [in_order(trial, task) for trial in known]
            like = likeness[k] if likeness is not None else None
            found, left = corrected(totals, n, items, like, distances)
            means.append(found)
            noise.append(left)
        return Rows(np.array([trial.genotype for trial in known]), np.stack(means, axis=1), np.stack(noise))

    @property
    def variances(self) -> NDArray[np.float64]:
        """Those of the errors, shape (n, n_tasks)."""
        return np.asarray(np.einsum("tii->it", self.noise))

    def __len__(self) -> int:
        return len(self.X)

    def winsorised(self) -> Rows:
        """The rows with means that lie far below the median of a task cut off there."""
        middle = np.median(self.means, axis=0)
        spread = 1.4826 * np.median(np.abs(self.means - middle), axis=0)
        # Where most means are equal there is no spread to go by.
        floor = np.where(spread > 0, middle - WINSOR * spread, -np.inf)
        return Rows(self.X, np.maximum(self.means, floor), self.noise)

    def at(self, chosen: NDArray[np.int64]) -> Rows:
        """Some of the rows."""
        return Rows(self.X[chosen], self.means[chosen], self.noise[:, chosen[:, None], chosen])


def known_on(trials: Sequence[Trial], tasks: Sequence[str]) -> list[Trial]:
    """The trials that have results on all tasks."""
    return [trial for trial in trials if trial.status == "ok" and all(task in trial.results for task in tasks)]


def in_order(trial: Trial, task: str) -> NDArray[np.float64] | None:
    """Scores of a trial item by item, None where they are not all known in the task's order."""
    scores = trial.items.get(task)
    if scores is None or len(scores) != trial.results[task].n:
        return None
    return np.asarray(scores, dtype=np.float64)
