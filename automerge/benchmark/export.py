"""Runs to a benchmark: a folder with models in text, all data, and a report of how good the models are.

It appears whole or not at all: everything is written beside its place and moved there at the end.
"""

from __future__ import annotations

import gzip
import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import automerge
from automerge.benchmark.card import card_text
from automerge.benchmark.dataset import KEPT, Dataset, read_runs, write_responses
from automerge.benchmark.encoder import encoder_content
from automerge.benchmark.ensemble import combine
from automerge.benchmark.fit import N_BAGS, Fitted, Measured, Target, fit_broken, fit_scores, fit_seconds, measured
from automerge.benchmark.folder import (
    BROKEN,
    CARD,
    ENCODER,
    EVALUATIONS,
    ITEMS,
    LICENCE,
    METADATA,
    NEARNESS,
    REPORT,
    SCHEMA,
    SPACE,
    SPLITS,
    TRAJECTORIES,
    answered,
    check_replaceable,
    read_json,
    score_target,
    write_json,
    write_sums,
)
from automerge.benchmark.nearness import Nearness
from automerge.components import build
from automerge.measures import to_settings
from automerge.protocols import Gene, Space
from automerge.records import Objective, Split

VERSION = "1.0.0"

DATA_LICENCE = "CC-BY-4.0"
CODE_LICENCE = "Apache-2.0"

LICENCE_TEXT = f"""The data and the models in this folder may be used under the terms of {DATA_LICENCE},
https://creativecommons.org/licenses/by/4.0/legalcode, unless who publishes them states otherwise.

They are figures measured on merged language models. Terms of the source models and of the tasks' items that bear on
such figures come first. No weights and no texts of items are in this folder.
"""

Scores = Mapping[tuple[str, Split], tuple[Measured, Target]]


def export_benchmark(runs: Sequence[Path], to: Path, *, name: str | None = None) -> dict[str, dict[str, float]]:
    """Writes the benchmark of some runs of one problem into the folder `to`; returns by task its quality.

    The quality is that of scores on search items, out of fold: `n_trials`, the number of different models measured;
    `r2`, `rmse`, `kendall_tau`, and `r2_ceiling`, the share of the variance that is not noise of measuring if every
    model had items of its own. All but the first are NaN, and there is no model, if there are fewer than
    `fit.MINIMUM` of them. The benchmark is called `name`, by default like its folder, or like the run whose folder it
    is in. An older benchmark in its place is replaced.

    Raises FileExistsError for anything else in its place, as `check_replaceable` does, and for one with models where
    there are too few trials for any; and whatever `read_runs` raises.
    """
    check_replaceable(to)
    dataset = read_runs(runs)
    to.parent.mkdir(parents=True, exist_ok=True)
    place = to.resolve()
    called = name or (place.parent.name if place.name == "benchmark" else place.name)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
    try:
        quality = _write(dataset, unfinished, name=called)
        unfinished.chmod(0o755)
        _refuse_poorer(unfinished, to)
        _replace(unfinished, to)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return quality


def _refuse_poorer(unfinished: Path, to: Path) -> None:
    """Raises FileExistsError if a benchmark with models would be replaced by one that cannot answer."""
    if to.exists() and read_json(to, METADATA)["models"] and not answered(read_json(unfinished, METADATA)):
        raise FileExistsError(
            f"{to} holds a benchmark with models, and of these runs too few trials were measured for any; "
            "name a new folder, or export more runs together"
        )


def _replace(unfinished: Path, to: Path) -> None:
    """Moves the new folder into its place; an older one is there until it is."""
    old = unfinished.with_name(f"{unfinished.name}.old")
    if to.exists():
        to.rename(old)
    try:
        unfinished.rename(to)
    except BaseException:
        if old.exists():
            old.rename(to)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write(dataset: Dataset, folder: Path, *, name: str) -> dict[str, dict[str, float]]:
    (folder / "models").mkdir()
    (folder / "data").mkdir()
    scores = {
        (task, split): (data, fit_scores(dataset, data))
        for task in dataset.tasks
        for split in SPLITS
        for data in [measured(dataset, task, split)]
    }
    broken = fit_broken(dataset)
    seconds = fit_seconds(dataset)
    targets = {score_target(*place): target for place, (_, target) in scores.items()} | seconds
    targets |= {} if broken is None else {BROKEN: broken}
    metadata = _metadata(dataset, scores, name=name) | {
        "models": _write_models(targets, folder),
        "nearness": _write_nearness(dataset.features, folder),
    }
    report = {
        "tasks": {task: {split: dict(scores[task, split][1].figures) for split in SPLITS} for task in dataset.tasks},
        "broken": None if broken is None else dict(broken.figures),
        "seconds": {target: dict(found.figures) for target, found in seconds.items()},
    }
    write_json(folder, METADATA, metadata)
    write_json(folder, SPACE, {"genes": _genes(dataset.space)})
    spec, layout = dataset.settings["config"]["space"], dataset.settings["layout"]
    write_json(folder, ENCODER, encoder_content(dataset.space, spec, layout, dataset.measures))
    write_json(folder, ITEMS, _items(dataset, scores))
    write_json(folder, REPORT, report)
    _write_table(dataset.frame, folder / EVALUATIONS)
    _write_table(dataset.trajectories, folder / TRAJECTORIES)
    write_responses(folder, dataset.responses)
    (folder / CARD).write_text(card_text(metadata, report), encoding="utf-8")
    (folder / LICENCE).write_text(LICENCE_TEXT, encoding="utf-8")
    write_sums(folder)
    return {task: _told(scores[task, "search"][1]) for task in dataset.tasks}


def _write_models(targets: Mapping[str, Target], folder: Path) -> dict[str, str]:
    """Writes the models; returns their files by target, numbered, because tasks may have any name."""
    files: dict[str, str] = {}
    for target, found in targets.items():
        if found.fitted is not None:
            files[target] = f"models/{len(files)}.txt.gz"
            # The same models are the same bytes, whenever they were written.
            (folder / files[target]).write_bytes(gzip.compress(_text(found.fitted).encode(), 9, mtime=0))
    return files


def _write_nearness(features: NDArray[np.float64], folder: Path) -> str | None:
    """Writes how near models are to the measured ones; returns its file, None for fewer than two different models."""
    if len(np.unique(features, axis=0)) < 2:
        return None
    Nearness.fit(features).save(folder / NEARNESS)
    return NEARNESS


def _text(fitted: Fitted) -> str:
    return combine(fitted.bags, bias=fitted.bias)


def _write_table(table: Any, path: Path) -> None:
    table.to_parquet(path, index=False, compression="zstd", compression_level=19)


def _metadata(dataset: Dataset, scores: Scores, *, name: str) -> dict[str, Any]:
    settings = dataset.settings
    points = np.array([run["reference_point"] for run in dataset.runs])
    return {
        "schema": SCHEMA,
        "name": name,
        "version": VERSION,
        "automerge": automerge.__version__,
        **{key: settings.get(key) for key in KEPT},
        "identity": settings.get("identity", {}),
        "constraints": settings.get("constraints", []),
        "measures": None if dataset.measures is None else to_settings(dataset.measures),
        "space": settings["config"]["space"],
        "fidelity": _fidelity(dataset.runs),
        "tasks": {task: _task(dataset, task, scores) for task in dataset.tasks},
        # Seeds differ in the items that the sources were measured on.
        "reference_point": points.mean(axis=0).tolist(),
        "n_trials": len(dataset.frame),
        "runs": list(dataset.runs),
        "references": list(dataset.references),
        "costs": list(dataset.space.costs(dataset.genotypes[:1])),
        "n_bags": N_BAGS,
        "best": _best(dataset),
        "data_licence": DATA_LICENCE,
        "code_licence": CODE_LICENCE,
    }


def _fidelity(runs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The settings of fidelity under which most trials of the runs were made, None if the logs do not tell."""
    trials: Counter[str] = Counter()
    for run in runs:
        trials[json.dumps(run["settings"]["fidelity"])] += run["n_trials"]
    found: Mapping[str, Any] | None = json.loads(trials.most_common(1)[0][0])
    return found


def _task(dataset: Dataset, task: str, scores: Scores) -> dict[str, Any]:
    values = [np.unique(found.scores) for (_, name, _), found in dataset.responses.items() if name == task]
    return {
        "chance": _chance(dataset.settings, task),
        "sizes": {split: len(_known(dataset, task, split)) for split in SPLITS},
        "splits": [split for split in SPLITS if scores[task, split][1].fitted is not None],
        "binary": bool(np.isin(np.concatenate([*values, np.zeros(1)]), (0, 1)).all()),
        "fingerprint": _fingerprint(dataset.settings, task),
    }


def _fingerprint(settings: Mapping[str, Any], task: str) -> str:
    """What the log knows a task's data by, empty if it does not tell."""
    return str(settings.get("identity", {}).get("tasks", {}).get(task, ""))


def _chance(settings: Mapping[str, Any], task: str) -> float | None:
    """The expected score of guessing: as the log tells, or as the task does where its data is still at hand."""
    told = settings.get("chances", {}).get(task)
    if told is not None:
        return float(told)
    spec = settings["config"].get("task", {}).get(task)
    if spec is None:
        return None
    try:
        return float(build(spec, name=task).chance)
    except (ValueError, TypeError, OSError):
        return None


def _known(dataset: Dataset, task: str, split: Split) -> NDArray[np.int64]:
    return dataset.items.get((task, split), np.empty(0, dtype=np.int64))


def _items(dataset: Dataset, scores: Scores) -> dict[str, Any]:
    """By task and split the items: `rows` of the benchmark, in order, and `ids`, their rows in the task's data."""
    return {
        task: {
            split: {
                "rows": list(range(len(_known(dataset, task, split)))),
                "ids": _known(dataset, task, split).tolist(),
                "difficulties": np.round(scores[task, split][0].difficulties, 3).tolist(),
            }
            for split in SPLITS
        }
        for task in dataset.tasks
    }


def _genes(space: Space) -> list[dict[str, Any]]:
    """The genes for people and other languages; choices by name in the order of their codes."""
    named = space.to_configspace()
    return [_gene(gene, list(named[gene.name].choices) if gene.n_choices else None) for gene in space.genes]


def _gene(gene: Gene, choices: Sequence[str] | None) -> dict[str, Any]:
    return {
        "name": gene.name,
        "role": gene.role,
        "depth": gene.depth,
        "component": gene.component,
        "lower": gene.lower,
        "upper": gene.upper,
        "choices": None if choices is None else [str(choice) for choice in choices],
        "default": gene.default if choices is None else str(choices[int(gene.default)]),
    }


def _best(dataset: Dataset) -> dict[str, float | None]:
    """By objective the best value of the models that were measured on all items of their run; None without any."""
    frame = dataset.frame
    full = (frame["status"] == "ok").to_numpy(dtype=bool, copy=True)
    for task in dataset.tasks:
        n = frame[f"n.{task}.search"]
        full &= ((n > 0) & (n == n.groupby(frame["run"]).transform("max"))).to_numpy(dtype=bool)
    best: dict[str, float | None] = {}
    for objective in map(Objective.from_settings, dataset.settings["objectives"]):
        if objective.kind == "cost":
            values = frame[f"cost.{objective.name}"].to_numpy(dtype=np.float64)[full]
        else:
            means = {
                task: (frame[f"k.{task}.search"] / frame[f"n.{task}.search"]).to_numpy()[full]
                for task, _ in objective.shares
            }
            values = np.sum([share * means[task] for task, share in objective.shares], axis=0)
        best[objective.name] = objective.sign * float((objective.sign * values).max()) if full.any() else None
    return best


def _told(target: Target) -> dict[str, float]:
    figures = target.figures
    names = {"r2": "r2", "rmse": "rmse", "kendall_tau": "tau", "r2_ceiling": "ceiling"}
    found = {name: figures.get(key) for name, key in names.items()}
    return {"n_trials": float(figures["n_models"] or 0)} | {k: math.nan if v is None else v for k, v in found.items()}
