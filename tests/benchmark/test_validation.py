"""The validation of a tiny benchmark whose truth is known: what it tells, and that it tells of rows not seen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automerge.benchmark import validation
from automerge.benchmark.dataset import Dataset, read_exported
from automerge.benchmark.export import export_benchmark
from automerge.benchmark.fit import MINIMUM, fit_target, measured
from automerge.benchmark.folder import REPORT, check_sums, read_json
from automerge.benchmark.validation import FIRST, validate
from tests.benchmark.example import example_benchmark, example_run


@pytest.fixture(scope="module", autouse=True)
def _small_models() -> Iterator[None]:
    """Few bags of few trees: validation fits dozens of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "fit_target", partial(fit_target, n_bags=4, n_rounds=30))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of three runs that was validated."""
    found = example_benchmark(tmp_path_factory.mktemp("validation"))
    validate(found)
    return found


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    return dict(read_json(folder, REPORT)["validation"])


@pytest.fixture(scope="module")
def data(folder: Path) -> Dataset:
    return read_exported(folder)


def leaves(content: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "rows" in content:
        yield content
    for each in content.values():
        if isinstance(each, Mapping):
            yield from leaves(each)


def test_the_figures_are_in_the_report_and_the_card_and_the_checksums_hold(folder: Path, found: dict[str, Any]) -> None:
    check_sums(folder)
    card = (folder / "CARD.md").read_text()
    assert "## Validation" in card
    assert f"{found['interpolation']['a']['search']['tau']:.3g}" in card
    assert set(found) == {
        "interpolation",
        "leave_one_out",
        "extrapolation",
        "random_only",
        "coverage",
        "broken",
        "ablation",
        "trajectories",
    }


def test_interpolation_is_high_on_a_smooth_truth_and_below_what_noise_allows(found: dict[str, Any]) -> None:
    for task in "ab":
        figures = found["interpolation"][task]["search"]
        assert figures["tau"] > 0.35
        assert 0.2 < figures["r2"] < 1
        assert figures["rows"] >= 20
        assert found["ablation"]["features and genes"][task]["search"] == figures


def test_only_rows_with_all_items_of_their_run_are_judged(found: dict[str, Any], data: Dataset) -> None:
    told = measured(data, "a", "search")
    assert found["interpolation"]["a"]["search"]["rows"] == (told.n == 60).sum() < len(told.n)


def test_models_of_the_left_out_optimizer_saw_no_model_of_its(found: dict[str, Any], data: Dataset) -> None:
    """Samples and references that another optimizer had too are neither fitted for it nor judged."""
    frame = data.frame
    assert set(found["leave_one_out"]) == {"evolution", "random_search"}
    told = measured(data, "a", "search")
    optimizer, recipe = (frame[name].to_numpy(dtype=str)[told.rows] for name in ("optimizer", "recipe"))
    for name, by_task in found["leave_one_out"].items():
        others = set(recipe[optimizer != name])
        own = [(recipe[k] not in others) and told.n[k] == 60 for k in np.flatnonzero(optimizer == name)]
        figures = by_task["a"]["search"]
        assert figures["rows"] == sum(own)
        assert figures["fitted"] == (optimizer != name).sum()


def test_extrapolation_is_fitted_on_the_first_part_of_every_run(found: dict[str, Any], data: Dataset) -> None:
    frame = data.frame
    told = measured(data, "b", "search")
    early = np.zeros(len(frame), dtype=bool)
    for run in set(frame["run"]):
        rows = np.flatnonzero(frame["run"] == run)
        order = rows[np.argsort(frame["started"].to_numpy()[rows])]
        early[order[: int(FIRST * len(order))]] = True
    assert found["extrapolation"]["b"]["search"]["fitted"] == early[told.rows].sum()


def test_random_only_is_fitted_on_random_search_alone(found: dict[str, Any], data: Dataset) -> None:
    told = measured(data, "a", "search")
    assert (
        found["random_only"]["a"]["search"]["fitted"]
        == (data.frame["optimizer"].to_numpy()[told.rows] == "random_search").sum()
    )


def test_intervals_and_broken_models_have_figures(found: dict[str, Any], data: Dataset) -> None:
    assert found["broken"]["broken"] == (data.frame["status"] != "ok").sum() > 0
    assert 0 <= found["broken"]["auc"] <= 1
    coverages = [figures["inside"] for figures in leaves(found["coverage"]) if figures["inside"] is not None]
    assert coverages
    assert all(0.4 < each <= 1 for each in coverages)
    for figures in leaves(found["coverage"]):
        if figures["inside"] is not None:
            assert figures["noise_only"] <= figures["inside"]


def test_searches_of_the_runs_are_repeated(found: dict[str, Any]) -> None:
    """Evolution ran with two seeds; random search with one, which is too few."""
    assert set(found["trajectories"]["optimizers"]) == {"evolution"}
    assert found["trajectories"]["optimizers"]["evolution"]["simulated_seeds"] == 2


@pytest.mark.slow
def test_it_is_a_function_of_the_benchmark_and_the_seed_and_writes_over_itself(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    before = read_json(copy, REPORT)
    again = validate(copy)
    assert json.loads(json.dumps(again)) == before["validation"]
    assert read_json(copy, REPORT) == before


def test_other_real_runs_can_be_compared_with(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for part in ("_scores", "_leave_one_out", "_broken"):
        monkeypatch.setattr(validation, part, lambda *_: {})
    real = [example_run(tmp_path / str(seed), seed=seed, trials=10) for seed in (5, 6)]
    assert validate(copy, real=real)["trajectories"]["scale"].startswith("trials 10,")


def test_what_too_few_trials_tell_is_left_out(tmp_path: Path) -> None:
    export_benchmark([example_run(tmp_path / "run", trials=8)], tmp_path / "few")
    found = validate(tmp_path / "few")
    assert len(read_exported(tmp_path / "few").frame) < MINIMUM
    assert found.pop("broken").keys() <= {"rows", "broken", "n_models", "auc"}
    assert not any(found.values())
    check_sums(tmp_path / "few")
