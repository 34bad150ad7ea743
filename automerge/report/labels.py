"""Names to the right of points that stand in a column: how far above its point each is, so that none touch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from automerge.report.findings import Findings
from automerge.report.marks import MARKS, drawn, label, marks, places
from automerge.report.points import Group


class Name(NamedTuple):
    """A point's name with the point's place along both axes, its colour, and how far it is moved up from the point."""

    text: str
    x: float
    y: float
    colour: str
    shift: float


def over_cost(findings: Findings, columns: tuple[int, int], length: float, gap: float) -> list[Name]:
    """The names in a figure that has a cost across, where models stand in columns.

    `length` is about that of the axis upwards, and `gap` the distance of names, both in the unit of the shifts.
    """
    scale = _scale(findings, columns[1], length)
    named = [name for group in marks(findings) for name in _names(findings, group, columns)]
    found = []
    for x in dict.fromkeys(name.x for name in named):
        own = sorted((name for name in named if name.x == x), key=lambda name: scale * name.y)
        heights = [scale * name.y for name in own]
        moved = zip(own, heights, spread(heights, gap), strict=True)
        found += [name._replace(shift=at - height) for name, height, at in moved]
    return found


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """The heights nearest to these rising ones, by the sum of squares, that are at least a gap apart.

    Less k gaps, the k-th height must not fall: isotonic regression, solved by pooling neighbours that do.
    """
    pools: list[tuple[float, int]] = []
    for k, height in enumerate(heights):
        mean, size = height - k * gap, 1
        while pools and pools[-1][0] > mean:
            before, n = pools.pop()
            mean, size = (before * n + mean * size) / (n + size), n + size
        pools.append((mean, size))
    means = [mean for mean, size in pools for _ in range(size)]
    return [mean + k * gap for k, mean in enumerate(means)]


def _names(findings: Findings, group: Group, columns: tuple[int, int]) -> list[Name]:
    """The names of a group, each at the height of its point."""
    points = drawn(findings.points, group, findings.split, columns)
    x, y = (places(points, findings.split, column) for column in columns)
    colour = MARKS[group].colour
    names = [
        Name(label(findings, point, group, columns), across.at, up.at, colour, 0.0)
        for point, across, up in zip(points, x, y, strict=True)
    ]
    return [name for name in names if name.text]


def _scale(findings: Findings, column: int, length: float) -> float:
    """By how much a place moves up an axis of this length that holds all points with their error bars."""
    shown = places(findings.points, findings.split, column)
    span = max(at.at + at.plus for at in shown) - min(at.at - at.minus for at in shown)
    return findings.history.objectives[column].sign * length / (span or 1.0)
