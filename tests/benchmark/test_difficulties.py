"""Item difficulties on answers whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from automerge.benchmark.difficulties import Rasch, fit_rasch, offsets, positions

N_MODELS, N_ITEMS = 250, 120


@pytest.fixture(scope="module")
def world() -> tuple[Rasch, Rasch]:
    """Known abilities and difficulties, and those fitted to half of all answers."""
    rng = np.random.default_rng(0)
    truth = Rasch(rng.normal(-0.5, 1.0, N_MODELS), rng.normal(0.0, 1.5, N_ITEMS))
    truth = Rasch(truth.abilities + truth.difficulties.mean(), truth.difficulties - truth.difficulties.mean())
    models, items = np.nonzero(rng.random((N_MODELS, N_ITEMS)) < 0.5)
    p = 1 / (1 + np.exp(-(truth.abilities[models] + truth.difficulties[items])))
    scores = (rng.random(len(models)) < p).astype(float)
    return truth, fit_rasch(models, items, scores, n_models=N_MODELS, n_items=N_ITEMS)


def test_abilities_and_difficulties_are_recovered(world: tuple[Rasch, Rasch]) -> None:
    truth, found = world
    for true, fitted in zip(truth, found, strict=True):
        # What is fitted is nearer to the mean than the truth, so that the truth is expected where the fit is.
        slope, shift = np.polyfit(fitted, true, 1)
        assert np.corrcoef(true, fitted)[0, 1] > 0.93
        assert slope == pytest.approx(1.0, abs=0.1)
        assert shift == pytest.approx(0.0, abs=0.1)
    assert found.difficulties.mean() == pytest.approx(0.0, abs=1e-9)


def test_the_fit_is_the_best_under_its_priors() -> None:
    rng = np.random.default_rng(1)
    models, items = (each.ravel() for each in np.indices((6, 5)))
    scores = (rng.random(30) < 0.6).astype(float)
    found = fit_rasch(models, items, scores, n_models=6, n_items=5)

    def curvature(owners: NDArray[np.int64], n: int, variance: float) -> NDArray[np.float64]:
        p = 1 / (1 + np.exp(-(found.abilities[models] + found.difficulties[items])))
        return np.bincount(owners, p * (1 - p), n).astype(np.float64) + 1 / variance

    def fixed_point(values: NDArray[np.float64], owners: NDArray[np.int64], start: float = 1.0) -> float:
        """The variance that the empirical Bayes rule leaves as it is."""
        for _ in range(500):
            start = float(np.mean((values - values.mean()) ** 2 + 1 / curvature(owners, len(values), start)))
        return start

    variances = fixed_point(found.abilities, models), fixed_point(found.difficulties, items)

    def loss(x: NDArray[np.float64]) -> float:
        t, d = x[:6], x[6:]
        logits = t[models] + d[items]
        likelihood = np.sum(scores * logits - np.logaddexp(0, logits))
        return float(0.5 * np.sum((t - t.mean()) ** 2) / variances[0] + 0.5 * np.sum(d**2) / variances[1] - likelihood)

    best = minimize(loss, np.zeros(11), method="BFGS", options={"gtol": 1e-8})
    assert np.concatenate(found) == pytest.approx(best.x, abs=0.02)


def test_models_and_items_without_answers_have_the_mean_of_the_others() -> None:
    models, items = (each.ravel() for each in np.indices((30, 20)))
    scores = (np.random.default_rng(0).random(600) < 0.7).astype(float)
    found = fit_rasch(models, items, scores, n_models=31, n_items=21)
    assert found.abilities[30] == pytest.approx(found.abilities[:30].mean(), abs=0.01)
    assert found.difficulties[20] == pytest.approx(found.difficulties[:20].mean(), abs=0.01)


def test_nothing_measured_gives_nothing() -> None:
    empty = np.empty(0, dtype=np.int64)
    found = fit_rasch(empty, empty, np.empty(0), n_models=0, n_items=0)
    assert found.abilities.shape == found.difficulties.shape == (0,)
    assert offsets(found.abilities, found.difficulties, []).shape == (0,)
    assert positions(empty, []) == []


def test_offsets_turn_the_score_on_a_subset_into_that_on_all_items() -> None:
    d = np.array([-2.0, -1.0, 0.5, 2.5])
    t = np.array([0.3, 0.3, -1.0])
    subsets = [np.array([0, 1]), np.arange(4), np.array([3])]
    found = offsets(t, d, subsets)

    def logit(ability: float, chosen: NDArray[np.int64]) -> float:
        p = np.mean(1 / (1 + np.exp(-(ability + d[chosen]))))
        return float(np.log(p / (1 - p)))

    expected = [logit(a, own) - logit(a, np.arange(4)) for a, own in zip(t, subsets, strict=True)]
    assert found == pytest.approx(expected)
    assert found[1] == pytest.approx(0.0)
    assert found[0] < 0 < found[2]


def test_positions_are_found_in_any_order_and_strangers_refused() -> None:
    known = np.array([7, 3, 9])
    subsets = [np.array([9, 7], dtype=np.int32), np.array([3], dtype=np.int32)]
    assert [each.tolist() for each in positions(known, subsets)] == [[2, 0], [1]]
    with pytest.raises(ValueError, match="scores of 3 known items, got 2 of others; export the runs again"):
        positions(known, [np.array([3, 4, 20], dtype=np.int32)])
