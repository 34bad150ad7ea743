"""What a benchmark answers of some models, the dearer figures computed when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from automerge.benchmark import folder as files
from automerge.protocols import Genotypes
from automerge.records import Objective, Split

if TYPE_CHECKING:
    from automerge.benchmark.benchmark import Benchmark

Values = NDArray[np.float64]


class Seconds(NamedTuple):
    """What models take: `merge` for one merge, `item` for the evaluation of one item, both of shape (n,)."""

    merge: Values
    item: Values


class Models(NamedTuple):
    """Models as a benchmark sees them: canonical genotypes, what its models see, keys, and predictions so far."""

    genotypes: Genotypes
    inputs: Values
    hashes: NDArray[np.uint64]
    predictions: dict[str, Values]


@dataclass(frozen=True)
class Answers:
    """What a benchmark answers of n models. Arrays are of shape (n,).

    `scores` are mean item scores by task, NaN where the model is `broken`; `n` are numbers of items by task, `k` sums
    of item scores, 0 where broken; without noise they are expected values. The other figures are computed when they
    are asked for.
    """

    scores: Mapping[str, Values]
    k: Mapping[str, Values]
    n: Mapping[str, int]
    broken: NDArray[np.bool_]
    _benchmark: Benchmark = field(repr=False)
    _models: Models = field(repr=False)
    _split: Split = field(repr=False)

    @property
    def items(self) -> int:
        """The number of items of a model on all tasks together."""
        return sum(self.n.values())

    @cached_property
    def seconds(self) -> Values:
        """What merging a model and evaluating it on its items takes; NaN if no run told."""
        seconds = self._benchmark._seconds(self._models)
        return np.asarray(seconds.merge + self.items * seconds.item)

    @cached_property
    def costs(self) -> Mapping[str, Values]:
        """The exact costs by name."""
        return self._benchmark.space.costs(self._models.genotypes)

    @property
    def values(self) -> Values:
        """Values of the objectives, larger is better, shape (n, n_objectives); NaN where a model is broken."""
        return np.where(self.broken[:, None], np.nan, self.values_with(np.nan))

    def values_with(self, broken_score: float) -> Values:
        """Values of the objectives, shape (n, n_objectives), where models that are broken have this score on all tasks.

        For optimizers that can only compare numbers; a broken model's costs are what they are.
        """
        scores = {task: np.where(self.broken, broken_score, score) for task, score in self.scores.items()}
        return np.stack([self._value(objective, scores) for objective in self._benchmark.objectives], axis=1)

    @cached_property
    def distance(self) -> Values:
        """How far the models are from those that were measured, above 1 outside."""
        return self._benchmark.nearness.distance(self._models.inputs[:, : self._benchmark.n_features])

    @property
    def is_outside(self) -> NDArray[np.bool_]:
        """Whether models are farther from the measured ones than 99 % of those are from each other."""
        return np.asarray(self.distance > 1)

    @cached_property
    def spread(self) -> Mapping[str, Values]:
        """By task how far the bags are apart in the expected scores, if the models do not break; no standard error."""
        ensembles = {task: self._benchmark.ensemble(files.score_target(task, self._split)) for task in self.scores}
        return {task: ensemble.spread(self._models.inputs) for task, ensemble in ensembles.items()}

    def _value(self, objective: Objective, scores: Mapping[str, Values]) -> Values:
        if objective.kind == "cost":
            if objective.name not in self.costs:
                known = ", ".join(self.costs)
                raise ValueError(
                    f"the benchmark does not know the cost {objective.name!r}, an objective, only {known}; "
                    "export its runs again with a log that keeps the measures of the sources"
                )
            return objective.sign * self.costs[objective.name]
        return np.asarray(sum(share * scores[task] for task, share in objective.shares))
