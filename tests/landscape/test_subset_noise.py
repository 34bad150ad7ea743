import numpy as np
import pytest

from automerge.landscape.subset_noise import SubsetNoise

N = 300


def models(n: int, *, alike: bool, easier: float = 0.0, seed: int = 0) -> np.ndarray:
    """Items right or wrong; with `alike` the same items are hard for all models; the first 30 may be easier."""
    rng = np.random.default_rng(seed)
    hard = rng.random(N)
    chances = np.clip(np.where(np.arange(N) < 30, 0.5 + easier, 0.5), 0, 1)
    if alike:
        skill = rng.uniform(-0.03, 0.03, size=(n, 1))
        return (hard < chances + skill).astype(float)
    return (rng.random((n, N)) < chances).astype(float)


def test_an_offset_common_to_all_models_is_found() -> None:
    noise = SubsetNoise([models(12, alike=False, easier=0.3), models(12, alike=False)])
    offsets = noise.offsets(30)
    assert offsets[0] == pytest.approx(0.27 / 2, abs=0.03)
    assert abs(offsets[1]) < 0.04
    assert (noise.offsets(N) == 0).all()


def test_items_that_are_hard_for_all_scatter_less_than_independent_ones() -> None:
    noise = SubsetNoise([models(16, alike=True), models(200, alike=False)])
    assert noise.factors[0] < 0.5
    assert noise.factors[1] == pytest.approx(1.0, abs=0.2)
    assert (noise.factors <= 1).all()


def test_few_models_say_nothing() -> None:
    noise = SubsetNoise.of([{"a": (1.0, 0.0, 1.0)}] * 2, ["a", "b"])
    assert noise.factors.tolist() == [1.0, 1.0]
    assert noise.offsets(2).tolist() == [0.0, 0.0]
