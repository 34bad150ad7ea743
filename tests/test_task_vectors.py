"""Norms and cosines against whole tensors multiplied out in float64."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file

from automerge.merge import ResidentSources
from automerge.recipe import OUTER
from automerge.sources.adapter import AdapterSource
from automerge.sources.checkpoint import CheckpointSource
from automerge.task_vectors import TaskVectors, task_vectors
from tests import toy
from tests.adapters import make_adapter


def flat(folder: Path, wanted: Callable[[str], bool]) -> NDArray[np.float64]:
    """All wanted tensors of a model, end to end."""
    tensors = load_file(folder / "model.safetensors")
    return np.concatenate([tensors[name].double().numpy().ravel() for name in sorted(tensors) if wanted(name)])


def expected(folders: Iterable[Path], wanted: Callable[[str], bool]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    base, *others = [flat(folder, wanted) for folder in folders]
    vectors = np.array([other - base for other in others])
    norms = np.linalg.norm(vectors, axis=1)
    return norms / np.linalg.norm(base), vectors @ vectors.T / np.outer(norms, norms)


@pytest.fixture
def qwen2_vectors(qwen2: dict[str, Path]) -> TaskVectors:
    return task_vectors(ResidentSources([CheckpointSource(name, str(folder)) for name, folder in qwen2.items()]))


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        ((0, "attention"), lambda name: ".layers.0.self_attn." in name),
        ((2, "mlp"), lambda name: ".layers.2.mlp." in name),
        ((None, OUTER), lambda name: ".layers." not in name),
    ],
)
def test_a_slot_is_measured_over_all_its_tensors(
    qwen2: dict[str, Path], qwen2_vectors: TaskVectors, part: tuple[int | None, str], wanted: Callable[[str], bool]
) -> None:
    norms, cosines = expected(qwen2.values(), wanted)
    got = qwen2_vectors.at(part)
    np.testing.assert_allclose(got.norms, norms, rtol=1e-5)
    np.testing.assert_allclose(got.cosines, cosines, rtol=1e-4, atol=1e-6)


def test_layers_components_and_the_whole_add_up_their_slots(qwen2: dict[str, Path], qwen2_vectors: TaskVectors) -> None:
    got = [qwen2_vectors.layer(1), qwen2_vectors.component("mlp"), qwen2_vectors.component(OUTER)]
    got.append(qwen2_vectors.whole())
    wanted: list[Callable[[str], bool]] = [
        lambda name: ".layers.1." in name,
        lambda name: ".mlp." in name,
        lambda name: ".layers." not in name,
        lambda name: name != "",
    ]
    for geometry, of in zip(got, wanted, strict=True):
        norms, cosines = expected(qwen2.values(), of)
        np.testing.assert_allclose(geometry.norms, norms, rtol=1e-5)
        np.testing.assert_allclose(geometry.cosines, cosines, rtol=1e-4, atol=1e-6)
    assert qwen2_vectors.layers == (0, 1, 2)
    assert qwen2_vectors.components == ("attention", "mlp", "other")


def test_an_adapter_is_measured_without_being_multiplied_out_and_has_no_direction_where_it_changes_nothing(
    qwen2: dict[str, Path], tmp_path: Path
) -> None:
    base = CheckpointSource("base", str(qwen2["base"]))
    folder = make_adapter(qwen2["base"], tmp_path / "adapter", r=2, target_modules=["q_proj"])
    adapter = AdapterSource("adapter", str(folder), base=base)
    vectors = task_vectors(ResidentSources([base, adapter, CheckpointSource("left", str(qwen2["left"]))]))
    change = adapter.low_rank("model.layers.0.self_attn.q_proj.weight")
    assert change is not None
    length = np.linalg.norm((change.scale * change.up @ change.down).double().numpy())
    base_length = np.linalg.norm(flat(qwen2["base"], lambda name: ".layers.0.self_attn." in name))
    np.testing.assert_allclose(vectors.at((0, "attention")).norms[0], length / base_length, rtol=1e-5)
    silent = vectors.component("mlp")
    assert silent.norms[0] == 0
    assert np.isnan(silent.cosines[0]).all()
    assert silent.cosines[1, 1] == pytest.approx(1)


def test_settings_give_the_same_value_back_through_json(qwen2_vectors: TaskVectors) -> None:
    text = json.dumps(qwen2_vectors.to_settings(), allow_nan=False)
    assert TaskVectors.from_settings(json.loads(text)) == qwen2_vectors


def test_pairs_and_slots_that_a_model_lacks() -> None:
    vectors = TaskVectors(("a", "b"), {(0, "mlp"): ((4.0, 0.0, 0.0), (0.0, 1.0, -1.0), (0.0, -1.0, 1.0))})
    assert vectors.pairs == ((0, 1),)
    geometry = vectors.at((0, "mlp"), (0, "attention"))
    assert geometry.norms.tolist() == [0.5, 0.5]
    assert geometry.cosines.tolist() == [[1, -1], [-1, 1]]
    assert np.isnan(vectors.component("attention").norms).all()


def test_a_model_of_another_seed_is_measured_as_far_away(llama: dict[str, Path], tmp_path: Path) -> None:
    """Independent weights are at right angles: sqrt(2) but for the sampling of a few thousand entries."""
    other = toy.make_model(tmp_path / "other", seed=9)
    sources = [CheckpointSource("base", str(llama["base"])), CheckpointSource("other", str(other))]
    assert task_vectors(ResidentSources(sources)).component("mlp").norms[0] == pytest.approx(2**0.5, abs=0.05)
