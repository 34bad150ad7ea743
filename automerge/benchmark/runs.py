"""Runs of one problem as their logs tell them: which can be joined, and what tells them and their optimizers apart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from automerge.history import History, in_space
from automerge.log import LOG, RunLog
from automerge.records import Split, Trial

Place = tuple[str, Split]
"""A task and a split of its items."""


class Times(NamedTuple):
    """The mean seconds of a merge, and the seconds that evaluating so many items took, all tasks together."""

    merge: float
    items: float
    n_items: int


@dataclass(frozen=True)
class Run:
    """One run: its settings, its history and its own orders of items; `name` tells it from the others."""

    name: str
    settings: Mapping[str, Any]
    history: History
    orders: Mapping[Place, NDArray[np.int64]]

    @property
    def seed(self) -> int:
        """The seed of the search."""
        return int(self.settings.get("seed", 0))

    @property
    def optimizer(self) -> Mapping[str, Any]:
        """The target and the options of the optimizer."""
        found: Mapping[str, Any] = self.settings["config"].get("optimizer") or {"_target_": "unknown"}
        return found

    @property
    def inside(self) -> list[Trial]:
        """The trials that have a genotype, in the order in which they were proposed."""
        return [trial for _, trial in sorted(self.history.trials.items()) if in_space(trial)]

    def scores(self) -> dict[tuple[int, str, Split], dict[int, float]]:
        """By trial, task and split the scores by item, in the order of evaluation."""
        found: dict[tuple[int, str, Split], dict[int, float]] = {}
        for row in self.history.evaluations:
            for part in row.evaluation.scores:
                scores = found.setdefault((row.trial, part.slice.task, part.slice.split), {})
                scores.update(zip(part.items, part.values, strict=True))
        return found

    def times(self) -> dict[int, Times]:
        """By trial what its evaluations took.

        An evaluation that merged in no time was answered from a store, so it tells nothing.
        """
        found: dict[int, list[Times]] = {}
        for row in self.history.evaluations:
            merge = row.evaluation.seconds.get("merge", 0.0)
            if row.evaluation.status == "ok" and merge > 0:
                n_items = sum(part.stop - part.start for part in row.slices)
                own = Times(merge, sum(row.evaluation.seconds.values()) - merge, n_items)
                found.setdefault(row.trial, []).append(own)
        return {
            trial: Times(
                merge=float(np.mean([each.merge for each in own])),
                items=sum(each.items for each in own),
                n_items=sum(each.n_items for each in own),
            )
            for trial, own in found.items()
        }


def load_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in these folders, finished or not.

    Raises ValueError for no folder, one named twice, a run that never began, a simulated run, or runs of different
    problems, with every difference; FileNotFoundError for a folder without a log.
    """
    paths = [Path(folder).resolve() for folder in folders]
    if not paths:
        raise ValueError("expected the folders of one or more runs, got none")
    if len(set(paths)) < len(paths):
        twice = sorted({str(path) for path in paths if paths.count(path) > 1})
        raise ValueError(f"each run counts once, but some were named twice: {', '.join(twice)}")
    above = Path(commonpath([path.parent for path in paths]))
    runs = [_load(path, path.relative_to(above).as_posix()) for path in paths]
    first = runs[0]
    found = [
        f"{run.name}: {difference}"
        for run in runs[1:]
        for difference in differences(problem(first), problem(run), first.name)
    ]
    if found:
        listed = "".join(f"\n  - {line}" for line in found)
        raise ValueError(f"only runs of one problem can be joined, but some differ from {first.name}:{listed}")
    return runs


def labels(runs: Sequence[Run]) -> list[str]:
    """What tells the runs' optimizers apart: the module's name, with the options in which runs of it differ."""
    found = []
    for run in runs:
        options = dict(run.optimizer)
        target = str(options.pop("_target_"))
        alike = [other.optimizer for other in runs if other.optimizer["_target_"] == target]
        differing = [key for key in options if any(other.get(key) != options[key] for other in alike)]
        parts = [f"{key}={json.dumps(options[key])}" for key in sorted(differing)]
        found.append(" ".join([target.rpartition(".")[0].rpartition(".")[2] or target, *parts]))
    return found


def _load(folder: Path, name: str) -> Run:
    with RunLog(folder / LOG, read_only=True) as log:
        settings = log.settings()
        if "config" not in settings:
            raise ValueError(
                f"{folder} stopped before it began; start it again with the command it was started with, "
                "or leave it out"
            )
        if "benchmark" in settings:
            raise ValueError(
                f"{folder} is a simulated run, whose scores are those of a benchmark; name runs that merged models"
            )
        return Run(name, settings, History.of(log), log.orders())


def problem(run: Run) -> dict[str, Any]:
    """What runs have to share, by names that messages use."""
    identity = run.settings.get("identity", {})
    return {
        "space": run.settings["config"]["space"],
        "layout": run.settings["layout"],
        "content of sources": identity.get("sources", {}),
        "content of tasks": identity.get("tasks", {}),
        "objectives": run.settings["objectives"],
        "constraints": run.settings.get("constraints", []),
    }


def differences(first: Any, other: Any, name: str, where: str = "") -> Iterator[str]:
    """A message for every value in which another problem differs from that of the run of this name."""
    if isinstance(first, Mapping) and isinstance(other, Mapping):
        for key in sorted({*first, *other}):
            yield from differences(first.get(key), other.get(key), name, f"{where}.{key}" if where else str(key))
    elif first != other:
        yield f"{where} is {other!r}, not {first!r} as in {name}"
