"""Hypervolumes of the recommended front and of what it is compared with, with bootstrap intervals on test items."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from automerge.history import History
from automerge.pareto import hypervolume
from automerge.records import Split
from automerge.report.points import Point

N_RESAMPLES = 500
"""Bootstrap resamples; the 2.5 % and 97.5 % quantiles then rest on about a dozen values each side."""

ItemScores = Mapping[int, Mapping[str, Mapping[int, float]]]
"""Test scores by trial, task and item."""


class Volume(NamedTuple):
    """A hypervolume, or a difference of two, with its 95 % interval where one is known."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def text(self) -> str:
        """The value with its interval in brackets: `0.412 (0.391-0.430)`."""
        value, low, high = self._rounded("")
        return value if self.low is None else f"{value} ({low}-{high})"

    @property
    def signed(self) -> str:
        """A difference with its interval: `+0.046 (+0.021 to +0.070)`."""
        value, low, high = self._rounded("+")
        return value if self.low is None else f"{value} ({low} to {high})"

    def _rounded(self, sign: str) -> list[str]:
        """All three numbers to as many decimals as give the largest three digits."""
        numbers = [0.0 if number is None else number for number in self]
        largest = max(abs(number) for number in numbers)
        if largest >= 1e7:
            return [f"{number:{sign}.3g}" for number in numbers]
        decimals = 3 if largest == 0 else max(0, 2 - math.floor(math.log10(largest)))
        return [f"{number:{sign},.{decimals}f}" for number in numbers]


@dataclass(frozen=True, slots=True)
class Volumes:
    """Hypervolumes by set of models, and by set how much more the recommended front has; empty sets are absent."""

    sets: Mapping[str, Volume]
    gains: Mapping[str, Volume]


def volumes(history: History, baseline: History | None, points: Sequence[Point], *, seed: int) -> dict[Split, Volumes]:
    """The hypervolumes on search items, and on test items with intervals from resampled items.

    All models answer the same test items, so items are resampled once for all of them: what an easy or hard draw of
    items does to every model alike cancels in the differences. The sets of models are held fixed.
    Raises ValueError if two models were tested on different items.
    """
    alive = [point for point in points if point.trial.status == "ok"]
    searched = [p for p in alive if np.isfinite(p.vector("search", history.objectives)).all()]
    tested = [p for p in alive if not p.note and np.isfinite(p.vector("test", history.objectives)).all()]
    return {
        "search": _volumes(history, searched, _matrix(history, searched, "search"), None),
        "test": _volumes(
            history,
            tested,
            _matrix(history, tested, "test"),
            _resampled(history, baseline, tested, np.random.default_rng(seed)),
        ),
    }


def members(points: Sequence[Point]) -> dict[str, list[int]]:
    """Positions of the points of every set that is compared, without the empty sets."""
    tests: dict[str, Callable[[Point], bool]] = {
        "recommended": lambda point: point.group == "recommended",
        "sources": lambda point: point.is_reference and point.kind == "source",
        "sources_and_uniform": lambda point: point.is_reference and point.kind != "given",
        "given": lambda point: point.is_reference and point.kind == "given",
        "baseline": lambda point: point.group == "baseline",
    }
    found = {name: [k for k, point in enumerate(points) if test(point)] for name, test in tests.items()}
    return {name: positions for name, positions in found.items() if positions}


def _volumes(
    history: History,
    points: Sequence[Point],
    matrix: NDArray[np.float64],
    resampled: NDArray[np.float64] | None,
) -> Volumes:
    """Volumes of points with values of shape (n, n_objectives), and (n_resamples, n, n_objectives) of resamples."""
    values: dict[str, float] = {}
    samples: dict[str, NDArray[np.float64] | None] = {}
    for name, rows in members(points).items():
        values[name] = hypervolume(matrix[rows], history.reference_point)
        samples[name] = (
            None
            if resampled is None
            else np.array([hypervolume(sample, history.reference_point) for sample in resampled[:, rows]])
        )
    sets = {name: _with_interval(value, samples[name]) for name, value in values.items()}
    gains: dict[str, Volume] = {}
    if "recommended" in values:
        own = samples["recommended"]
        for name in [name for name in values if name != "recommended"]:
            other = samples[name]
            spread = None if own is None or other is None else own - other
            gains[name] = _with_interval(values["recommended"] - values[name], spread)
    return Volumes(sets, gains)


def _with_interval(value: float, samples: NDArray[np.float64] | None) -> Volume:
    if samples is None:
        return Volume(value)
    low, high = np.quantile(samples, [0.025, 0.975])
    return Volume(value, float(low), float(high))


def _matrix(history: History, points: Sequence[Point], split: Split) -> NDArray[np.float64]:
    rows = [point.vector(split, history.objectives) for point in points]
    return np.array(rows).reshape(len(points), len(history.objectives))


def _resampled(
    history: History, baseline: History | None, points: Sequence[Point], rng: np.random.Generator
) -> NDArray[np.float64] | None:
    """Objective values under resampled test items, shape (n_resamples, n_points, n_objectives); None without points."""
    if not points:
        return None
    own, other = item_scores(history), {} if baseline is None else item_scores(baseline)
    columns = []
    for position, objective in enumerate(history.objectives):
        if objective.kind == "cost":
            exact = _matrix(history, points, "test")[:, position]
            columns.append(np.broadcast_to(exact, (N_RESAMPLES, len(points))))
            continue
        means = np.zeros((N_RESAMPLES, len(points)))
        for task, share in objective.shares:
            by_item = [(other if p.group == "baseline" else own)[p.trial.id][task] for p in points]
            scores = _aligned(task, points, by_item)
            n = scores.shape[1]
            counts = rng.multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES)
            means += share * (counts @ scores.T / n)
        columns.append(means)
    return np.stack(columns, axis=2)


def _aligned(task: str, points: Sequence[Point], by_item: Sequence[Mapping[int, float]]) -> NDArray[np.float64]:
    """Item scores of shape (n_points, n_items), items in one order."""
    items = sorted(by_item[0])
    for point, scores in zip(points, by_item, strict=True):
        if scores.keys() != by_item[0].keys():
            raise ValueError(
                f"{points[0].name} and {point.name} should be tested on the same items of {task!r}, got {len(items)} "
                f"and {len(scores)} items that differ; run both with the same data and the same number of test items"
            )
    return np.array([[scores[item] for item in items] for scores in by_item])


def item_scores(history: History) -> ItemScores:
    """The test scores of all trials that have some."""
    found: dict[int, dict[str, dict[int, float]]] = {}
    for row in history.evaluations:
        if row.phase == "test":
            for part in row.evaluation.scores:
                task = found.setdefault(row.trial, {}).setdefault(part.slice.task, {})
                task.update(zip(part.items, part.values, strict=True))
    return found
