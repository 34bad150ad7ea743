"""AdapterSource against peft, which made the adapters and merges them by its own code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from automerge import zoo
from automerge.lora.settings import CONFIG, WEIGHTS
from automerge.sources.adapter import AdapterSource, is_adapter
from automerge.sources.checkpoint import CheckpointSource
from tests import adapters
from tests.adapters import make_adapter, merged, renamed_model, source

QKV = ["q_proj", "k_proj", "v_proj"]

LLAMA: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": ["q_proj", "v_proj"], "r": 4, "lora_alpha": 16},
    "all linear": {"target_modules": "all-linear", "r": 3, "lora_alpha": 3},
    "patterns": {
        "target_modules": [*QKV, "down_proj"],
        "r": 4,
        "lora_alpha": 8,
        "rank_pattern": {"q_proj": 2, r"model.layers.1.mlp.down_proj": 5, "proj": 3},
        "alpha_pattern": {r"layers.[02].self_attn.k_proj": 32, "^model.layers.1.self_attn.q_proj": 1},
    },
    "rslora": {"target_modules": QKV, "r": 4, "lora_alpha": 8, "use_rslora": True, "rank_pattern": {"k_proj": 9}},
    "some layers": {"target_modules": QKV, "layers_to_transform": [1], "r": 2},
    "embedding": {"target_modules": ["embed_tokens", "o_proj"], "r": 4, "lora_alpha": 8},
    "head": {"target_modules": ["lm_head"], "r": 4},
    "saved embedding and head": {"target_modules": QKV, "modules_to_save": ["embed_tokens", "lm_head"]},
    "saved norms": {"target_modules": ["up_proj"], "modules_to_save": ["input_layernorm", "model.norm"]},
    "saved layers": {"target_modules": ["q_proj"], "modules_to_save": ["mlp"]},
    "orthogonal start": {"target_modules": QKV, "r": 4, "init_lora_weights": "orthogonal"},
}
QWEN2: dict[str, dict[str, Any]] = {
    "all biases": {"target_modules": ["q_proj"], "bias": "all"},
    "biases of targets": {"target_modules": ["q_proj", "up_proj"], "bias": "lora_only"},
    "bias of the factors": {"target_modules": ["q_proj", "v_proj"], "lora_bias": True, "r": 4, "lora_alpha": 2},
}
CONV1D: dict[str, Any] = {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True, "r": 3}


def near(tensor: Tensor, expected: Tensor) -> None:
    """Both sides compute in float32 and may add in another order."""
    assert_close(tensor, expected, rtol=1e-6, atol=1e-6)


def assert_merges_like_peft(base: Path, folder: Path) -> AdapterSource:
    found = source(base, folder)
    stored = CheckpointSource("base", str(base))
    expected = merged(base, folder)
    touched = set()
    for name in stored.shapes:
        tensor = found.tensor(name)
        near(tensor.float(), expected[name])
        assert (tuple(tensor.shape), tensor.dtype) == (found.shapes[name], found.dtypes[name])
        if not expected[name].equal(stored.tensor(name).float()):
            touched.add(name)
        change = found.low_rank(name)
        if change is not None:
            product = (change.up @ change.down).reshape(tensor.shape)
            near(stored.tensor(name).float() + change.scale * product, expected[name])
            assert change.is_base == (name not in found.sites)
        if name not in found.sites:
            assert tensor.equal(stored.tensor(name))
    assert touched
    assert touched <= found.sites.keys()
    return found


@pytest.mark.parametrize("case", LLAMA)
def test_tensors_of_llama_are_those_that_peft_merges(llama: dict[str, Path], tmp_path: Path, case: str) -> None:
    assert_merges_like_peft(llama["base"], make_adapter(llama["base"], tmp_path / "adapter", **LLAMA[case]))


@pytest.mark.parametrize("case", QWEN2)
def test_trained_biases_are_those_that_peft_merges(qwen2: dict[str, Path], tmp_path: Path, case: str) -> None:
    found = assert_merges_like_peft(qwen2["base"], make_adapter(qwen2["base"], tmp_path / "adapter", **QWEN2[case]))
    bias = found.low_rank("model.layers.0.self_attn.q_proj.bias")
    assert (bias is None) == (case != "bias of the factors")
    assert bias is None or (bias.rank, bias.scale) == (1, 0.5)


@pytest.mark.parametrize("extra", [[], ["wpe"], ["lm_head"], ["wte", "lm_head"]])
def test_conv1d_weights_are_transposed_whatever_peft_noted(tmp_path: Path, extra: list[str]) -> None:
    """With a Linear among the targets peft writes fan_in_fan_out false, and the square c_proj fits both ways."""
    base = adapters.make_gpt2(tmp_path / "base", tied=False)
    options = {**CONV1D, "target_modules": [*CONV1D["target_modules"], *extra]}
    folder = make_adapter(base, tmp_path / "adapter", **options)
    assert json.loads((folder / CONFIG).read_text())["fan_in_fan_out"] == ("lm_head" not in extra)
    assert_merges_like_peft(base, folder)


def test_square_weights_without_biases_follow_the_setting(llama: dict[str, Path], tmp_path: Path) -> None:
    folder = make_adapter(llama["base"], tmp_path / "adapter", target_modules=["q_proj"], r=2, lora_alpha=2)
    name = "model.layers.0.self_attn.q_proj.weight"
    straight = source(llama["base"], folder).low_rank(name)
    _edit(folder, {"fan_in_fan_out": True})
    turned = source(llama["base"], folder).low_rank(name)
    assert straight is not None
    assert turned is not None
    assert_close(turned.up @ turned.down, (straight.up @ straight.down).T)


def test_names_may_lack_the_prefix_of_the_live_model(tmp_path: Path) -> None:
    base = adapters.make_gpt2(tmp_path / "base")
    folder = make_adapter(base, tmp_path / "adapter", **CONV1D)
    old = source(renamed_model(base, tmp_path / "old", lambda name: name.removeprefix("transformer.")), folder)
    new = source(base, folder)
    assert old.shapes == {name.removeprefix("transformer."): shape for name, shape in new.shapes.items()}
    assert all(old.tensor(name.removeprefix("transformer.")).equal(new.tensor(name)) for name in new.shapes)
    assert old.sites["h.0.attn.c_attn.weight"].module == "transformer.h.0.attn.c_attn"


def test_names_may_have_a_longer_prefix_than_the_live_model(llama: dict[str, Path], tmp_path: Path) -> None:
    folder = make_adapter(llama["base"], tmp_path / "adapter", **LLAMA["plain"])
    longer = renamed_model(llama["base"], tmp_path / "longer", "language_model.{}".format)
    name = "model.layers.2.self_attn.v_proj.weight"
    assert source(longer, folder).tensor(f"language_model.{name}").equal(source(llama["base"], folder).tensor(name))


def test_ambiguous_names_are_refused_with_the_candidates(llama: dict[str, Path], tmp_path: Path) -> None:
    folder = make_adapter(llama["base"], tmp_path / "adapter", **LLAMA["plain"])
    towers = renamed_model(llama["base"], tmp_path / "towers", "left.{}".format, "right.{}".format)
    with pytest.raises(ValueError, match=r"could be any of left\.model\.layers\.0\S+, right\.\S+ .* give the base"):
        source(towers, folder)


def test_two_modules_of_one_tensor_are_refused(llama: dict[str, Path], tmp_path: Path) -> None:
    folder = make_adapter(llama["base"], tmp_path / "adapter", **LLAMA["plain"])
    tensors = load_file(folder / WEIGHTS)
    copies = {name.replace("model.model.model.", "model.model."): tensor + 0 for name, tensor in tensors.items()}
    save_file({**tensors, **copies}, folder / WEIGHTS)
    with pytest.raises(
        ValueError, match=r"are both model\.layers\.0\.self_attn\.q_proj\.weight in the base; give the base"
    ):
        source(llama["base"], folder)


def test_adapters_of_the_zoo_load_and_merge_like_peft() -> None:
    """Their factors are bfloat16, which peft raises to float32 on loading."""
    for name in ("recall", "calc"):
        found = assert_merges_like_peft(Path(zoo.path("models/base")), Path(zoo.path(f"adapters/{name}")))
        assert found.base_model == "base"
        assert len(found.sites) == 8 * 7


def test_tied_embeddings_that_are_changed_alike_give_the_model_that_was_trained(
    qwen2: dict[str, Path], tmp_path: Path
) -> None:
    """Compared by logits of the unmerged model: peft's own merge adds a tied product twice."""
    cases: list[dict[str, Any]] = [
        {"target_modules": ["embed_tokens", "q_proj"], "r": 4, "lora_alpha": 2},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    ]
    for number, options in enumerate(cases):
        folder = make_adapter(qwen2["base"], tmp_path / str(number), ensure_weight_tying=True, **options)
        found = source(qwen2["base"], folder)
        model = adapters.load(qwen2["base"])
        model.load_state_dict({name: found.tensor(name) for name in found.shapes}, strict=False)
        assert "lm_head.weight" not in found.shapes
        assert found.sites["model.embed_tokens.weight"].tied == "lm_head"
        change = found.low_rank("model.embed_tokens.weight")
        assert (change.rank if change else None) == (None if number else 4)
        expected = adapters.logits(adapters.load_adapter(qwen2["base"], folder))
        assert_close(adapters.logits(model), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": ["lm_head", "q_proj"]},
        {"target_modules": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["embed_tokens"], "modules_to_save": ["lm_head"]},
    ],
)
def test_tied_embeddings_that_are_not_changed_alike_are_refused(
    qwen2: dict[str, Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    folder = make_adapter(qwen2["base"], tmp_path / "adapter", **options)
    with pytest.raises(ValueError, match="one tensor cannot hold two changes; train with ensure_weight_tying=True"):
        source(qwen2["base"], folder)


def test_tied_embeddings_of_unlike_scales_are_refused(qwen2: dict[str, Path], tmp_path: Path) -> None:
    options: dict[str, Any] = {"target_modules": ["embed_tokens"], "ensure_weight_tying": True}
    folder = make_adapter(qwen2["base"], tmp_path / "adapter", **options)
    assert source(qwen2["base"], folder).sites
    _edit(folder, {"alpha_pattern": {"lm_head": 99}})
    with pytest.raises(
        ValueError, match=r"embed_tokens and lm_head differently, .*; train with ensure_weight_tying=True"
    ):
        source(qwen2["base"], folder)


def test_resized_embeddings_tell_their_new_shape(llama: dict[str, Path], tmp_path: Path) -> None:
    options: dict[str, Any] = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}
    folder = make_adapter(llama["base"], tmp_path / "adapter", resize=31, **options)
    found = source(llama["base"], folder)
    expected = merged(llama["base"], folder, resize=31)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert found.shapes[name] == (31, 16)
        assert found.low_rank(name) is None
        near(found.tensor(name), expected[name])


def test_products_on_a_changed_embedding_are_told_whole(llama: dict[str, Path], tmp_path: Path) -> None:
    folder = make_adapter(llama["base"], tmp_path / "adapter", resize=31, target_modules=["embed_tokens"])
    found = source(llama["base"], folder)
    assert found.low_rank("model.embed_tokens.weight") is None
    expected = merged(llama["base"], folder, resize=31)["model.embed_tokens.weight"]
    near(found.tensor("model.embed_tokens.weight"), expected)


def test_weighted_sums_of_products_are_those_of_peft(llama: dict[str, Path], tmp_path: Path) -> None:
    """`cat` of several adapters; `linear` of one, as peft's linear sum of several also multiplies across adapters.

    Only without rsLoRA: the sum takes over the first adapter's `use_rslora`, which scales it once more.
    """
    weights = {"one": 0.7, "two": 1.9}
    options: dict[str, dict[str, Any]] = {
        "one": {"r": 4, "lora_alpha": 8},
        "two": {"r": 2, "lora_alpha": 3, "use_rslora": True},
    }
    folders = {
        name: make_adapter(llama["base"], tmp_path / name, seed=seed, target_modules=["q_proj", "up_proj"], **chosen)
        for seed, (name, chosen) in enumerate(options.items())
    }
    sources = {name: source(llama["base"], folder, name) for name, folder in folders.items()}
    model = PeftModel.from_pretrained(adapters.load(llama["base"]), folders["one"], adapter_name="one")
    model.load_adapter(folders["two"], adapter_name="two")
    model.add_weighted_adapter(list(weights), list(weights.values()), "both", combination_type="cat")
    model.add_weighted_adapter(["one"], [weights["one"]], "scaled", combination_type="linear")
    for name, site in sources["one"].sites.items():
        changes = {key: found.low_rank(name) for key, found in sources.items()}
        products = {key: w * c.scale * c.up @ c.down for key, w in weights.items() if (c := changes[key])}
        layer: Any = model.get_submodule(f"base_model.model.{site.module}")
        near(products["one"] + products["two"], layer.get_delta_weight("both"))
        near(products["one"], layer.get_delta_weight("scaled"))


@pytest.mark.parametrize(
    ("edits", "remedy"),
    [
        ({"peft_type": "IA3"}, r"peft_type is IA3, expected LORA; .*merge_and_unload"),
        ({"peft_type": "PROMPT_TUNING"}, r"peft_type is PROMPT_TUNING, expected LORA; if peft can merge"),
        ({"use_dora": True}, r"DoRA .* merge_and_unload, save_pretrained it, and give that folder as a checkpoint"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, r"target_parameters .* merge_and_unload"),
        ({"trainable_token_indices": [1, 2]}, r"trainable_token_indices .* merge_and_unload"),
        ({"alora_invocation_tokens": [1]}, r"aLoRA .* cannot be merged; leave it out or train a plain LoRA"),
        (
            {"layer_replication": [[0, 2], [1, 3]]},
            r"model deeper than the base, which cannot be merged with it; leave it out",
        ),
        (
            {"init_lora_weights": "pissa_niter_4"},
            r"'pissa_niter_4' may have .*path_initial_model_for_weight_conversion",
        ),
        ({"init_lora_weights": "olora"}, r"'olora' may have changed the base's weights before training; merge"),
        ({"init_lora_weights": "corda"}, r"'corda' may have changed the base's weights before training; merge"),
        ({"init_lora_weights": "loftq"}, r"'loftq' may have changed the base's weights before training; merge"),
        ({"kasa_config": {"beta": 1}}, r"kasa_config=.* is an option whose meaning is not known here; merge"),
        ({"r": 0}, r"expected r and lora_alpha above 0, got 0 and 8"),
        ({"r": 5}, r"the configuration tells rank 5, but A has shape \(4, 16\) and B \(16, 4\); save it again"),
    ],
)
def test_adapters_that_are_no_plain_products_are_refused_with_the_remedy(
    llama: dict[str, Path], tmp_path: Path, edits: dict[str, Any], remedy: str
) -> None:
    folder = make_adapter(llama["base"], tmp_path / "adapter", target_modules=["q_proj"], r=4)
    _edit(folder, edits)
    with pytest.raises(ValueError, match=remedy):
        source(llama["base"], folder)


def test_every_reason_is_told_at_once(llama: dict[str, Path], tmp_path: Path) -> None:
    folder = make_adapter(llama["base"], tmp_path / "adapter", target_modules=["q_proj"])
    _edit(folder, {"use_dora": True, "init_lora_weights": "olora"})
    with pytest.raises(
        ValueError, match=r"adapter 'adapter' \(.*\) cannot be read on 'base':\n  - DoRA.*\n  - init_lora"
    ):
        source(llama["base"], folder)


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("base_model.model.score.weight", (2, 16), r"score\.weight: no tensor of the base has this name"),
        ("base_model.model.model.norm.lora_magnitude", (16,), r"norm\.lora_magnitude: no tensor of the base"),
        ("q_proj.lora_A.weight", (4, 16), r"q_proj\.lora_A\.weight: expected a name that begins with base_model"),
        ("base_model.model.model.norm.lora_A.weight", (4, 16), r"model\.norm\.weight: expected both factors, or the"),
        ("base_model.model.model.layers.0.mlp.up_proj.base_layer.weight", (32, 16), r"or the tensor whole, got base_m"),
        ("base_model.model.model.layers.0.self_attn.q_proj.weight", (16, 16), r"expected both factors, or the tensor"),
        ("base_model.model.model.layers.0.mlp.up_proj.weight", (32, 17), r"\(32, 17\), the base has \(32, 16\); give"),
        ("base_model.model.model.embed_tokens.weight", (28, 17), r"\(28, 17\), the base has \(28, 16\); give the base"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias", (16,), r"q_proj\.bias: no tensor of the base"),
    ],
)
def test_stored_tensors_that_nothing_explains_are_refused_by_name(
    llama: dict[str, Path], tmp_path: Path, name: str, shape: tuple[int, ...], reason: str
) -> None:
    folder = make_adapter(llama["base"], tmp_path / "adapter", target_modules=["q_proj"], r=4)
    save_file({**load_file(folder / WEIGHTS), name: torch.zeros(shape)}, folder / WEIGHTS)
    with pytest.raises(ValueError, match=reason):
        source(llama["base"], folder)


def test_factors_of_convolutions_are_refused(llama: dict[str, Path], tmp_path: Path) -> None:
    folder = make_adapter(llama["base"], tmp_path / "adapter", target_modules=["q_proj"], r=4)
    tensors = load_file(folder / WEIGHTS)
    save_file({name: tensor[..., None, None] for name, tensor in tensors.items()}, folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"\(4, 16, 1, 1\) .* are no matrices; merge it first with peft"):
        source(llama["base"], folder)


def test_adapters_of_another_base_are_refused_with_names_and_shapes(
    llama: dict[str, Path], qwen2: dict[str, Path], tmp_path: Path
) -> None:
    wide = tmp_path / "wide"
    tensors = load_file(llama["base"] / "model.safetensors")
    wide.mkdir()
    save_file({name: tensor.repeat(*[2] * tensor.ndim) for name, tensor in tensors.items()}, wide / "model.safetensors")
    folder = make_adapter(llama["base"], tmp_path / "adapter", target_modules=["q_proj"], r=4)
    with pytest.raises(ValueError, match=r"q_proj\.weight: A of shape \(4, 16\) .* no matrix of shape \(32, 32\)"):
        source(wide, folder)
    biased = make_adapter(qwen2["base"], tmp_path / "biased", target_modules=["q_proj"], bias="lora_only")
    with pytest.raises(ValueError, match=r"q_proj\.bias: no tensor of the base .*base_layer\.bias \(16,\)\); give the"):
        source(llama["base"], biased)


def test_quantised_bases_are_refused(llama: dict[str, Path], tmp_path: Path) -> None:
    folder = make_adapter(llama["base"], tmp_path / "adapter", target_modules=["q_proj"])
    tensors = load_file(llama["base"] / "model.safetensors")
    (tmp_path / "small").mkdir()
    save_file({name: tensor.to(torch.int8) for name, tensor in tensors.items()}, tmp_path / "small/model.safetensors")
    with pytest.raises(ValueError, match=r"stores it as torch\.int8; give a base that is not quantised"):
        source(tmp_path / "small", folder)


def test_broken_folders_are_refused_with_the_remedy(llama: dict[str, Path], tmp_path: Path) -> None:
    folder = make_adapter(llama["base"], tmp_path / "adapter", target_modules=["q_proj"])
    save_file({}, folder / WEIGHTS)
    with pytest.raises(ValueError, match="its file holds no tensors; save the adapter again"):
        source(llama["base"], folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match="it has no weights; load the adapter once with peft"):
        source(llama["base"], folder)
    (folder / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(FileNotFoundError, match=r"adapter_model\.bin, which are pickles and never opened; load the"):
        source(llama["base"], folder)
    (folder / CONFIG).write_text("{")
    with pytest.raises(ValueError, match=r"is no JSON .*; save the adapter again with peft"):
        source(llama["base"], folder)
    (folder / CONFIG).write_text("[]")
    with pytest.raises(ValueError, match="is no JSON object; save the adapter again with peft"):
        source(llama["base"], folder)
    with pytest.raises(FileNotFoundError, match=r"give a folder that PeftModel\.save_pretrained wrote"):
        source(llama["base"], llama["left"])
    with pytest.raises(FileNotFoundError, match="give an existing folder or a hub id"):
        source(llama["base"], tmp_path / "none")


def test_unknown_tensors_are_refused_by_name(llama: dict[str, Path], tmp_path: Path) -> None:
    found = source(llama["base"], make_adapter(llama["base"], tmp_path / "adapter", target_modules=["q_proj"]))
    with pytest.raises(KeyError, match="source 'adapter' has no tensor 'nothing'"):
        found.tensor("nothing")
    with pytest.raises(KeyError, match="source 'adapter' has no tensor 'nothing'"):
        found.low_rank("nothing")


def test_it_tells_the_base_that_it_was_trained_on(llama: dict[str, Path], tmp_path: Path) -> None:
    folder = make_adapter(llama["base"], tmp_path / "adapter", target_modules=["q_proj"])
    assert source(llama["base"], folder).base_model == str(llama["base"])
    _edit(folder, {"base_model_name_or_path": None})
    assert source(llama["base"], folder).base_model is None


def test_adapter_folders_are_told_from_checkpoints(llama: dict[str, Path], tmp_path: Path) -> None:
    assert is_adapter(make_adapter(llama["base"], tmp_path / "adapter", target_modules=["q_proj"]))
    assert not is_adapter(llama["base"])


def _edit(folder: Path, edits: dict[str, Any]) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **edits}))
