import numpy as np
import pytest
from scipy.stats import ttest_rel

from automerge.benchmark.ranking import alike, paired, ranking

NAMES = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
AUC = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)
"""Table 6 of Demsar, JMLR 2006. It prints .975 twice in the row before the last, but ranks these two 2 and 3."""


def test_ranks_and_critical_distance_are_those_of_the_paper() -> None:
    """Demsar, JMLR 2006, section 3.2.2: mean ranks, chi-squared 9.28 with 3 degrees of freedom, distance 1.25."""
    found = ranking(NAMES, AUC)
    assert [round(rank, 3) for rank in found.ranks.values()] == [3.143, 2.0, 2.893, 1.964]
    assert found.n_blocks == 14
    assert found.distance == pytest.approx(1.25, abs=0.005)
    # The paper's chi-squared ignores ties; scipy's corrects for them and is a little larger.
    assert 0.015 < found.p_value < 0.0258


def test_contestants_within_the_critical_distance_are_joined() -> None:
    found = ranking(NAMES, AUC)
    assert [tuple(round(end, 2) for end in span) for span in alike(found)] == [(1.96, 3.14)]
    near = ranking(("a", "b", "c"), np.tile([3.0, 2.0, 1.0], (8, 1)))
    assert near.distance == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 8)), abs=1e-3)
    assert alike(near) == [(1.0, 2.0), (2.0, 3.0)]
    assert alike(ranking(("a", "b", "c"), np.tile([3.0, 2.0, 1.0], (50, 1)))) == []


def test_equal_contestants_are_alike_without_doubt() -> None:
    found = ranking(("a", "b", "c"), np.ones((4, 3)))
    assert found.p_value == 1
    assert set(found.ranks.values()) == {2.0}


def test_a_ranking_needs_three_contestants_and_two_blocks() -> None:
    for shape in ((5, 2), (1, 3)):
        with pytest.raises(ValueError, match="run more optimizers or seeds"):
            ranking(("a", "b", "c")[: shape[1]], np.ones(shape))


def test_paired_intervals_are_students_over_common_seeds() -> None:
    rng = np.random.default_rng(0)
    first = {seed: float(rng.normal(1)) for seed in range(6)}
    second = {seed: float(rng.normal()) for seed in range(1, 8)}
    found = paired(first, second)
    pairs = [(first[seed], second[seed]) for seed in range(1, 6)]
    reference = ttest_rel(*zip(*pairs, strict=True)).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))
    assert (found.n, found.wins) == (5, sum(a > b for a, b in pairs))


def test_one_pair_has_no_interval_and_none_no_difference() -> None:
    found = paired({3: 1.0}, {3: 0.5, 4: 9.0})
    assert found is not None
    assert (found.mean, found.low, found.high, found.n) == (0.5, -np.inf, np.inf, 1)
    assert paired({3: 1.0}, {4: 0.5}) is None
