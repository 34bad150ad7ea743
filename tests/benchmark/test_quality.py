"""Figures of predictions against closed forms and brute force."""

import numpy as np
import pytest

from automerge.benchmark.quality import LEAST, area_under_curve, coverage, noise_ceiling, quality


def measured_shares(n_rows: int, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True scores, shares measured on n items each, and the numbers of items."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.1, 0.9, n_rows)
    return truth, rng.binomial(n, truth) / n, np.full(n_rows, float(n))


def test_the_truth_reaches_the_ceiling_and_nothing_goes_beyond_on_average() -> None:
    truth, measured, n = measured_shares(20_000, 20)
    figures = quality(measured, truth, n)
    assert figures["of_ceiling"] == pytest.approx(1, abs=0.01)
    # Of p uniform in [.1, .9], var(p) = .64/12 and mean p(1-p) = 1/4 - var(p); k/n adds its noise to the variance.
    noise = (0.25 - 0.64 / 12) / 20
    assert figures["ceiling"] == pytest.approx(1 - noise / (0.64 / 12 + noise), abs=0.02)
    assert figures["ceiling"] == noise_ceiling(measured, n)
    assert figures["rmse"] == pytest.approx(np.sqrt(noise), rel=0.02)


def test_tau_counts_pairs_and_the_sparse_one_forgets_what_no_item_tells() -> None:
    measured = np.arange(12) / 20
    predicted = measured.copy()
    predicted[[0, 1]] = predicted[[1, 0]]
    pairs = 12 * 11 / 2
    figures = quality(measured, predicted, np.full(12, 20.0))
    assert figures["tau"] == pytest.approx((pairs - 2) / pairs)
    jittered = measured + np.random.default_rng(0).uniform(-0.02, 0.02, 12)
    assert quality(measured, jittered, np.full(12, 20.0))["tau_sparse"] == pytest.approx(1)
    tied = np.round(measured, 1)
    noisy = quality(tied, tied + np.random.default_rng(1).uniform(-0.01, 0.01, 12), np.full(12, 10.0))
    assert noisy["tau"] is not None
    assert noisy["tau"] < 1
    assert noisy["tau_sparse"] == pytest.approx(1)


def test_regret_and_the_best_tenth_are_those_of_the_measured_best() -> None:
    rng = np.random.default_rng(2)
    measured = rng.permutation(200) / 200
    predicted = measured.copy()
    top = np.flatnonzero(measured >= np.quantile(measured, 0.9))
    predicted[top] = -measured[top] + 3
    figures = quality(measured, predicted, np.full(200, 200.0))
    assert figures["tau_top"] == pytest.approx(-1)
    assert figures["regret"] == pytest.approx(measured.max() - measured[top].min())


def test_too_few_rows_and_equal_ones_have_no_figures() -> None:
    few = quality(np.arange(LEAST - 1) / 10, np.zeros(LEAST - 1), np.full(LEAST - 1, 10.0))
    equal = quality(np.full(50, 0.5), np.zeros(50), np.full(50, 10.0))
    for figures, rows in ((few, LEAST - 1), (equal, 50)):
        assert figures.pop("rows") == rows
        assert set(figures.values()) == {None}
    assert quality(np.arange(12) / 12, np.zeros(12), np.full(12, 12.0))["tau"] is None
    assert coverage(np.zeros(3), np.zeros(3), np.zeros(3), np.ones(3), np.ones(3, dtype=bool))["inside"] is None


def test_intervals_that_know_all_errors_hold_nine_in_ten() -> None:
    truth, measured, n = measured_shares(20_000, 200)
    predicted = truth + np.random.default_rng(1).normal(size=len(truth)) * 0.05
    half = np.arange(len(truth)) % 2 == 0
    figures = coverage(measured, np.clip(predicted, 0.01, 0.99), np.full(len(truth), 0.05), n, half)
    assert figures["inside"] == pytest.approx(0.9, abs=0.015)
    assert figures["noise_only"] is not None
    assert figures["noise_only"] < 0.75
    exact = coverage(measured, truth, np.zeros(len(truth)), n, half)
    assert exact["inside"] == exact["noise_only"] == pytest.approx(0.9, abs=0.015)
    # 2 x 1.645 standard errors of a share, over p uniform in [.1, .9].
    p = np.linspace(0.1, 0.9, 1001)
    assert exact["width"] == pytest.approx(2 * 1.645 * np.mean(np.sqrt(p * (1 - p) / 200)), rel=0.01)


def test_the_factor_on_the_spread_explains_the_errors_of_one_half_and_is_judged_on_the_other() -> None:
    truth, measured, n = measured_shares(20_000, 200)
    spread = np.random.default_rng(2).uniform(0.01, 0.03, len(truth))
    half = np.arange(len(truth)) % 2 == 0
    noisy = np.clip(truth + np.random.default_rng(1).normal(size=len(truth)) * 3 * spread, 0.01, 0.99)
    figures = coverage(measured, noisy, spread, n, half)
    assert figures["factor"] == pytest.approx(3, rel=0.03)
    assert figures["calibrated"] == pytest.approx(0.9, abs=0.015)
    assert figures["inside"] is not None
    assert figures["inside"] < 0.75
    # Only the first half tells the factor: of the other half's errors it knows nothing.
    mixed = coverage(measured, np.where(half, truth, noisy), spread, n, half)
    assert mixed["factor"] == pytest.approx(0, abs=0.3)
    assert mixed["calibrated"] == pytest.approx(coverage(measured, noisy, spread, n, half)["noise_only"], abs=0.05)


def test_there_is_no_factor_below_none_nor_of_no_spread_or_of_few_rows() -> None:
    truth = np.linspace(0.2, 0.8, 40)
    half, n, spread = np.arange(40) < 20, np.full(40, 50.0), np.full(40, 0.02)
    exact = coverage(truth, truth, spread, n, half)
    assert (exact["factor"], exact["calibrated"]) == (0, 1)
    none = coverage(truth, truth, np.zeros(40), n, half)
    few = coverage(truth, truth, spread, n, np.arange(40) < LEAST - 1)
    assert none["factor"] is none["calibrated"] is few["factor"] is few["calibrated"] is None
    other = coverage(truth, truth, spread, n, np.arange(40) > LEAST - 2)
    assert (other["factor"], other["calibrated"]) == (0, None)


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(4)
    positive = rng.random(60) < 0.3
    predicted = rng.integers(0, 8, 60) + 2.0 * positive
    pairs = [np.sign(a - b) / 2 + 0.5 for a in predicted[positive] for b in predicted[~positive]]
    assert area_under_curve(positive, predicted) == pytest.approx(np.mean(pairs))
    assert area_under_curve(np.ones(3, dtype=bool), np.zeros(3)) is None
