"""pareto.csv and pareto.json: the shown models as data."""

from __future__ import annotations

import csv
import json
from typing import Any

from automerge.records import Objective, Split
from automerge.report.comparison import Comparison
from automerge.report.findings import Findings
from automerge.report.headline import Headline
from automerge.report.points import Point, Value
from automerge.report.volumes import Volumes


def write_tables(findings: Findings) -> None:
    """Writes pareto.csv and pareto.json into the run folder."""
    rows = [_row(findings, point) for point in findings.points]
    with (findings.run / "pareto.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = json.dumps(_content(findings), indent=1, allow_nan=False)
    (findings.run / "pareto.json").write_text(text + "\n", encoding="utf-8")


def _row(findings: Findings, point: Point) -> dict[str, Any]:
    row: dict[str, Any] = {
        "number": point.number,
        "trial": point.trial.id,
        "name": point.name,
        "group": point.group,
        "kind": point.kind,
        "recipe_id": point.trial.recipe.id,
    }
    for k, objective in enumerate(findings.history.objectives):
        if objective.kind == "cost":
            value = point.search[k]
            row[objective.name] = None if value is None else value.mean
            continue
        for split in ("search", "test"):
            for key, number in _score(point.values(split)[k]).items():
                row[f"{objective.name}_{split}_{key}"] = number
        for task in _parts(objective):
            for split, of_task in point.tasks.items():
                for key, number in _score(of_task.get(task)).items():
                    row[f"{task}_{split}_{key}"] = number
    row["operator"] = point.trial.origin["operator"]
    row["parents"] = " ".join(str(parent) for parent in point.trial.origin.get("parents", ()))
    if findings.history.constraints:
        row["breaks"] = "; ".join(point.breaks["search"])
    row["note"] = point.note
    return row


def _score(value: Value | None) -> dict[str, float | None]:
    if value is None:
        return dict.fromkeys(("mean", "n", "low", "high"))
    return {"mean": value.mean, "n": value.n, "low": value.low, "high": value.high}


def _content(findings: Findings) -> dict[str, Any]:
    history = findings.history
    return {
        "objectives": [_objective(objective) for objective in history.objectives],
        "constraints": [constraint.text for constraint in history.constraints],
        "reference_point": history.reference_point.tolist(),
        "is_finished": findings.is_finished,
        "is_tested": findings.split == "test",
        "conclusion": findings.conclusion,
        "simulated": findings.simulated,
        "headline": _headline(findings.headline),
        "points": [_entry(findings, point) for point in findings.points],
        "hypervolume": {split: _volumes(found) for split, found in findings.volumes.items()},
        "given": [_comparison(findings, found) for found in findings.comparisons],
        "figures": findings.figures,
        "failures": [
            {
                "trial": row.trial,
                "name": history.name(row.trial),
                "phase": row.phase,
                "status": row.evaluation.status,
                "reason": row.evaluation.reason,
            }
            for row in findings.failures
        ],
        "settings": dict(findings.settings),
    }


def _objective(objective: Objective) -> dict[str, Any]:
    shares = {"weights": dict(objective.weights)} if objective.kind == "mean" else {}
    return {"name": objective.name, "kind": objective.kind, **shares}


def _parts(objective: Objective) -> list[str]:
    """The tasks of a weighted mean, whose scores are told beside it."""
    return [task for task, _ in objective.shares] if objective.kind == "mean" else []


def _headline(found: Headline | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "name": found.best.name,
        "test": _score(found.value),
        "recommended_minus": [
            {
                "name": row.point.name,
                "kind": row.point.kind,
                "value": row.difference.value,
                "low": row.difference.low,
                "high": row.difference.high,
                "is_clear": row.is_clear,
            }
            for row in found.rows
        ],
    }


def _entry(findings: Findings, point: Point) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for k, objective in enumerate(findings.history.objectives):
        if objective.kind == "cost":
            value = point.search[k]
            scores[objective.name] = {"value": None if value is None else value.mean}
        else:
            pairs: dict[Split, Value | None] = {"search": point.search[k], "test": point.test[k]}
            scores[objective.name] = {split: None if value is None else _score(value) for split, value in pairs.items()}
            for task in _parts(objective):
                of_task = {split: point.tasks[split].get(task) for split in pairs}
                scores[task] = {split: None if value is None else _score(value) for split, value in of_task.items()}
    return {
        "number": point.number,
        "trial": point.trial.id,
        "name": point.name,
        "group": point.group,
        "kind": point.kind,
        "recipe_id": point.trial.recipe.id,
        "scores": scores,
        "breaks": {split: list(broken) for split, broken in point.breaks.items()},
        "note": point.note,
        "origin": dict(point.trial.origin),
        "methods": point.methods,
        "recipe": json.loads(point.trial.recipe.to_json()),
    }


def _comparison(findings: Findings, found: Comparison) -> dict[str, Any]:
    names = [objective.name for objective in findings.history.objectives]
    return {
        "name": found.given.name,
        "outcome": found.outcome,
        "recommended_minus": [
            {
                "number": row.point.number,
                "name": row.point.name,
                "verdict": row.verdict,
                "is_clear": row.is_clear,
                "differences": {
                    name: {"value": difference.value, "low": difference.low, "high": difference.high}
                    for name, difference in zip(names, row.differences, strict=True)
                },
            }
            for row in found.rows
        ],
    }


def _volumes(found: Volumes) -> dict[str, Any]:
    return {
        "sets": {name: volume._asdict() for name, volume in found.sets.items()},
        "recommended_minus": {name: volume._asdict() for name, volume in found.gains.items()},
    }
