"""Each method against a formula written out in numpy from its paper."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from automerge import methods
from automerge.merge import merge_tensors
from automerge.protocols import Elementwise

RNG = np.random.default_rng(0)
BASE = RNG.normal(size=(40, 30)).astype(np.float32)
SOURCES = [BASE + RNG.normal(scale=0.3, size=BASE.shape).astype(np.float32) for _ in range(3)]
WEIGHTS = [0.5, 0.9, 0.2]
KEYS = [("a", "w"), ("b", "w"), ("c", "w")]


def run(name: str, weights: list[float] | None = None, n: int = 3, **parameters: float) -> np.ndarray:
    """The merged array of the first n sources."""
    tensors = [torch.from_numpy(source) for source in SOURCES[:n]]
    chosen = (weights or WEIGHTS)[:n]
    merged = merge_tensors(name, tensors, chosen, base=torch.from_numpy(BASE), keys=KEYS[:n], **parameters)
    assert merged.dtype == torch.float32
    return np.asarray(merged.numpy())


def vectors(n: int = 3) -> list[np.ndarray]:
    """The task vectors of the first n sources."""
    return [source - BASE for source in SOURCES[:n]]


def elect_and_sum(values: list[np.ndarray]) -> np.ndarray:
    """Base plus the entries that agree with the sign of the sum."""
    sign = np.sign(np.sum(values, axis=0))
    agreeing = [np.where(np.sign(value) == sign, value, 0) for value in values]
    return np.asarray(BASE + np.sum(agreeing, axis=0))


def numbers(key: tuple[str, str], shape: tuple[int, ...] = BASE.shape) -> np.ndarray:
    """The fixed random bytes of a tensor, as `automerge.tensors.masks` documents them."""
    seed = int.from_bytes(hashlib.sha256("\0".join(("dare", *key)).encode()).digest()[:8], "big") >> 1
    generator = torch.Generator().manual_seed(seed)
    return np.asarray(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).numpy())


def n_inputs(name: str) -> int:
    """As many of the three sources as the method takes."""
    return min(3, methods.load(name).max_inputs or 3)


@pytest.mark.parametrize("name", methods.names())
def test_every_method_has_its_name_leaves_its_inputs_and_gives_finite_values(name: str) -> None:
    before = [source.copy() for source in (BASE, *SOURCES)]
    assert np.isfinite(run(name, n=n_inputs(name))).all()
    assert methods.load(name).name == name
    assert all((a == b).all() for a, b in zip(before, (BASE, *SOURCES), strict=True))


@pytest.mark.parametrize("name", methods.names())
def test_every_method_gives_identical_sources_back(name: str) -> None:
    tensors = [torch.from_numpy(SOURCES[0])] * n_inputs(name)
    method = methods.load(name)
    share = 1.0 if method.weighting == "ratio" else 1 / len(tensors)
    dense = {p.name: 1.0 for p in method.parameters if p.name == "density"}
    merged = merge_tensors(
        name, tensors, [share] * len(tensors), base=torch.from_numpy(BASE), keys=KEYS[: len(tensors)], **dense
    )
    np.testing.assert_allclose(merged.numpy(), SOURCES[0], atol=2e-5)


@pytest.mark.parametrize("name", [n for n in methods.names() if methods.load(n).weighting == "strength"])
def test_methods_with_strengths_give_the_base_at_weight_zero(name: str) -> None:
    np.testing.assert_array_equal(run(name, [0.0, 0.0, 0.0]), BASE)


@pytest.mark.parametrize("name", [n for n in methods.names() if methods.load(n).weighting == "ratio"])
def test_methods_by_ratio_do_not_see_a_common_factor(name: str) -> None:
    n = n_inputs(name)
    doubled = run(name, [2 * weight for weight in WEIGHTS], n=n)
    np.testing.assert_allclose(doubled, run(name, n=n), atol=2e-5)


@pytest.mark.parametrize("name", [n for n in methods.names() if isinstance(methods.load(n), Elementwise)])
def test_densities_outside_the_unit_interval_are_refused(name: str) -> None:
    for density in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"density in \(0, 1\]"):
            run(name, density=density)


def test_linear_is_the_normalized_weighted_mean() -> None:
    np.testing.assert_allclose(run("linear"), np.average(SOURCES, axis=0, weights=WEIGHTS), atol=1e-6)


def test_linear_refuses_weights_that_add_up_to_zero() -> None:
    with pytest.raises(ValueError, match="must not add up to 0"):
        run("linear", [0.0, 0.0, 0.0])


def test_slerp_of_orthogonal_tensors_is_the_great_circle() -> None:
    merged = merge_tensors("slerp", list(torch.eye(2)), [2.0, 1.0])
    angle = np.pi / 2 / 3
    np.testing.assert_allclose(merged.numpy(), [np.cos(angle), np.sin(angle)], atol=1e-6)


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Shoemake's formula in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    angle = np.arccos((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
    return np.asarray((np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle))


def test_slerp_agrees_with_the_formula_and_has_the_sources_at_its_ends() -> None:
    np.testing.assert_allclose(run("slerp", n=2), slerp(SOURCES[0], SOURCES[1], 0.9 / 1.4), atol=1e-5)
    np.testing.assert_allclose(run("slerp", [0.0, 1.0], n=2), SOURCES[1], atol=1e-6)


def test_slerp_of_colinear_tensors_is_the_straight_line() -> None:
    merged = merge_tensors("slerp", [torch.ones(4), 2 * torch.ones(4)], [1.0, 1.0])
    np.testing.assert_allclose(merged.numpy(), np.full(4, 1.5))


def test_slerp_and_nuslerp_refuse_three_inputs() -> None:
    for name in ("slerp", "nuslerp"):
        with pytest.raises(ValueError, match=f"{name} takes at most 2 inputs, got 3"):
            run(name)


def test_nuslerp_turns_task_vectors() -> None:
    d = vectors(2)
    np.testing.assert_allclose(run("nuslerp", n=2), BASE + slerp(d[0], d[1], 0.9 / 1.4), atol=1e-5)


def test_karcher_of_two_tensors_of_equal_norm_is_their_slerp() -> None:
    a, b = (source / np.linalg.norm(source) for source in SOURCES[:2])
    merged = merge_tensors("karcher", [torch.from_numpy(a), torch.from_numpy(b)], [1.0, 3.0])
    np.testing.assert_allclose(merged.numpy(), slerp(a, b, 0.75), atol=1e-6)


def test_karcher_is_the_point_where_the_weighted_logarithms_cancel() -> None:
    scattered = [RNG.normal(size=BASE.shape).astype(np.float32) for _ in range(3)]
    merged = merge_tensors("karcher", [torch.from_numpy(array) for array in scattered], WEIGHTS).double().numpy()
    mean = (merged / np.linalg.norm(merged)).ravel()
    tangent = np.zeros_like(mean)
    for weight, array in zip(WEIGHTS, scattered, strict=True):
        unit = (array / np.linalg.norm(array)).ravel().astype(np.float64)
        angle = np.arccos(mean @ unit)
        tangent += weight / sum(WEIGHTS) * angle / np.sin(angle) * (unit - (mean @ unit) * mean)
    assert np.linalg.norm(tangent) < 1e-4
    norms = [np.linalg.norm(array) for array in scattered]
    assert np.linalg.norm(merged) == pytest.approx(np.average(norms, weights=WEIGHTS), rel=1e-5)


def test_model_stock_mixes_by_the_angle() -> None:
    d = vectors()
    pairs = [(0, 1), (0, 2), (1, 2)]
    cosine = np.mean([(d[i] * d[j]).sum() / np.linalg.norm(d[i]) / np.linalg.norm(d[j]) for i, j in pairs])
    t = 3 * cosine / (1 + 2 * cosine)
    np.testing.assert_allclose(run("model_stock"), t * np.mean(SOURCES, axis=0) + (1 - t) * BASE, atol=1e-5)


def test_model_stock_refuses_one_input() -> None:
    with pytest.raises(ValueError, match="needs two inputs at least"):
        run("model_stock", n=1)


def test_task_arithmetic_adds_weighted_differences() -> None:
    expected = BASE + sum(w * d for w, d in zip(WEIGHTS, vectors(), strict=True))
    np.testing.assert_allclose(run("task_arithmetic"), expected, atol=1e-5)


def trimmed(density: float) -> list[np.ndarray]:
    """Weighted task vectors of which only the largest magnitudes are left."""
    kept = []
    for weight, d in zip(WEIGHTS, vectors(), strict=True):
        smallest = np.sort(np.abs(d).ravel())[-int(density * d.size)]
        kept.append(weight * np.where(np.abs(d) >= smallest, d, 0))
    return kept


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_ties_trims_elects_and_sums(density: float) -> None:
    np.testing.assert_allclose(run("ties", density=density), elect_and_sum(trimmed(density)), atol=1e-5)


def test_ties_normalized_divides_by_the_weights_that_agree() -> None:
    values = trimmed(0.5)
    sign = np.where(np.sum(values, axis=0) >= 0, 1, -1)
    agrees = [np.sign(value) == sign for value in values]
    total = np.sum([np.where(a, v, 0) for a, v in zip(agrees, values, strict=True)], axis=0)
    divisor = np.sum([w * a for a, w in zip(agrees, WEIGHTS, strict=True)], axis=0)
    expected = BASE + total / np.where(divisor == 0, 1, divisor)
    np.testing.assert_allclose(run("ties", density=0.5, normalize=1.0), expected, atol=1e-5)


def dropped(density: float) -> list[np.ndarray]:
    """Weighted task vectors of which the fixed random numbers leave a share, rescaled."""
    level = round(density * 256)
    return [
        w * np.where(numbers(key) < level, d * 256 / level, 0)
        for w, d, key in zip(WEIGHTS, vectors(), KEYS, strict=True)
    ]


@pytest.mark.parametrize("density", [0.1, 0.6, 1.0])
def test_dare_drops_by_fixed_numbers_and_rescales(density: float) -> None:
    values = dropped(density)
    np.testing.assert_allclose(run("dare_linear", density=density), BASE + np.sum(values, axis=0), atol=1e-5)
    np.testing.assert_allclose(run("dare_ties", density=density), elect_and_sum(values), atol=1e-5)


def test_dare_without_rescaling_keeps_the_size_of_entries() -> None:
    level = round(0.6 * 256)
    kept = [w * np.where(numbers(k) < level, d, 0) for w, d, k in zip(WEIGHTS, vectors(), KEYS, strict=True)]
    np.testing.assert_allclose(run("dare_linear", density=0.6, rescale=0.0), BASE + np.sum(kept, axis=0), atol=1e-5)


def test_dare_keeps_the_density_and_masks_nest() -> None:
    large = torch.ones(200_000)
    masks = {}
    for density in (0.25, 0.5, 0.75):
        merged = merge_tensors("dare_linear", [large], [1.0], density=density)
        masks[density] = merged > 0
        assert float(masks[density].float().mean()) == pytest.approx(density, abs=0.005)
        assert float(merged.max()) == pytest.approx(1 / density)
    assert bool((masks[0.25] <= masks[0.5]).all())
    assert bool((masks[0.5] <= masks[0.75]).all())


def test_della_keeps_large_entries_of_a_row_more_often() -> None:
    row = torch.arange(1.0, 100_001.0)
    merged = merge_tensors("della", [row], [1.0], density=0.5, epsilon=0.3, rescale=0.0)
    kept = (merged > 0).float()
    for share, expected in ((slice(0, 10_000), 0.23), (slice(45_000, 55_000), 0.5), (slice(90_000, None), 0.77)):
        assert float(kept[share].mean()) == pytest.approx(expected, abs=0.02)


def test_della_is_unbiased_and_without_epsilon_it_is_dare_ties() -> None:
    rows = torch.ones(50, 4_000) + torch.rand(50, 4_000, generator=torch.Generator().manual_seed(1))
    merged = merge_tensors("della", [rows], [1.0], density=0.5, epsilon=0.3)
    assert float(merged.mean()) == pytest.approx(float(rows.mean()), rel=0.01)
    np.testing.assert_allclose(run("della", density=0.5, epsilon=0.0), run("dare_ties", density=0.5), atol=1e-5)


@pytest.mark.parametrize(("density", "gamma"), [(0.5, 0.0), (0.5, 0.1), (0.95, 0.1)])
def test_breadcrumbs_drops_both_ends(density: float, gamma: float) -> None:
    expected = BASE.astype(np.float64)
    for weight, d in zip(WEIGHTS, vectors(), strict=True):
        order = np.argsort(np.abs(d).ravel())
        n_kept = int(density * d.size)
        first = max(0, d.size - n_kept - int(gamma * d.size))
        mask = np.zeros(d.size)
        mask[order[first : first + n_kept]] = 1
        expected = expected + weight * d * mask.reshape(d.shape)
    np.testing.assert_allclose(run("breadcrumbs", density=density, gamma=gamma), expected, atol=1e-5)


@pytest.mark.parametrize("density", [0.2, 1.0])
def test_sce_selects_by_variance_weighs_by_energy_and_erases(density: float) -> None:
    d = np.array(vectors()).astype(np.float64)
    spread = d.var(axis=0)
    smallest = np.sort(spread.ravel())[-int(density * spread.size)]
    d = d * (spread >= smallest)
    energy = (d**2).mean(axis=(1, 2)) * np.array(WEIGHTS)
    agrees = np.sign(d) == np.where(d.sum(axis=0) >= 0, 1, -1)
    shares = energy[:, None, None] * agrees / energy.sum()
    expected = BASE + (d * shares).sum(axis=0) / shares.sum(axis=0).clip(min=1e-6)
    np.testing.assert_allclose(run("sce", density=density), expected, atol=1e-4)
