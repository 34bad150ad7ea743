import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from automerge import methods
from automerge.merge import ResidentSources, merge_tensors
from automerge.model import ResidentModel, load_causal_lm
from automerge.protocols import Source
from automerge.recipe import Fusion, Input, uniform
from automerge.resident import plans
from automerge.resident.placement import Placement
from automerge.sources.adapter import AdapterSource
from automerge.sources.checkpoint import CheckpointSource
from automerge.sources.memory import MemorySource
from tests import adapters, toy
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
    with pytest.raises(
        ValueError, match="unknown merging method 'magic'; known are breadcrumbs, dare_linear, dare_ties"
    ):
        resident.check(uniform(fused("magic", ("left", 1.0)), N_LAYERS))


def test_sources_without_a_base_are_refused(sources: list[CheckpointSource]) -> None:
    with pytest.raises(ValueError, match="one of them 'base'"):
        ResidentSources(sources[1:])


METHODS = [name for name in methods.names() if name != "passthrough"]


def any_fusion(name: str) -> Fusion:
    """The method over both variants with unequal weights and the parameters' defaults."""
    parameters = tuple((parameter.name, parameter.default) for parameter in methods.load(name).parameters)
    return Fusion(name, (Input("left", None, 0.6), Input("right", None, 0.7)), parameters)


@pytest.mark.parametrize("name", METHODS)
def test_weights_on_disk_in_the_host_or_on_the_device_give_the_same(name: str, sources: list[CheckpointSource]) -> None:
    recipe = uniform(any_fusion(name), N_LAYERS)
    states = {
        place: ResidentSources(sources, placement=place).state_dict(recipe) for place in ("device", "host", "disk")
    }
    for place in ("host", "disk"):
        assert all(torch.equal(states["device"][key], tensor) for key, tensor in states[place].items())


def test_weights_on_disk_take_no_memory_and_those_on_the_device_little_more_than_themselves(
    sources: list[CheckpointSource],
) -> None:
    stored = sum(math.prod(shape) * 2 for source in sources for shape in source.shapes.values())
    assert ResidentSources(sources, placement="disk").n_bytes == 0
    resident = ResidentSources(sources, placement="device")
    assert stored <= resident.n_bytes
    # Every tensor begins at a multiple of 64 entries, which is much only for tensors of 16.
    wasted = sum(2 * (-math.prod(shape) % 64) for source in sources for shape in source.shapes.values())
    assert resident.n_bytes == stored + wasted


def adapter_on(llama: dict[str, Path], folder: Path, *, seed: int = 1, **options: Any) -> AdapterSource:
    base = CheckpointSource("base", str(llama["base"]))
    adapters.make_adapter(llama["base"], folder, seed=seed, **options)
    return AdapterSource(folder.name, str(folder), base=base)


def materialised(source: AdapterSource) -> MemorySource:
    return MemorySource(source.name, {name: source.tensor(name) for name in source.shapes})


def test_an_adapter_is_known_by_what_it_stores_and_not_by_products_that_processors_round(
    sources: list[CheckpointSource], llama: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, stronger = (
        adapter_on(llama, tmp_path / name, target_modules=["q_proj"], **options)
        for name, options in {"one": {}, "other": {"seed": 2}, "stronger": {"lora_alpha": 3}}.items()
    )

    def fail(*_: object) -> None:
        raise AssertionError("a product is rounded otherwise elsewhere")

    monkeypatch.setattr("automerge.resident.weights.product", fail)
    found = ResidentSources([*sources, one, other, stronger]).fingerprints
    assert len(set(found.values())) == len(found) == len(sources) + 3
    assert ResidentSources([*sources, one]).fingerprints["one"] == found["one"]


@pytest.mark.parametrize("name", METHODS)
def test_adapters_and_checkpoints_mix_as_if_adapters_were_merged_in(
    name: str, sources: list[CheckpointSource], llama: dict[str, Path], tmp_path: Path
) -> None:
    adapter = adapter_on(llama, tmp_path / "adapter", r=3, target_modules=["q_proj", "up_proj"])
    parameters = any_fusion(name).parameters
    fusion = Fusion(name, (Input("left", None, 0.6), Input("adapter", None, 0.7)), parameters)
    recipe = uniform(fusion, N_LAYERS)
    mixed = ResidentSources([*sources, adapter]).state_dict(recipe)
    dense = ResidentSources([*sources, materialised(adapter)]).state_dict(recipe)
    for key, tensor in mixed.items():
        # The sums run in another order, so a value near the middle of two bfloat16 numbers may round to the other.
        torch.testing.assert_close(tensor.float(), dense[key].float(), rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize("name", ["linear", "slerp", "karcher", "model_stock", "ties", "dare_linear", "sce"])
@pytest.mark.parametrize("placement", ["device", "disk"])
def test_merging_leaves_the_sources_as_they_are(
    name: str, placement: Placement, llama: dict[str, Path], tmp_path: Path
) -> None:
    base = adapters.load(llama["base"])
    base.save_pretrained(tmp_path / "base")  # float32: pieces of it need no conversion, so they are no copies
    source = CheckpointSource("base", str(tmp_path / "base"))
    options: dict[str, Any] = {"r": 2, "target_modules": ["q_proj", "down_proj"]}
    given: list[Source] = [source]
    for seed, adapter in enumerate(("one", "two")):
        folder = adapters.make_adapter(tmp_path / "base", tmp_path / adapter, seed=seed, **options)
        given.append(AdapterSource(adapter, str(folder), base=source))
    sources = ResidentSources(given, placement=placement)
    recipe = uniform(Fusion(name, (Input("one", None, 0.5), Input("two", None, 0.5))), toy.N_LAYERS)
    plain = uniform(Fusion("passthrough", (Input("base", None),)), toy.N_LAYERS)
    first = sources.state_dict(recipe)
    assert all(torch.equal(tensor, first[key]) for key, tensor in sources.state_dict(recipe).items())
    assert all(torch.equal(tensor, source.tensor(key)) for key, tensor in sources.state_dict(plain).items())


def test_thirty_adapters_are_added_up_by_their_factors(
    llama: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [adapter_on(llama, tmp_path / f"a{k}", seed=k, r=4, target_modules=["q_proj"]) for k in range(30)]
    resident = ResidentSources([CheckpointSource("base", str(llama["base"])), *many])
    base = {name: many[0].tensor(name) for name in many[0].shapes if many[0].low_rank(name).is_base}  # type: ignore[union-attr]
    assert resident.n_bytes < 3 * sum(tensor.numel() * 4 for tensor in base.values())
    inputs = tuple(Input(adapter.name, None, 0.01 * k) for k, adapter in enumerate(many))
    monkeypatch.setattr(AdapterSource, "tensor", None)  # no dense tensor is asked for
    merged = resident.state_dict(uniform(Fusion("task_arithmetic", inputs), N_LAYERS))
    monkeypatch.undo()
    expected = CheckpointSource("base", str(llama["base"])).tensor(ATTENTION).float()
    for k, adapter in enumerate(many):
        expected = expected + 0.01 * k * (adapter.tensor(ATTENTION) - adapter._base.tensor(ATTENTION).float())
    torch.testing.assert_close(merged[ATTENTION].float(), expected, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("name", ["task_arithmetic", "ties"])
def test_a_task_vector_is_measured_from_the_base_at_its_own_layer(
    name: str, sources: list[CheckpointSource], llama: dict[str, Path]
) -> None:
    fusion = Fusion(
        name, (Input("left", 1, 0.5), Input("right", 2, 0.8)), (("density", 1.0),) if name == "ties" else ()
    )
    merged = dict(ResidentSources(sources).merge(fusion, "attention"))[ATTENTION].float()
    base, left, right = (weights(llama[source]) for source in ("base", "left", "right"))
    other = ATTENTION.replace("layers.1", "layers.2")
    vectors = [
        0.5 * (left[ATTENTION].float() - base[ATTENTION].float()),
        0.8 * (right[other].float() - base[other].float()),
    ]
    total = vectors[0] + vectors[1]
    if name == "ties":
        total = sum(torch.where(v * total > 0, v, 0.0) for v in vectors)  # type: ignore[assignment]
    torch.testing.assert_close(merged, base[ATTENTION].float() + total, rtol=2**-8, atol=1e-5)


def test_unknown_parameters_and_too_many_inputs_are_refused(sources: list[CheckpointSource]) -> None:
    resident = ResidentSources(sources)
    with pytest.raises(ValueError, match=r"ties has no parameters \['gamma'\]; it takes \['density', 'normalize'\]"):
        resident.check(uniform(Fusion("ties", (Input("left", None),), (("gamma", 0.1),)), N_LAYERS))
    three = tuple(Input(source, None) for source in ("base", "left", "right"))
    with pytest.raises(ValueError, match="slerp takes at most 2 inputs, got 3"):
        resident.check(uniform(Fusion("slerp", three), N_LAYERS))


def test_inner_products_are_those_of_base_and_task_vectors(
    sources: list[CheckpointSource], llama: dict[str, Path]
) -> None:
    found = ResidentSources(sources).inner_products(ATTENTION)
    base, left, right = (weights(llama[source])[ATTENTION].double().flatten() for source in ("base", "left", "right"))
    rows = torch.stack([base, left - base, right - base])
    np.testing.assert_allclose(found, (rows @ rows.T).numpy(), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_adapters_that_store_some_tensors_whole_are_merged_alike_live_and_from_disk(
    name: str, llama: dict[str, Path], tmp_path: Path
) -> None:
    adapter = adapter_on(
        llama,
        tmp_path / "adapter",
        r=2,
        lora_alpha=1,
        target_modules=["q_proj"],
        modules_to_save=["up_proj", "lm_head"],
    )
    given: list[Source] = [CheckpointSource(source, str(llama[source])) for source in ("base", "left")]
    given.append(adapter)
    parameters = any_fusion(name).parameters
    fusion = Fusion(name, (Input("left", None, 0.6), Input("adapter", None, 0.7)), parameters)
    recipe = uniform(fusion, N_LAYERS)
    live = ResidentModel(load_causal_lm(llama["base"]), ResidentSources(given, placement="device"))
    live.write(recipe)
    held = live.lm.model.state_dict()
    for key, tensor in ResidentSources(given, placement="disk").tensors(recipe):
        assert torch.equal(held[key], tensor.float()), key
        assert tensor.float().norm() > 0


def test_rows_of_factors_stay_whole_on_the_way_into_a_model_of_another_dtype(
    llama: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "CHUNK", 50)  # no multiple of the widths, 16 and 32
    adapter = adapter_on(llama, tmp_path / "adapter", r=2, target_modules=["q_proj", "down_proj"])
    resident = ResidentSources([CheckpointSource("base", str(llama["base"])), adapter])
    live = ResidentModel(load_causal_lm(llama["base"]), resident)
    recipe = uniform(fused("task_arithmetic", ("adapter", 0.5)), N_LAYERS)
    live.write(recipe)
    held = live.lm.model.state_dict()
    assert all(torch.equal(held[key], tensor.float()) for key, tensor in resident.tensors(recipe))


def test_on_disk_no_masks_are_kept(sources: list[CheckpointSource]) -> None:
    sizes = {}
    for place in ("device", "disk"):
        resident = ResidentSources(sources, placement=place)
        before = resident.n_bytes
        resident.state_dict(uniform(any_fusion("della"), N_LAYERS))
        sizes[place] = resident.n_bytes - before
    n_values = sum(math.prod(shape) for shape in sources[0].shapes.values())
    assert sizes == {"device": 2 * 2 * n_values, "disk": 0}


def test_inputs_that_do_not_fit_together_are_refused() -> None:
    one, other = torch.ones(4), torch.ones(3)
    with pytest.raises(ValueError, match="as many tensors as weights and keys, one at least, got 0, 0 and 0"):
        merge_tensors("linear", [], [])
    with pytest.raises(ValueError, match="got 2, 1 and 2"):
        merge_tensors("linear", [one, one], [1.0])
    with pytest.raises(ValueError, match=r"must have one shape, got \[\(4,\), \(4,\), \(3,\)\]"):
        merge_tensors("linear", [one, other], [1.0, 1.0])
    with pytest.raises(ValueError, match="keys of different sources"):
        merge_tensors("linear", [one, one], [1.0, 1.0], keys=[("a", "w"), ("a", "w")])
    with pytest.raises(ValueError, match=r"ties has no parameters \['densty'\]"):
        merge_tensors("ties", [one], [1.0], densty=0.3)
    with pytest.raises(ValueError, match="must be finite"):
        merge_tensors("linear", [one, one], [float("nan"), 1.0])
