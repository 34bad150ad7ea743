"""What a report says, before it is drawn or written: the shown models, hypervolumes, time and failures of a run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from automerge.history import History, eligible
from automerge.log import EvaluationRow
from automerge.protocols import ReferenceKind
from automerge.records import REFERENCE, Split
from automerge.report.baseline import bounds, comparable, fingerprints, read
from automerge.report.comparison import Comparison, compare
from automerge.report.headline import Headline, headline
from automerge.report.points import Point, shown
from automerge.report.volumes import Volume, Volumes, volumes
from automerge.task_vectors import TaskVectors

TASK_VECTORS = "task_vectors"
"""The setting under which a log keeps the geometry of its sources."""

BENCHMARK = "benchmark"
"""The setting under which the log of a simulated run tells its benchmark."""


@dataclass(frozen=True)
class Findings:
    """All that the tables, the page and the picture show.

    `split` names the items that the figures show: `test`, or `search` if the run was interrupted before its test.
    `trajectory` and `baseline_trajectory` are (items, hypervolume on search items), with one reference point.
    """

    run: Path
    history: History
    settings: Mapping[str, Any]
    points: tuple[Point, ...]
    volumes: Mapping[Split, Volumes]
    split: Split
    trajectory: tuple[tuple[int, float], ...]
    baseline_trajectory: tuple[tuple[int, float], ...]

    @property
    def recommended(self) -> list[Point]:
        """The recommended models by number."""
        return [point for point in self.points if point.group == "recommended"]

    @property
    def references(self) -> list[Point]:
        """The base, the sources and the uniform merges, recommended or not, in order of their ids."""
        return self._known("source", "uniform")

    @property
    def given(self) -> list[Point]:
        """The recipes that the search was told to start from, recommended or not, in order of their ids."""
        return self._known("given")

    @property
    def comparisons(self) -> list[Comparison]:
        """The given recipes beside the recommended models, on test items."""
        return compare(self.history, self.given, self.recommended)

    @property
    def headline(self) -> Headline | None:
        """The recommended model beside sources and the best uniform merge; None unless there is one objective."""
        return headline(self.history, self.recommended, self.references)

    @property
    def failures(self) -> list[EvaluationRow]:
        """All evaluations that are not ok, in order of time."""
        return [row for row in self.history.evaluations if row.evaluation.status != "ok"]

    @property
    def figures(self) -> dict[str, Any]:
        """The run in numbers: trials, items, seconds of wall time and by phase of the work, failures by status."""
        rows = self.history.evaluations
        seconds: Counter[str] = Counter()
        for row in rows:
            seconds.update(row.evaluation.seconds)
        wall = sum(row.wall for row in rows)
        # Forward passes of several workers overlap, and then their sum says nothing about the wall time.
        overhead = 1 - seconds["forward"] / wall if 0 < seconds["forward"] <= wall else None
        operators = [trial.origin["operator"] for trial in self.history.trials.values()]
        return {
            "n_trials": sum(operator != REFERENCE for operator in operators),
            "n_references": sum(operator == REFERENCE for operator in operators),
            "n_search_items": self.trajectory[-1][0],
            "n_items": sum(part.stop - part.start for row in rows for part in row.slices),
            "wall_seconds": wall,
            "seconds": dict(seconds),
            "share_outside_forward": overhead,
            "failures": dict(Counter(row.evaluation.status for row in self.failures)),
        }

    @property
    def task_vectors(self) -> TaskVectors | None:
        """The geometry of the sources; None for a log that holds none."""
        stored = self.settings.get(TASK_VECTORS)
        return None if stored is None else TaskVectors.from_settings(stored)

    @property
    def simulated(self) -> str:
        """What a simulated run says of its scores, as a sentence; empty for a run on models."""
        told = self.settings.get(BENCHMARK)
        if told is None:
            return ""
        return (
            f"Simulated: every score is that of the surrogate benchmark {told['name']} {told['version']}, fitted on "
            f"{told['n_trials']:,} measured models, and of no model; intervals leave out how far the surrogate is off."
        )

    @property
    def is_finished(self) -> bool:
        """Whether the search came to its end and named what it recommends."""
        return "recommended" in self.settings

    def _known(self, *kinds: ReferenceKind) -> list[Point]:
        found = (point for point in self.points if point.is_reference and point.kind in kinds)
        return sorted(found, key=lambda point: point.trial.id)

    @property
    def bounds(self) -> str:
        """The constraints as users write them, empty if there are none."""
        return bounds(self.history.constraints)

    @property
    def conclusion(self) -> str:
        """One sentence that says what the run found."""
        if not self.recommended:
            return _nothing(self.history)
        if self.split == "search":
            return (
                f"The run has no test results yet: the {_count(self.recommended, 'model')} on its front were not "
                "tested, and the search values shown are optimistic for models chosen by them."
            )
        found = self.volumes["test"]
        if "recommended" not in found.sets:
            return f"None of the {_count(self.recommended, 'recommended model')} has a test result."
        if "sources_and_uniform" not in found.gains:
            return f"The recommended front has a hypervolume of {found.sets['recommended'].text} on test items."
        sentence = _front_sentence(found) if self.headline is None else self.headline.sentence
        return sentence + self._untested + (_excluded(self) if self.bounds else "")

    @property
    def _untested(self) -> str:
        """How many of the recommended models the figures leave out, because they have no test results."""
        lacking = [point for point in self.recommended if None in point.test]
        if not lacking:
            return ""
        have = "has" if len(lacking) == 1 else "have"
        return f" {len(lacking)} of the {_count(self.recommended, 'recommended model')} {have} no test result."


def find(run: Path, *, baseline: Path | None = None) -> Findings:
    """The findings of the run in a folder. Raises as `write_report` does."""
    history, settings = read(run)
    other = None if baseline is None else comparable(baseline, history, fingerprints(settings))
    points = shown(history, other)
    return Findings(
        run=run,
        history=history,
        settings=settings,
        points=points,
        volumes=volumes(history, other, points, seed=int(settings.get("seed", 0))),
        split="test" if history.tests else "search",
        trajectory=_steps(history),
        baseline_trajectory=() if other is None else _steps(other),
    )


def _steps(history: History) -> tuple[tuple[int, float], ...]:
    """The trajectory with the last hypervolume for every number of items."""
    return tuple(dict(history.trajectory()).items())


def _count(things: list[Point], noun: str) -> str:
    return f"{len(things)} {noun}" + ("" if len(things) == 1 else "s")


def _front_sentence(found: Volumes) -> str:
    own, gain, base = found.sets["recommended"], found.gains["sources_and_uniform"], found.sets["sources_and_uniform"]
    ratio = own.value / base.value if base.value > 0 else math.inf
    if not _is_clear(gain):
        verdict = "is not measurably better or worse in hypervolume than"
    elif math.isinf(ratio):
        verdict = "dominates more hypervolume than"
    elif ratio >= 2:
        verdict = f"dominates {ratio:.1f} times the hypervolume of"
    else:
        difference = 100 * abs(ratio - 1)
        percent = f"{difference:.0f} %" if difference >= 1 else "less than 1 %"
        verdict = f"dominates {percent} {'more' if ratio > 1 else 'less'} hypervolume than"
    return (
        f"On test items the recommended front {verdict} the sources and uniform merges together: "
        f"{own.text} against {base.text}, a difference of {gain.signed}."
    )


def _excluded(findings: Findings) -> str:
    """How many of those that the recommended models are compared with break the constraints, if some do."""
    references = findings.references
    n_broken = sum(not eligible(point.trial, findings.history.constraints) for point in references)
    if n_broken == 0:
        return ""
    which = "All" if n_broken == len(references) else f"{n_broken} of the {len(references)}"
    return f" {which} sources and uniform merges are only compared with: they may not be recommended."


def _nothing(history: History) -> str:
    """Why no model is recommended."""
    n_items = max(trial.n_items for trial in history.trials.values())
    full = [trial for trial in history.trials.values() if trial.status == "ok" and trial.n_items >= n_items]
    if not history.constraints or any(eligible(trial, history.constraints) for trial in full):
        return "No model evaluated on all search items dominates the reference point, so none is recommended."
    closest = min(full, key=lambda trial: sum(each.violation(trial) for each in history.constraints))
    values = [(each, each.value(closest)) for each in history.constraints]
    told = ", ".join(
        f"{each.name} {value:,.10g}" if each.kind == "cost" else f"{each.name} {value:.3f}"
        for each, value in values
        if value is not None
    )
    return (
        f"No model evaluated on all search items keeps all constraints ({bounds(history.constraints)}), so none is "
        f"recommended; {history.name(closest.id)} comes closest with {told}."
    )


def _is_clear(gain: Volume) -> bool:
    """Whether the interval of a difference leaves out 0."""
    return gain.low is not None and gain.high is not None and np.sign(gain.low) * np.sign(gain.high) > 0
