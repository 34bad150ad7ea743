"""The probability that a merge yields a model that works: some regions of a space hold only broken ones."""

from __future__ import annotations

import lightgbm
import numpy as np
from numpy.typing import NDArray

from automerge.landscape.trees import SETTINGS

MINIMUM = 10
"""Broken models from which on they are told apart from the others."""

N_TREES = 60


class Survival:
    """A classifier of features into models that work and broken ones; everything works while few are broken."""

    def __init__(self, features: NDArray[np.float64], works: NDArray[np.bool_], *, seed: int) -> None:
        self._booster = None
        if (~works).sum() >= MINIMUM and works.any():
            options = {**SETTINGS, "objective": "binary", "seed": seed}
            data = lightgbm.Dataset(features, label=works.astype(np.float64))
            self._booster = lightgbm.train(options, data, num_boost_round=N_TREES)

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """The probability to work at m points, shape (m,)."""
        if self._booster is None:
            return np.ones(len(features))
        return np.asarray(self._booster.predict(features, num_threads=1))
