"""How groups of models look and where they stand in a figure, the same on the page and in the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from automerge.records import Objective, Split
from automerge.report.findings import Findings
from automerge.report.points import Group, Point, Value, non_dominated

GREY = "#6b7280"
"""Lines and words that accompany the data."""


class Mark(NamedTuple):
    """The label, colour and symbols of a group: `symbol` for plotly, `marker` for matplotlib."""

    label: str
    colour: str
    symbol: str
    marker: str


MARKS: Mapping[Group, Mark] = {
    "uniform": Mark("uniform merges", "#009e73", "square", "s"),
    "source": Mark("base and sources", "#d55e00", "diamond", "D"),
    "baseline": Mark("baseline run", "#cc79a7", "triangle-up", "^"),
    "recommended": Mark("recommended", "#0072b2", "circle", "o"),
}
"""Colours that the colour-blind can tell apart (Okabe and Ito), in the order in which they are drawn."""


class Place(NamedTuple):
    """A point's position along one axis with the lengths of its error bar: percent for scores, costs as they are."""

    at: float
    minus: float
    plus: float


def place(value: Value) -> Place:
    """Where a value stands on its axis."""
    factor = 100 if value.n else 1
    return Place(factor * value.mean, factor * (value.mean - value.low), factor * (value.high - value.mean))


def axis_title(objective: Objective, split: Split) -> str:
    """The axis label: `calc, test items (%)`, or `layers (fewer is better)`."""
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


def fronts(findings: Findings, columns: tuple[int, int]) -> dict[str, list[Point]]:
    """The fronts in two objectives of the recommended models, and of sources and uniform merges, by their label."""
    sets = {
        "front of sources and uniform merges": findings.references,
        "recommended front": findings.recommended,
    }
    return {
        label: non_dominated(points, findings.split, findings.history.objectives, columns)
        for label, points in sets.items()
    }


def label(point: Point) -> str:
    """What stands beside a point: its number, a source's name, and nothing for the many others."""
    if point.number is not None:
        return str(point.number)
    return point.name if point.group == "source" else ""


def levels(findings: Findings) -> dict[str, float]:
    """Hypervolumes on search items that the search should exceed, by label."""
    found = findings.volumes["search"].sets
    labels = {"sources": "sources alone", "sources_and_uniform": "sources and uniform merges"}
    return {text: found[name].value for name, text in labels.items() if name in found}
