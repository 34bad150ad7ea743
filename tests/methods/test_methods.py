"""Each method against a formula written out in numpy from its paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from automerge import methods
from automerge.methods.ties import N_QUANTILES, threshold
from automerge.protocols import Method

RNG = np.random.default_rng(0)
BASE = RNG.normal(size=(40, 30)).astype(np.float32)
SOURCES = [BASE + RNG.normal(scale=0.3, size=BASE.shape).astype(np.float32) for _ in range(3)]
WEIGHTS = [0.5, 0.9, 0.2]


def run(method: Method, weights: list[float] | None = None, n: int = 3, **parameters: float) -> np.ndarray:
    """The merged array of the first n sources."""
    tensors = [torch.from_numpy(source) for source in SOURCES[:n]]
    base = torch.from_numpy(BASE) if method.needs_base else None
    prepared = [method.prepare(tensor, base, key=(str(k),)) for k, tensor in enumerate(tensors)]
    merged = method(tensors, (weights or WEIGHTS)[:n], base=base, prepared=prepared, **parameters)
    assert merged.dtype == torch.float32
    return np.asarray(merged.numpy())


def elect_and_sum(vectors: list[np.ndarray]) -> np.ndarray:
    """Base plus the entries that agree with the sign of the sum."""
    sign = np.sign(np.sum(vectors, axis=0))
    agreeing = [np.where(np.sign(vector) == sign, vector, 0) for vector in vectors]
    return np.asarray(BASE + np.sum(agreeing, axis=0))


@pytest.mark.parametrize("name", methods.names())
def test_every_method_has_its_name_leaves_its_inputs_and_gives_finite_values(name: str) -> None:
    method = methods.load(name)
    before = [source.copy() for source in (BASE, *SOURCES)]
    n = {"passthrough": 1, "slerp": 2}.get(name, 3)
    assert np.isfinite(run(method, n=n)).all()
    assert method.name == name
    assert all((a == b).all() for a, b in zip(before, (BASE, *SOURCES), strict=True))


def test_linear_is_the_normalized_weighted_mean() -> None:
    expected = np.average(SOURCES, axis=0, weights=WEIGHTS)
    np.testing.assert_allclose(run(methods.load("linear")), expected, atol=1e-6)


def test_linear_refuses_weights_that_add_up_to_zero() -> None:
    with pytest.raises(ValueError, match="must not add up to 0"):
        run(methods.load("linear"), [0.0, 0.0, 0.0])


def test_slerp_of_orthogonal_tensors_is_the_great_circle() -> None:
    slerp = methods.load("slerp")
    first, second = torch.eye(2)
    merged = slerp([first, second], [2.0, 1.0], base=None, prepared=[None, None])
    angle = np.pi / 2 / 3
    np.testing.assert_allclose(merged.numpy(), [np.cos(angle), np.sin(angle)], atol=1e-6)


def test_slerp_agrees_with_the_formula_and_has_the_sources_at_its_ends() -> None:
    a, b = SOURCES[:2]
    angle = np.arccos((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
    t = 0.9 / 1.4
    expected = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    np.testing.assert_allclose(run(methods.load("slerp"), n=2), expected, atol=1e-5)
    np.testing.assert_allclose(run(methods.load("slerp"), [0.0, 1.0], n=2), b, atol=1e-6)


def test_slerp_of_colinear_tensors_is_the_straight_line() -> None:
    slerp = methods.load("slerp")
    merged = slerp([torch.ones(4), 2 * torch.ones(4)], [1.0, 1.0], base=None, prepared=[None, None])
    np.testing.assert_allclose(merged.numpy(), np.full(4, 1.5))


def test_slerp_refuses_three_inputs() -> None:
    with pytest.raises(ValueError, match="slerp takes two inputs"):
        run(methods.load("slerp"))


def test_task_arithmetic_adds_weighted_differences() -> None:
    expected = BASE + sum(w * (source - BASE) for w, source in zip(WEIGHTS, SOURCES, strict=True))
    np.testing.assert_allclose(run(methods.load("task_arithmetic")), expected, atol=1e-5)


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_ties_trims_elects_and_sums(density: float) -> None:
    vectors = []
    for weight, source in zip(WEIGHTS, SOURCES, strict=True):
        difference = source - BASE
        kept = np.sort(np.abs(difference).ravel())[-round(density * BASE.size)]
        vectors.append(weight * np.where(np.abs(difference) >= kept, difference, 0))
    np.testing.assert_allclose(run(methods.load("ties"), density=density), elect_and_sum(vectors), atol=1e-5)


def test_ties_thresholds_of_large_tensors_keep_the_density() -> None:
    values = torch.from_numpy(RNG.normal(size=300_000).astype(np.float32))
    table = methods.load("ties").prepare(values, torch.zeros_like(values), key=())
    assert table is not None
    assert len(table) == N_QUANTILES
    for density in (0.05, 0.1, 0.37, 0.9, 1.0):
        kept = float((values.abs() >= threshold(table, density)).float().mean())
        assert kept == pytest.approx(density, abs=0.001)


def test_dare_ties_keeps_the_density_rescales_and_nests() -> None:
    dare = methods.load("dare_ties")
    large = torch.ones(200_000)
    numbers = [dare.prepare(large, torch.zeros(200_000), key=("a", "w"))]
    masks = {}
    for density in (0.25, 0.5, 0.75):
        merged = dare([large], [1.0], base=torch.zeros(200_000), prepared=numbers, density=density)
        masks[density] = merged > 0
        assert float(masks[density].float().mean()) == pytest.approx(density, abs=0.005)
        assert float(merged.max()) == pytest.approx(1 / density)
    assert bool((masks[0.25] <= masks[0.5]).all())
    assert bool((masks[0.5] <= masks[0.75]).all())


def test_dare_ties_at_full_density_is_ties_at_full_density() -> None:
    np.testing.assert_allclose(
        run(methods.load("dare_ties"), density=1.0), run(methods.load("ties"), density=1.0), atol=1e-5
    )


def test_dare_masks_depend_on_source_and_tensor_alone() -> None:
    dare = methods.load("dare_ties")
    tensor = torch.zeros(1000)
    first = dare.prepare(tensor, tensor, key=("a", "w"))
    assert first is not None
    assert torch.equal(first, dare.prepare(tensor, tensor, key=("a", "w")))  # type: ignore[arg-type]
    assert not torch.equal(first, dare.prepare(tensor, tensor, key=("b", "w")))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["task_arithmetic", "ties", "dare_ties"])
def test_task_vector_methods_with_weight_zero_give_the_base(name: str) -> None:
    np.testing.assert_array_equal(run(methods.load(name), [0.0, 0.0, 0.0]), BASE)


@pytest.mark.parametrize("name", ["ties", "dare_ties"])
def test_densities_outside_the_unit_interval_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"a density in \(0, 1\]"):
        run(methods.load(name), density=0.0)
