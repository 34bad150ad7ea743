"""Models against each other: differences of their scores on the same test items, of given recipes above all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from automerge.history import History
from automerge.pareto import paired_interval
from automerge.records import Objective
from automerge.report.intervals import Span, weighted
from automerge.report.points import Point
from automerge.report.volumes import ItemScores, item_scores

Verdict = Literal["better", "mixed", "worse", "equal"]
"""What a recommended model is beside a given recipe: `mixed` is better in some objectives and worse in others."""


class Difference(NamedTuple):
    """How much more of an objective a recommended model has than another, in the objective's natural sign.

    With its 95 % interval; that of an exact cost has no width.
    """

    value: float
    low: float
    high: float
    is_cost: bool

    @property
    def text(self) -> str:
        """A score in points of percent, `+3.2 (+1.1 to +5.4)`; a cost as it is."""
        if self.is_cost:
            return f"{self.value:+,.4g}"
        return f"{100 * self.value:+.1f} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"


class Row(NamedTuple):
    """A recommended model beside a given recipe; `is_clear` says whether no interval contradicts the verdict."""

    point: Point
    differences: tuple[Difference, ...]
    verdict: Verdict
    is_clear: bool


class Comparison(NamedTuple):
    """A given recipe beside all other recommended models that were tested, with the outcome in words."""

    given: Point
    rows: tuple[Row, ...]
    outcome: str


def compare(history: History, given: Sequence[Point], recommended: Sequence[Point]) -> list[Comparison]:
    """The comparisons of all given recipes that were tested."""
    scores = item_scores(history)
    found = []
    for start in given:
        if start.trial.id in scores:
            others = [p for p in recommended if p.trial.id in scores and p.trial.id != start.trial.id]
            rows = tuple(_row(history.objectives, scores, start, point) for point in others)
            found.append(Comparison(start, rows, _outcome(start, rows, len(history.objectives))))
    return found


def _row(objectives: Sequence[Objective], scores: ItemScores, given: Point, point: Point) -> Row:
    differences = tuple(difference(objective, scores, given, point) for objective in objectives)
    ends = np.array([sorted(o.sign * end for end in d[:3]) for o, d in zip(objectives, differences, strict=True)])
    low, value, high = ends.T
    if (value == 0).all():
        return Row(point, differences, "equal", is_clear=False)
    if (value >= 0).all():
        return Row(point, differences, "better", is_clear=bool((low >= 0).all()))
    if (value <= 0).all():
        return Row(point, differences, "worse", is_clear=bool((high <= 0).all()))
    return Row(point, differences, "mixed", is_clear=False)


def difference(objective: Objective, scores: ItemScores, other: Point, point: Point) -> Difference:
    """How much more of the objective a tested point has than another, item by item."""
    if objective.kind == "cost":
        value = point.trial.costs[objective.name] - other.trial.costs[objective.name]
        return Difference(value, value, value, is_cost=True)
    parts = []
    for task, share in objective.shares:
        own, others = (scores[each.trial.id][task] for each in (point, other))
        paired = np.array([own[item] - others[item] for item in others])
        parts.append((share, Span(float(paired.mean()), *paired_interval(paired))))
    return Difference(*weighted(parts), is_cost=False)


def _outcome(given: Point, rows: Sequence[Row], n_objectives: int) -> str:
    """Which recommended models are better and which are not, as a sentence."""
    everywhere = " in every objective" if n_objectives > 1 else ""
    kinds: dict[Verdict, str] = {
        "better": f"better than {given.name}{everywhere}",
        "mixed": "better in some objectives and worse in others",
        "worse": f"worse than {given.name}{everywhere}",
        "equal": f"equal to {given.name}",
    }
    parts = [f"{given.name} is recommended itself as point {given.number}"] if given.number is not None else []
    for verdict, words in kinds.items():
        names = [f"point {r.point.number}{' (measurably)' * r.is_clear}" for r in rows if r.verdict == verdict]
        parts += [f"{words}: {', '.join(names)}"] if names else []
    return "; ".join(parts or ["no other recommended model was tested"])
