import numpy as np
import pytest

from automerge.landscape.angles import angles
from automerge.landscape.subset_noise import Decay, Likeness, corrected

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
    for decay in (likeness.parts, likeness.whole):
        found = decay.correlations(np.array([[0.0, 0.05, 3.0]] * 3))
        assert found[0, 0] == 1.0
        assert found[0, 1] == pytest.approx(0.64, abs=0.06)
        assert found[0, 2] == pytest.approx(0.16, abs=0.04)


@pytest.mark.parametrize("first", [60, 33])
def test_models_that_went_less_far_are_compared_on_the_items_that_both_have(first: int) -> None:
    """On the mean over ten draws, of which one tells little of so few items."""
    close = []
    for seed in range(10):
        items, distances = clans(60, seed=seed)
        likeness = Likeness.of([scores[: first if k % 5 else N] for k, scores in enumerate(items)], distances)
        close.append(likeness.parts.correlations(np.full((2, 2), 0.05))[0, 1])
    assert np.mean(close) == pytest.approx(0.64, abs=0.06)


def test_few_models_and_few_items_are_as_is_usual() -> None:
    items, distances = clans(10)
    assert Likeness.of(items[:2], distances[:2, :2]) == Likeness()
    assert Likeness.of([scores[:19] for scores in items], distances) == Likeness()
    assert Likeness.of([np.zeros(N)] * 5, np.ones((5, 5))) == Likeness()
    one = (np.random.default_rng(0).random(N) < 0.5).astype(float)
    for others in (np.zeros(N), np.ones(N)):
        alone = Likeness.of([one, others, others, others], np.ones((4, 4)))
        assert (alone.parts, alone.whole) == (Likeness().parts, Likeness().whole)
    balanced = Likeness.of([np.tile([0.0, 1.0], N // 2)] * 5, np.ones((5, 5)))
    assert balanced.parts == Likeness().parts
    rng = np.random.default_rng(0)
    apart = Likeness.of([(rng.random(20) < 0.5).astype(float) for _ in range(4)], 0.05 * (1 - np.eye(4)))
    assert apart.parts.far + apart.parts.near > 0.5


def test_random_items_that_are_right_or_wrong_err_as_such() -> None:
    likeness = Likeness.of(*clans(100))
    assert likeness.scatter == pytest.approx(1.0, abs=0.1)
    assert likeness.spread == pytest.approx(1.0, abs=0.02)


def test_what_a_stratified_order_balances_makes_no_errors() -> None:
    """Every second item is one that most models get right, in every prefix of the order."""
    rng = np.random.default_rng(0)
    chances = np.tile([0.95, 0.05], N // 2)
    likeness = Likeness.of([(rng.random(N) < chances).astype(float) for _ in range(40)], 0.5 * (1 - np.eye(40)))
    assert likeness.scatter == pytest.approx(0.19, abs=0.08)
    assert likeness.spread == pytest.approx(1.0, abs=0.01)
    assert likeness.parts.correlations(np.full((2, 2), 0.5))[0, 1] < 0.1
    assert likeness.whole.correlations(np.full((2, 2), 0.5))[0, 1] == pytest.approx(0.81, abs=0.05)


@pytest.mark.parametrize("deviation", [0.05, 0.2])
def test_scores_between_right_and_wrong_scatter_less_and_are_as_alike_as_they_are(deviation: float) -> None:
    rng = np.random.default_rng(0)
    apart = 0.5 * (1 - np.eye(40))
    likeness = Likeness.of([0.5 + deviation * rng.normal(size=N) for _ in range(40)], apart)
    assert likeness.scatter == pytest.approx((2 * deviation) ** 2, rel=0.3, abs=0.01)
    assert likeness.spread == pytest.approx((2 * deviation) ** 2, rel=0.3, abs=0.01)
    assert likeness.parts.correlations(apart)[0, 1] < 0.1
    common = rng.normal(size=N)
    alike = Likeness.of([0.5 + deviation * (0.9 * common + 0.44 * rng.normal(size=N)) for _ in range(40)], apart)
    assert alike.parts.correlations(apart)[0, 1] == pytest.approx(0.81, abs=0.06)


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
    likeness = Likeness(Decay(0.3, 0.5), Decay(0.4, 0.2, 0.8), scatter, spread)
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

    assert (likeness.alike(totals, stops) == 1).all()
    parts, whole = likeness.parts.correlations(distances), likeness.whole.correlations(distances)
    mean = np.full((24, 24), 1 / 24)
    errors = (np.kron(parts, scatter * (np.eye(24) - mean)) + np.kron(whole, spread * mean)) / 4
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
    likeness = Likeness(Decay(0.0, 0.9))

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
    means, _ = corrected(totals, n, [lucky, broken], Likeness(Decay(0.3, 0.6)), np.zeros((2, 2)))
    assert means[0] == pytest.approx(angles(totals, n)[0], abs=0.02)


def test_the_luckiest_of_few_items_keep_no_more_of_their_luck_than_the_others() -> None:
    """Two models at .85, of which one went on and the other has up to 33 of 33 items right."""

    def taken_off(n_right: int) -> float:
        lucky = np.r_[np.ones(n_right), np.zeros(33 - n_right)]
        further = np.r_[lucky, np.arange(267) % 20 >= 3]
        totals, n = np.array([lucky.sum(), further.sum()]), np.array([33.0, 300.0])
        means, _ = corrected(totals, n, [lucky, further], Likeness(), np.full((2, 2), 0.05) * (1 - np.eye(2)))
        before, after = angles(totals[:1], n[:1])[0], angles(totals[1:], n[1:])[0]
        return float((before - means[0]) / (before - after))

    assert taken_off(33) == pytest.approx(taken_off(28), abs=0.05)
    assert taken_off(33) > 0.6


def test_where_nearly_all_items_are_right_in_all_models_errors_are_as_alike_as_elsewhere() -> None:
    """Of angles, by the brute force over many subsets of items."""
    rng = np.random.default_rng(0)
    common = rng.random(20_000) < 0.95
    pair = [np.where(rng.random(20_000) < 0.8, common, rng.random(20_000) < 0.95).astype(float) for _ in range(6)]
    subsets = np.array(
        [[angles(part.sum(keepdims=True), np.array([100.0]))[0] for part in scores.reshape(-1, 100)] for scores in pair]
    )
    truth = np.corrcoef(subsets)[np.triu_indices(6, 1)].mean()
    distances = 0.1 * (1 - np.eye(6))
    items = [scores[:2000] for scores in pair]
    likeness = Likeness.of(items, distances)
    for n in (np.full(6, 100.0), np.r_[np.full(5, 100.0), 2000.0]):  # as whole and as part
        totals = np.array([scores[: int(stop)].sum() for scores, stop in zip(items, n, strict=True)])
        _, noise = corrected(totals, n, [None] * 6, likeness, distances)
        believed = noise[:5, :5][np.triu_indices(5, 1)] / noise[0, 0]
        assert believed == pytest.approx(truth, abs=0.1)


def test_models_that_are_copies_on_many_stops_leave_covariances_of_full_rank() -> None:
    rng = np.random.default_rng(0)
    stops = rng.choice([20, 33, 50, 100, 180, 300], size=120)
    items = [np.array([True, False])[rng.integers(0, 2, size=stop)].astype(float) for stop in stops]
    items[:20] = [np.ones(stop) for stop in stops[:20]]
    items[20:40] = [np.zeros(stop) for stop in stops[20:40]]
    places = np.repeat(rng.random((30, 2)), 4, axis=0)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    likeness = Likeness(Decay(0.5, 0.47), Decay(0.5, 0.47), scatter=0.3)
    totals = np.array([scores.sum() for scores in items])
    means, noise = corrected(totals, stops.astype(float), items, likeness, distances)
    assert np.isfinite(means).all()
    assert (noise == noise.T).all()
    assert np.linalg.eigvalsh(noise).min() > 0


def test_errors_of_neighbours_do_not_average_out() -> None:
    n = np.full(100, 30.0)
    _, alone = corrected(n / 2, n, [None] * 100, None, np.zeros((100, 100)))
    _, together = corrected(n / 2, n, [None] * 100, Likeness(), np.zeros((100, 100)))
    weights = np.full(100, 0.01)
    assert weights @ alone @ weights == pytest.approx(1 / 120 / 100)
    assert weights @ together @ weights == pytest.approx(1 / 120, rel=0.25)
