"""The landscape: from genotypes to beliefs about objective values, made of all that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from scipy.special import ndtr

from automerge.landscape.angles import covariances, scores
from automerge.landscape.gaussian_process import Hyperparameters, Posterior, fit
from automerge.landscape.rows import Rows
from automerge.landscape.survival import Survival
from automerge.landscape.trees import Trees
from automerge.pareto import best_first
from automerge.protocols import Genotypes, Space
from automerge.records import Constraint, Objective

MAX_FITTED = 200
"""Rows to which hyperparameters are fitted, the best ones; all rows count in the posterior."""

TREES_UNTIL = 80
"""Rows from which on the trees have no say: they begin with a half."""


N_SAMPLED = 200
"""Samples of the space that tell how far models usually lie apart."""

DIGITS = 6
"""Decimals to which features are compared."""


@dataclass(frozen=True)
class Belief:
    """Means and standard deviations of objective values, each of shape (n, n_objectives), larger is better."""

    means: NDArray[np.float64]
    deviations: NDArray[np.float64]


class View:
    """How objectives follow from tasks and costs, and genotypes become features.

    `tasks` are those whose scores are modelled. With `raw` the features are the genes themselves, each over its range,
    instead of what the space would have seen. `distance` is the root mean square of that between the features of two
    samples of the space.
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint] = (),
        *,
        raw: bool = False,
    ) -> None:
        self._space = space
        self._objectives = tuple(objectives)
        self.constraints = tuple(constraints)
        shares = [dict(each.shares) for each in objectives]
        bounded = [each.name for each in constraints if each.kind == "task"]
        self.tasks = tuple(dict.fromkeys([*(task for each in shares for task in each), *bounded]))
        self._shares = np.array([[each.get(task, 0.0) for task in self.tasks] for each in shares])
        self._raw = raw
        self._lower = np.array([gene.lower for gene in space.genes])
        self._span = np.array([max(gene.upper - gene.lower, 1e-9) for gene in space.genes])
        self._n_choices = np.array([gene.n_choices for gene in space.genes])
        # Twice the variance is the mean square of the distance between two draws.
        spread = self.features(space.sample(N_SAMPLED, np.random.default_rng(0))).var(axis=0).sum()
        self.distance = float(np.sqrt(2 * spread)) or 1.0

    def features(self, X: Genotypes) -> NDArray[np.float64]:
        """What the models see of canonical genotypes, shape (n, n_features)."""
        return self._raw_features(X) if self._raw else self._space.features(X)

    def distances(self, X: Genotypes) -> NDArray[np.float64]:
        """Those between the features of n genotypes, over `distance`, shape (n, n)."""
        features = self.features(X)
        return np.asarray(squareform(pdist(features)) / self.distance)

    def costs(self, X: Genotypes) -> NDArray[np.float64]:
        """The exact part of the objectives, shape (n, n_objectives): signed costs, 0 for scores."""
        found = np.zeros((len(X), len(self._objectives)))
        known = self._space.costs(X) if any(each.kind == "cost" for each in self._objectives) else {}
        for k, each in enumerate(self._objectives):
            if each.kind == "cost":
                found[:, k] = each.sign * known[each.name]
        return found

    def keeps(self, X: Genotypes, means: NDArray[np.float64], deviations: NDArray[np.float64]) -> NDArray[np.float64]:
        """The probability that all constraints are kept, shape (n,), given beliefs about scores by task."""
        found = np.ones(len(X))
        costs = self._space.costs(X)
        for each in self.constraints:
            if each.kind == "cost":
                found *= [each.excess(float(value)) == 0 for value in costs[each.name]]
            else:
                k = self.tasks.index(each.name)
                above = ndtr((means[:, k] - each.bound) / np.maximum(deviations[:, k], 1e-9))
                found *= above if each.sense == ">=" else 1 - above
        return found

    def excess(self, X: Genotypes) -> NDArray[np.float64]:
        """By how much of their size bounds on costs are broken, shape (n,): the way back to what keeps them."""
        found = np.zeros(len(X))
        costs = self._space.costs(X) if self.constraints else {}
        for each in self.constraints:
            if each.kind == "cost":
                found += [each.excess(float(value)) for value in costs[each.name]]
        return found

    def means(self, X: Genotypes, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Objective values, shape (n, n_objectives), from mean scores by task, shape (n, n_tasks)."""
        return np.asarray(scores @ self._shares.T + self.costs(X))

    def deviations(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standard deviations of objectives, shape (n, n_objectives), from those of independent tasks' scores."""
        return np.asarray(np.sqrt(scores**2 @ (self._shares**2).T))

    def covariances(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Covariances of objective values, shape (n, m, n, m) for m objectives, from those by task (n_tasks, n, n)."""
        return np.asarray(np.einsum("tij,at,bt->iajb", scores, self._shares, self._shares))

    def _raw_features(self, X: Genotypes) -> NDArray[np.float64]:
        """Real genes over their range, and one column for every choice."""
        columns = []
        for k, n in enumerate(self._n_choices):
            if n:
                columns += [(X[:, k] == code).astype(np.float64) for code in range(n)]
            else:
                columns.append((X[:, k] - self._lower[k]) / self._span[k])
        return np.stack(columns, axis=1)


class Landscape:
    """Beliefs about any genotype, given rows and hyperparameters.

    The Gaussian processes say how uncertain a score is; while rows are few, trees have a say in what it is.
    """

    def __init__(
        self, view: View, rows: Rows, hyperparameters: Hyperparameters, *, survival: Survival, trees: Trees | None
    ) -> None:
        self._view = view
        self._survival = survival
        self._trees = trees
        self._share = 0.5 * max(0.0, 1 - len(rows) / TREES_UNTIL) if trees is not None else 0.0
        self._posterior = Posterior(view.features(rows.X), rows.means, rows.noise, hyperparameters)
        # On layer-wise fusions the processes alone are about half as sure as they could be, on stacks they are right.
        self._calibration = self._posterior.calibration()

    def believe(self, X: Genotypes) -> Belief:
        """The beliefs about canonical genotypes, each by itself."""
        means, deviations = self._scores(X)
        return Belief(self._view.means(X, means), self._view.deviations(deviations))

    def joint(self, X: Genotypes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means, shape (n, m) for m objectives, and covariances, shape (n, m, n, m), of genotypes together."""
        features = self._view.features(X)
        angles, angular = self._posterior.joint(features)
        angular = angular * self._calibration[:, None, None] ** 2
        angles = self._blended(features, angles)
        means, _ = scores(angles, np.sqrt(np.einsum("tii->it", angular).clip(min=0)))
        return self._view.means(X, means), self._view.covariances(covariances(angles, angular))

    def chance(self, X: Genotypes) -> NDArray[np.float64]:
        """The probability that a model works and keeps the constraints, shape (n,)."""
        return self._survival.predict(self._view.features(X)) * self.keeps(X)

    def keeps(self, X: Genotypes) -> NDArray[np.float64]:
        """The probability that a model keeps the constraints, shape (n,)."""
        if not self._view.constraints:
            return np.ones(len(X))
        return self._view.keeps(X, *self._scores(X))

    def violations(self, X: Genotypes) -> NDArray[np.float64]:
        """How far genotypes are from keeping the constraints, 0 for those that surely do, shape (n,)."""
        return (1 - self.keeps(X)) + self._view.excess(X)

    def distinct(self, X: Genotypes, known: Genotypes) -> NDArray[np.int64]:
        """Indices of those genotypes that are no model of `known`, and of equal models only the first.

        Two methods may make one model of the same numbers: what has equal features is taken as equal.
        """
        seen = {row.tobytes() for row in np.round(self._view.features(known), DIGITS)}
        kept = []
        for k, row in enumerate(np.round(self._view.features(X), DIGITS)):
            if (key := row.tobytes()) not in seen:
                seen.add(key)
                kept.append(k)
        return np.array(kept, dtype=np.int64)

    def _scores(self, X: Genotypes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means and standard deviations of the scores by task, each of shape (n, n_tasks)."""
        features = self._view.features(X)
        angles, deviations = self._posterior.predict(features)
        return scores(self._blended(features, angles), self._calibration * deviations)

    def _blended(self, features: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._trees is None or self._share == 0:
            return means
        return (1 - self._share) * means + self._share * self._trees.predict(features)


def hyperparameters(view: View, rows: Rows, *, start: Hyperparameters | None, n_steps: int) -> Hyperparameters:
    """Those fitted to the best MAX_FITTED of the rows, without the depth to which scores may fall."""
    chosen = rows.at(best_first(rows.means)[:MAX_FITTED]).winsorised()
    features = view.features(chosen.X)
    return fit(features, chosen.means, chosen.noise, distance=view.distance, start=start, n_steps=n_steps)
