"""How groups of models look and where they stand in a figure, the same on the page and in the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from automerge.records import Objective, Split
from automerge.report.findings import Findings
from automerge.report.points import Group, Point, Value, non_dominated

GREY = "#6b7280"
"""Lines and words that accompany the data."""


class Mark(NamedTuple):
    """The label, colour and symbols of a group: `symbol` for plotly, `marker` for matplotlib, `scale` of their size."""

    label: str
    colour: str
    symbol: str
    marker: str
    scale: float = 1.0


MARKS: Mapping[Group, Mark] = {
    "uniform": Mark("uniform merges", "#009e73", "square", "s"),
    "source": Mark("base and sources", "#d55e00", "diamond", "D"),
    "given": Mark("given recipes", "#000000", "star", "*", 1.7),
    "baseline": Mark("baseline run", "#cc79a7", "triangle-up", "^"),
    "recommended": Mark("recommended", "#0072b2", "circle", "o"),
}
"""Colours that the colour-blind can tell apart (Okabe and Ito), in the order in which they are drawn."""


class Place(NamedTuple):
    """A point's position along one axis with the lengths of its error bar: percent for scores, costs as they are."""

    at: float
    minus: float
    plus: float


class Front(NamedTuple):
    """The non-dominated points of a set in two objectives, by rising value of the first, with label and colour."""

    label: str
    colour: str
    points: list[Point]


class Level(NamedTuple):
    """A horizontal line in the figure of the hypervolume."""

    label: str
    colour: str
    value: float


def place(value: Value) -> Place:
    """Where a value stands on its axis."""
    factor = 100 if value.n else 1
    # Rounding can put the end of an interval a hair inside the mean, and a bar has no negative length.
    lengths = (max(0.0, value.mean - value.low), max(0.0, value.high - value.mean))
    return Place(factor * value.mean, *(factor * length for length in lengths))


def marks(findings: Findings) -> dict[Group, Mark]:
    """The marks of the groups that a run has, in drawing order; only a finished run recommends."""
    present = {point.group for point in findings.points} | {p.kind for p in findings.points if p.is_reference}
    found = {group: mark for group, mark in MARKS.items() if group in present}
    if not findings.is_finished and "recommended" in found:
        found["recommended"] = found["recommended"]._replace(label="front so far")
    return found


def pairs(objectives: Sequence[Objective]) -> list[tuple[int, int]]:
    """Columns of every two objectives, across and up; a cost goes across where the other is a score."""
    found = combinations(range(len(objectives)), 2)
    return [(b, a) if objectives[b].kind == "cost" and objectives[a].kind != "cost" else (a, b) for a, b in found]


def axis_title(objective: Objective, split: Split) -> str:
    """The axis label: `calc, test items (%)`, or `layers (lower is better)`."""
    if objective.kind == "cost":
        return f"{objective.name} (lower is better)"
    return f"{objective.name}, {split} items (%)"


def drawn(points: Sequence[Point], group: Group, split: Split, columns: Sequence[int]) -> list[Point]:
    """The points of a group with values in these objectives. A recommended reference counts to both its groups."""
    return [
        point
        for point in points
        if (point.group == group or (point.is_reference and point.kind == group))
        and all(point.values(split)[column] is not None for column in columns)
    ]


def places(points: Sequence[Point], split: Split, column: int) -> list[Place]:
    """The positions of points along the axis of one objective."""
    return [place(value) for point in points if (value := point.values(split)[column]) is not None]


def fronts(findings: Findings, columns: tuple[int, int]) -> list[Front]:
    """The fronts in two objectives of sources and uniform merges, and of the recommended models."""

    def best(points: Sequence[Point]) -> list[Point]:
        return non_dominated(points, findings.split, findings.history.objectives, columns)

    return [
        Front("front of sources and uniform merges", GREY, best(findings.references)),
        Front(
            "recommended front" if findings.is_finished else "front so far",
            MARKS["recommended"].colour,
            best(findings.recommended),
        ),
    ]


def label(findings: Findings, point: Point, group: Group, columns: Sequence[int]) -> str:
    """What stands beside a point drawn as one of a group: its number, a source's or given recipe's name, or nothing.

    With a number come the costs of `brackets`: `3 (24)`.
    """
    if point.group != group:
        return ""
    if point.number is None:
        return point.name if group in ("source", "given") else ""
    hidden = [value.mean for k in brackets(findings.history.objectives, columns) if (value := point.search[k])]
    name = f"{point.number} {point.name}" if point.is_reference else str(point.number)
    return f"{name} ({', '.join(map(cost, hidden))})" if hidden else name


def has_cost(objectives: Sequence[Objective], columns: Sequence[int]) -> bool:
    """Whether a figure of these columns draws a cost."""
    return any(objectives[column].kind == "cost" for column in columns)


def brackets(objectives: Sequence[Objective], columns: Sequence[int]) -> list[int]:
    """The costs that a figure of these columns does not draw, and tells in brackets."""
    return [k for k, objective in enumerate(objectives) if objective.kind == "cost" and k not in columns]


def cost(value: float) -> str:
    """A cost in few signs: `24`, `1.5`, `494M`."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def cost_step(findings: Findings, column: int) -> int | None:
    """The distance of ticks of a cost that counts whole things: 1, 2 or 5 times a power of ten, at most a dozen ticks.

    None for a cost that has fractions or is not known.
    """
    name = findings.history.objectives[column].name
    costs = [point.trial.costs[name] for point in findings.points if name in point.trial.costs]
    if not costs or not all(float(each).is_integer() for each in costs):
        return None
    span = max(costs) - min(costs)
    steps = (digit * int(10**power) for power in range(16) for digit in (1, 2, 5))
    return next(step for step in steps if span <= 12 * step)


def levels(findings: Findings) -> list[Level]:
    """Hypervolumes on search items that the search should exceed."""
    found = findings.volumes["search"].sets
    wanted = {
        "sources": ("sources alone", MARKS["source"].colour),
        "sources_and_uniform": ("sources and uniform merges", MARKS["uniform"].colour),
        "given": ("given recipes", MARKS["given"].colour),
    }
    return [Level(text, colour, found[name].value) for name, (text, colour) in wanted.items() if name in found]
