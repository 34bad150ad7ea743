"""Layers tied to a random degree."""

import numpy as np
import pytest

from automerge.tying import tied_layers


@pytest.mark.parametrize("n_layers", [1, 2, 3, 32])
def test_intervals_are_numbered_in_order_of_depth(n_layers: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        numbers = tied_layers(n_layers, rng)
        assert numbers.shape == (n_layers,)
        assert numbers.min() >= 0
        assert numbers.max() < n_layers
        assert (np.diff(numbers) >= 0).all()


def test_a_third_has_one_interval_a_third_a_few_and_a_third_one_per_layer() -> None:
    rng = np.random.default_rng(1)
    counts = np.array([len(np.unique(tied_layers(32, rng))) for _ in range(3000)])
    assert np.mean(counts == 1) == pytest.approx(1 / 3, abs=0.03)
    assert np.mean(counts == 32) == pytest.approx(1 / 3, abs=0.03)
    few = counts[(counts > 1) & (counts < 32)]
    assert set(few) >= {2, 5, 10}
    assert few.max() <= 17
