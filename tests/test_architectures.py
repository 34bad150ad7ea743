"""Every family of decoders through the whole way: load, merge, evaluate, export, reload with plain transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from automerge.export.model import export_recipe
from automerge.language_model import CausalLM
from automerge.merge import ResidentSources
from automerge.model import ResidentModel, load_causal_lm
from automerge.recipe import COMPONENTS, Fusion, Input, OutputLayer, Recipe
from tests import architectures, toy
from tests.toy import ALPHABET, fused


def texts(n: int, seed: int, longest: int = 20) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list(ALPHABET.strip()), size=rng.integers(1, longest))) for _ in range(n)]


def recipe(n_layers: int) -> Recipe:
    """Another method in every component, so that a tensor in the wrong place shows."""

    def at(fusion: Fusion, layer: int | None) -> Fusion:
        inputs = tuple(type(read)(read.source, layer, read.weight) for read in fusion.inputs)
        return Fusion(fusion.method, inputs, fusion.parameters)

    attention = fused("linear", ("left", 0.6), ("right", 0.4))
    mlp = fused("task_arithmetic", ("left", 0.7), ("right", -0.4))
    other = fused("passthrough", ("right", 1.0))
    layers = tuple(
        OutputLayer((("attention", at(attention, i)), ("mlp", at(mlp, i)), ("other", at(other, i))))
        for i in range(n_layers)
    )
    return Recipe(layers, fused("linear", ("left", 0.5), ("right", 0.5)))


def stacks() -> list[Recipe]:
    """Layers moved, repeated, left out, fused and scaled, by either meaning of the scale."""

    def at(fusion: Fusion, layer: int, scale: float) -> OutputLayer:
        read = Fusion(fusion.method, tuple(Input(each.source, layer, each.weight) for each in fusion.inputs))
        return OutputLayer(tuple((component, read) for component in COMPONENTS), scale)

    left, right = fused("passthrough", ("left", 1.0)), fused("passthrough", ("right", 1.0))
    mean = fused("linear", ("left", 0.5), ("right", 0.5))
    deep = (at(left, 1, 0.7), at(right, 0, 1.3), at(left, 1, 1.0), at(left, 1, 0.8), at(mean, 0, 1.2))
    return [
        Recipe(deep, mean),
        Recipe((at(left, 0, 0.7), at(mean, 1, 0.0), at(right, 1, 1.4)), mean, "branch_mlp"),
        Recipe((at(right, 1, 1.0),), right),
    ]


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(4 * 15).view(4, 15) % (len(ALPHABET) + 2)
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=ids).logits
    return found


def family_of(folder: Path, family: str, *, tied: bool) -> dict[str, Path]:
    """A base and two variants, by name."""
    base = architectures.make(folder / "base", family, tied=tied)
    others = {
        name: architectures.make(folder / name, family, tied=tied, seed=seed, like=base)
        for seed, name in enumerate(("left", "right"), start=1)
    }
    return {"base": base, **others}


def assert_export_is_what_was_live(folders: Mapping[str, Path], to: Path) -> dict[str, float]:
    """Merges into a model, asks it, exports, and asks the export as plain transformers loads it; gives the costs."""
    family = toy.family_of(folders)
    resident = ResidentModel(load_causal_lm(folders["base"]), ResidentSources(family.sources))
    assert resident.sources.alignment.unknown == ()
    merged = recipe(architectures.N_LAYERS)
    resident.write(merged)
    export_recipe(merged, family, to, card="")
    reloaded = architectures.load(to)
    live = logits(resident.lm.model)
    assert torch.equal(live, logits(reloaded))
    assert not torch.equal(live, logits(architectures.load(folders["base"])))
    pairs = list(zip(texts(6, 0), texts(6, 1, longest=6), strict=True))
    assert resident.lm.likelihoods(pairs) == CausalLM(reloaded, resident.lm.tokenizer).likelihoods(pairs)
    return resident.costs(merged)


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def with_head(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}


def as_of_old(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The layout of the first GPT-2 checkpoints: no prefix, and the attention masks stored."""
    masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 8, 8) for i in range(architectures.N_LAYERS)}
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()} | masks


@pytest.mark.parametrize(("family", "tied"), [entry for entry in architectures.FAMILIES if entry[1]])
def test_stacks_with_scales_are_exported_as_plain_models_that_answer_alike(
    family: str, tied: bool, tmp_path: Path
) -> None:
    folders = family_of(tmp_path, family, tied=tied)
    opened = toy.family_of(folders)
    resident = ResidentModel(
        load_causal_lm(folders["base"]), ResidentSources(opened.sources, model_type=opened.model_type)
    )
    pairs = list(zip(texts(6, 0), texts(6, 1, longest=6), strict=True))
    for number, stack in enumerate(stacks()):
        resident.write(stack)
        export_recipe(stack, opened, tmp_path / f"stack{number}", card="")
        reloaded = architectures.load(tmp_path / f"stack{number}")
        assert reloaded.config.num_hidden_layers == len(stack.layers)
        assert torch.equal(logits(resident.lm.model), logits(reloaded))
        other = CausalLM(reloaded, resident.lm.tokenizer)
        assert resident.lm.likelihoods(pairs) == other.likelihoods(pairs)
        prompts = [prompt for prompt, _ in pairs]
        written = resident.lm.generate(prompts, stop=["\n"], max_new_tokens=6)
        assert written == other.generate(prompts, stop=["\n"], max_new_tokens=6)


@pytest.mark.parametrize(("family", "tied"), architectures.FAMILIES)
def test_what_was_merged_and_asked_is_what_is_exported_and_reloaded(family: str, tied: bool, tmp_path: Path) -> None:
    costs = assert_export_is_what_was_live(family_of(tmp_path, family, tied=tied), tmp_path / "merged")
    # Of tied tensors one counts, and buffers that are stored count too.
    stored = architectures.load(tmp_path / "merged").state_dict().values()
    n_parameters = sum({tensor.data_ptr(): tensor.numel() for tensor in stored}.values())
    assert costs == {"layers": float(architectures.N_LAYERS), "parameters": float(n_parameters)}


def test_old_gpt2_checkpoints_are_merged_and_exported(tmp_path: Path) -> None:
    folders = family_of(tmp_path, "gpt2", tied=True)
    for folder in folders.values():
        rewrite(folder, as_of_old)
    assert_export_is_what_was_live(folders, tmp_path / "merged")


@pytest.mark.parametrize("storing", [("base",), ("left",), ("base", "left", "right")])
def test_sources_may_differ_in_whether_they_store_a_tied_head(storing: tuple[str, ...], tmp_path: Path) -> None:
    folders = family_of(tmp_path, "qwen2", tied=True)
    for name in storing:
        rewrite(folders[name], with_head)
    assert_export_is_what_was_live(folders, tmp_path / "merged")
    names = load_file(tmp_path / "merged" / "model.safetensors").keys()
    assert names == load_file(folders["base"] / "model.safetensors").keys()


def test_an_untied_head_that_equals_the_embedding_is_written_too(tmp_path: Path) -> None:
    folders = family_of(tmp_path, "llama", tied=False)
    for folder in folders.values():
        rewrite(folder, with_head)
    assert_export_is_what_was_live(folders, tmp_path / "merged")


@pytest.mark.parametrize(("family", "tied"), architectures.FAMILIES)
def test_padded_batches_answer_as_plain_transformers_does_one_by_one(family: str, tied: bool, tmp_path: Path) -> None:
    lm = load_causal_lm(architectures.make(tmp_path, family, tied=tied))
    prompts = texts(16, 2)
    batched = lm.generate(prompts, stop=[], max_new_tokens=10)
    pairs = list(zip(prompts, texts(16, 3, longest=6), strict=True))
    answers = lm.likelihoods(pairs)
    for prompt, text in zip(prompts, batched, strict=True):
        ids = lm.tokenizer(prompt, return_tensors="pt")["input_ids"]
        out = lm.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False)
        assert text == lm.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    for (prompt, continuation), answer in zip(pairs, answers, strict=True):
        ids = lm.tokenizer(prompt + continuation, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            log_p = lm.model(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        expected = float(log_p.gather(1, ids[0, len(prompt) :, None]).sum())
        assert answer.log_probability == pytest.approx(expected, abs=1e-4)
