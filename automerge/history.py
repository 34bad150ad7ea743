"""What a log adds up to: trials with their results, the hypervolume over items, the recommended front.

Every function is a pure view of logged evaluations, so search, report and benchmark always agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from automerge.log import EvaluationRow, RunLog, TrialRow
from automerge.pareto import hypervolume, is_non_dominated, widest
from automerge.records import REFERENCE, Constraint, Evaluation, Objective, Result, Trial

OUTSIDE: NDArray[np.float64] = np.empty(0)
"""What trials and the log have as the genotype of a recipe that the space cannot hold."""


@dataclass(frozen=True)
class History:
    """A run as its log tells it.

    `trials` hold the results on search items, `tests` those on test items by trial id; `evaluations` are in order of
    time; `reference_point` bounds the hypervolume, in objective values (larger is better); what is recommended keeps
    the `constraints`.
    """

    trials: Mapping[int, Trial]
    tests: Mapping[int, Mapping[str, Result]]
    evaluations: Sequence[EvaluationRow]
    objectives: tuple[Objective, ...]
    reference_point: NDArray[np.float64]
    recommended: tuple[int, ...]
    constraints: tuple[Constraint, ...] = ()

    @staticmethod
    def of(log: RunLog) -> History:
        """The history that a log tells. Raises ValueError if the log ends before the sources were evaluated."""
        settings = log.settings()
        if "reference_point" not in settings:
            raise ValueError(f"{log.path}: the run ended before its sources were evaluated; resume it first")
        evaluations = log.evaluations()
        trials: dict[int, Trial] = {row.id: started(row) for row in log.trials()}
        tests: dict[int, Mapping[str, Result]] = {}
        for row in evaluations:
            if row.phase == "test":
                tests[row.trial] = added(tests.get(row.trial, {}), row.evaluation)
            else:
                trials[row.trial] = advanced(trials[row.trial], row.evaluation)
        return History(
            trials=trials,
            tests=tests,
            evaluations=evaluations,
            objectives=tuple(Objective.from_settings(objective) for objective in settings["objectives"]),
            reference_point=np.array(settings["reference_point"]),
            recommended=tuple(settings.get("recommended", ())),
            constraints=tuple(Constraint(**constraint) for constraint in settings.get("constraints", ())),
        )

    def name(self, trial: int) -> str:
        """What reports call a trial: its reference name, else `#id`."""
        return str(self.trials[trial].origin.get("name", f"#{trial}"))

    @property
    def references(self) -> tuple[int, ...]:
        """Ids of the base, the sources, the uniform merges and the given recipes."""
        return tuple(trial.id for trial in self.trials.values() if trial.origin["operator"] == REFERENCE)

    @property
    def sources(self) -> tuple[int, ...]:
        """Ids of the base and the sources."""
        return tuple(number for number in self.references if self.trials[number].origin["kind"] == "source")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of all tasks whose scores the objectives are made of."""
        return tuple(task for objective in self.objectives for task, _ in objective.shares)

    def test_values(self, trial: int) -> NDArray[np.float64] | None:
        """Objective values of a trial on the test items, None if it was not tested, or its test failed."""
        if not self.tests.get(trial):
            return None
        return replace(self.trials[trial], results=self.tests[trial]).values(self.objectives)

    def trajectory(self) -> list[tuple[int, float]]:
        """(items so far, hypervolume of the fully evaluated eligible trials) after every search evaluation."""
        trials = {number: replace(trial, results={}, items={}) for number, trial in self.trials.items()}
        full = max(trial.n_items for trial in self.trials.values())
        points: list[tuple[int, float]] = []
        front = np.empty((0, len(self.objectives)))
        n_items = 0
        for row in self.evaluations:
            if row.phase == "test":
                continue
            trials[row.trial] = trial = advanced(trials[row.trial], row.evaluation)
            if row.phase != "reference" and row.evaluation.status != "failed":
                n_items += sum(part.stop - part.start for part in row.slices)
            if trial.status == "ok" and trial.n_items >= full and eligible(trial, self.constraints):
                front = np.vstack([front, trial.values(self.objectives)])
                front = front[is_non_dominated(front)]
            points.append((n_items, hypervolume(front, self.reference_point)))
        return points


def started(row: TrialRow) -> Trial:
    """A trial before its first evaluation."""
    return Trial(id=row.id, genotype=row.genotype, recipe=row.recipe, origin=row.origin, status="ok")


def in_space(trial: Trial) -> bool:
    """Whether a trial has a genotype; references outside the space have only a recipe."""
    return len(trial.genotype) > 0


def eligible(trial: Trial, constraints: Sequence[Constraint] = ()) -> bool:
    """Whether a trial may be recommended: it keeps the constraints, and is no reference that the space excludes.

    Costs are exact, scores are the means measured on search items.
    """
    return bool(trial.origin.get("eligible", True)) and not any(each.violation(trial) for each in constraints)


def advanced(trial: Trial, evaluation: Evaluation) -> Trial:
    """The trial after one more evaluation on search items; an evaluation that is not ok keeps the results so far."""
    return replace(
        trial,
        status=evaluation.status,
        reason=evaluation.reason,
        results=added(trial.results, evaluation),
        items=trial.items if trial.origin.get("kind") == "source" else _continued(trial.items, evaluation),
        costs={**trial.costs, **evaluation.costs},
        seconds={
            phase: trial.seconds.get(phase, 0.0) + evaluation.seconds.get(phase, 0.0)
            for phase in {**trial.seconds, **evaluation.seconds}
        },
    )


def added(results: Mapping[str, Result], evaluation: Evaluation) -> Mapping[str, Result]:
    """The results by task with the item scores of one evaluation added."""
    total = dict(results)
    for part in evaluation.scores:
        before = total.get(part.slice.task, Result(0, 0.0))
        total[part.slice.task] = Result(before.n + len(part.values), before.total + sum(part.values))
    return total


def _continued(items: Mapping[str, NDArray[np.float64]], evaluation: Evaluation) -> Mapping[str, NDArray[np.float64]]:
    """Scores item by item, in the order of their tasks, with those of one evaluation behind them."""
    found = dict(items)
    for part in evaluation.scores:
        found[part.slice.task] = np.concatenate([found.get(part.slice.task, np.empty(0)), part.values])
    return found


def front(
    trials: Iterable[Trial],
    objectives: Sequence[Objective],
    *,
    reference: NDArray[np.float64],
    n_items: int,
    limit: int,
) -> list[Trial]:
    """At most `limit` trials that together dominate the most volume above the reference point.

    Only trials evaluated on at least `n_items` items count; the result is in the order of the first objective.
    """
    full = [trial for trial in trials if trial.status == "ok" and trial.n_items >= n_items]
    if not full:
        return []
    points = np.array([trial.values(objectives) for trial in full])
    non_dominated = np.flatnonzero(is_non_dominated(points))
    chosen = non_dominated[widest(points[non_dominated], reference, limit)]
    return [full[index] for index in sorted(chosen, key=lambda index: (-points[index][0], index))]


def reference_point(
    sources: Sequence[Trial],
    objectives: Sequence[Objective],
    *,
    chances: Mapping[str, float],
    depth: float,
    constrained: bool = False,
) -> NDArray[np.float64]:
    """The point above which hypervolume is counted, shape (n_objectives,), from the trials of the sources.

    Scores: the worst over the sources, less a tenth of their range, or of the value itself where all are equal; chance,
    which `chances` has by task name, where that is lower and `counts_from_chance`. Costs: a tenth above the largest
    model that the space allows, which has `depth` times the sources' layers.
    """
    points = np.array([trial.values(objectives) for trial in sources])
    span = points.max(axis=0) - points.min(axis=0)
    span = np.where(span > 0, span, np.maximum(np.abs(points[0]), 1e-3))
    worst = points.min(axis=0) - 0.1 * span
    if not counts_from_chance(sources, objectives, constrained=constrained):
        return np.asarray(worst)
    return np.array(
        [
            1.1 * max(1.0, depth) * points[:, k].min()
            if objective.kind == "cost"
            else min(worst[k], sum(share * chances[task] for task, share in objective.shares))
            for k, objective in enumerate(objectives)
        ]
    )


def counts_from_chance(sources: Sequence[Trial], objectives: Sequence[Objective], *, constrained: bool) -> bool:
    """Whether scores count from chance at the latest: a smaller model may be worth its place below every source.

    So it is with a cost among the objectives, with constraints to keep, and where the space excludes all sources.
    """
    has_costs = any(objective.kind == "cost" for objective in objectives)
    return constrained or has_costs or not any(eligible(trial) for trial in sources)
