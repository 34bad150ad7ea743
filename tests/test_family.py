from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from automerge.export.model import export_recipe
from automerge.family import Family, open_family
from automerge.merge import ResidentSources
from automerge.model import ResidentModel, load_causal_lm
from automerge.recipe import uniform
from automerge.sources.adapter import AdapterSource
from automerge.sources.checkpoint import CheckpointSource
from tests import adapters, toy
from tests.toy import N_LAYERS, fused


def opened(folders: dict[str, Path], **options: Any) -> Family:
    models = {name: str(folder) for name, folder in folders.items() if name != "base"}
    return open_family({"base": str(folders["base"]), "models": models, **options}, trust_remote_code=False)


def test_checkpoints_and_adapters_are_told_apart(llama: dict[str, Path], tmp_path: Path) -> None:
    adapters.make_adapter(llama["base"], tmp_path / "tuned", target_modules=["q_proj"])
    family = opened({**llama, "tuned": tmp_path / "tuned"})
    kinds = {source.name: type(source) for source in family.sources}
    assert kinds == {
        "base": CheckpointSource,
        "left": CheckpointSource,
        "right": CheckpointSource,
        "tuned": AdapterSource,
    }
    assert family.vocabulary.identical
    assert family.base == llama["base"]


def test_an_adapter_as_base_is_refused(llama: dict[str, Path], tmp_path: Path) -> None:
    adapters.make_adapter(llama["base"], tmp_path / "tuned", target_modules=["q_proj"])
    with pytest.raises(ValueError, match="the base must be the checkpoint that it was trained on"):
        opened({"base": tmp_path / "tuned", "left": llama["left"]})


def test_all_faults_of_all_sources_come_together(
    llama: dict[str, Path], qwen2: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no model folder at") as caught:
        opened({"base": llama["base"], "gone": tmp_path / "gone", "lost": tmp_path / "lost"})
    assert "source 'gone'" in str(caught.value)
    assert "source 'lost'" in str(caught.value)
    with pytest.raises(ValueError, match="was trained with another configuration") as caught:
        opened({"base": llama["base"], "qwen": qwen2["left"]})
    assert "tensors that 'base' lacks" in str(caught.value)


def test_added_tokens_are_aligned_merged_asked_and_exported(llama: dict[str, Path], tmp_path: Path) -> None:
    """Two fine-tunes added other tokens under the same id; both are in the merged model, live and exported."""
    one = toy.with_new_token(tmp_path / "one", llama["base"], "<one>", seed=1)
    two = toy.with_new_token(tmp_path / "two", llama["base"], "<two>", seed=2, template="{{ messages }}!")
    family = opened({"base": llama["base"], "one": one, "two": two}, chat_template="two")
    n_base = len(AutoTokenizer.from_pretrained(llama["base"]))
    live = ResidentModel(load_causal_lm(family.base, vocabulary=family.vocabulary), ResidentSources(family.sources))
    recipe = uniform(fused("linear", ("one", 0.5), ("two", 0.5)), N_LAYERS)
    live.write(recipe)
    rows = live.lm.model.get_input_embeddings().weight
    assert rows.shape[0] == n_base + 2
    # A token that only one source has takes that source's row, whatever the weights.
    assert torch.equal(rows[n_base], torch.full_like(rows[0], 1.0))
    assert torch.equal(rows[n_base + 1], torch.full_like(rows[0], 2.0))

    export_recipe(recipe, family, tmp_path / "merged", card="")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.convert_tokens_to_ids(["<one>", "<two>"]) == [n_base, n_base + 1]
    assert tokenizer.chat_template == "{{ messages }}!"
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["vocab_size"] == n_base + 2
    reloaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    ids = torch.tensor([tokenizer("ab<one>c<two>d")["input_ids"]])
    with torch.inference_mode():
        assert torch.equal(reloaded(ids).logits, live.lm.model(ids).logits)
    assert live.lm.tokenizer("ab<one>c<two>d")["input_ids"] == ids[0].tolist()


def test_merged_models_stop_where_the_source_of_the_chat_template_and_the_base_stop(
    llama: dict[str, Path], tmp_path: Path
) -> None:
    chat = toy.with_new_token(tmp_path / "chat", llama["base"], "<end>", seed=1, template="{{ messages }}!")
    n_base = len(AutoTokenizer.from_pretrained(llama["base"]))
    generation = json.loads((chat / "generation_config.json").read_text())
    (chat / "generation_config.json").write_text(json.dumps({**generation, "eos_token_id": [n_base]}))
    family = opened({"base": llama["base"], "chat": chat}, chat_template="chat")
    live = load_causal_lm(family.base, vocabulary=family.vocabulary)
    assert set(live.model.generation_config.eos_token_id) == {1, n_base}
    export_recipe(uniform(fused("linear", ("chat", 1.0)), N_LAYERS), family, tmp_path / "merged", card="")
    for file in ("config.json", "generation_config.json"):
        assert set(json.loads((tmp_path / "merged" / file).read_text())["eos_token_id"]) == {1, n_base}


def test_a_model_that_the_disk_has_no_room_for_is_refused_before_anything_is_written(
    llama: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = opened({"base": llama["base"], "left": llama["left"]})
    recipe = uniform(fused("linear", ("left", 1.0)), N_LAYERS)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**3))
    with pytest.raises(OSError, match=r"the model takes 0\.0 MB, and .* has 0\.0 MB free; name another place"):
        export_recipe(recipe, family, tmp_path / "out" / "merged", card="")
    assert list((tmp_path / "out").iterdir()) == []


def test_layers_that_the_configuration_does_not_count_are_named(llama: dict[str, Path], tmp_path: Path) -> None:
    """As the predictor of further tokens in checkpoints of GLM-4.5 and DeepSeek-V3."""
    more = shutil.copytree(llama["base"], tmp_path / "more")
    state = load_file(more / "model.safetensors")
    state |= {
        name.replace("layers.0.", f"layers.{N_LAYERS}."): tensor.clone()
        for name, tensor in state.items()
        if "layers.0." in name
    }
    save_file(state, more / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"source 'base': it stores layer {N_LAYERS} beyond the {N_LAYERS} layers"):
        opened({"base": more, "left": llama["left"]})


def test_weights_in_a_dtype_that_cannot_be_merged_are_named(llama: dict[str, Path], tmp_path: Path) -> None:
    eight = toy.make_model(tmp_path / "eight", seed=1, like=llama["base"])
    state = load_file(eight / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    state[name] = state[name].to(torch.float8_e4m3fn)
    save_file(state, eight / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"source 'eight': {name} is stored as torch.float8_e4m3fn.*dequantise"):
        opened({"base": llama["base"], "eight": eight})


def with_config(folder: Path, model: Path, **keys: Any) -> Path:
    """A copy of a model with other keys in its configuration."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **keys}))
    return folder


def test_notes_of_other_tools_in_a_configuration_make_no_other_model(llama: dict[str, Path], tmp_path: Path) -> None:
    notes = {"unsloth_fixed": True, "unsloth_version": "2025.3.1", "use_mrope": False, "initializer_range": 0.5}
    left = with_config(tmp_path / "left", llama["left"], **notes)
    assert [source.name for source in opened({"base": llama["base"], "left": left}).sources] == ["base", "left"]
    for key, value in (("rms_norm_eps", 0.1), ("quantization_config", {"quant_method": "gptq"}), ("is_causal", False)):
        other = with_config(tmp_path / key, llama["left"], **{key: value})
        with pytest.raises(ValueError, match=f"trained with another configuration than the base: {key}"):
            opened({"base": llama["base"], "other": other})


@pytest.mark.parametrize(
    ("trained_on", "warned"),
    [
        ("hub/Llama-Base", False),
        ("unsloth/llama-base-unsloth-bnb-4bit", False),
        ("C:\\models\\llama-base\\", False),
        ("hub/Llama-Base-Instruct", True),
        (None, False),
    ],
)
def test_an_adapter_that_names_another_base_is_warned_of(
    llama: dict[str, Path], tmp_path: Path, trained_on: str | None, warned: bool
) -> None:
    base = with_config(tmp_path / "llama-base", llama["base"])
    tuned = adapters.make_adapter(base, tmp_path / "tuned", target_modules=["q_proj"])
    config = json.loads((tuned / "adapter_config.json").read_text())
    (tuned / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": trained_on}))
    found = opened({"base": base, "tuned": tuned}).warnings
    assert len(found) == warned
    assert all(f"'tuned' says that it was trained on {trained_on}, and source.base is {base}" in each for each in found)


def test_a_configuration_that_its_class_does_not_take_is_told(llama: dict[str, Path], tmp_path: Path) -> None:
    left = with_config(tmp_path / "left", llama["left"], attention_bias=None)
    with pytest.raises(ValueError, match=r"source 'left': its config.json does not load: (.|\n)*attention_bias"):
        opened({"base": llama["base"], "left": left})
