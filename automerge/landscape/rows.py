"""What was measured, as rows for a model: one per recipe, with its mean scores as angles and their known noise.

A subset of n items is an unbiased view of a task, so no fidelity has a term of its own: a promotion replaces a row by a
surer one. All recipes see the same items, so part of the noise is common to all and is taken off (`subset_noise`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from automerge.landscape.angles import angles
from automerge.landscape.subset_noise import SubsetNoise
from automerge.records import Trial

WINSOR = 3.0
"""Robust standard deviations below the median at which means are cut off: a broken model would bend all the rest."""


@dataclass(frozen=True)
class Rows:
    """n recipes: their genotypes, shape (n, n_genes), and by task the angles of their mean scores and the variances.

    `means` and `variances` have shape (n, n_tasks).
    """

    X: NDArray[np.float64]
    means: NDArray[np.float64]
    variances: NDArray[np.float64]

    @staticmethod
    def of(trials: Sequence[Trial], tasks: Sequence[str], noise: SubsetNoise | None = None) -> Rows:
        """The rows of trials that have results on all tasks; others are left out.

        Without `noise` subsets are taken as drawn independently for every recipe.
        """
        known = [trial for trial in trials if trial.status == "ok" and all(task in trial.results for task in tasks)]
        results = [[trial.results[task] for task in tasks] for trial in known]
        n = np.array([[result.n for result in row] for row in results], dtype=np.float64).reshape(-1, len(tasks))
        totals = np.array([[result.total for result in row] for row in results]).reshape(-1, len(tasks))
        if noise is not None:
            for fidelity in {trial.n_items for trial in known}:
                at = np.array([trial.n_items == fidelity for trial in known])
                totals[at] = np.clip(totals[at] - noise.offsets(fidelity) * n[at], 0.0, n[at])
        means, variances = angles(totals, n)
        if noise is not None:
            variances = variances * noise.factors
        return Rows(np.array([trial.genotype for trial in known]), means, variances)

    def __len__(self) -> int:
        return len(self.X)

    def winsorised(self) -> Rows:
        """The rows with means that lie far below the median of a task cut off there."""
        middle = np.median(self.means, axis=0)
        spread = 1.4826 * np.median(np.abs(self.means - middle), axis=0)
        # Where most means are equal there is no spread to go by.
        floor = np.where(spread > 0, middle - WINSOR * spread, -np.inf)
        return Rows(self.X, np.maximum(self.means, floor), self.variances)

    def at(self, chosen: NDArray[np.int64]) -> Rows:
        """Some of the rows."""
        return Rows(self.X[chosen], self.means[chosen], self.variances[chosen])
