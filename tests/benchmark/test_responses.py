"""Item by item answers against what they are drawn from."""

import numpy as np
import pytest

from automerge.benchmark.responses import Responses, keys, mix, started, text_key, uniforms

RNG = np.random.default_rng(0)
DIFFICULTIES = RNG.normal(0.5, 2.0, 80)
GENOTYPES = RNG.random((3000, 6))
P = RNG.uniform(0.02, 0.98, 3000)
ROWS = np.arange(80)


@pytest.fixture(scope="module")
def world() -> Responses:
    return Responses("zoo", "math", "search", DIFFICULTIES)


def chances(p: float) -> np.ndarray:
    """sigma(t + d_i) with the t at which the mean is p, by bisection."""
    low, high = -30.0, 30.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (1 + np.exp(-(middle + DIFFICULTIES)))).mean() < p else (low, middle)
    return np.asarray(1 / (1 + np.exp(-(low + DIFFICULTIES))))


def test_numbers_are_those_of_splitmix64() -> None:
    """The first outputs of the published generator from state 1234567."""
    counters = np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    found = mix(np.uint64(1234567) + counters)
    assert found.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("p", [0.03, 0.4, 0.97])
def test_items_are_answered_rightly_as_often_as_their_difficulty_says(world: Responses, p: float) -> None:
    """Means over 3000 models, each within 4.5 standard errors."""
    expected = chances(p)
    found = world.respond(np.full(3000, p), keys(GENOTYPES), ROWS, seed=0).mean(axis=0)
    assert (np.abs(found - expected) < 4.5 * np.sqrt(expected * (1 - expected) / 3000) + 1e-3).all()


def test_the_mean_over_all_items_is_the_expected_score(world: Responses) -> None:
    share = world.count(P, keys(GENOTYPES), ROWS, seed=1) / 80
    assert (share - P).mean() == pytest.approx(0, abs=0.003)
    assert np.cov(share - P, P)[0, 1] == pytest.approx(0, abs=1e-3)
    # The variance is that of items of unequal difficulty, less than p (1 - p) / n.
    some = slice(0, 40)
    variance = np.array([(chances(p) * (1 - chances(p))).sum() / 80**2 for p in P[some]])
    seen = np.array([world.count(P[some], keys(GENOTYPES)[some], ROWS, seed=seed) / 80 for seed in range(300)])
    assert seen.var(axis=0).mean() == pytest.approx(variance.mean(), rel=0.05)


def test_a_subset_is_as_much_easier_for_all_models(world: Responses) -> None:
    easy = np.argsort(-DIFFICULTIES)[:20]
    share = world.count(P, keys(GENOTYPES), easy, seed=0) / 20
    expected = np.array([chances(p)[easy].mean() for p in P[:200]])
    assert (share[:200] - expected).mean() == pytest.approx(0, abs=0.02)
    assert (share - P).mean() > 0.15


def test_counts_are_sums_of_responses_whatever_the_batch(world: Responses) -> None:
    hashes = keys(GENOTYPES)
    rows = RNG.permutation(80)[:33]
    right = world.respond(P, hashes, rows, seed=5)
    assert right.dtype == np.uint8
    assert set(np.unique(right)) == {0, 1}
    assert (world.count(P, hashes, rows, seed=5) == right.sum(axis=1)).all()
    assert (world.respond(P[1700:1701], hashes[1700:1701], rows[:4], seed=5) == right[1700:1701, :4]).all()
    assert world.respond(P[:2], hashes[:2], rows[:0], seed=5).shape == (2, 0)


def test_a_better_model_keeps_what_it_had_right(world: Responses) -> None:
    hashes = keys(GENOTYPES)
    worse, better = (world.respond(np.full(3000, p), hashes, ROWS, seed=0) for p in (0.4, 0.5))
    assert (better >= worse).all()


def test_scores_of_nought_and_one_are_never_and_always_right(world: Responses) -> None:
    hashes = keys(GENOTYPES)
    assert world.count(np.zeros(3000), hashes, ROWS, seed=0).sum() == 0
    assert world.count(np.ones(3000), hashes, ROWS, seed=0).mean() == pytest.approx(80, abs=1e-3)


def test_worlds_seeds_models_and_items_are_independent() -> None:
    hashes = keys(GENOTYPES)
    base = started(hashes, text_key("zoo", "math", "search"), 0)
    others = [
        started(hashes, text_key("zoo", "math", "test"), 0),
        started(hashes, text_key("zoo", "math", "search"), 1),
        started(np.roll(hashes, 1), text_key("zoo", "math", "search"), 0),
    ]
    u = uniforms(base, ROWS)
    assert np.abs(np.histogram(u, 20, (0, 1))[0] / u.size - 0.05).max() < 0.002
    for other in others:
        assert np.corrcoef(u.ravel(), uniforms(other, ROWS).ravel())[0, 1] == pytest.approx(0, abs=0.01)
    assert np.abs(np.corrcoef(u, rowvar=False) - np.eye(80)).max() < 0.1
    assert np.abs(np.corrcoef(u[:200]) - np.eye(200)).max() < 0.6


def test_models_that_differ_in_one_gene_have_other_keys() -> None:
    X = np.repeat(GENOTYPES[:1], 7, axis=0)
    X[np.arange(6), np.arange(6)] += 1e-4
    X = np.concatenate([X, X[-1:, ::-1], GENOTYPES])
    assert len(set(keys(X).tolist())) == len(np.unique(X, axis=0))
    assert keys(X[3:4]) == keys(np.asfortranarray(X))[3]


def test_words_are_told_apart_by_where_they_end() -> None:
    assert text_key("ab", "c") != text_key("a", "bc")
