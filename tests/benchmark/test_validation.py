"""The validation of a tiny benchmark whose truth is known: what it tells, and that it tells of rows not seen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automerge.benchmark import trajectories, validation
from automerge.benchmark.dataset import Dataset, read_exported, read_runs
from automerge.benchmark.export import export_benchmark
from automerge.benchmark.fit import MINIMUM, fit_target, measured
from automerge.benchmark.folder import CARD, LICENCE, REPORT, SUMS, check_sums, read_json
from automerge.benchmark.validation import FIRST, validate
from automerge.records import Constraint
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


def is_fitted_anyway(data: Dataset) -> np.ndarray:
    """The rows of references, which belong to every run."""
    found = (data.frame["operator"] == "reference").to_numpy()
    assert found.sum() >= 9
    return np.asarray(found)


def test_models_of_the_left_out_optimizer_saw_no_model_of_its_but_references(
    found: dict[str, Any], data: Dataset
) -> None:
    assert set(found["leave_one_out"]) == {"evolution", "random_search"}
    optimizer, recipe = (data.frame[name].to_numpy(dtype=str) for name in ("optimizer", "recipe"))
    for name, by_task in found["leave_one_out"].items():
        train = np.flatnonzero((optimizer != name) | is_fitted_anyway(data))
        fitted = measured(data, "a", "search", train)
        unseen = (optimizer == name) & ~np.isin(recipe, recipe[train])
        figures = by_task["a"]["search"]
        assert figures["rows"] == (measured(data, "a", "search", np.flatnonzero(unseen)).n == 60).sum() >= 10
        assert figures["fitted"] == len(fitted.rows)


def test_the_order_of_the_runs_does_not_matter(data: Dataset, folder: Path) -> None:
    """References and their items are repeated in every run, whichever comes first."""
    runs = [folder.parent / "runs" / name for name in ("random_search-2", "evolution-1", "evolution-0")]
    found = []
    for each in (data, read_runs(runs)):
        scores = validation._scores(each)
        random = validation._transfers(each, scores, validation._is_random(each), 0)
        early = validation._transfers(each, scores, validation._is_early(each), 0)
        found.append([*leaves(validation._leave_one_out(each, scores, 0)), *leaves(random), *leaves(early)])
    assert len(found[0]) >= 8
    for first, second in zip(*found, strict=True):
        assert {key for key in first if first[key] is None} == {key for key in second if second[key] is None}
        assert [each for each in first.values() if each is not None] == pytest.approx(
            [each for each in second.values() if each is not None], rel=1e-6
        )


def test_extrapolation_is_fitted_on_the_first_part_of_every_run(found: dict[str, Any], data: Dataset) -> None:
    frame = data.frame
    early = np.zeros(len(frame), dtype=bool)
    for run in set(frame["run"]):
        rows = np.flatnonzero(frame["run"] == run)
        order = rows[np.argsort(frame["started"].to_numpy()[rows])]
        early[order[: int(FIRST * len(order))]] = True
    early |= is_fitted_anyway(data)
    fitted = measured(data, "b", "search", np.flatnonzero(early))
    assert found["extrapolation"]["b"]["search"]["fitted"] == len(fitted.rows)


def test_random_only_is_fitted_on_random_search_and_references_alone(found: dict[str, Any], data: Dataset) -> None:
    train = (data.frame["optimizer"] == "random_search").to_numpy() | is_fitted_anyway(data)
    fitted = measured(data, "a", "search", np.flatnonzero(train))
    assert found["random_only"]["a"]["search"]["fitted"] == len(fitted.rows)


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
    assert found["trajectories"]["in_sample"] is True
    assert found["trajectories"]["left_out"] == {}
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
    found = validate(copy, real=real)["trajectories"]
    assert found["scale"].startswith("trials 10,")
    assert found["in_sample"] is False
    with pytest.raises(
        ValueError, match=r"the benchmark was made of .*evolution-1, or of runs that began with the same"
    ):
        validate(copy, real=[real[0], folder.parent / "runs" / "evolution-1"])


def no_fit(*_: Any, **__: Any) -> None:
    pytest.fail("nothing should be fitted")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identity": {"sources": {"left": "1", "right": "3"}, "tasks": {"a": "a", "b": "b"}}}, "sources.right is '3'"),
        ({"layout": {"sources": ["left", "right"], "n_layers": 5}}, "layout.n_layers is 5, not 4 as in example"),
        ({"constraints": [asdict(Constraint("layers", "<=", 4.0))]}, "constraints is "),
    ],
)
def test_real_runs_of_another_problem_are_refused_before_anything_is_fitted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    other = example_run(tmp_path / "other", trials=8, **change)
    monkeypatch.setattr(validation, "fit_target", no_fit)
    with pytest.raises(ValueError, match=message):
        validate(folder, real=[other])


def test_a_damaged_benchmark_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / LICENCE).write_text("changed")
    monkeypatch.setattr(validation, "fit_target", no_fit)
    with pytest.raises(ValueError, match="LICENSE has changed"):
        validate(copy)


def test_checksums_of_the_report_and_the_card_alone_are_written_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    before = (copy / SUMS).read_text().splitlines()
    (copy / "notes.txt").write_text("of a reader")
    for part in ("_scores", "_leave_one_out", "_broken"):
        monkeypatch.setattr(validation, part, lambda *_: {})
    monkeypatch.setattr(trajectories, "measure", lambda *_, **__: {})
    validate(copy)
    check_sums(copy)
    changed = set((copy / SUMS).read_text().splitlines()) ^ set(before)
    assert {line.partition("  ")[2] for line in changed} == {REPORT, CARD}


def test_what_was_computed_is_written_before_searches_are_repeated(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for part in ("_scores", "_leave_one_out"):
        monkeypatch.setattr(validation, part, lambda *_: {})

    def stop(*given: Any, **options: Any) -> None:
        assert (given[-1], options) == (tmp_path / "searches", {"jobs": 2})
        raise KeyboardInterrupt

    monkeypatch.setattr(trajectories, "measure", stop)
    monkeypatch.setattr(validation, "_broken", lambda *_: {"auc": 0.125})
    with pytest.raises(KeyboardInterrupt):
        validate(copy, searches=tmp_path / "searches", jobs=2)
    assert read_json(copy, REPORT)["validation"]["broken"] == {"auc": 0.125}
    assert "0.125" in (copy / CARD).read_text()
    check_sums(copy)


def test_what_too_few_trials_tell_is_left_out(tmp_path: Path) -> None:
    export_benchmark([example_run(tmp_path / "run", trials=8)], tmp_path / "few")
    found = validate(tmp_path / "few")
    assert len(read_exported(tmp_path / "few").frame) < MINIMUM
    assert found.pop("broken").keys() <= {"rows", "broken", "n_models", "auc"}
    assert not any(found.values())
    check_sums(tmp_path / "few")
