"""The values that flow through a search: Query, Evaluation, Objective, Proposal, Trial.

A query asks for slices of tasks; an evaluation answers it item by item; a trial is what all evaluations of one
recipe add up to. All are frozen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from automerge.recipe import Recipe

Split = Literal["search", "test"]
"""Search items steer the search; test items judge what it recommends and are seen by nothing else."""

Orders = MutableMapping[tuple[str, Split], NDArray[np.int64]]
"""For each task and split the fixed order of its items, as row numbers."""

Status = Literal["ok", "invalid", "failed"]
"""`invalid`: the merged model is broken (NaN, collapsed). `failed`: the evaluation did not take place."""

REFERENCE = "reference"
"""The origin operator of trials that no optimizer proposed: base, sources, uniform merges, given recipes."""

Phase = Literal["reference", "search", "verify", "test"]
"""What an evaluation was made for."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The items [start, stop) of a task's fixed order in one split."""

    task: str
    split: Split
    start: int
    stop: int

    def __post_init__(self) -> None:
        """Refuses an empty or reversed slice."""
        if not 0 <= self.start < self.stop:
            raise ValueError(f"a slice needs 0 <= start < stop, got [{self.start}, {self.stop}) of {self.task!r}")


@dataclass(frozen=True, slots=True)
class Query:
    """Which recipe to evaluate on which slices."""

    recipe: Recipe
    slices: tuple[Slice, ...]

    @property
    def n_items(self) -> int:
        """Number of items over all slices."""
        return sum(part.stop - part.start for part in self.slices)


@dataclass(frozen=True, slots=True)
class Scores:
    """Item scores of one slice: `items` are row numbers in the task's data, `values` lie in [0, 1]."""

    slice: Slice
    items: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The answer to a query.

    `scores` has one entry per slice when the status is `ok` and is empty otherwise; `seconds` are by phase of the
    work (merge, evaluate); `costs` are exact figures of the merged model (layers, parameters) and of this
    evaluation (tokens); `reason` explains any status but `ok`.
    """

    status: Status
    scores: tuple[Scores, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Objective:
    """What is to be optimized: the score of a task, the weighted mean of several, or a cost (layers, parameters).

    `weights` are the shares of the tasks in a mean, which add up to 1; other kinds have none.
    """

    name: str
    kind: Literal["task", "mean", "cost"] = "task"
    weights: tuple[tuple[str, float], ...] = ()

    @staticmethod
    def mean_of(weights: Mapping[str, float]) -> Objective:
        """The mean of the scores of these tasks, weighted by positive numbers that need not add up to 1."""
        total = sum(weights.values())
        return Objective("weighted mean", "mean", tuple((task, weight / total) for task, weight in weights.items()))

    @staticmethod
    def from_settings(content: Mapping[str, Any]) -> Objective:
        """The objective that a log keeps as JSON, where tuples are lists and old ones have no weights."""
        return Objective(
            content["name"], content["kind"], tuple((task, share) for task, share in content.get("weights", ()))
        )

    @property
    def sign(self) -> float:
        """Factor that makes larger better: +1 for scores, -1 for costs."""
        return -1.0 if self.kind == "cost" else 1.0

    @property
    def shares(self) -> tuple[tuple[str, float], ...]:
        """The tasks whose scores it is made of, with their shares, which add up to 1; none for a cost."""
        return ((self.name, 1.0),) if self.kind == "task" else self.weights


@dataclass(frozen=True, slots=True)
class Constraint:
    """A bound that a model has to keep to be recommended: on a cost, or on its mean score on a task.

    Both kinds are written as users do: `layers <= 30`, `zoo_sort >= 0.8`.
    """

    name: str
    sense: Literal["<=", ">="]
    bound: float
    kind: Literal["task", "cost"] = "cost"

    @property
    def text(self) -> str:
        """The constraint as users write it."""
        return f"{self.name} {self.sense} {self.bound:.10g}"

    def value(self, trial: Trial) -> float | None:
        """What is bounded, the cost or the mean score of a trial; None if it is not known yet."""
        if self.kind == "cost":
            return trial.costs.get(self.name)
        result = trial.results.get(self.name)
        return None if result is None else result.mean

    def violation(self, trial: Trial) -> float:
        """By how much of the bound's size a trial breaks it, 0 if it keeps it or nothing is known yet."""
        value = self.value(trial)
        return 0.0 if value is None else self.excess(value)

    def excess(self, value: float) -> float:
        """By how much of the bound's size a value breaks it, at least 0."""
        over = value - self.bound if self.sense == "<=" else self.bound - value
        return max(0.0, over) / (abs(self.bound) or 1.0)


@dataclass(frozen=True, slots=True)
class Result:
    """Sum and number of the item scores that one trial has on one task (search items)."""

    n: int
    total: float

    @property
    def mean(self) -> float:
        """Mean item score."""
        return self.total / self.n

    @property
    def standard_error(self) -> float:
        """Standard error of the mean, as for right or wrong items; one more of each keeps it above 0."""
        share = (self.total + 1) / (self.n + 2)
        return math.sqrt(share * (1 - share) / self.n)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an optimizer wants evaluated: a genotype up to item `stop` of every task.

    `trial` is the id of the trial to promote, None for a new one; `origin` says how the genotype came about
    (operator, parents).
    """

    genotype: NDArray[np.float64]
    stop: int
    origin: Mapping[str, Any]
    trial: int | None = None


def genotype_key(genotype: NDArray[np.float64]) -> bytes:
    """The bytes by which a genotype of shape (n_genes,) is known: equal canonical genotypes have equal ones."""
    return np.ascontiguousarray(genotype, dtype=np.float64).tobytes()


@dataclass(frozen=True, slots=True)
class Trial:
    """All that is known of one recipe: its genotype, its origin and its results so far.

    The genotype is empty if the space cannot hold the recipe. `seconds` add up over its evaluations, by phase of the
    work. `items` are scores item by item, by task in the task's order; those of the sources are not known so, because
    the order follows from them.
    """

    id: int
    genotype: NDArray[np.float64]
    recipe: Recipe
    origin: Mapping[str, Any]
    status: Status
    results: Mapping[str, Result] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    items: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def n_items(self) -> int:
        """The fidelity reached: items evaluated on the task that has most, 0 before any."""
        return max((result.n for result in self.results.values()), default=0)

    def values(self, objectives: Sequence[Objective], *, caution: float = 0.0) -> NDArray[np.float64]:
        """Objective values, larger is better, of shape (n_objectives,); NaN where nothing is known.

        `caution` is how many standard errors are taken off every mean score, so that a lucky evaluation on few items
        does not outrank one on many.
        """
        return np.array([self._value(objective, caution) for objective in objectives], dtype=np.float64)

    def _value(self, objective: Objective, caution: float) -> float:
        if objective.kind == "cost":
            return objective.sign * self.costs.get(objective.name, np.nan)
        if any(task not in self.results for task, _ in objective.shares):
            return np.nan
        parts = [(share, self.results[task]) for task, share in objective.shares]
        # Tasks have items of their own, so the errors of their means are independent.
        error = math.hypot(*(share * result.standard_error for share, result in parts))
        return sum(share * result.mean for share, result in parts) - caution * error
