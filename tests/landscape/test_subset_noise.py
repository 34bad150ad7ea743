import numpy as np
import pytest

from automerge.landscape.angles import angles
from automerge.landscape.subset_noise import Likeness, corrected

N = 300


def clans(n: int, *, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Scores of n models in clans of five and their distances: .05 within a clan, 3 between clans.

    An item of a model is that of its clan with a chance of .8, and that of all models with .5 in the clan; else it is
    drawn anew. So the correlation within a clan is .64, and 0.16 between clans.
    """
    rng = np.random.default_rng(seed)

    def like(other: np.ndarray, chance: float) -> np.ndarray:
        return np.where(rng.random(N) < chance, other, rng.random(N) < 0.5).astype(float)

    everyone = (rng.random(N) < 0.5).astype(float)
    names = np.arange(n) // 5
    heads = {name: like(everyone, 0.5) for name in np.unique(names)}
    distances = np.where(names[:, None] == names[None, :], 0.05, 3.0)
    np.fill_diagonal(distances, 0.0)
    return [like(heads[name], 0.8) for name in names], distances


def test_correlations_are_those_that_the_items_were_drawn_with() -> None:
    likeness = Likeness.of(*clans(100))
    assert likeness is not None
    found = likeness.correlations(np.array([[0.0, 0.05, 3.0]] * 3))
    assert found[0, 0] == 1.0
    assert found[0, 1] == pytest.approx(0.64, abs=0.06)
    assert found[0, 2] == pytest.approx(0.16, abs=0.04)


def test_models_that_went_less_far_are_compared_on_the_items_that_both_have() -> None:
    items, distances = clans(100)
    likeness = Likeness.of([scores[: 60 if k % 2 else N] for k, scores in enumerate(items)], distances)
    assert likeness is not None
    assert likeness.correlations(np.full((2, 2), 0.05))[0, 1] == pytest.approx(0.64, abs=0.1)


def test_few_models_and_few_items_say_nothing() -> None:
    items, distances = clans(10)
    assert Likeness.of(items[:2], distances[:2, :2]) is None
    assert Likeness.of([scores[:19] for scores in items], distances) is None


def test_few_blocks_say_less_than_what_is_usual() -> None:
    rng = np.random.default_rng(0)
    apart = Likeness.of([(rng.random(20) < 0.5).astype(float) for _ in range(4)], 0.05 * (1 - np.eye(4)))
    assert apart is not None
    assert apart.far + apart.near > 0.5


def test_random_items_that_are_right_or_wrong_err_as_such() -> None:
    likeness = Likeness.of(*clans(100))
    assert likeness is not None
    assert likeness.scatter == pytest.approx(1.0, abs=0.1)
    assert likeness.spread == pytest.approx(1.0, abs=0.02)


def test_what_a_stratified_order_balances_makes_no_errors() -> None:
    """Every second item is one that most models get right, in every prefix of the order."""
    rng = np.random.default_rng(0)
    chances = np.tile([0.95, 0.05], N // 2)
    likeness = Likeness.of([(rng.random(N) < chances).astype(float) for _ in range(40)], 0.5 * (1 - np.eye(40)))
    assert likeness is not None
    assert likeness.scatter == pytest.approx(0.19, abs=0.08)
    assert likeness.spread == pytest.approx(1.0, abs=0.01)
    assert likeness.correlations(np.full((2, 2), 0.5))[0, 1] < 0.1  # item by item it is .8


def test_scores_between_right_and_wrong_scatter_less() -> None:
    rng = np.random.default_rng(0)
    likeness = Likeness.of([0.5 + 0.05 * rng.normal(size=N) for _ in range(40)], 0.5 * (1 - np.eye(40)))
    assert likeness is not None
    assert likeness.scatter < 0.2
    assert likeness.spread < 0.2


def test_without_correlations_errors_are_independent_and_means_stay() -> None:
    totals, n = np.array([20.0, 5.0]), np.array([30.0, 10.0])
    means, noise = corrected(totals, n, [np.ones(30), np.ones(10)], None, np.zeros((2, 2)))
    assert means.tolist() == angles(totals, n).tolist()
    assert noise.tolist() == np.diag([1 / 120, 1 / 40]).tolist()


@pytest.mark.parametrize(("scatter", "spread"), [(1.0, 1.0), (0.5, 0.8)])
def test_corrected_angles_are_those_of_normal_errors_item_by_item_given_all_that_is_known(
    scatter: float, spread: float
) -> None:
    """Against the brute force: every item has an error in every model, and differences are sums of them.

    Of the sum of all 24 items the variance is another than that of what parts of them differ by.
    """
    rng = np.random.default_rng(3)
    likeness = Likeness(0.3, 0.5, 0.4, scatter, spread)
    stops = np.array([6.0, 12.0, 24.0, 6.0, 24.0])
    items = [(rng.random(int(stop)) < 0.5).astype(float) for stop in stops]
    places = rng.random((5, 2))
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    totals = np.array([scores.sum() for scores in items])

    def average(model: int, stop: float) -> np.ndarray:
        """The mean of the first errors of a model, as weights of all errors."""
        weights = np.zeros((5, 24))
        weights[model, : int(stop)] = 1 / stop
        return weights.ravel()

    shares = (totals + 0.5) / (stops + 1)
    telling = np.minimum(1.0, shares * (1 - shares) / 0.09)
    alike = likeness.correlations(distances) * np.outer(telling, telling)
    np.fill_diagonal(alike, 1.0)
    whole = np.full((24, 24), 1 / 24)
    errors = np.kron(alike, scatter * (np.eye(24) - whole) + spread * whole) / 4
    own = np.array([average(k, stops[k]) for k in range(5)])
    known = [(k, stop) for k in range(5) for stop in (6.0, 12.0) if stop < stops[k]]
    contrasts = np.array([average(k, stop) - own[k] for k, stop in known])
    differences = np.array(
        [
            (angles(items[k][: int(stop)].sum(keepdims=True), np.array([stop])) - angles(totals, stops)[k])[0]
            for k, stop in known
        ]
    )
    gain = own @ errors @ contrasts.T @ np.linalg.inv(contrasts @ errors @ contrasts.T)
    means, noise = corrected(totals, stops, items, likeness, distances)
    assert means == pytest.approx(angles(totals, stops) - gain @ differences, abs=1e-6)
    assert noise == pytest.approx(own @ errors @ own.T - gain @ contrasts @ errors @ own.T, abs=1e-6)


def test_a_model_that_went_further_gives_away_the_luck_of_its_neighbour() -> None:
    lucky = np.r_[np.ones(25), np.zeros(5)]
    further = np.r_[lucky, np.tile([1.0, 0.0], 135)]
    likeness = Likeness(0.0, 0.9, 0.4)

    def score(distance: float) -> float:
        distances = np.array([[0.0, distance], [distance, 0.0]])
        totals, n = np.array([lucky.sum(), further.sum()]), np.array([30.0, 300.0])
        means, noise = corrected(totals, n, [lucky, further], likeness, distances)
        assert (np.linalg.eigvalsh(noise) > 0).all()
        return float(np.sin(means[0]) ** 2)

    assert lucky.mean() > 0.8
    assert score(0.01) < 0.6
    assert score(9.0) > 0.79


def test_models_whose_every_item_is_wrong_tell_nothing_of_the_luck_of_others() -> None:
    lucky, broken = np.r_[np.ones(25), np.zeros(5)], np.zeros(300)
    totals, n = np.array([lucky.sum(), 0.0]), np.array([30.0, 300.0])
    means, _ = corrected(totals, n, [lucky, broken], Likeness(0.3, 0.6, 0.4), np.zeros((2, 2)))
    assert means[0] == pytest.approx(angles(totals, n)[0], abs=0.02)


def test_errors_of_neighbours_do_not_average_out() -> None:
    n = np.full(100, 30.0)
    _, alone = corrected(n / 2, n, [None] * 100, None, np.zeros((100, 100)))
    _, together = corrected(n / 2, n, [None] * 100, Likeness(0.3, 0.5, 0.4), np.zeros((100, 100)))
    weights = np.full(100, 0.01)
    assert weights @ alone @ weights == pytest.approx(1 / 120 / 100)
    assert weights @ together @ weights == pytest.approx(1 / 120, rel=0.25)
