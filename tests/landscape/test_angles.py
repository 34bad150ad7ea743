import numpy as np
import pytest

from automerge.landscape.angles import angles, covariances, scores


def test_angles_have_the_same_noise_at_every_score() -> None:
    rng = np.random.default_rng(0)
    n = 200.0
    for share in (0.1, 0.5, 0.9):
        totals = rng.binomial(int(n), share, size=20000).astype(float)
        found = angles(totals, np.full(20000, n))
        assert found.std() == pytest.approx((4 * n) ** -0.5, rel=0.03)
        assert scores(found.mean(keepdims=True), np.zeros(1))[0] == pytest.approx([share], abs=0.003)


def test_perfect_and_hopeless_scores_stay_within_the_ends() -> None:
    found = angles(np.array([0.0, 50.0]), np.array([50.0, 50.0]))
    assert 0 < found[0] < found[1] < np.pi / 2


@pytest.mark.parametrize("mean", [0.3, 0.8, 1.4])
@pytest.mark.parametrize("deviation", [0.02, 0.3])
def test_moments_of_scores_are_those_of_many_draws(mean: float, deviation: float) -> None:
    draws = np.sin(mean + deviation * np.random.default_rng(1).normal(size=400000)) ** 2
    first, second = scores(np.array([mean]), np.array([deviation]))
    assert first[0] == pytest.approx(draws.mean(), abs=2e-3)
    assert second[0] == pytest.approx(draws.std(), rel=0.01)


def test_beyond_perfect_there_is_nothing() -> None:
    means, deviations = scores(np.array([1.5, 1.9]), np.array([0.1, 0.1]))
    assert (means <= 1).all()
    assert means[1] > 0.98
    assert (deviations < 0.03).all()


def test_covariances_of_scores_are_those_of_many_draws() -> None:
    rng = np.random.default_rng(2)
    root = rng.normal(size=(3, 3)) * 0.15
    means = np.array([[0.4], [0.9], [1.2]])
    draws = np.sin(rng.multivariate_normal(means[:, 0], root @ root.T, size=400000)) ** 2
    found = covariances(means, (root @ root.T)[None])
    assert found[0] == pytest.approx(np.cov(draws.T), abs=2e-3)
    assert np.diag(found[0]) ** 0.5 == pytest.approx(scores(means[:, 0], np.diag(root @ root.T) ** 0.5)[1], abs=1e-9)
