"""Runs of a study, searched to their end and measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from automerge import run
from automerge.history import History
from automerge.log import LOG, RunLog
from automerge.pareto import hypervolume
from automerge.report import write_report


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Figures of one run, which is searched to its end in this folder; hypervolumes are those of test items."""
    folder.mkdir(parents=True, exist_ok=True)
    with RunLog(folder / LOG) as log:
        for _ in run.search(settings, run.assemble(settings, log=folder / LOG), log):
            pass
        history = History.of(log)
    write_report(folder)

    def volume(trials: tuple[int, ...]) -> float:
        tested = [values for trial in trials if (values := history.test_values(trial)) is not None]
        return hypervolume(np.array(tested), history.reference_point)

    searched = [row for row in history.evaluations if row.phase == "search"]
    forward = sum(row.evaluation.seconds["forward"] for row in searched)
    wall = sum(row.wall for row in searched)
    proposed = [trial for number, trial in history.trials.items() if number not in history.references]
    return {
        "sources": volume(history.sources),
        "sources_and_uniform": volume(history.references),
        "recommended": volume(history.recommended),
        "recommended_with_references": volume((*history.references, *history.recommended)),
        "reference_point": list(history.reference_point),
        "front": {history.name(t): list(history.test_values(t)) for t in history.recommended},  # type: ignore[arg-type]
        "n_trials": len(proposed),
        "statuses": dict(Counter(trial.status for trial in proposed)),
        "n_items": sum(part.stop - part.start for row in searched for part in row.slices),
        "evaluations_per_second": len(searched) / wall,
        "share_merging": sum(row.evaluation.seconds["merge"] for row in searched) / wall,
        "share_outside_forward": 1 - forward / wall,
        "seconds": sum(row.wall for row in history.evaluations),
    }


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation as text."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.4f} ({deviation:.4f})"
