"""Cross-fitting: nothing a bag has seen is predicted by it, subsets do not count as ability, and what is learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from automerge.benchmark.dataset import Dataset, read_runs
from automerge.benchmark.ensemble import Ensemble, combine
from automerge.benchmark.fit import (
    MINIMUM,
    N_BAGS,
    PARAMETERS,
    fit_broken,
    fit_scores,
    fit_seconds,
    fit_target,
    measured,
)
from automerge.benchmark.folder import ITEM_SECONDS, MERGE_SECONDS
from tests.benchmark import example


@pytest.fixture(scope="module")
def dataset(example_folders: list[Path]) -> Dataset:
    return read_runs(example_folders)


def _world(n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inputs of shape (n, 4) and expected scores that depend on two of them."""
    X = np.random.default_rng(seed).random((n, 4))
    return X, 1 / (1 + np.exp(-(4 * X[:, 0] - 2 * X[:, 1] - 1)))


def test_what_is_predicted_out_of_fold_is_near_the_truth() -> None:
    X, p = _world(400, 0)
    n = np.full(400, 100.0)
    share = np.random.default_rng(1).binomial(100, p) / 100
    fitted = fit_target(X, share, n, np.arange(400), n_rounds=60)
    assert len(fitted.bags) == N_BAGS
    assert np.sqrt(np.mean((fitted.predicted - p) ** 2)) < 0.05
    fresh, truth = _world(200, 2)
    mean = Ensemble(combine(fitted.bags, bias=fitted.bias)).mean(fresh)
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.05


def test_rows_of_a_model_are_predicted_by_bags_that_saw_none_of_them() -> None:
    """Inputs tell nothing but which model it is, so that any prediction of the scores would be remembered."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.random((60, 3)), 4, axis=0)
    groups = np.repeat(np.arange(60), 4)
    share = np.repeat(rng.random(60), 4)
    fitted = fit_target(X, share, np.full(240, 50.0), groups, n_rounds=60)
    assert abs(np.corrcoef(fitted.predicted, share)[0, 1]) < 0.3
    apart = fit_target(X, share, np.full(240, 50.0), np.arange(240), n_rounds=60)
    assert np.corrcoef(apart.predicted, share)[0, 1] > 0.8


def test_weights_are_numbers_of_items() -> None:
    """One row of 40 items says what four rows of 10 do."""
    X, p = _world(200, 3)
    k = np.random.default_rng(4).binomial(10, p, (4, 200))
    plain = {**PARAMETERS, "bagging_fraction": 1.0, "feature_fraction": 1.0, "min_data_in_leaf": 1}
    slow = {**plain, "learning_rate": 0.1, "num_leaves": 8}
    once = fit_target(X, k.sum(axis=0) / 40, np.full(200, 40.0), np.arange(200), parameters=slow)
    four = fit_target(
        np.tile(X, (4, 1)),
        (k / 10).ravel(),
        np.full(800, 10.0),
        np.tile(np.arange(200), 4),
        # The mean weight is 1, so that there is four times as much of it.
        parameters={**slow, "lambda_l2": 4.0},
    )
    assert four.predicted[:200] == pytest.approx(once.predicted, abs=0.05)


def test_offsets_keep_easy_subsets_from_counting_as_ability() -> None:
    """Models whose first input is large were asked easier items: without offsets that looks like a better score."""
    X, p = _world(500, 5)
    offsets = np.where(X[:, 2] > 0.5, 1.0, -1.0)
    logit = np.log(p / (1 - p)) + offsets
    share = np.random.default_rng(6).binomial(100, 1 / (1 + np.exp(-logit))) / 100
    n = np.full(500, 100.0)
    corrected = fit_target(X, share, n, np.arange(500), offsets, n_rounds=60)
    naive = fit_target(X, share, n, np.arange(500), n_rounds=60)
    errors = [np.sqrt(np.mean((each.predicted - p) ** 2)) for each in (corrected, naive)]
    assert errors[0] < 0.05
    assert errors[1] > 0.15
    mean = Ensemble(combine(corrected.bags, bias=corrected.bias)).mean(X)
    assert np.sqrt(np.mean((mean - p) ** 2)) < 0.05


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_equal_scores_everywhere_are_learned_as_they_are(value: float) -> None:
    X, _ = _world(60, 7)
    share = np.full(60, value)
    for offsets in (None, np.zeros(60)):
        fitted = fit_target(X, share, np.full(60, 20.0), np.arange(60), offsets)
        assert fitted.predicted == pytest.approx(share, abs=0.01)
        assert Ensemble(combine(fitted.bags, bias=fitted.bias)).mean(X) == pytest.approx(share, abs=0.01)


def test_the_same_seed_gives_the_same_bags() -> None:
    X, p = _world(100, 8)
    first, second, other = (
        fit_target(X, p, np.ones(100), np.arange(100), n_rounds=10, seed=seed).predicted for seed in (0, 0, 1)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_one_model_cannot_be_cross_fitted() -> None:
    with pytest.raises(ValueError, match="rows of two models at least, got 1; evaluate more"):
        fit_target(np.zeros((3, 2)), np.zeros(3), np.ones(3), np.zeros(3, dtype=np.int64))


def test_measured_scores_are_those_of_the_frame_without_broken_models(dataset: Dataset) -> None:
    data = measured(dataset, "a", "test")
    frame = dataset.frame
    sound = np.flatnonzero((frame["status"] == "ok") & (frame["n.a.test"] > 0))
    # Runs test their references on the same items, which tells nothing new.
    first = [row for row in sound if frame["recipe"][row] not in set(frame["recipe"][:row])]
    assert data.rows.tolist() == first
    assert data.share == pytest.approx((frame["k.a.test"] / frame["n.a.test"]).to_numpy()[first])
    assert data.offsets == pytest.approx(np.zeros(len(first)), abs=1e-9)
    assert len(np.unique(data.groups)) == len(first)


def test_an_item_of_a_model_counts_once(dataset: Dataset) -> None:
    data = measured(dataset, "a", "search")
    recipes = dataset.frame["recipe"].to_numpy()[data.rows]
    seen: dict[str, list[int]] = {}
    for recipe, places in zip(recipes, data.positions, strict=True):
        seen.setdefault(recipe, []).extend(places.tolist())
    assert all(len(set(places)) == len(places) for places in seen.values())
    left = next(recipe for recipe, places in seen.items() if len(places) == len(data.difficulties))
    assert data.n[recipes == left].tolist() == [60, *data.n[recipes == left][1:]]
    assert data.n[recipes == left].sum() == len(dataset.items["a", "search"])


def test_chosen_rows_are_measured_as_if_there_were_no_others(dataset: Dataset) -> None:
    left = np.flatnonzero(dataset.frame["recipe"] == dataset.frame["recipe"][1])
    assert measured(dataset, "b", "test").rows.tolist().count(left[1]) == 0
    alone = measured(dataset, "b", "test", left[1:])
    assert alone.rows.tolist() == [left[1]]
    assert alone.n.tolist() == [dataset.frame["n.b.test"][left[1]]]


def test_scores_on_own_items_follow_from_those_on_all(dataset: Dataset) -> None:
    data = measured(dataset, "a", "search")
    t = np.linspace(-1, 1, len(data.rows))
    own = [np.mean(1 / (1 + np.exp(-(a + data.difficulties[i])))) for a, i in zip(t, data.positions, strict=True)]
    every = [np.mean(1 / (1 + np.exp(-(a + data.difficulties)))) for a in t]
    assert data.on_items(np.array(every)) == pytest.approx(np.array(own), abs=1e-3)
    assert np.abs(np.array(every) - np.array(own)).mean() > 0.02


def test_targets_of_the_example_are_good(dataset: Dataset) -> None:
    target = fit_scores(dataset, measured(dataset, "a", "test"))
    assert target.fitted is not None
    assert target.figures["n_models"] == target.figures["rows"] == len(target.fitted.predicted)
    assert (target.figures["r2"] or 0) > 0.8
    assert (target.figures["tau"] or 0) > 0.7
    broken = fit_broken(dataset)
    assert broken is not None
    assert broken.fitted is not None
    assert broken.figures["broken"] == (dataset.frame["status"] != "ok").sum()
    seconds = fit_seconds(dataset)
    assert set(seconds) == {MERGE_SECONDS, ITEM_SECONDS}
    assert (seconds[ITEM_SECONDS].figures["median"]) == pytest.approx(example.ITEM_SECONDS)
    assert (seconds[MERGE_SECONDS].figures["median_log_error"] or 1) < 0.05


def test_lost_evaluations_say_nothing_of_models_but_what_was_measured_before_counts(dataset: Dataset) -> None:
    told = measured(dataset, "a", "search")
    lost = told.rows[:5]
    status = dataset.frame["status"].to_numpy(dtype=object, copy=True)
    status[lost] = "failed"
    some = replace(dataset, frame=dataset.frame.assign(status=status))
    assert measured(some, "a", "search").rows.tolist() == told.rows.tolist()
    whole, broken = fit_broken(dataset), fit_broken(some)
    assert whole is not None
    assert broken is not None
    assert broken.figures["broken"] == whole.figures["broken"]
    assert broken.figures["rows"] == (whole.figures["rows"] or 0) - len(lost)


def test_too_few_models_give_no_bags(dataset: Dataset) -> None:
    few = _first(dataset, MINIMUM - 1)
    target = fit_scores(few, measured(few, "a", "search"))
    assert target.fitted is None
    assert (target.figures["n_models"] or 0) < MINIMUM
    assert all(each.fitted is None for each in fit_seconds(few).values())
    broken = fit_broken(few)
    assert broken is not None
    assert broken.fitted is None


def test_what_did_not_happen_has_no_target(dataset: Dataset) -> None:
    frame = dataset.frame.assign(status="ok", **{"items.timed": 0})
    calm = replace(dataset, frame=frame)
    assert fit_broken(calm) is None
    assert fit_seconds(calm) == {}


def _first(dataset: Dataset, n: int) -> Dataset:
    return replace(
        dataset,
        frame=dataset.frame.iloc[:n],
        genotypes=dataset.genotypes[:n],
        features=dataset.features[:n],
        responses={place: found for place, found in dataset.responses.items() if place[0] < n},
    )
