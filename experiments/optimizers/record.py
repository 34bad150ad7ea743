"""results.json: finished runs of a scale in one file, which stands for their folders where these are not at hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from automerge.benchmark.ranking import Ranking
from experiments.optimizers.problems import Scale


def as_json(runs: Sequence[dict[str, Any]], scale: Scale, ranking: Ranking | None) -> str:
    """The runs as JSON with a line for each, in which the machine is an index of the list of machines."""
    machines = list({json.dumps(run["machine"], sort_keys=True): run["machine"] for run in runs}.values())
    head = {
        "scale": _told(scale),
        "machines": machines,
        "ranking": None if ranking is None else asdict(ranking),
    }
    lines = [json.dumps({**run, "machine": machines.index(run["machine"])}) for run in runs]
    return json.dumps(head, indent=1)[:-2] + ',\n "runs": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def recorded(path: Path, scale: Scale) -> list[dict[str, Any]]:
    """The runs of a file that `as_json` made, as they were given to it.

    Raises ValueError if the file is none of those, or its runs are of another scale.
    """
    try:
        record = json.loads(path.read_text())
        told, machines = record["scale"], record["machines"]
        runs = [{**run, "machine": machines[run["machine"]]} for run in record["runs"]]
    except (OSError, json.JSONDecodeError, LookupError, TypeError) as fault:
        raise ValueError(
            f"{path} is no results.json of this study ({type(fault).__name__}: {fault}); name one that `report` wrote"
        ) from fault
    if told != _told(scale):
        raise ValueError(
            f"the runs in {path} are of the scale {told}, the options name {_told(scale)}; name a file of this scale, "
            "and for its report a folder of its own (--to)"
        )
    return runs


def key(run: Mapping[str, Any]) -> tuple[str, str, int]:
    """The problem, optimizer and seed of a run, of which a study has one run."""
    return run["problem"], run["optimizer"], run["seed"]


def check_kept(path: Path, scale: Scale, runs: Sequence[Mapping[str, Any]]) -> None:
    """Raises ValueError if these runs in the place of the file, should there be one, would lose runs that it holds."""
    if not path.is_file():
        return
    lost = {key(run) for run in recorded(path, scale)} - {key(run) for run in runs}
    if lost:
        raise ValueError(
            f"{path} has {len(lost)} runs that would be lost, such as {min(lost)}; keep them with --record {path}, "
            "write to another folder (--to), or move the file away"
        )


def _told(scale: Scale) -> dict[str, Any]:
    return {"trials": scale.trials, "rungs": list(scale.rungs), "test_items": scale.test_items}
