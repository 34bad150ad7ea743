from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from automerge.merge import ResidentSources
from automerge.recipe import Fusion, Input, uniform
from automerge.sources.checkpoint import CheckpointSource
from tests import toy
from tests.toy import N_LAYERS, fused

ATTENTION = "model.layers.1.self_attn.q_proj.weight"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_passthrough_gives_a_source_bit_for_bit(sources: list[CheckpointSource], llama: dict[str, Path]) -> None:
    state = ResidentSources(sources).state_dict(uniform(fused("passthrough", ("left", 1.0)), N_LAYERS))
    expected = weights(llama["left"])
    assert set(state) == set(expected)
    assert all(torch.equal(state[name], expected[name]) and state[name].dtype == torch.bfloat16 for name in expected)


def test_linear_and_task_arithmetic_agree_with_numpy(sources: list[CheckpointSource], llama: dict[str, Path]) -> None:
    resident = ResidentSources(sources)
    arrays = {name: {k: t.double().numpy() for k, t in weights(folder).items()} for name, folder in llama.items()}
    mean = resident.state_dict(uniform(fused("linear", ("left", 0.6), ("right", 0.9)), N_LAYERS))
    sums = resident.state_dict(uniform(fused("task_arithmetic", ("left", 0.6), ("right", 0.9)), N_LAYERS))
    for name, base in arrays["base"].items():
        left, right = arrays["left"][name], arrays["right"][name]
        for merged, expected in (
            (mean[name], 0.4 * left + 0.6 * right),
            (sums[name], base + 0.6 * (left - base) + 0.9 * (right - base)),
        ):
            np.testing.assert_allclose(merged.double().numpy(), expected, rtol=2**-8, atol=1e-5)


def test_recipes_of_different_methods_by_component_touch_only_their_component(
    sources: list[CheckpointSource], llama: dict[str, Path]
) -> None:
    resident = ResidentSources(sources)
    merged = dict(resident.merge(Fusion("passthrough", (Input("right", 1),)), "attention"))
    assert sorted(merged) == [f"model.layers.1.self_attn.{p}_proj.weight" for p in ("k", "o", "q", "v")]
    assert torch.equal(merged[ATTENTION], weights(llama["right"])[ATTENTION])


def test_a_layer_can_be_read_from_another_depth(sources: list[CheckpointSource], llama: dict[str, Path]) -> None:
    resident = ResidentSources(sources)
    recipe = uniform(fused("passthrough", ("base", 1.0)), N_LAYERS)
    stack = type(recipe)(layers=(recipe.layers[2], recipe.layers[0]), outer=recipe.outer)
    state = resident.state_dict(stack)
    assert torch.equal(
        state["model.layers.0.mlp.up_proj.weight"], weights(llama["base"])["model.layers.2.mlp.up_proj.weight"]
    )
    assert not any(name.startswith("model.layers.2.") for name in state)
    assert resident.n_parameters(stack) == sum(tensor.numel() for tensor in state.values())


def test_nan_in_a_source_is_refused_by_name(llama: dict[str, Path], tmp_path: Path) -> None:
    broken = toy.make_model(tmp_path / "broken", seed=3)
    state = weights(broken)
    state[ATTENTION][0, 0] = float("nan")
    save_file(state, broken / "model.safetensors", metadata={"format": "pt"})
    pair = [CheckpointSource("base", str(llama["base"])), CheckpointSource("broken", str(broken))]
    with pytest.raises(ValueError, match=f"broken: {ATTENTION}"):
        ResidentSources(pair)


def test_unknown_sources_layers_and_methods_are_named(sources: list[CheckpointSource]) -> None:
    resident = ResidentSources(sources)
    with pytest.raises(ValueError, match=r"unknown sources \['nobody'\]; there are"):
        resident.check(uniform(fused("passthrough", ("nobody", 1.0)), N_LAYERS))
    with pytest.raises(ValueError, match=r"reads layer 3; the sources have layers 0..2"):
        resident.check(uniform(fused("passthrough", ("left", 1.0)), N_LAYERS + 1))
    with pytest.raises(ValueError, match="unknown merging method 'magic'; known are dare_ties, linear"):
        resident.check(uniform(fused("magic", ("left", 1.0)), N_LAYERS))


def test_sources_without_a_base_are_refused(sources: list[CheckpointSource]) -> None:
    with pytest.raises(ValueError, match="one of them 'base'"):
        ResidentSources(sources[1:])
