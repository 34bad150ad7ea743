"""Distances to measured models, against brute force."""

from pathlib import Path

import numpy as np
import pytest

from automerge.benchmark import nearness
from automerge.benchmark.nearness import Nearness

RNG = np.random.default_rng(0)
KNOWN = RNG.normal(0, [1.0, 10.0, 0.1], size=(300, 3))


def brute(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Scaled distances of all to all, shape (n_asked, n_known)."""
    scale = known.std(axis=0)
    return np.asarray(np.sqrt((((asked[:, None] - known[None]) / scale) ** 2).sum(axis=2)))


def test_distances_are_those_of_brute_force() -> None:
    asked = RNG.normal(0, [2.0, 20.0, 0.2], size=(50, 3))
    own = brute(KNOWN, KNOWN)
    np.fill_diagonal(own, np.inf)
    expected = brute(KNOWN, asked).min(axis=1) / np.quantile(own.min(axis=1), 0.99)
    assert Nearness.fit(KNOWN).distance(asked) == pytest.approx(expected, rel=1e-4)


def test_a_hundredth_of_the_measured_models_is_outside_when_told_from_the_others() -> None:
    fitted = Nearness.fit(KNOWN)
    assert fitted.distance(KNOWN) == pytest.approx(0, abs=1e-5)
    fresh = RNG.normal(0, [1.0, 10.0, 0.1], size=(2000, 3))
    assert 0.002 < (fitted.distance(fresh) > 1).mean() < 0.03
    assert (fitted.distance(10 * np.array([[1.0, 10.0, 0.1]])) > 1).all()


def test_many_models_are_stood_for_by_those_farthest_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearness, "LIMIT", 20)
    monkeypatch.setattr(nearness, "ROWS", 64)
    fitted = Nearness.fit(KNOWN)
    assert fitted.anchors.shape == (20, 3)
    scaled = KNOWN / KNOWN.std(axis=0)
    random = scaled[RNG.choice(300, 20, replace=False)]
    covered, by_chance = (
        np.sqrt(((scaled[:, None] - anchors[None]) ** 2).sum(axis=2)).min(axis=1).max()
        for anchors in (fitted.anchors.astype(np.float64), random)
    )
    assert covered < 0.8 * by_chance
    assert (fitted.distance(KNOWN) > 1).mean() <= 0.011


def test_copies_and_features_that_never_change_count_once() -> None:
    twice = np.concatenate([KNOWN, KNOWN])
    fixed = np.c_[twice, np.full(600, 5.0)]
    asked = RNG.normal(size=(5, 3))
    fitted = Nearness.fit(fixed)
    assert fitted.distance(np.c_[asked, np.full(5, 5.0)]) == pytest.approx(
        Nearness.fit(KNOWN).distance(asked), rel=1e-3
    )
    assert fitted.distance(np.c_[asked, np.full(5, 9.0)]).min() > 1


def test_one_model_is_too_few() -> None:
    with pytest.raises(ValueError, match="expected two different models at least, got 1; measure more"):
        Nearness.fit(np.ones((5, 3)))


def test_it_is_read_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "nearness.npz"
    with pytest.raises(FileNotFoundError, match="export or copy the benchmark again"):
        Nearness.load(path)
    fitted = Nearness.fit(KNOWN)
    fitted.save(path)
    assert (Nearness.load(path).distance(KNOWN * 2) == fitted.distance(KNOWN * 2)).all()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="is damaged"):
        Nearness.load(path)
