import numpy as np
import pytest
import torch

from automerge.tensors.magnitudes import EXACT, PATTERN, Magnitudes, tabulate


def table(values: torch.Tensor) -> Magnitudes:
    """The table of values that come in three pieces."""
    return tabulate(((piece, []) for piece in values.chunk(3)), size=values.numel())


def kept(values: torch.Tensor, threshold: np.ndarray) -> np.ndarray:
    """Which values reach the row of thresholds that is laid over them again and again."""
    return np.asarray(values.numpy() >= np.resize(threshold, values.numel()))


@pytest.mark.parametrize("density", [0.001, 0.05, 0.1, 0.37, 0.5, 0.9, 0.999, 1.0])
def test_a_density_is_kept_within_a_thousandth_on_smooth_and_on_coarse_values(density: float) -> None:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.randn(300_000, generator=generator).abs() * 1e-3
    weights = torch.randn(300_000, generator=generator) * 0.02
    tuned = (weights.bfloat16().float() + torch.randn(300_000, generator=generator) * 2e-4).bfloat16().float()
    coarse = (tuned - weights.bfloat16().float()).abs()
    assert int(np.unique(coarse.numpy(), return_counts=True)[1].max()) > 3_000
    for values in (smooth, coarse):
        found = table(values)
        share = kept(values, found.threshold(round(density * found.size))).mean()
        assert share == pytest.approx(density, abs=0.001)


def test_thresholds_keep_the_largest_values() -> None:
    values = torch.rand(200_000, generator=torch.Generator().manual_seed(1))
    chosen = kept(values, table(values).threshold(60_000))
    cut = np.sort(values.numpy())[-60_000]
    assert (chosen != (values.numpy() >= cut)).mean() < 0.002
    assert values.numpy()[chosen].min() == pytest.approx(cut, rel=0.005)


def test_small_tensors_are_tabled_exactly() -> None:
    values = torch.rand(EXACT, generator=torch.Generator().manual_seed(2))
    for n_kept in (1, 17, EXACT // 2, EXACT):
        assert kept(values, table(values).threshold(n_kept)).sum() == n_kept


def test_nothing_reaches_the_threshold_of_no_entries() -> None:
    assert not kept(torch.rand(5_000), table(torch.rand(5_000)).threshold(0)).any()


def test_ties_at_the_boundary_are_divided_evenly_over_the_tensor() -> None:
    values = torch.ones(40 * PATTERN)
    chosen = kept(values, table(values).threshold(10 * PATTERN))
    assert chosen.mean() == pytest.approx(0.25)
    assert chosen.reshape(40, PATTERN).mean(axis=1) == pytest.approx(np.full(40, 0.25))


@pytest.mark.parametrize("size", [1_000, 100_000])
def test_sums_above_add_up_other_quantities_of_the_largest(size: int) -> None:
    generator = torch.Generator().manual_seed(3)
    values, other = torch.rand(size, generator=generator), torch.rand(size, generator=generator)
    found = tabulate(zip(values.chunk(4), ([o] for o in other.chunk(4)), strict=True), size=size)
    order = np.argsort(-values.numpy())
    for n_kept in (0, size // 10, size):
        expected = other.numpy()[order[:n_kept]].sum()
        assert found.sums_above(n_kept)[0] == pytest.approx(expected, rel=0.005, abs=1e-9)
