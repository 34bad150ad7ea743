"""What would have been recommended after a part of the budget, and what that is worth on test items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from automerge.history import History, added, advanced, eligible, front
from automerge.pareto import hypervolume
from automerge.records import Evaluation, Query, Slice, Trial

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Parts of the budget after which the front is judged; at 0 only the references are known."""

GRID = np.linspace(0, 1, 51)
"""Parts of the budget at which the hypervolume on search items is kept."""


def known_by(history: History, items: float) -> list[Trial]:
    """The trials as they were when this number of search items had been evaluated for proposals.

    References are known from the beginning; the verification at the end of a run does not count.
    """
    trials: dict[int, Trial] = {}
    n_items = 0
    for row in history.evaluations:
        if row.phase == "search":
            n_items += sum(part.stop - part.start for part in row.slices)
            if n_items > items:
                break
        if row.phase in ("reference", "search"):
            blank = replace(
                history.trials[row.trial], status="ok", reason="", results={}, items={}, costs={}, seconds={}
            )
            trials[row.trial] = advanced(trials.get(row.trial, blank), row.evaluation)
    return list(trials.values())


def recommended_by(history: History, items: float, *, n_items: int, limit: int) -> list[Trial]:
    """The front that a run would have recommended after this number of search items, by the rule of its end.

    Of the eligible trials evaluated on all `n_items` items of every task, at most `limit`.
    """
    known = [trial for trial in known_by(history, items) if eligible(trial, history.constraints)]
    return front(known, history.objectives, reference=history.reference_point, n_items=n_items, limit=limit)


def trajectory(history: History, budget: int) -> list[float]:
    """Hypervolume on search items of all that was fully evaluated after the parts of the budget in GRID.

    It chooses and judges on the same items, so it is too high, and the more so the more was tried.
    """
    n_counted = sum(row.phase in ("reference", "search") for row in history.evaluations)
    points = history.trajectory()[:n_counted]
    items = np.array([n_items for n_items, _ in points])
    # The last evaluation may go beyond the budget; it counts at its end.
    last = np.searchsorted(np.minimum(items, budget), GRID * budget, side="right") - 1
    return [points[index][1] for index in last]


class TestItems:
    """Objective values on test items of any trials of a run, by an evaluator of queries."""

    __test__ = False  # no test, whatever its name begins with

    def __init__(self, history: History, evaluate: Callable[[Query], Evaluation], slices: Sequence[Slice]) -> None:
        self._history = history
        self._evaluate = evaluate
        self._slices = tuple(slices)

    def values(self, trial: Trial) -> NDArray[np.float64] | None:
        """Objective values of a trial, larger is better, shape (n_objectives,); None if it gives no scores."""
        answer = self._evaluate(Query(trial.recipe, self._slices))
        if answer.status != "ok":
            return None
        return replace(trial, results=added({}, answer), costs=answer.costs).values(self._history.objectives)

    def volume(self, trials: Iterable[Trial]) -> float:
        """Hypervolume of trials above the run's reference point."""
        found = [values for trial in trials if (values := self.values(trial)) is not None]
        return hypervolume(np.array(found), self._history.reference_point)
