import numpy as np
import pytest

from automerge.subsets import shuffled, stratified


def test_shuffled_is_seeded_and_cut() -> None:
    assert (shuffled(100, (1, 2)) == shuffled(100, (1, 2))).all()
    assert (shuffled(100, (1, 2)) != shuffled(100, (1, 3))).any()
    assert sorted(shuffled(100, (0,))) == list(range(100))
    assert len(shuffled(100, (0,), limit=30)) == 30


def test_every_prefix_holds_each_stratum_in_its_share() -> None:
    rng = np.random.default_rng(0)
    items = rng.permutation(1000)[:600]
    scores = (rng.random((3, 600)) < np.array([[0.2], [0.5], [0.9]])).astype(float)
    order = stratified(items, scores, (7,))
    assert sorted(order) == sorted(items)
    right = dict(zip(items, scores.T, strict=True))
    patterns = np.array([right[item] for item in order])
    strata = np.unique(patterns, axis=0)
    for n in (50, 100, 333):
        for pattern in strata:
            whole = (patterns == pattern).all(axis=1)
            # Each stratum is at most one item off, and each may shift the end of the prefix by one.
            assert abs(whole[:n].sum() - n * whole.mean()) <= 1.0 + len(strata) * whole.mean()


def test_stratified_subset_means_vary_less_than_random_ones() -> None:
    rng = np.random.default_rng(1)
    skill = rng.random(400)
    sources = (rng.random((4, 400)) < skill).astype(float)
    candidate = (rng.random(400) < skill).astype(float)
    orders = [stratified(np.arange(400), sources, (seed,))[:60] for seed in range(200)]
    randoms = [shuffled(400, (seed,), limit=60) for seed in range(200)]
    spread = [np.std([candidate[order].mean() for order in group]) for group in (orders, randoms)]
    assert spread[0] < spread[1]


def test_stratified_refuses_scores_of_another_length() -> None:
    with pytest.raises(ValueError, match="expected, got"):
        stratified(np.arange(5), np.zeros((2, 4)), (0,))
