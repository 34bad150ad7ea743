from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import MambaConfig, MambaForCausalLM

from automerge.language_model import InvalidModelError
from automerge.merge import ResidentSources
from automerge.model import ResidentModel, load_causal_lm
from automerge.recipe import Recipe, uniform
from automerge.sources.checkpoint import CheckpointSource
from tests import toy
from tests.toy import N_LAYERS, fused

LEFT = uniform(fused("passthrough", ("left", 1.0)), N_LAYERS)
MEAN = uniform(fused("linear", ("left", 0.5), ("right", 0.5)), N_LAYERS)
N_SLOTS = 3 * N_LAYERS + 1


def test_writing_makes_the_live_model_the_merged_one_in_place(resident: ResidentModel, llama: dict[str, Path]) -> None:
    addresses = [parameter.data_ptr() for parameter in resident.lm.model.parameters()]
    resident.write(MEAN)
    resident.write(LEFT)
    live = resident.lm.model.state_dict()
    for name, tensor in load_file(llama["left"] / "model.safetensors").items():
        assert torch.equal(live[name], tensor.float())
    assert [parameter.data_ptr() for parameter in resident.lm.model.parameters()] == addresses


def test_only_slots_that_differ_are_written(resident: ResidentModel) -> None:
    assert resident.write(MEAN) == N_SLOTS
    assert resident.write(MEAN) == 0
    mixed = Recipe(layers=(LEFT.layers[0], *MEAN.layers[1:]), outer=MEAN.outer)
    assert resident.write(mixed) == 3
    assert resident.write(MEAN) == 3


def test_merged_weights_are_rounded_as_an_export_rounds_them(resident: ResidentModel) -> None:
    resident.write(MEAN)
    for parameter in resident.lm.model.parameters():
        assert torch.equal(parameter, parameter.bfloat16().float())


def test_tied_embeddings_are_written_once_and_seen_by_the_head(qwen2: dict[str, Path]) -> None:
    sources = ResidentSources([CheckpointSource(name, str(folder)) for name, folder in qwen2.items()])
    resident = ResidentModel(load_causal_lm(qwen2["base"]), sources)
    resident.write(uniform(fused("passthrough", ("right", 1.0)), N_LAYERS))
    expected = load_file(qwen2["right"] / "model.safetensors")["model.embed_tokens.weight"].float()
    assert torch.equal(resident.lm.model.get_output_embeddings().weight, expected)


def test_weights_that_overflow_are_invalid_and_the_next_recipe_is_written_whole(resident: ResidentModel) -> None:
    resident.write(LEFT)
    resident.write(uniform(fused("task_arithmetic", ("left", 3e38), ("right", 3e38)), N_LAYERS))
    with pytest.raises(InvalidModelError, match="logits hold NaN or infinity"):
        resident.lm.likelihoods([("abc", "de")])


def test_a_refused_fusion_leaves_its_slot_unknown_and_the_next_recipe_is_written_whole(resident: ResidentModel) -> None:
    resident.write(LEFT)
    with pytest.raises(ValueError, match="must not add up to 0"):
        resident.write(uniform(fused("linear", ("left", 1.0), ("right", -1.0)), N_LAYERS))
    assert resident.write(LEFT) >= 1
    again = [parameter.clone() for parameter in resident.lm.model.parameters()]
    resident.write(MEAN)
    resident.write(LEFT)
    assert all(torch.equal(a, b) for a, b in zip(again, resident.lm.model.parameters(), strict=True))


def test_costs_count_layers_and_parameters(resident: ResidentModel) -> None:
    n_parameters = sum(parameter.numel() for parameter in resident.lm.model.parameters())
    assert resident.costs(LEFT) == {"layers": 3.0, "parameters": float(n_parameters)}


def test_recurrent_models_are_refused_since_padding_would_change_their_answers(tmp_path: Path) -> None:
    config = MambaConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1, state_size=4)
    MambaForCausalLM(config).save_pretrained(tmp_path)
    toy.make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"MambaForCausalLM keeps no keys and values .* use a model with attention"):
        load_causal_lm(tmp_path)
