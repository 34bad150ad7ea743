"""Bags in one text, against the same bags asked one by one."""

import gzip
from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from automerge.benchmark.ensemble import BAGS, Ensemble, combine
from tests.benchmark.handmade import bags

RNG = np.random.default_rng(0)
X = RNG.random((200, 6))
LEVEL = 0.1 + 0.8 * X[:, 0] * X[:, 1]
TARGETS = {"cross_entropy": LEVEL, "gamma": 3 * LEVEL, "poisson": LEVEL, "regression": LEVEL - 5, "binary": LEVEL > 0.3}
LINKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "cross_entropy": lambda raw: 1 / (1 + np.exp(-raw)),
    "binary": lambda raw: 1 / (1 + np.exp(-raw)),
    "gamma": np.exp,
    "poisson": np.exp,
    "regression": lambda raw: raw,
}


@pytest.mark.parametrize("objective", TARGETS)
def test_the_whole_is_the_mean_of_the_bags_before_the_link(objective: str) -> None:
    own = bags(X, np.asarray(TARGETS[objective], dtype=np.float64), objective, n=4)
    raw = np.array([bag.predict(X, raw_score=True) for bag in own])
    whole = Ensemble(combine(own))
    assert whole.mean(X) == pytest.approx(LINKS[objective](raw.mean(axis=0)), rel=1e-6)
    assert whole.spread(X) == pytest.approx(np.std([bag.predict(X) for bag in own], axis=0), rel=1e-4, abs=1e-7)
    assert (whole.n_bags, whole.n_trees, whole.n_features) == (4, 80, 6)


def test_any_lightgbm_reads_the_text() -> None:
    text = combine(bags(X, LEVEL))
    assert (np.asarray(lightgbm.Booster(model_str=text).predict(X)) == Ensemble(text).mean(X)).all()


def test_bags_may_have_different_numbers_of_trees_and_trees_without_splits() -> None:
    options = {"objective": "cross_entropy", "verbosity": -1, "num_leaves": 4}
    long, short, flat = (
        lightgbm.train({**options, **more}, lightgbm.Dataset(X, label=LEVEL, params={"verbosity": -1}), rounds)
        for rounds, more in ((30, {}), (3, {}), (5, {"min_gain_to_split": 1e9}))
    )
    raw = np.array([bag.predict(X, raw_score=True) for bag in (long, short, flat)])
    whole = Ensemble(combine([long, short, flat]))
    assert whole.mean(X) == pytest.approx(1 / (1 + np.exp(-raw.mean(axis=0))), rel=1e-6)
    assert whole.spread(X) == pytest.approx((1 / (1 + np.exp(-raw))).std(axis=0), rel=1e-4)


def test_scores_that_bags_started_from_are_added() -> None:
    own = bags(X, LEVEL, n=3)
    bias = [0.5, -1.0, 2.0]
    raw = np.array([np.asarray(bag.predict(X, raw_score=True)) + more for bag, more in zip(own, bias, strict=True)])
    whole = Ensemble(combine(own, bias=bias))
    assert whole.mean(X) == pytest.approx(1 / (1 + np.exp(-raw.mean(axis=0))), rel=1e-6)
    assert whole.spread(X) == pytest.approx((1 / (1 + np.exp(-raw))).std(axis=0), rel=1e-4)


def test_one_booster_as_lightgbm_writes_it_is_one_bag() -> None:
    booster = bags(X, LEVEL)[0]
    alone = Ensemble(booster.model_to_string())
    assert (alone.mean(X) == booster.predict(X)).all()
    assert (alone.spread(X) == 0).all()


def test_bags_that_do_not_go_together_are_refused() -> None:
    own = bags(X, LEVEL)
    with pytest.raises(ValueError, match="cross_entropy of 6 features; poisson of 6 features"):
        combine([own[0], bags(X, LEVEL, "poisson")[0]])
    with pytest.raises(ValueError, match="cross_entropy of 6 features; cross_entropy of 2 features"):
        combine([own[0], bags(X[:, :2], LEVEL)[0]])
    with pytest.raises(ValueError, match="one bias a bag or none, got 3 bags and 2 biases"):
        combine(own, bias=[0.0, 1.0])
    with pytest.raises(ValueError, match="got 0 bags"):
        combine([])
    with pytest.raises(ValueError, match=r"expected one of the objectives cross_entropy, .* got 'huber'"):
        combine(bags(X, LEVEL, "huber"))
    data = lightgbm.Dataset(np.round(X * 3), label=LEVEL, categorical_feature=[0], params={"verbosity": -1})
    by_kind = lightgbm.train({"objective": "cross_entropy", "verbosity": -1, "min_data_per_group": 1}, data, 3)
    with pytest.raises(ValueError, match="train without categorical features"):
        combine([by_kind])


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    text = combine(bags(X, LEVEL))
    path = tmp_path / "model.txt.gz"
    with pytest.raises(FileNotFoundError, match="export or copy the benchmark again"):
        Ensemble.load(path)
    packed = gzip.compress(text.encode())
    fewer = text.replace(f"{BAGS}=20", f"{BAGS}=19")
    for content in (packed[:-200], b"nothing", gzip.compress(b"tree\n"), gzip.compress(fewer.encode())):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"model.txt.gz is damaged .* export or copy the benchmark again"):
            Ensemble.load(path)
    path.write_bytes(packed)
    assert (Ensemble.load(path).mean(X) == Ensemble(text).mean(X)).all()
