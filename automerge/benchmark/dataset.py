"""What one or several runs of a problem measured, joined: every model of the space with its scores item by item.

Runs may differ in seeds, optimizers, and the items they used and their order; rows of different runs stay apart, even
of the same model. References that the space cannot hold have no genotype: they are kept apart from the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from automerge.benchmark.encoder import build_space
from automerge.benchmark.folder import (
    ENCODER,
    EVALUATIONS,
    ITEMS,
    RESPONSES,
    SPLITS,
    TRAJECTORIES,
    read_json,
    read_metadata,
)
from automerge.benchmark.runs import Place, Run, Times, labels, load_runs
from automerge.components import build
from automerge.history import in_space
from automerge.measures import from_settings
from automerge.protocols import Genotypes, Measures, Space
from automerge.records import Split, Trial

KEPT = ("layout", "task_vectors", "identity", "objectives", "constraints", "versions")
"""Settings of a log that the metadata of a benchmark keep."""

TIMES = ("seconds.merge", "seconds.items", "items.timed")
"""Names of the columns of what evaluations took."""

GENE = "gene."
"""What names of columns of genes begin with."""


class Responses(NamedTuple):
    """Scores item by item: `items` are row numbers in the task's data, int32, `scores` lie in [0, 1], float32."""

    items: NDArray[np.int32]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Dataset:
    """All that some runs of one problem measured.

    `frame` has one row per trial of the space and run: run, trial, recipe, operator, optimizer, seed, started (its
    place in the order of the run's proposals), status, reason; by task and split the sum k and the number n of item
    scores; the model's costs; `seconds.merge`, what one merge took, `seconds.items`, what evaluating `items.timed`
    items took, all tasks together, NaN where nothing was timed; the genes. `genotypes` and `features` have the same
    rows.
    `responses` are by row, task and split, in the order in which the items were evaluated.

    `trajectories` has a row per evaluation on search items: run, optimizer, seed, trial, phase, items and seconds so
    far, hypervolume so far above the reference point of its run. `items` are the known items of each task and split;
    every run's own order goes through in it, run after run, so that prefixes are the runs' subsets. `settings` are
    those of the first log; `runs` and `references` tell of each run and each reference, ready for JSON.
    """

    space: Space
    measures: Measures | None
    settings: Mapping[str, Any]
    tasks: tuple[str, ...]
    frame: pd.DataFrame
    genotypes: Genotypes
    features: NDArray[np.float64]
    responses: Mapping[tuple[int, str, Split], Responses]
    trajectories: pd.DataFrame
    items: Mapping[Place, NDArray[np.int64]]
    references: tuple[Mapping[str, Any], ...]
    runs: tuple[Mapping[str, Any], ...]

    @property
    def inputs(self) -> NDArray[np.float64]:
        """What models of the landscape are fitted on, shape (n, n_features + n_genes): features, then genes."""
        return np.hstack([self.features, self.genotypes])

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the columns of `inputs`."""
        features = (f"feature.{name}" for name in self.space.feature_names)
        return (*features, *(GENE + gene.name for gene in self.space.genes))


def read_runs(folders: Sequence[Path]) -> Dataset:
    """The dataset of the runs in these folders, finished or not. Raises as `load_runs` does."""
    runs = load_runs(folders)
    settings = runs[0].settings
    # What earlier logs do not keep of the weights, a later one may tell.
    told = [run.settings for run in runs if "measures" in run.settings]
    told += [run.settings for run in runs if "task_vectors" in run.settings]
    measures = from_settings(told[0]) if told else None
    layout = settings["layout"]
    space: Space = build(settings["config"]["space"], sources=layout["sources"], n_layers=layout["n_layers"])
    space = space if measures is None else space.measured(measures)
    tasks = _tasks(runs)
    genotypes = np.array([trial.genotype for run in runs for trial in run.inside]).reshape(-1, len(space.genes))
    names = labels(runs)
    columns = {GENE + gene.name: genotypes[:, k] for k, gene in enumerate(space.genes)}
    return Dataset(
        space=space,
        measures=measures,
        settings=settings,
        tasks=tasks,
        frame=pd.concat([_frame(runs, names, tasks), pd.DataFrame(columns)], axis=1),
        genotypes=genotypes,
        features=space.features(genotypes),
        responses=_responses(runs),
        trajectories=_trajectories(runs, names),
        items=_items(runs),
        references=tuple(_references(runs, tasks)),
        runs=tuple(_told(run, label) for run, label in zip(runs, names, strict=True)),
    )


def read_exported(folder: Path) -> Dataset:
    """The dataset of an exported benchmark, the same as that of its runs.

    Its space decodes but cannot merge: it is made without the merging methods. Raises as `read_metadata` does.
    """
    metadata = read_metadata(folder)
    config = {key: metadata[key] for key in ("space", "fidelity")}
    encoder = read_json(folder, ENCODER)
    space = build_space(encoder)
    frame = pd.read_parquet(folder / EVALUATIONS)
    genotypes = frame[[GENE + gene.name for gene in space.genes]].to_numpy(dtype=np.float64)
    return Dataset(
        space=space,
        measures=from_settings(encoder) if encoder.get("measures") else None,
        settings={**{key: metadata[key] for key in KEPT}, "config": config},
        tasks=tuple(metadata["tasks"]),
        frame=frame,
        genotypes=genotypes,
        features=space.features(genotypes),
        responses=read_responses(folder),
        trajectories=pd.read_parquet(folder / TRAJECTORIES),
        items={
            (task, cast(Split, split)): np.array(content["ids"], dtype=np.int64)
            for task, splits in read_json(folder, ITEMS).items()
            for split, content in splits.items()
        },
        references=tuple(metadata["references"]),
        runs=tuple(metadata["runs"]),
    )


def read_responses(folder: Path) -> dict[tuple[int, str, Split], Responses]:
    """The responses of an exported benchmark, by row of its evaluations, task and split."""
    table = pq.read_table(folder / RESPONSES)
    items, values = (table.column(name).combine_chunks() for name in ("items", "values"))
    bounds = items.offsets.to_numpy()
    numbers, scores = items.flatten().to_numpy(), values.flatten().to_numpy()
    keys = zip(*(table.column(name).to_pylist() for name in ("row", "task", "split")), strict=True)
    return {
        key: Responses(numbers[start:stop], scores[start:stop])
        for key, start, stop in zip(keys, bounds, bounds[1:], strict=False)
    }


def write_responses(folder: Path, responses: Mapping[tuple[int, str, Split], Responses]) -> None:
    """Writes the responses as Parquet, one row per key."""
    keys = list(responses)
    table = pa.table(
        {
            "row": pa.array([row for row, _, _ in keys], pa.int32()),
            "task": pa.array([task for _, task, _ in keys], pa.string()),
            "split": pa.array([split for _, _, split in keys], pa.string()),
            "items": pa.array([responses[key].items for key in keys], pa.list_(pa.int32())),
            "values": pa.array([responses[key].scores for key in keys], pa.list_(pa.float32())),
        }
    )
    # Row numbers repeat in whole subsets, which a dictionary of single numbers would hide from the compression.
    pq.write_table(
        table,
        folder / RESPONSES,
        compression="zstd",
        compression_level=19,
        use_dictionary=["task", "split", "values.list.element"],
        data_page_size=1 << 24,
    )


def _tasks(runs: Sequence[Run]) -> tuple[str, ...]:
    """The tasks of the objectives in their order, then those that were evaluated besides."""
    evaluated = {task for run in runs for task, _ in run.orders}
    named = list(dict.fromkeys(runs[0].history.tasks))
    return (*named, *sorted(evaluated - set(named)))


def _frame(runs: Sequence[Run], names: Sequence[str], tasks: Sequence[str]) -> pd.DataFrame:
    costs = sorted({name for run in runs for trial in run.history.trials.values() for name in trial.costs})
    rows: list[dict[str, Any]] = []
    for run, label in zip(runs, names, strict=True):
        times = run.times()
        for trial in run.inside:
            took = times.get(trial.id, Times(np.nan, np.nan, 0))
            row: dict[str, Any] = {
                "run": run.name,
                "trial": trial.id,
                "recipe": trial.recipe.id,
                "operator": trial.origin["operator"],
                "optimizer": label,
                "seed": run.seed,
                "started": trial.id,
                "status": trial.status,
                "reason": trial.reason,
            }
            for split, results in (("search", trial.results), ("test", run.history.tests.get(trial.id, {}))):
                for task in tasks:
                    row[f"k.{task}.{split}"] = results[task].total if task in results else 0.0
                    row[f"n.{task}.{split}"] = results[task].n if task in results else 0
            row |= {f"cost.{name}": trial.costs.get(name, np.nan) for name in costs}
            rows.append(row | dict(zip(TIMES, took, strict=True)))
    fixed = ["run", "trial", "recipe", "operator", "optimizer", "seed", "started", "status", "reason"]
    counts = [f"{kind}.{task}.{split}" for split in SPLITS for task in tasks for kind in "kn"]
    return pd.DataFrame(rows, columns=[*fixed, *counts, *(f"cost.{name}" for name in costs), *TIMES])


def _responses(runs: Sequence[Run]) -> dict[tuple[int, str, Split], Responses]:
    found = {}
    first = 0
    for run in runs:
        numbers = {trial.id: first + k for k, trial in enumerate(run.inside)}
        first += len(numbers)
        for (trial, task, split), scores in run.scores().items():
            if trial in numbers:
                items = np.fromiter(scores.keys(), np.int32, len(scores))
                found[numbers[trial], task, split] = Responses(
                    items, np.fromiter(scores.values(), np.float32, len(scores))
                )
    return dict(sorted(found.items()))


def _trajectories(runs: Sequence[Run], names: Sequence[str]) -> pd.DataFrame:
    columns = ["run", "optimizer", "seed", "trial", "phase", "items", "seconds", "hypervolume"]
    rows = []
    for run, label in zip(runs, names, strict=True):
        seconds = 0.0
        told = [row for row in run.history.evaluations if row.phase != "test"]
        for row, (n_items, volume) in zip(told, run.history.trajectory(), strict=True):
            seconds += row.wall
            rows.append((run.name, label, run.seed, row.trial, row.phase, n_items, seconds, volume))
    return pd.DataFrame(rows, columns=columns)


def _items(runs: Sequence[Run]) -> dict[Place, NDArray[np.int64]]:
    found: dict[Place, dict[int, None]] = {}
    for run in runs:
        for place, order in sorted(run.orders.items()):
            found.setdefault(place, {}).update(dict.fromkeys(order.tolist()))
    return {place: np.fromiter(rows, np.int64, len(rows)) for place, rows in found.items()}


def _references(runs: Sequence[Run], tasks: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The references in order, with what all runs measured of each: an item counts once."""
    found: dict[str, tuple[str, Trial]] = {}
    scores: dict[tuple[str, str, Split], dict[int, float]] = {}
    for run in runs:
        names = {}
        for number in run.history.references:
            trial = run.history.trials[number]
            name = run.history.name(number)
            # Recipes that runs were given may be different ones of the same name.
            alike = name not in found or found[name][1].recipe.id == trial.recipe.id
            names[number] = name if alike else f"{name} ({run.name})"
            found.setdefault(names[number], (run.name, trial))
        for (number, task, split), own in run.scores().items():
            if number in names:
                scores.setdefault((names[number], task, split), {}).update(own)
    for name, (_, trial) in found.items():
        yield {
            "name": name,
            "kind": trial.origin["kind"],
            "eligible": bool(trial.origin.get("eligible", True)),
            "status": trial.status,
            "recipe": json.loads(trial.recipe.to_json()),
            "genotype": trial.genotype.tolist() if in_space(trial) else None,
            "results": {
                task: {split: _sums(scores.get((name, task, split), {})) for split in SPLITS} for task in tasks
            },
            "costs": dict(trial.costs),
        }


def _sums(scores: Mapping[int, float]) -> list[float] | None:
    return [float(sum(scores.values())), len(scores)] if scores else None


def _told(run: Run, label: str) -> dict[str, Any]:
    """What the metadata keep of a run."""
    search = [row for row in run.history.evaluations if row.phase in ("search", "verify")]
    config = run.settings["config"]
    return {
        "name": run.name,
        "optimizer": label,
        "seed": run.seed,
        "n_trials": len(run.inside),
        "items": sum(part.stop - part.start for row in search for part in row.slices),
        "reference_point": run.history.reference_point.tolist(),
        "settings": {key: config.get(key) for key in ("optimizer", "fidelity", "budget", "report", "start")},
        "versions": run.settings.get("versions", {}),
    }
