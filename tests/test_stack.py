"""The live model as a stack: what is asked of it is what a model of those layers answers, and nothing is copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaForCausalLM

from automerge.merge import ResidentSources
from automerge.model import DType, ResidentModel, load_causal_lm
from automerge.recipe import COMPONENTS, Fusion, Input, OutputLayer, Recipe, Scaling, uniform
from automerge.scaling import gains
from automerge.sources.adapter import AdapterSource
from automerge.sources.checkpoint import CheckpointSource
from tests import adapters, architectures
from tests.toy import N_LAYERS, fused

OUTER = Fusion("passthrough", (Input("left", None),))
MEAN = uniform(fused("linear", ("left", 0.5), ("right", 0.5)), N_LAYERS)


def stack(
    *layers: tuple[str, int] | tuple[str, int, float], scaling: Scaling = "residual", outer: str = "left"
) -> Recipe:
    """Layers of sources as they are: (source, layer) or (source, layer, scale)."""
    made = []
    for source, layer, *scale in layers:
        fusion = Fusion("passthrough", (Input(source, layer),))
        made.append(OutputLayer(tuple((component, fusion) for component in COMPONENTS), *scale))
    return Recipe(tuple(made), Fusion("passthrough", (Input(outer, None),)), scaling)


def tokens(resident: ResidentModel) -> Tensor:
    n_tokens: int = resident.lm.model.config.vocab_size
    return torch.arange(2 * 9).view(2, 9) % n_tokens


def logits(resident: ResidentModel) -> Tensor:
    with torch.inference_mode():
        found: Tensor = resident.lm.model(input_ids=tokens(resident)).logits
    return found


def by_hand(resident: ResidentModel, folders: dict[str, Path], recipe: Recipe) -> Tensor:
    """The logits of a stack, its layers run one after the other by hand, hidden states and branches truly scaled."""
    models: dict[str, Any] = {
        name: LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32) for name, folder in folders.items()
    }
    ids = tokens(resident)
    left = models["left"].model
    hidden = left.embed_tokens(ids)
    positions = left.rotary_emb(hidden, torch.arange(ids.shape[1])[None])
    mask = torch.full((ids.shape[1], ids.shape[1]), float("-inf")).triu(1)[None, None]
    with torch.inference_mode():
        for output in recipe.layers:
            read = output.components[0][1].inputs[0]
            layer = models[read.source].model.layers[read.layer]
            attended, _ = layer.self_attn(
                hidden_states=layer.input_layernorm(hidden), position_embeddings=positions, attention_mask=mask
            )
            hidden = hidden + attended
            added = layer.mlp(layer.post_attention_layernorm(hidden))
            hidden = (
                hidden + added * output.scale if recipe.scaling == "branch_mlp" else (hidden + added) * output.scale
            )
        found: Tensor = models["left"].lm_head(left.norm(hidden))
    return found


def pointers(resident: ResidentModel) -> list[set[int]]:
    """For every layer of the live model the places in memory where its parameters begin."""
    return [{parameter.data_ptr() for parameter in layer.parameters()} for layer in resident.layers]


@pytest.fixture
def whole(llama: dict[str, Path], tmp_path: Path) -> ResidentModel:
    """Sources stored in float32, in which a CPU computes, so that layers can be referred to where they lie."""
    sources = []
    for name, folder in llama.items():
        (tmp_path / name).mkdir()
        weights = {key: tensor.float() for key, tensor in load_file(folder / "model.safetensors").items()}
        save_file(weights, tmp_path / name / "model.safetensors", metadata={"format": "pt"})
        (tmp_path / name / "config.json").write_text((folder / "config.json").read_text())
        sources.append(CheckpointSource(name, str(tmp_path / name)))
    return ResidentModel(load_causal_lm(llama["base"]), ResidentSources(sources, model_type="llama"))


@pytest.mark.parametrize(
    "recipe",
    [
        stack(("left", 0)),
        stack(("left", 2), ("right", 0), ("right", 2), ("left", 1)),
        stack(("left", 0), ("left", 0), ("right", 1), ("left", 0), ("left", 2)),
    ],
    ids=["pruned", "mixed", "repeated"],
)
def test_a_stack_answers_as_its_layers_run_by_hand(
    recipe: Recipe, resident: ResidentModel, llama: dict[str, Path]
) -> None:
    resident.write(MEAN)
    assert resident.write(recipe) == 1  # the outer part; no layer is merged
    torch.testing.assert_close(logits(resident), by_hand(resident, llama, recipe), rtol=0, atol=1e-5)
    resident.write(uniform(OUTER, N_LAYERS))
    torch.testing.assert_close(logits(resident), by_hand(resident, llama, uniform(OUTER, N_LAYERS)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scaling", ["residual", "branch_mlp"])
def test_a_scaled_stack_answers_as_one_whose_hidden_states_or_branches_are_scaled(
    scaling: Scaling, whole: ResidentModel, llama: dict[str, Path]
) -> None:
    recipe = stack(("left", 0, 0.6), ("right", 1, 1.4), ("right", 1, 0.8), ("left", 2, 1.2), scaling=scaling)
    plain = stack(("left", 0), ("right", 1), ("right", 1), ("left", 2))
    whole.write(plain)
    unscaled = logits(whole)
    whole.write(recipe)
    effect = (unscaled - logits(whole)).abs().max()
    # Norms add an epsilon to what they divide by, which scaled hidden states meet and gains do not.
    assert (logits(whole) - by_hand(whole, llama, recipe)).abs().max() < 0.01 * effect
    whole.write(plain)
    assert torch.equal(logits(whole), unscaled)


def test_layers_are_referred_to_where_their_sources_lie_and_repeats_share_them(whole: ResidentModel) -> None:
    n_bytes = whole.sources.n_bytes
    assert whole.write(stack(("left", 1), ("right", 0), ("left", 1))) == 1
    first, other, again = pointers(whole)
    assert first == again
    assert not first & other
    before = [parameter.clone() for parameter in whole.layers[0].parameters()]
    # Neither another gain nor a fusion in the same module may touch the source.
    whole.write(stack(("right", 1, 0.5), ("left", 1, 0.5), ("left", 1)))
    whole.write(MEAN)
    assert whole.write(stack(("left", 1), ("right", 0), ("left", 1))) == 1
    assert pointers(whole)[0] == first
    assert all(torch.equal(a, b) for a, b in zip(before, whole.layers[0].parameters(), strict=True))
    assert whole.sources.n_bytes == n_bytes


def test_gains_are_folded_into_the_ends_of_branches_and_the_rest_stays_shared(whole: ResidentModel) -> None:
    whole.write(stack(("left", 0, 0.5), ("left", 1)))
    shared = dict(whole.layers[1].named_parameters())
    values = {name: (parameter.data_ptr(), parameter.clone()) for name, parameter in shared.items()}
    whole.write(stack(("left", 0), ("left", 1)))
    for name, parameter in whole.layers[1].named_parameters():
        pointer, scaled = values[name]
        ends = name in {"self_attn.o_proj.weight", "mlp.down_proj.weight"}
        assert (parameter.data_ptr() == pointer) != ends
        assert torch.equal(scaled, 2 * parameter if ends else parameter)


def test_every_occurrence_of_a_layer_has_its_own_place_in_the_cache(resident: ResidentModel) -> None:
    recipe = stack(("left", 0), ("left", 0), ("right", 2), ("left", 0))
    resident.write(recipe)
    numbered: list[Any] = resident.layers
    assert [layer.self_attn.layer_idx for layer in numbered] == [0, 1, 2, 3]
    live = resident.lm.model
    ids = tokens(resident)
    with torch.inference_mode():
        cache = live(input_ids=ids[:, :5], use_cache=True).past_key_values
        stepped = live(input_ids=ids[:, 5:], past_key_values=cache, use_cache=True).logits
    assert len(cache.layers) == 4
    torch.testing.assert_close(stepped, logits(resident)[:, 5:], rtol=0, atol=1e-5)


def test_only_what_a_recipe_changes_is_written(resident: ResidentModel) -> None:
    mixed = Recipe((MEAN.layers[2], *stack(("left", 0), ("right", 1)).layers, MEAN.layers[0]), MEAN.outer)
    assert resident.write(mixed) == 3 + 3 + 1
    assert resident.write(mixed) == 0
    # The same layers in another order are there already.
    assert resident.write(Recipe(mixed.layers[::-1], MEAN.outer)) == 0
    assert resident.write(MEAN) == 3  # its middle layer; the others have just been merged


def test_without_memory_for_copies_layers_are_written(
    resident: ResidentModel, llama: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automerge.stack.free_bytes", lambda _device: 0)
    recipe = stack(("left", 1), ("right", 0), ("left", 1))
    assert resident.write(recipe) == 3 * len(recipe.layers) + 1
    torch.testing.assert_close(logits(resident), by_hand(resident, llama, recipe), rtol=0, atol=1e-5)


def test_copies_of_layers_leave_their_share_of_memory_free(
    resident: ResidentModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stack(*(("left", depth) for depth in range(N_LAYERS)), ("right", 0))
    layer = resident._stack.n_bytes_of_copies() // (2 * N_LAYERS)
    # However little is left, what is free is never asked again: copies may take nine tenths of it in all.
    monkeypatch.setattr("automerge.stack.free_bytes", lambda _device: 2.5 * layer)
    resident.write(whole)
    kept = sum(flat.numel() * flat.itemsize for flats in resident._stack._kept.values() for flat in flats)
    assert 1.5 * layer < kept <= 0.9 * 2.5 * layer


def test_modules_beyond_the_first_are_forgotten_with_their_weights(resident: ResidentModel) -> None:
    fused = Recipe((MEAN.layers[0],) * 4, MEAN.outer)
    assert resident.write(fused) == 4 * 3 + 1
    assert len({id(layer) for layer in resident.layers}) == 4
    resident.write(MEAN)
    assert len(resident._stack._bodies[0]) == 1


def test_recipes_that_leave_a_component_out_or_join_unlike_layers_are_refused(
    resident: ResidentModel, tmp_path: Path
) -> None:
    whole = stack(("left", 0), ("left", 1))
    gap = OutputLayer(whole.layers[1].components[:1] + whole.layers[1].components[2:])
    with pytest.raises(ValueError, match="layer 1 of the recipe does not say what its mlp is made of"):
        resident.write(Recipe((whole.layers[0], gap), OUTER))
    twice = OutputLayer((*whole.layers[1].components, whole.layers[1].components[0]))
    with pytest.raises(ValueError, match="layer 1 of the recipe names a component twice"):
        resident.write(Recipe((whole.layers[0], twice), OUTER))
    base = architectures.make(tmp_path, "qwen3_moe", mlp_only_layers=[0])
    unlike = ResidentModel(load_causal_lm(base), ResidentSources([CheckpointSource("base", str(base))]))
    reads = [Fusion("passthrough", (Input("base", depth),)) for depth in (0, 1, 0)]
    mixed = OutputLayer(tuple(zip(COMPONENTS, reads, strict=True)))
    with pytest.raises(ValueError, match="has the mlp of layer 1, whose tensors are unlike those of layer 0"):
        unlike.write(Recipe((mixed,), Fusion("passthrough", (Input("base", None),))))


def test_an_adapter_that_leaves_layers_alone_shares_those_of_the_base(
    llama: dict[str, Path], tmp_path: Path, whole: ResidentModel
) -> None:
    folder = adapters.make_adapter(llama["base"], tmp_path / "adapter", r=2, target_modules=["q_proj"])
    base = CheckpointSource("base", str(tmp_path / "base"))
    sources = ResidentSources([base, AdapterSource("adapter", str(folder), base=base)])
    resident = ResidentModel(load_causal_lm(llama["base"]), sources)
    resident.write(stack(("adapter", 0), ("base", 0), outer="base"))
    changed, plain = (dict(layer.named_parameters()) for layer in resident.layers)
    shared = {name for name, parameter in changed.items() if parameter.data_ptr() == plain[name].data_ptr()}
    assert shared == {name for name in changed if not name.startswith("self_attn")}


def test_a_layer_that_no_source_has_and_scales_out_of_bounds_are_refused(resident: ResidentModel) -> None:
    resident.write(MEAN)
    expected = logits(resident)
    with pytest.raises(ValueError, match=r"reads layer 3; the sources have layers 0\.\.2"):
        resident.write(stack(("left", 0), ("left", 3)))
    with pytest.raises(ValueError, match=r"layer 0 scales the residual stream by 0\.01"):
        resident.write(stack(("left", 0, 0.01), ("left", 1)))
    assert torch.equal(logits(resident), expected)
    resident.write(stack(("left", 0)))
    assert resident.write(MEAN) == 4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(("family", "end"), [("llama", "mlp.down_proj.weight"), ("mixtral", "mlp.experts.down_proj")])
def test_half_precision_folds_from_the_stored_weights(family: str, end: str, dtype: DType, tmp_path: Path) -> None:
    base = architectures.make(tmp_path, family)
    file = base / "model.safetensors"
    save_file({name: tensor.float() * 1.001 for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    sources = ResidentSources([CheckpointSource("base", str(base))], model_type=family)
    half = ResidentModel(load_causal_lm(base, dtype=dtype), sources)
    recipe = stack(("base", 0, 0.7), ("base", 1), outer="base")
    half.write(recipe)
    stored = dict(sources.tensors(recipe))
    names = [name for name in stored if "layers.1." in name and ("down_proj" in name or ".w2." in name)]
    expected = torch.stack([stored[name].to(getattr(torch, dtype)) for name in names]).squeeze(0)
    assert torch.equal(dict(half.layers[1].named_parameters())[end], expected)
    assert gains(recipe)[1].mlp == pytest.approx(1 / 0.7)
