from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binomtest

from automerge import pareto


def brute_force_front(points: np.ndarray) -> np.ndarray:
    dominated = [any((q >= p).all() and (q > p).any() for q in points) for p in points]
    return ~np.array(dominated)


@pytest.mark.parametrize("n_objectives", [1, 2, 3, 4])
def test_non_dominated_agrees_with_brute_force_also_on_ties(n_objectives: int) -> None:
    rng = np.random.default_rng(n_objectives)
    points = rng.integers(0, 5, size=(40, n_objectives)).astype(float)
    assert (pareto.is_non_dominated(points) == brute_force_front(points)).all()


def test_ranks_peel_front_after_front() -> None:
    points = np.random.default_rng(0).random((30, 2))
    left = np.arange(30)
    expected = np.zeros(30, dtype=int)
    rank = 0
    while len(left):
        front = brute_force_front(points[left])
        expected[left[front]] = rank
        left, rank = left[~front], rank + 1
    assert (pareto.ranks(points) == expected).all()


def test_hypervolume_agrees_with_monte_carlo() -> None:
    rng = np.random.default_rng(1)
    points = rng.random((10, 3))
    draws = rng.random((200_000, 3))
    covered = np.mean(np.any(np.all(draws[:, None] <= points[None], axis=2), axis=1))
    assert pareto.hypervolume(points, np.zeros(3)) == pytest.approx(covered, abs=0.005)


def test_hypervolume_ignores_points_below_the_reference_and_empty_sets() -> None:
    points = np.array([[0.5, 0.5], [0.1, 0.9]])
    assert pareto.hypervolume(points, np.array([0.2, 0.2])) == pytest.approx(0.09)
    assert pareto.hypervolume(np.empty((0, 2)), np.zeros(2)) == 0.0


def test_crowding_is_infinite_at_the_ends_and_small_in_the_crowd() -> None:
    points = np.array([[0.0, 1.0], [0.1, 0.9], [0.12, 0.88], [0.9, 0.1], [1.0, 0.0]])
    distance = pareto.crowding(points)
    assert np.isinf(distance[[0, 4]]).all()
    assert distance[1] < distance[3]
    assert list(pareto.best_first(points))[-1] == 1


def test_widest_is_near_the_best_subset_and_drops_what_adds_nothing() -> None:
    points = np.random.default_rng(3).random((9, 2))
    best = max(pareto.hypervolume(points[list(s)], np.zeros(2)) for s in combinations(range(9), 3))
    chosen = pareto.widest(points, np.zeros(2), 3)
    assert pareto.hypervolume(points[chosen], np.zeros(2)) >= 0.9 * best
    assert set(pareto.widest(points, np.zeros(2), 9)) == set(np.flatnonzero(brute_force_front(points)))
    assert len(pareto.widest(np.vstack([points, points]), np.zeros(2), 18)) == brute_force_front(points).sum()
    assert pareto.widest(points, np.ones(2), 3).size == 0


@pytest.mark.parametrize(("right", "n"), [(0, 10), (7, 10), (450, 1000), (1000, 1000)])
def test_interval_agrees_with_scipy(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert pareto.interval(right, n) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_interval_refuses_no_items() -> None:
    with pytest.raises(ValueError, match="at least one item"):
        pareto.interval(0.0, 0)


@pytest.mark.parametrize(("gain", "n"), [(0.0, 80), (0.15, 80), (0.05, 1000)])
def test_paired_intervals_cover_the_true_difference(gain: float, n: int) -> None:
    """Over many samples; pairs agree in most items, as merges of the same sources do."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(2000):
        first = rng.random(n) < 0.4
        second = np.where(rng.random(n) < 0.7, first, rng.random(n) < 0.4 + gain / 0.3)
        low, high = pareto.paired_interval(second.astype(float) - first)
        covered.append(low <= gain <= high)
    assert 0.93 < np.mean(covered) < 0.98


def test_equal_scores_leave_a_paired_interval_around_nothing() -> None:
    low, high = pareto.paired_interval(np.zeros(50))
    assert low == -high < -0.01
    with pytest.raises(ValueError, match="at least one difference"):
        pareto.paired_interval(np.zeros(0))
