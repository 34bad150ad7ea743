"""Closed forms against Monte Carlo, and against differences of hypervolumes where nothing is uncertain."""

import numpy as np
import pytest
import torch
from botorch.utils.multi_objective.box_decompositions.non_dominated import FastNondominatedPartitioning

from automerge.acquisition.improvement import (
    MOST_POINTS,
    MOST_POINTS_BEYOND,
    boxes,
    expected_improvement,
    probability_of_improvement,
)
from automerge.pareto import hypervolume, widest

FRONTS = {
    1: np.array([[0.4], [0.6]]),
    2: np.array([[0.5, 0.6], [0.6, 0.5], [0.2, 0.2]]),
    3: np.array([[0.5, 0.6, 0.2], [0.6, 0.5, 0.3], [0.3, 0.3, 0.8], [0.9, 0.1, 0.1]]),
}


def growth(front: np.ndarray, reference: np.ndarray, points: np.ndarray) -> np.ndarray:
    before = hypervolume(front, reference)
    return np.array([hypervolume(np.vstack([front, point]), reference) - before for point in points])


@pytest.mark.parametrize("m", FRONTS)
def test_an_exact_candidate_gains_what_it_adds(m: int) -> None:
    front, reference = FRONTS[m], np.full(m, 0.15)
    points = np.random.default_rng(0).random((60, m))
    gains = expected_improvement(points, np.zeros_like(points), boxes(front, reference))
    assert gains == pytest.approx(growth(front, reference, points), abs=1e-9)
    assert (gains > 0).any()
    assert (gains == 0).any()


@pytest.mark.parametrize("m", FRONTS)
def test_gain_and_chance_are_those_of_many_draws(m: int) -> None:
    front, reference = FRONTS[m], np.full(m, 0.15)
    means = np.random.default_rng(1).uniform(0.3, 0.7, size=(4, m))
    deviations = np.random.default_rng(2).uniform(0.02, 0.15, size=(4, m))
    deviations[0, 0] = 0.0
    gains = expected_improvement(means, deviations, boxes(front, reference))
    chances = probability_of_improvement(means, deviations, boxes(front, reference))
    for k in range(4):
        draws = means[k] + deviations[k] * np.random.default_rng(3 + k).normal(size=(4000, m))
        grown = growth(front, reference, draws)
        assert gains[k] == pytest.approx(grown.mean(), abs=4 * grown.std() / 4000**0.5 + 1e-6)
        assert chances[k] == pytest.approx((grown > 0).mean(), abs=0.03)


def test_an_exact_value_on_the_edge_of_two_boxes_lies_in_one() -> None:
    """All models have 12 layers, and one of 0.3 cannot improve on one of 0.8."""
    cells = boxes(np.array([[0.8, -12.0]]), np.array([0.1, -13.0]))
    means, deviations = np.array([[0.3, -12.0], [0.8, -12.0], [0.95, -12.0], [0.3, -11.0]]), np.array([[0.02, 0.0]] * 4)
    assert probability_of_improvement(means, deviations, cells) == pytest.approx([0.0, 0.5, 1.0, 1.0], abs=1e-9)


@pytest.mark.parametrize("m", FRONTS)
def test_without_a_front_everything_above_the_reference_point_gains(m: int) -> None:
    reference = np.full(m, 0.5)
    points = np.array([np.full(m, 0.7), np.full(m, 0.4)])
    gains = expected_improvement(points, np.zeros_like(points), boxes(np.empty((0, m)), reference))
    assert gains == pytest.approx([0.2**m, 0.0])


def test_many_candidates_are_answered_in_pieces_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    means, deviations = rng.random((50, 2)), rng.random((50, 2)) * 0.1
    cells = boxes(FRONTS[2], np.full(2, 0.15))
    whole = expected_improvement(means, deviations, cells)
    monkeypatch.setattr("automerge.acquisition.improvement.CHUNK", 20)
    assert (expected_improvement(means, deviations, cells) == whole).all()


@pytest.mark.parametrize("seed", range(8))
def test_three_objectives_are_divided_into_boxes_that_do_not_overlap_and_fill_what_is_left(seed: int) -> None:
    """Against BoTorch's division: as large above every point, with equal values among the objectives too."""
    rng = np.random.default_rng(seed)
    front = np.round(rng.random((12, 3)), 1 + seed % 3)
    reference = np.full(3, 0.15)
    found = boxes(front, reference)
    above = front[(front > reference).all(axis=1)]
    expected = FastNondominatedPartitioning(torch.tensor(reference), torch.tensor(above)).get_hypercell_bounds().numpy()
    for corner in rng.uniform(0.2, 1.2, size=(20, 3)):
        sizes = [np.prod(np.clip(np.minimum(upper, corner) - lower, 0, None), axis=1).sum() for lower, upper in
                 (found, expected)]  # fmt: skip
        assert sizes[0] == pytest.approx(sizes[1])
        inside = (found[0] < corner) & (corner <= found[1])
        assert inside.all(axis=1).sum() == (growth(front, reference, corner[None])[0] > 1e-12)


@pytest.mark.parametrize("m", [4, 6, 8])
def test_of_large_fronts_of_many_objectives_the_points_that_dominate_most_count(m: int) -> None:
    """All of them would make more boxes than there is time for; the rest is what the space above is divided for."""
    rng = np.random.default_rng(0)
    front = rng.random((MOST_POINTS.get(m, MOST_POINTS_BEYOND) + 12, m))
    front /= np.linalg.norm(front, axis=1, keepdims=True)
    reference = np.zeros(m)
    most = MOST_POINTS.get(m, MOST_POINTS_BEYOND)
    kept = front[widest(front, reference, most)]
    inside = np.full((1, m), 0.2)
    assert np.array_equal(boxes(front, reference), boxes(kept, reference))
    points = rng.random((20, m))
    gains = expected_improvement(points, np.zeros_like(points), boxes(front, reference))
    assert gains == pytest.approx(growth(kept, reference, points), abs=1e-9)
    assert (gains >= growth(front, reference, points) - 1e-9).all()
    assert expected_improvement(inside, np.zeros_like(inside), boxes(front, reference))[0] == pytest.approx(0)
