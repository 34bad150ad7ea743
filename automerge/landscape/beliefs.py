"""Beliefs that follow what is told: when to fit the models anew, and when only to take in new rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automerge.landscape.gaussian_process import Hyperparameters
from automerge.landscape.model import TREES_UNTIL, Landscape, View, hyperparameters
from automerge.landscape.rows import Rows
from automerge.landscape.subset_noise import SubsetNoise
from automerge.landscape.survival import Survival
from automerge.landscape.trees import Trees
from automerge.records import Trial

FIRST_STEPS = 25
"""Steps of the optimizer in the first fit; later ones begin where the last ended."""

NEXT_STEPS = 10

GROWTH = 0.1
"""Share of new rows after which hyperparameters are fitted again, at least LEAST_GROWTH rows."""

LEAST_GROWTH = 8


class Beliefs:
    """The landscape given all trials told so far. Holds the last hyperparameters."""

    def __init__(self, view: View, *, seed: int) -> None:
        self.view = view
        self._seed = seed
        self._hyper: Hyperparameters | None = None
        self._n_fitted = 0

    def landscape(self, trials: Sequence[Trial]) -> Landscape | None:
        """The landscape that trials of any status tell; None while fewer than two have results."""
        noise = SubsetNoise.of([trial.items for trial in trials if trial.items], self.view.tasks)
        rows = Rows.of(trials, self.view.tasks, noise)
        if len(rows) < 2:
            return None
        if self._hyper is None or len(rows) - self._n_fitted >= max(LEAST_GROWTH, GROWTH * self._n_fitted):
            n_steps = FIRST_STEPS if self._hyper is None else NEXT_STEPS
            self._hyper = hyperparameters(self.view, rows, start=self._hyper, n_steps=n_steps)
            self._n_fitted = len(rows)
        features = self.view.features(rows.X)
        few = len(rows) < TREES_UNTIL
        trees = Trees(features, rows.means, rows.variances, seed=self._seed) if few else None
        return Landscape(self.view, rows, self._hyper, survival=self._survival(trials), trees=trees)

    def _survival(self, trials: Sequence[Trial]) -> Survival:
        """What breaks: trials that failed for other reasons than the model say nothing."""
        known = [trial for trial in trials if trial.status in ("ok", "invalid")]
        works = np.array([trial.status == "ok" for trial in known])
        return Survival(self.view.features(np.array([trial.genotype for trial in known])), works, seed=self._seed)
