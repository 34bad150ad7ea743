"""The run that another is compared with: its log, read and found comparable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from automerge.history import History
from automerge.log import LOG, RunLog
from automerge.records import Constraint, Objective


def read(run: Path) -> tuple[History, dict[str, Any]]:
    """The history of a run and its settings. Raises FileNotFoundError if its folder holds no log."""
    with RunLog(run / LOG, read_only=True) as log:
        return History.of(log), log.settings()


def refuse_other(
    baseline: Path,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
    tasks: Mapping[str, str],
    *,
    tested: bool = True,
) -> History:
    """The history of a run that may be the baseline of one with these objectives, constraints and tasks.

    `tasks` are fingerprints of items by name, as far as they are known. Raises ValueError if it was run with others,
    has no test results although it should be `tested`, or ended before its sources were evaluated.
    """
    found, settings = read(baseline)
    if found.objectives != tuple(objectives):
        expected, got = (", ".join(map(_spelled, each)) for each in (objectives, found.objectives))
        raise ValueError(f"the baseline {baseline} should have the objectives {expected}, got {got}; run it with these")
    if set(found.constraints) != set(constraints):
        expected, got = (bounds(each) or "none" for each in (constraints, found.constraints))
        raise ValueError(f"the baseline {baseline} should have the constraints {expected}, got {got}; run it with them")
    known = fingerprints(settings)
    if other := [name for name, told in tasks.items() if known.get(name, told) != told]:
        raise ValueError(
            f"the baseline {baseline} was asked other items of {', '.join(other)}, or otherwise; run it with the same "
            "data and templates"
        )
    if tested and not found.tests:
        raise ValueError(f"the baseline {baseline} should be tested, but has no test result; resume it first")
    return found


def fingerprints(settings: Mapping[str, Any]) -> Mapping[str, str]:
    """Those of the tasks' items that the settings of a log hold, by name; empty for logs that tell none."""
    found: Mapping[str, str] = settings.get("identity", {}).get("tasks", {})
    return found


def comparable(baseline: Path, history: History, tasks: Mapping[str, str]) -> History:
    """The history of the baseline, measured from the reference point of the run it is compared with.

    Raises as `refuse_other` does.
    """
    other = refuse_other(baseline, history.objectives, history.constraints, tasks, tested=bool(history.tests))
    return replace(other, reference_point=history.reference_point)


def bounds(constraints: Sequence[Constraint]) -> str:
    """The constraints as users write them, empty if there are none."""
    return ", ".join(constraint.text for constraint in constraints)


def _spelled(objective: Objective) -> str:
    """An objective by its name, and a weighted mean by its shares too."""
    shares = ", ".join(f"{task} {share:.3g}" for task, share in objective.weights)
    return f"{objective.name} ({shares})" if shares else objective.name
