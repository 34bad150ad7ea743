"""A benchmark as an Optuna objective."""

from pathlib import Path

import numpy as np
import pytest

from automerge.benchmark import load
from automerge.benchmark.adapters.optuna import OptunaObjective
from tests.benchmark.handmade import handmade

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_a_study_sees_the_values_of_the_models_that_it_suggests(tmp_path: Path) -> None:
    benchmark = load(handmade(tmp_path / "lfs"))
    objective = OptunaObjective(benchmark, n_items=20, seed=4)
    assert objective.directions == ["maximize"] * 3
    study = optuna.create_study(directions=objective.directions, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=30)
    answers = benchmark.query([trial.params for trial in study.trials], n_items=20, seed=4)
    assert 0 < answers.broken.sum() < 30
    for trial, values, broken in zip(study.trials, answers.values, answers.broken, strict=True):
        assert (trial.state == optuna.trial.TrialState.FAIL) == broken
        assert broken or trial.values == values.tolist()


def test_one_objective_is_one_value(tmp_path: Path) -> None:
    only = {"objectives": [{"name": "math", "kind": "task", "weights": []}]}
    benchmark = load(handmade(tmp_path / "lfs", breaks=False, changes=only))
    objective = OptunaObjective(benchmark, noise=False)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=40)
    assert study.best_value == benchmark.mean(study.best_params)["math"][0]
    best = benchmark.mean(benchmark.space.sample(500, np.random.default_rng(0)))["math"].max()
    assert 0.4 < study.best_value < best + 0.2
