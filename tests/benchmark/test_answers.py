"""What a benchmark answers of models; the folder is made by hand, so that the truth is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from automerge.benchmark import Benchmark, load
from tests.benchmark import handmade as made


def test_values_are_larger_the_better_and_nan_where_broken(b: Benchmark, X: np.ndarray) -> None:
    answers = b.query(X, n_items=10)
    alive = ~answers.broken
    assert 0 < answers.broken.sum() < len(X)
    assert (
        answers.values[alive] == np.stack([*answers.scores.values(), -answers.costs["parameters"]], axis=1)[alive]
    ).all()
    assert np.isnan(answers.values[answers.broken]).all()
    assert np.isnan(answers.scores["math"][answers.broken]).all()
    assert (answers.k["math"][answers.broken] == 0).all()
    assert (answers.costs["parameters"] == 300).all()
    assert (answers.values_with(0.0)[answers.broken, :2] == 0).all()


def test_time_grows_by_items(b: Benchmark, X: np.ndarray) -> None:
    few, many = (b.query(X, n_items=n).seconds for n in (10, 30))
    seconds = b.seconds(X)
    assert few == pytest.approx(seconds.merge + 20 * seconds.item)
    assert many == pytest.approx(seconds.merge + 60 * seconds.item)
    assert seconds.merge == pytest.approx(0.02 + 0.01 * X[:, 1], rel=0.1)
    assert seconds.item == pytest.approx(0.001, rel=1e-3)


def test_an_unlike_model_is_outside(tmp_path: Path) -> None:
    """Here all that was measured has its weights alike in all layers."""
    spec = {"_target_": "automerge.spaces.smm_ps.SmmParameterSpace"}
    narrow = load(made.handmade(tmp_path / "ps", spec=spec, tasks=("math",), truth=lambda _, X: {"math": X[:, 0]}))
    known = narrow.space.sample(300, np.random.default_rng(1))
    assert narrow.query(known).is_outside.mean() <= 0.01
    answers = narrow.query(np.array([[0.5] * 8, [0, 1, 1, 0, 0, 1, 1, 0]]))
    assert answers.is_outside.tolist() == [False, True]
    with pytest.raises(ValueError, match=r"1 of 2 models are up to .* leave strict out"):
        narrow.query(np.array([[0.5] * 8, [0, 1, 1, 0, 0, 1, 1, 0]]), strict=True)


def test_the_spread_is_that_of_the_ensemble(b: Benchmark, X: np.ndarray) -> None:
    spread = b.query(X[:50]).spread
    assert set(spread) == set(b.tasks)
    assert (spread["math"] == b.ensemble("math.search").spread(np.c_[b.space.features(X[:50]), X[:50]])).all()


def test_costs_that_are_not_known_are_told(b: Benchmark, folder: Path, tmp_path: Path, X: np.ndarray) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    encoder = json.loads((copy / "encoder.json").read_text())
    encoder["measures"]["parameters"] = []
    (copy / "encoder.json").write_text(json.dumps(encoder))
    older = load(copy)
    with pytest.raises(ValueError, match="does not know the cost 'parameters', an objective, only layers"):
        _ = older.query(X).values
