"""The models that a report shows, each with its values on search and on test items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from automerge.history import History, eligible, front
from automerge.pareto import interval, is_non_dominated
from automerge.protocols import ReferenceKind
from automerge.records import Constraint, Objective, Result, Split, Trial
from automerge.report.intervals import Span, weighted

Group = Literal["recommended", "source", "uniform", "given", "baseline"]
"""`source` includes the base; `baseline` is the recommended front of the run compared with."""


class Value(NamedTuple):
    """An objective's value in its natural sign with its 95 % interval, from n items; n is 0 for an exact cost.

    The interval of a single mean is Wilson's, that of a weighted mean follows from its tasks' by `intervals.weighted`.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def text(self) -> str:
        """A score as percentages, `71.3 (68.4-74.0)`; a cost as it is."""
        if self.n == 0:
            return f"{self.mean:,.0f}" if float(self.mean).is_integer() else f"{self.mean:,.4g}"
        return f"{100 * self.mean:.1f} ({100 * self.low:.1f}-{100 * self.high:.1f})"


@dataclass(frozen=True, slots=True)
class Point:
    """One shown model.

    `number` counts the recommended ones from 1; `kind` says which reference model this is, if it is one: a source
    can be recommended too. `search` and `test` have one entry per objective, None where nothing is known; `tasks` has
    by split the scores of the tasks that an objective is the weighted mean of, `breaks` the constraints that are broken
    there; `note` says why there is no test result.
    """

    number: int | None
    group: Group
    kind: ReferenceKind | None
    name: str
    trial: Trial
    search: tuple[Value | None, ...]
    test: tuple[Value | None, ...]
    tasks: Mapping[Split, Mapping[str, Value]]
    breaks: Mapping[Split, tuple[str, ...]]
    note: str

    def values(self, split: Split) -> tuple[Value | None, ...]:
        """The values on the items of one split."""
        return self.test if split == "test" else self.search

    def vector(self, split: Split, objectives: Sequence[Objective]) -> NDArray[np.float64]:
        """Objective values on one split, larger is better, shape (n_objectives,); NaN where nothing is known."""
        pairs = zip(self.values(split), objectives, strict=True)
        return np.array([np.nan if value is None else objective.sign * value.mean for value, objective in pairs])

    @property
    def is_reference(self) -> bool:
        """Whether this is the base, a source, a uniform merge or a given recipe of the run itself."""
        return self.kind is not None and self.group != "baseline"

    @property
    def is_eligible(self) -> bool:
        """Whether this model may be recommended: it keeps within the bounds of the space."""
        return eligible(self.trial)

    @property
    def methods(self) -> str:
        """The share of every method in the recipe's fusions, most used first: `ties 60 %, linear 40 %`."""
        used = Counter(fusion.method for _, fusion in self.trial.recipe.fusions())
        return ", ".join(f"{method} {100 * count / used.total():.0f} %" for method, count in used.most_common())

    @property
    def origin(self) -> str:
        """How the recipe came about: `depth_crossover of #3, #8`."""
        if self.kind == "given":
            return "given recipe"
        operator = str(self.trial.origin["operator"]).replace("+", " + ")
        parents = ", ".join(f"#{parent}" for parent in self.trial.origin.get("parents", ()))
        return f"{operator} of {parents}" if parents else operator


def chosen(history: History) -> tuple[int, ...]:
    """Ids of the recommended trials; of an interrupted run, of the non-dominated fully evaluated eligible ones."""
    if history.recommended:
        return history.recommended
    full = max(trial.n_items for trial in history.trials.values())
    found = front(
        (trial for trial in history.trials.values() if eligible(trial, history.constraints)),
        history.objectives,
        reference=history.reference_point,
        n_items=full,
        limit=len(history.trials),
    )
    return tuple(trial.id for trial in found)


def shown(history: History, baseline: History | None) -> tuple[Point, ...]:
    """All shown models: recommended ones by number, then the other references, then the baseline's front."""
    picked = chosen(history)
    points = [_point(history, trial, "recommended", number) for number, trial in enumerate(picked, start=1)]
    for trial in history.references:
        if trial not in picked:
            points.append(_point(history, trial, _kind(history, trial)))
    if baseline is not None:
        points += [_point(baseline, trial, "baseline") for trial in chosen(baseline)]
    return tuple(points)


def non_dominated(
    points: Iterable[Point], split: Split, objectives: Sequence[Objective], columns: Sequence[int]
) -> list[Point]:
    """The points that no other dominates in these objectives on this split, by rising value of the first."""
    known = [(point, point.vector(split, objectives)[list(columns)]) for point in points]
    known = [(point, vector) for point, vector in known if np.isfinite(vector).all()]
    if not known:
        return []
    is_best = is_non_dominated(np.array([vector for _, vector in known]))
    best = [pair for pair, keep in zip(known, is_best, strict=True) if keep]
    return [point for point, _ in sorted(best, key=lambda pair: tuple(pair[1] * (1, *[-1] * (len(columns) - 1))))]


def _point(history: History, number: int, group: Group, rank: int | None = None) -> Point:
    trial = history.trials[number]
    tested = replace(trial, results=history.tests.get(number, {}))
    sides: dict[Split, Trial] = {"search": trial, "test": tested}
    return Point(
        number=rank,
        group=group,
        kind=_kind(history, number) if number in history.references else None,
        name=("baseline " if group == "baseline" else "") + history.name(number),
        trial=trial,
        search=_values(trial, history.objectives),
        test=_values(tested, history.objectives),
        tasks={split: _task_values(side, history.objectives) for split, side in sides.items()},
        breaks={split: _broken(side, history.constraints) for split, side in sides.items()},
        note=_note(history, trial),
    )


def _kind(history: History, reference: int) -> ReferenceKind:
    kind: ReferenceKind = history.trials[reference].origin["kind"]
    return kind


def _values(trial: Trial, objectives: Sequence[Objective]) -> tuple[Value | None, ...]:
    return tuple(_cost(trial, each.name) if each.kind == "cost" else _score(trial, each.shares) for each in objectives)


def _cost(trial: Trial, name: str) -> Value | None:
    cost = trial.costs.get(name)
    return None if cost is None else Value(cost, cost, cost, 0)


def _score(trial: Trial, shares: Sequence[tuple[str, float]]) -> Value | None:
    results = [(share, trial.results[task]) for task, share in shares if task in trial.results]
    if len(results) < len(shares):
        return None
    return Value(*weighted([(share, _span(result)) for share, result in results]), sum(r.n for _, r in results))


def _span(result: Result) -> Span:
    return Span(result.mean, *interval(result.total, result.n))


def _task_values(trial: Trial, objectives: Sequence[Objective]) -> dict[str, Value]:
    tasks = [task for objective in objectives if objective.kind == "mean" for task, _ in objective.shares]
    return {task: value for task in tasks if (value := _score(trial, [(task, 1.0)])) is not None}


def _broken(trial: Trial, constraints: Sequence[Constraint]) -> tuple[str, ...]:
    return tuple(constraint.text for constraint in constraints if constraint.violation(trial))


def _note(history: History, trial: Trial) -> str:
    """Why a trial has no test result, empty if it has one."""
    if history.tests.get(trial.id):
        return ""
    for row in history.evaluations:
        if row.trial == trial.id and row.phase == "test":
            return f"{row.evaluation.status} on test items: {row.evaluation.reason}"
    return "not tested" if trial.status == "ok" else f"{trial.status}: {trial.reason}"
