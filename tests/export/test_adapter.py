"""Written adapters, loaded by plain peft, against models whose weights were set tensor by tensor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoTokenizer

from automerge import weight_files
from automerge.export.adapter import compress, write_adapter
from automerge.export.low_rank import merged_changes
from automerge.lora.settings import CONFIG, WEIGHTS
from automerge.protocols import Source
from automerge.recipe import Fusion, Input, Recipe, uniform
from automerge.sources.checkpoint import SINGLE, CheckpointSource
from tests import adapters, toy
from tests.adapters import load, logits, make_adapter, source
from tests.toy import fused


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, llama: dict[str, Path]) -> list[Source]:
    """A Llama base and two adapters of unlike ranks and targets."""
    folder = tmp_path_factory.mktemp("pair")
    left: dict[str, Any] = {"target_modules": ["q_proj", "up_proj"], "r": 4, "lora_alpha": 8}
    right: dict[str, Any] = {
        "target_modules": ["q_proj", "down_proj", "embed_tokens", "lm_head"],
        "r": 2,
        "lora_alpha": 3,
        "use_rslora": True,
        "rank_pattern": {"layers.1.mlp.down_proj": 5},
    }
    return [
        CheckpointSource("base", str(llama["base"])),
        source(llama["base"], make_adapter(llama["base"], folder / "left", **left), "left"),
        source(llama["base"], make_adapter(llama["base"], folder / "right", seed=2, **right), "right"),
    ]


def assert_same_answers(model: Any, expected: Any) -> None:
    """Equal up to float32 rounding of weights and sums, through the layers; logits are of size 1 to 10."""
    assert_close(logits(model), logits(expected), rtol=1e-4, atol=1e-4)


def summed(sources: list[Source], shares: Mapping[str, float]) -> dict[str, Tensor]:
    """base + sum_k share_k (source_k - base) in float64, densely."""
    base = {name: sources[0].tensor(name).double() for name in sources[0].shapes}
    by_name = {found.name: found for found in sources}
    return {
        name: tensor + sum(share * (by_name[s].tensor(name).double() - tensor) for s, share in shares.items())
        for name, tensor in base.items()
    }


def folder_of(sources: list[Source]) -> Path:
    base = sources[0]
    assert isinstance(base, CheckpointSource)
    return base.folder


def with_weights(base: Path, tensors: Mapping[str, Tensor]) -> Any:
    model = load(base)
    missing, unexpected = model.load_state_dict({name: t.float() for name, t in tensors.items()}, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    return model


def test_a_mixed_recipe_gives_the_logits_of_the_merged_weights(pair: list[Source], tmp_path: Path) -> None:
    """Layers differ in method and weights; every slot's tensors are computed densely as the reference."""
    fusions: list[tuple[Fusion, dict[str, float]]] = [
        (fused("linear", ("left", 1.0), ("right", 3.0)), {"left": 0.25, "right": 0.75}),
        (fused("task_arithmetic", ("left", 0.7), ("right", -0.4)), {"left": 0.7, "right": -0.4}),
        (fused("passthrough", ("right", 0.1)), {"right": 1.0}),
    ]
    layers = tuple(uniform(fusion, 3).layers[depth] for depth, (fusion, _) in enumerate(fusions))
    recipe = Recipe(layers=layers, outer=fused("linear", ("base", 1.0), ("left", 1.0), ("right", 2.0)))
    expected = summed(pair, {"left": 0.25, "right": 0.5})
    for depth, (_, shares) in enumerate(fusions):
        expected |= {name: t for name, t in summed(pair, shares).items() if f"layers.{depth}." in name}
    base = folder_of(pair)
    written = write_adapter(
        recipe, pair, tmp_path / "merged", base_model=str(base), card=lambda written: f"# Merged, rank {written.rank}\n"
    )
    assert (tmp_path / "merged" / "README.md").read_text() == f"# Merged, rank {written.rank}\n"
    assert Recipe.from_json((tmp_path / "merged" / "recipe.json").read_text()) == recipe
    assert written == (6, 0.0)
    model = PeftModel.from_pretrained(load(base), tmp_path / "merged")
    assert_same_answers(model, with_weights(base, expected))
    assert (logits(model) - logits(load(base))).abs().max() > 0.1
    read = source(base, tmp_path / "merged")
    assert read.base_model == str(base)
    for name, tensor in expected.items():
        assert_close(read.tensor(name).double(), tensor, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_thirty_adapters_of_rank_16_stay_exact(llama: dict[str, Path], tmp_path: Path) -> None:
    """Ranks of 480 are cut to 16, the smaller side of the toy's matrices, which loses rounding only."""
    options: dict[str, Any] = {"target_modules": ["q_proj", "v_proj", "down_proj"], "r": 16, "lora_alpha": 16}
    sources: list[Source] = [CheckpointSource("base", str(llama["base"]))]
    for seed in range(30):
        folder = make_adapter(llama["base"], tmp_path / str(seed), seed=seed, **options)
        sources.append(source(llama["base"], folder, f"a{seed}"))
    weights = {f"a{seed}": 0.02 * seed - 0.2 for seed in range(30)}
    recipe = uniform(fused("task_arithmetic", *weights.items()), toy.N_LAYERS)
    written = write_adapter(recipe, sources, tmp_path / "merged", base_model="base")
    assert written.rank == 16
    assert written.error < 1e-6
    model = PeftModel.from_pretrained(load(llama["base"]), tmp_path / "merged")
    assert_same_answers(model, with_weights(llama["base"], summed(sources, weights)))


def test_max_rank_keeps_the_largest_singular_values(pair: list[Source], tmp_path: Path) -> None:
    """Against the singular value decomposition of the dense changes."""
    recipe = uniform(fused("task_arithmetic", ("left", 1.0), ("right", 0.5)), 3)
    written = write_adapter(recipe, pair, tmp_path / "small", base_model="base", max_rank=3)
    small = source(folder_of(pair), tmp_path / "small")
    lost = total = 0.0
    for name, tensor in summed(pair, {"left": 1.0, "right": 0.5}).items():
        if name not in small.sites:
            continue
        base = pair[0].tensor(name).double()
        u, values, v = torch.linalg.svd(tensor - base, full_matrices=False)
        change = small.low_rank(name)
        assert change is not None
        assert change.rank <= 3
        assert_close((change.up @ change.down).double(), u[:, :3] * values[:3] @ v[:3], rtol=1e-5, atol=1e-5)
        lost += float(values[3:].square().sum())
        total += float(values.square().sum())
    assert written.rank == 3
    assert 0 < written.error == pytest.approx((lost / total) ** 0.5, rel=1e-5)


def test_bfloat16_rounds_the_factors_and_tells_by_how_much(pair: list[Source], tmp_path: Path) -> None:
    recipe = uniform(fused("linear", ("left", 1.0), ("right", 2.0)), 3)
    written = write_adapter(recipe, pair, tmp_path / "half", base_model="base", dtype=torch.bfloat16)
    half = source(folder_of(pair), tmp_path / "half")
    lost = total = 0.0
    for name, tensor in summed(pair, {"left": 1 / 3, "right": 2 / 3}).items():
        change = half.low_rank(name)
        assert change is not None
        exact = tensor - pair[0].tensor(name).double()
        lost += float(((change.up @ change.down).double() - exact.reshape(len(exact), -1)).square().sum())
        total += float(exact.square().sum())
    assert 0 < written.error < 2**-8
    assert written.error == pytest.approx((lost / total) ** 0.5, rel=1e-3)


def test_compressed_factors_are_those_of_the_dense_decomposition() -> None:
    torch.manual_seed(0)
    up, down = torch.randn(7, 12), torch.randn(12, 5)
    u, values, v = torch.linalg.svd((up @ down).double(), full_matrices=False)
    for rank in (1, 3, 5):
        left, right = compress(up, down, rank)
        assert (left.shape, right.shape, left.dtype) == ((7, rank), (rank, 5), torch.float32)
        assert_close((left @ right).double(), u[:, :rank] * values[:rank] @ v[:rank], rtol=1e-5, atol=1e-5)


def make_conv1d(folder: Path) -> tuple[Path, dict[str, Any]]:
    return adapters.make_gpt2(folder), {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True, "r": 3}


def make_old_names(folder: Path) -> tuple[Path, dict[str, Any]]:
    base = adapters.make_gpt2(folder)
    adapters.renamed(base / SINGLE, base / SINGLE, lambda name: name.removeprefix("transformer."))
    return base, {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True, "r": 3}


def make_equal_head(folder: Path) -> tuple[Path, dict[str, Any]]:
    """A head of its own that starts as a copy of the embedding; the adapter changes both, not alike."""
    base = toy.make_model(folder)
    tensors = load_file(base / SINGLE)
    save_file(
        {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, base / SINGLE, {"format": "pt"}
    )
    return base, {"target_modules": ["embed_tokens", "lm_head", "q_proj"], "r": 2}


def make_tied(folder: Path) -> tuple[Path, dict[str, Any]]:
    targets = ["embed_tokens", "q_proj"]
    return toy.make_model(folder, kind="qwen2"), {"target_modules": targets, "ensure_weight_tying": True, "r": 2}


def make_added_bias(folder: Path) -> tuple[Path, dict[str, Any]]:
    return toy.make_model(folder, kind="qwen2"), {"target_modules": ["q_proj", "v_proj"], "lora_bias": True}


@pytest.mark.parametrize("make", [make_conv1d, make_old_names, make_equal_head, make_tied, make_added_bias])
def test_other_layouts_are_weighted_like_their_dense_tensors(
    tmp_path: Path, make: Callable[[Path], tuple[Path, dict[str, Any]]]
) -> None:
    base, options = make(tmp_path / "base")
    sources: list[Source] = [CheckpointSource("base", str(base))]
    for seed, name in enumerate(("left", "right")):
        sources.append(source(base, make_adapter(base, tmp_path / name, seed=seed, **options), name))
    fusion = fused("task_arithmetic", ("left", 0.6), ("right", 1.1))
    recipe = uniform(fusion, load(base).config.num_hidden_layers)
    write_adapter(recipe, sources, tmp_path / "merged", base_model=str(base))
    expected = summed(sources, {"left": 0.6, "right": 1.1})
    read = source(base, tmp_path / "merged")
    for name, tensor in expected.items():
        assert_close(read.tensor(name).double(), tensor, rtol=1e-6, atol=1e-6)
    renamed = {
        name if name.startswith(("model.", "transformer.", "lm_head.")) else f"transformer.{name}": t
        for name, t in expected.items()
    }
    model = adapters.load_adapter(base, tmp_path / "merged")
    assert_same_answers(model, with_weights(base, renamed))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("llama", {"modules_to_save": ["embed_tokens", "norm", "lm_head"]}),
        ("qwen2", {"bias": "all"}),
        ("qwen2", {"bias": "lora_only"}),
        ("qwen2", {"modules_to_save": ["q_proj", "input_layernorm"]}),
        ("qwen2", {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}),
    ],
)
def test_tensors_stored_whole_pass_through(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    base = toy.make_model(tmp_path / "base", kind=kind)
    whole = source(base, make_adapter(base, tmp_path / "whole", target_modules=["v_proj"], **options), "whole")
    plain = source(base, make_adapter(base, tmp_path / "plain", target_modules=["v_proj"], seed=2), "plain")
    sources: list[Source] = [CheckpointSource("base", str(base)), whole, plain]
    recipe = uniform(fused("passthrough", ("whole", 1.0)), toy.N_LAYERS)
    write_adapter(recipe, sources, tmp_path / "merged", base_model=str(base))
    expected = adapters.load_adapter(base, tmp_path / "whole")
    assert_same_answers(adapters.load_adapter(base, tmp_path / "merged"), expected)
    written = json.loads((tmp_path / "merged" / CONFIG).read_text())
    assert written["bias"] == ("all" if "bias" in options else "none")
    read = source(base, tmp_path / "merged")
    assert all(read.tensor(name).equal(whole.tensor(name).to(read.dtypes[name])) for name in read.shapes)
    with pytest.raises(
        ValueError, match=r"'whole' stores tensors whole, and their weighted sums .*; export a checkpoint"
    ):
        merged_changes(uniform(fused("linear", ("whole", 1.0), ("plain", 1.0)), toy.N_LAYERS), sources)


def test_all_that_prevents_an_adapter_is_told_at_once(pair: list[Source], llama: dict[str, Path]) -> None:
    sources = [*pair, CheckpointSource("full", str(llama["left"]))]
    layers = list(uniform(fused("linear", ("left", 1.0)), 4).layers)
    layers[0] = uniform(fused("ties", ("left", 1.0), density=0.5), 1).layers[0]
    layers[1] = replace(layers[1], scale=0.5)
    layers[2] = replace(layers[2], components=(("mlp", Fusion("linear", (Input("left", 0, 1.0),))),))
    recipe = Recipe(layers=tuple(layers), outer=fused("linear", ("full", 1.0)))
    with pytest.raises(ValueError, match="the recipe cannot be written as an adapter:\n") as told:
        merged_changes(recipe, sources)
    assert [line.removeprefix("  - ") for line in str(told.value).splitlines()[1:]] == [
        "an adapter cannot change the number of layers; export a checkpoint (4 instead of 3)",
        "an adapter cannot scale layers; export a checkpoint (layer 1 by 0.5)",
        "an adapter cannot write layers from other layers; export a checkpoint (layer 2 mlp)",
        "'full' is neither the base nor an adapter; export a checkpoint (outer)",
        "ties with density=0.5 is no weighted sum, so its result is of full rank; use linear, task_arithmetic or "
        "passthrough, or export a checkpoint (layer 0 attention, layer 0 mlp, layer 0 other)",
    ]


def test_recipes_without_a_low_rank_change_are_refused(pair: list[Source]) -> None:
    with pytest.raises(ValueError, match="changes no matrix by factors; use the base as it is"):
        merged_changes(uniform(fused("passthrough", ("base", 1.0)), 3), pair)


def test_resized_embeddings_are_refused(llama: dict[str, Path], tmp_path: Path) -> None:
    options: dict[str, Any] = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}
    folder = make_adapter(llama["base"], tmp_path / "adapter", resize=31, **options)
    sources: list[Source] = [CheckpointSource("base", str(llama["base"])), source(llama["base"], folder)]
    with pytest.raises(ValueError, match=r"'adapter' resizes tensors, so plain peft cannot .*; export a checkpoint"):
        merged_changes(uniform(fused("passthrough", ("adapter", 1.0)), 3), sources)


def with_token(base: Path, folder: Path, **options: Any) -> Path:
    """An adapter whose tokenizer has a token that the base lacks, in a padding row of its embedding."""
    make_adapter(base, folder, **options)
    tokenizer = toy.make_tokenizer()
    tokenizer.add_tokens(["<stop>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_token_in_a_padding_row_keeps_no_adapter_from_being_written(llama: dict[str, Path], tmp_path: Path) -> None:
    model = load(llama["base"])
    model.resize_token_embeddings(32)
    model.save_pretrained(tmp_path / "base")
    toy.make_tokenizer().save_pretrained(tmp_path / "base")
    left = make_adapter(tmp_path / "base", tmp_path / "left", target_modules=["q_proj"])
    right = with_token(tmp_path / "base", tmp_path / "right", target_modules=["v_proj"], seed=2)
    family = toy.family_of({"base": tmp_path / "base", "left": left, "right": right})
    assert family.vocabulary.changes_tokenizer
    recipe = uniform(fused("linear", ("left", 0.5), ("right", 0.5)), 3)
    to = tmp_path / "merged"
    beside = family.vocabulary.save_tokenizer
    write_adapter(recipe, family.sources, to, base_model=str(tmp_path / "base"), revision="v1", beside=beside)
    plain: list[Source] = [
        CheckpointSource("base", str(tmp_path / "base")),
        *(source(tmp_path / "base", f, f.name) for f in (left, right)),
    ]
    write_adapter(recipe, plain, tmp_path / "plain", base_model="base")
    expected, found = load_file(tmp_path / "plain" / WEIGHTS), load_file(to / WEIGHTS)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert "<stop>" in AutoTokenizer.from_pretrained(to).get_vocab()
    assert json.loads((to / CONFIG).read_text())["revision"] == "v1"
    assert isinstance(PeftModel.from_pretrained(load(tmp_path / "base"), to), PeftModel)


def test_a_token_whose_row_was_trained_is_told_to_be_what_keeps_an_adapter_from_being_written(
    llama: dict[str, Path], tmp_path: Path
) -> None:
    model = load(llama["base"])
    model.resize_token_embeddings(32)
    model.save_pretrained(tmp_path / "base")
    toy.make_tokenizer().save_pretrained(tmp_path / "base")
    options: dict[str, Any] = {"target_modules": ["v_proj"], "modules_to_save": ["embed_tokens"]}
    right = with_token(tmp_path / "base", tmp_path / "right", **options)
    family = toy.family_of({"base": tmp_path / "base", "right": right})
    with pytest.raises(ValueError, match=r"sources bring tokens that change the base's embeddings; .*embed_tokens"):
        merged_changes(uniform(fused("linear", ("right", 1.0)), 3), family.sources)


def test_adapters_with_other_module_names_are_refused(tmp_path: Path) -> None:
    base = adapters.make_gpt2(tmp_path / "base")
    old = adapters.renamed_model(base, tmp_path / "old", lambda name: name.removeprefix("transformer."))
    first = make_adapter(base, tmp_path / "first", target_modules=["c_attn"], fan_in_fan_out=True)
    second = shutil.copytree(first, tmp_path / "second")
    adapters.renamed(first / WEIGHTS, second / WEIGHTS, lambda name: name.replace("transformer.", "decoder."))
    sources: list[Source] = [CheckpointSource("base", str(old)), source(old, first, "a"), source(old, second, "b")]
    with pytest.raises(ValueError, match=r"one module as decoder\.h\.0\S+ and transformer\.h\.0\S+; train them on one"):
        merged_changes(uniform(fused("linear", ("a", 1.0), ("b", 1.0)), 2), sources)


def test_nothing_is_left_behind_when_writing_fails(
    pair: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: no space left")

    monkeypatch.setattr(weight_files, "save_file", full_disk)
    recipe = uniform(fused("linear", ("left", 1.0)), 3)
    with pytest.raises(OSError, match=r"could not be written \(I/O error: no space left\); free space there"):
        write_adapter(recipe, pair, tmp_path / "out" / "merged", base_model="base")
    assert list((tmp_path / "out").iterdir()) == []


def test_existing_folders_and_unknown_options_are_refused(pair: list[Source], tmp_path: Path) -> None:
    recipe = uniform(fused("linear", ("left", 1.0)), 3)
    with pytest.raises(FileExistsError, match="exists; name a new folder"):
        write_adapter(recipe, pair, tmp_path, base_model="base")
    with pytest.raises(ValueError, match=r"expected dtype float32 or bfloat16 .*, got torch\.float16"):
        write_adapter(recipe, pair, tmp_path / "new", base_model="base", dtype=torch.float16)
    with pytest.raises(ValueError, match=r"and max_rank above 0, got torch\.float32 and 0"):
        write_adapter(recipe, pair, tmp_path / "new", base_model="base", max_rank=0)
