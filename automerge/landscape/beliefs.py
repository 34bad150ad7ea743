"""Beliefs that follow what is told: when to fit the models anew, and when only to take in new rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from automerge.landscape.gaussian_process import Hyperparameters
from automerge.landscape.model import TREES_UNTIL, Landscape, View, hyperparameters
from automerge.landscape.rows import Rows, in_order, known_on
from automerge.landscape.subset_noise import Likeness
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
    """The landscape given all trials told so far. Holds the last hyperparameters.

    Without `correlations` the errors of models on the same items are taken as independent.
    """

    def __init__(self, view: View, *, seed: int, correlations: bool = True) -> None:
        self.view = view
        self._seed = seed
        self._correlations = correlations
        self._hyper: Hyperparameters | None = None
        self._likeness: Sequence[Likeness | None] = ()
        self._n_fitted = 0

    def landscape(self, trials: Sequence[Trial]) -> Landscape | None:
        """The landscape that trials of any status tell; None while fewer than two have results."""
        known = known_on(trials, self.view.tasks)
        if len(known) < 2:
            return None
        distances = self.view.distances(np.array([trial.genotype for trial in known]))
        hyper = self._hyper
        due = len(known) - self._n_fitted >= max(LEAST_GROWTH, GROWTH * self._n_fitted)
        if hyper is None or due:
            self._likeness = [self._learned(known, task, distances) for task in self.view.tasks]
        rows = Rows.of(known, self.view.tasks, distances, self._likeness)
        if hyper is None or due:
            n_steps = FIRST_STEPS if hyper is None else NEXT_STEPS
            hyper = self._hyper = hyperparameters(self.view, rows, start=hyper, n_steps=n_steps)
            self._n_fitted = len(rows)
        features = self.view.features(rows.X)
        few = len(rows) < TREES_UNTIL
        trees = Trees(features, rows.means, rows.variances, seed=self._seed) if few else None
        return Landscape(self.view, rows, hyper, survival=self._survival(trials), trees=trees)

    def _learned(self, known: Sequence[Trial], task: str, distances: NDArray[np.float64]) -> Likeness | None:
        """How alike the errors of models on a task are; `distances` are those between the known trials."""
        if not self._correlations:
            return None
        scores = [in_order(trial, task) for trial in known]
        told = np.array([k for k, each in enumerate(scores) if each is not None], dtype=np.int64)
        return Likeness.of([each for each in scores if each is not None], distances[np.ix_(told, told)])

    def _survival(self, trials: Sequence[Trial]) -> Survival:
        """What breaks: trials that failed for other reasons than the model say nothing."""
        known = [trial for trial in trials if trial.status in ("ok", "invalid")]
        works = np.array([trial.status == "ok" for trial in known])
        return Survival(self.view.features(np.array([trial.genotype for trial in known])), works, seed=self._seed)
