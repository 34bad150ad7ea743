"""Log to surrogate benchmark: one LightGBM ensemble per task, with its quality by cross-validation.

A trial with k right of n items is one row with label k/n and weight n under the cross-entropy objective, which is the
exact binomial deviance. Ten folds by trial give ten models: each row is predicted by the model that did not see it,
which gives the quality, and the exported benchmark averages all ten. References outside the space have no genotype,
so they are no rows of the table.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau

from automerge.components import build
from automerge.history import History, in_space
from automerge.log import LOG, RunLog
from automerge.protocols import Space

N_BAGS = 10
"""Number of folds and of models of an ensemble."""

MINIMUM = 30
"""Fewest trials from which a surrogate is fitted."""

N_ROUNDS = 200

PARAMETERS = {
    "objective": "cross_entropy",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 3,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


def export_benchmark(run: Path, to: Path) -> dict[str, dict[str, float]]:
    """Writes the surrogate benchmark of a run into the folder `to`; returns by task its quality.

    The quality has `n_trials`, `r2`, `kendall_tau` and `r2_ceiling`, the share of the variance that is not noise of
    measurement if every trial had items of its own; they are common to all, so R2 may exceed it. All are NaN, and no
    model is written, for fewer trials than MINIMUM. An older benchmark in its place is replaced;
    raises FileExistsError for any other folder.
    """
    if to.exists() and not (to / "metadata.json").is_file():
        raise FileExistsError(f"{to} exists and is no surrogate benchmark; name a new folder")
    with RunLog(run / LOG, read_only=True) as log:
        history = History.of(log)
        settings = log.settings()
    table, features = _table(history, settings)
    to.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
    try:
        quality = _write(history, settings, table, features, unfinished)
        if to.exists():
            shutil.rmtree(to)
        unfinished.chmod(0o755)
        unfinished.rename(to)
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    return quality


def _write(
    history: History, settings: Mapping[str, Any], table: pd.DataFrame, features: list[str], folder: Path
) -> dict[str, dict[str, float]]:
    tasks = list(history.tasks)
    (folder / "models").mkdir()
    (folder / "data").mkdir()
    quality = {}
    for task in tasks:
        rows = table[(table["status"] == "ok") & (table[f"n.{task}"] > 0)]
        X = rows[features].to_numpy()
        n = rows[f"n.{task}"].to_numpy(dtype=np.float64)
        share = rows[f"k.{task}"].to_numpy() / n
        boosters, predicted = _cross_fit(X, share, n, seed=int(settings.get("seed", 0)))
        for bag, booster in enumerate(boosters):
            booster.save_model(str(folder / "models" / f"{task}.search.{bag}.txt"))
        quality[task] = _quality(share, n, predicted)
    table.to_parquet(folder / "data" / "evaluations.parquet", index=False)
    metadata = {
        "schema": 1,
        "objectives": settings["objectives"],
        "tasks": tasks,
        "features": features,
        "n_bags": N_BAGS,
        "reference_point": list(history.reference_point),
        "n_items": {
            task: max(trial.results[task].n for trial in history.trials.values() if task in trial.results)
            for task in tasks
        },
        "space": settings["config"]["space"],
        "layout": settings["layout"],
        "seed": settings.get("seed"),
        "versions": settings.get("versions", {}),
    }
    (folder / "metadata.json").write_text(json.dumps(metadata, indent=2, sort_keys=True) + "\n")
    written = {
        task: {key: value if np.isfinite(value) else None for key, value in figures.items()}
        for task, figures in quality.items()
    }
    (folder / "report.json").write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
    return quality


def _table(history: History, settings: Mapping[str, Any]) -> tuple[pd.DataFrame, list[str]]:
    """One row per trial of the space: id, status, origin, k and n per task, costs, features; and the latter's names."""
    layout = settings["layout"]
    space: Space = build(settings["config"]["space"], sources=layout["sources"], n_layers=layout["n_layers"])
    features = [f"feature.{name}" for name in space.feature_names]
    trials = list(history.trials.values())
    inside = [trial for trial in trials if in_space(trial)]
    values = space.features(np.array([trial.genotype for trial in inside]).reshape(-1, len(space.genes)))
    seen = {trial.id: row for trial, row in zip(inside, values, strict=True)}
    rows = []
    for trial in trials:
        row: dict[str, Any] = {
            "trial": trial.id,
            "recipe": trial.recipe.id,
            "status": trial.status,
            "operator": trial.origin["operator"],
        }
        for task in history.tasks:
            result = trial.results.get(task)
            row[f"k.{task}"] = result.total if result else 0.0
            row[f"n.{task}"] = result.n if result else 0
        row.update({f"cost.{name}": value for name, value in trial.costs.items()})
        row.update(zip(features, seen.get(trial.id, np.full(len(features), np.nan)), strict=True))
        rows.append(row)
    # Rows are left out at the end, so that a table without any has its columns.
    table = pd.DataFrame(rows)
    return table[table["trial"].isin(list(seen))].reset_index(drop=True), features


def _cross_fit(
    X: NDArray[np.float64], share: NDArray[np.float64], n: NDArray[np.float64], *, seed: int
) -> tuple[list[lightgbm.Booster], NDArray[np.float64]]:
    """The models of all folds and the prediction of every row by the model that did not see it."""
    predicted = np.full(len(X), np.nan)
    if len(X) < MINIMUM:
        return [], predicted
    fold = np.random.default_rng([seed, len(X)]).permutation(len(X)) % N_BAGS
    boosters = []
    for bag in range(N_BAGS):
        seen = fold != bag
        data = lightgbm.Dataset(X[seen], label=share[seen], weight=n[seen] / n.mean(), params={"verbosity": -1})
        booster = lightgbm.train({**PARAMETERS, "seed": seed + bag}, data, num_boost_round=N_ROUNDS)
        predicted[~seen] = np.asarray(booster.predict(X[~seen]))
        boosters.append(booster)
    return boosters, predicted


def _quality(share: NDArray[np.float64], n: NDArray[np.float64], predicted: NDArray[np.float64]) -> dict[str, float]:
    figures = {"n_trials": float(len(share)), "r2": np.nan, "kendall_tau": np.nan, "r2_ceiling": np.nan}
    if len(share) >= MINIMUM and share.std() > 0:
        figures["r2"] = float(1 - np.sum((share - predicted) ** 2) / np.sum((share - share.mean()) ** 2))
        figures["kendall_tau"] = float(kendalltau(share, predicted).statistic)
        figures["r2_ceiling"] = float(1 - np.mean(share * (1 - share) / n) / share.var())
    return figures
