"""Gradient-boosted trees beside the Gaussian process while rows are few: they find thresholds that it smooths over."""

from __future__ import annotations

import lightgbm
import numpy as np
from numpy.typing import NDArray

SETTINGS = {
    "objective": "regression",
    "learning_rate": 0.08,
    "num_leaves": 8,
    "min_data_in_leaf": 4,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 1,
    "verbose": -1,
}

N_TREES = 120


class Trees:
    """One ensemble per task, fitted to rows weighted by the inverse of their noise."""

    def __init__(
        self, features: NDArray[np.float64], means: NDArray[np.float64], variances: NDArray[np.float64], *, seed: int
    ) -> None:
        # What the rows differ by beside their noise bounds how much more a sure row may weigh.
        weights = 1 / (variances + means.var(axis=0) + 1e-6)
        self._boosters = [
            lightgbm.train(
                {**SETTINGS, "seed": seed},
                lightgbm.Dataset(features, label=means[:, k], weight=weights[:, k] / weights[:, k].mean()),
                num_boost_round=N_TREES,
            )
            for k in range(means.shape[1])
        ]

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means of the scores at m points, shape (m, n_tasks)."""
        return np.stack([np.asarray(each.predict(features, num_threads=1)) for each in self._boosters], axis=1)
