"""Views of a live model against what `from_pretrained` makes of the same checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig

from automerge.binding import bind
from tests import architectures

OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("bloom", {"n_layer": 2, "n_head": 2}),
    ("falcon", {"num_kv_heads": 1, "ffn_hidden_size": 24}),
    ("gpt_neox", {}),
    ("mpt", {"d_model": 16, "n_heads": 2, "n_layers": 2}),
    ("olmoe", {"num_experts": 4, "num_experts_per_tok": 2}),
    ("granitemoeshared", {"num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 8}),
    (
        "deepseek_v3",
        {
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "moe_intermediate_size": 8,
            "q_lora_rank": 8,
            "kv_lora_rank": 8,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 4,
            "v_head_dim": 8,
            "num_key_value_heads": 2,
            "head_dim": 4,
        },
    ),
    ("mamba2", {"state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 1, "chunk_size": 4}),
]
"""Families beyond those of tests/architectures.py, with what their configuration needs beside SIZES."""

SIZES = {
    "vocab_size": 28,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}


def live_model(folder: Path, seed: int = 99) -> Any:
    """A model of the folder's configuration with other random weights."""
    torch.manual_seed(seed)
    return architectures.build(AutoConfig.from_pretrained(folder))


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def checkpoint(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def rewrite(folder: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def assert_writing_the_views_is_loading(folder: Path) -> dict[str, Tensor]:
    """Writes the folder's checkpoint into another live model; gives the views."""
    tensors = checkpoint(folder)
    live = live_model(folder)
    views = bind(live, shapes_of(tensors))
    with torch.no_grad():
        for name, view in views.items():
            assert view.shape == tensors[name].shape
            view.copy_(tensors[name])
    loaded = architectures.load(folder)
    expected = loaded.state_dict()
    assert live.state_dict().keys() == expected.keys()
    for name, tensor in live.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    ids = torch.arange(12).view(2, 6)
    with torch.inference_mode():
        assert torch.equal(live(input_ids=ids).logits, loaded(input_ids=ids).logits)
    return views


@pytest.mark.parametrize(("family", "tied"), architectures.FAMILIES)
def test_writing_a_checkpoint_into_its_views_is_loading_it(family: str, tied: bool, tmp_path: Path) -> None:
    views = assert_writing_the_views_is_loading(architectures.make(tmp_path, family, tied=tied))
    assert views.keys() == checkpoint(tmp_path).keys()


@pytest.mark.parametrize(("family", "specific"), OTHERS, ids=[family for family, _ in OTHERS])
def test_families_without_a_word_in_this_package_are_bound_too(
    family: str, specific: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = architectures.build(AutoConfig.for_model(family, **{**SIZES, **specific}))
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(torch.rand_like(tensor))
    model.save_pretrained(tmp_path)
    assert_writing_the_views_is_loading(tmp_path)


def test_layers_with_and_without_experts_are_bound_together(tmp_path: Path) -> None:
    assert_writing_the_views_is_loading(architectures.make(tmp_path, "qwen3_moe", mlp_only_layers=[0]))


def test_views_are_slices_of_the_live_memory_and_cover_it(tmp_path: Path) -> None:
    shapes = shapes_of(checkpoint(architectures.make(tmp_path, "mixtral")))
    live = live_model(tmp_path)
    views = bind(live, shapes)
    fused = live.model.layers[1].mlp.experts.gate_up_proj
    assert torch.equal(views["model.layers.1.block_sparse_moe.experts.2.w3.weight"], fused[2, fused.shape[1] // 2 :])
    with torch.no_grad():
        for view in views.values():
            view.fill_(7.0)
    assert all(bool((parameter == 7.0).all()) for parameter in live.parameters())
    assert sum(view.numel() for view in views.values()) == sum(parameter.numel() for parameter in live.parameters())


def test_the_layout_of_old_gpt2_checkpoints_is_bound(tmp_path: Path) -> None:
    tensors = checkpoint(architectures.make(tmp_path, "gpt2", tied=True))
    old = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 64, 64) for i in range(2)}
    masks |= {f"h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(2)}
    rewrite(tmp_path, {**old, **masks})
    assert assert_writing_the_views_is_loading(tmp_path).keys() == old.keys()


def test_tables_of_the_rotary_embedding_have_no_view(tmp_path: Path) -> None:
    tensors = checkpoint(architectures.make(tmp_path, "llama"))
    rewrite(tmp_path, {**tensors, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    assert assert_writing_the_views_is_loading(tmp_path).keys() == tensors.keys()


@pytest.mark.parametrize("family", ["qwen2", "gpt2", "opt"])
def test_a_head_that_is_stored_although_tied_has_no_view(family: str, tmp_path: Path) -> None:
    tensors = checkpoint(architectures.make(tmp_path, family, tied=True))
    embedding = next(name for name in tensors if name.endswith(("embed_tokens.weight", "wte.weight")))
    rewrite(tmp_path, {**tensors, "lm_head.weight": tensors[embedding].clone()})
    assert assert_writing_the_views_is_loading(tmp_path).keys() == tensors.keys()


def test_a_head_stored_instead_of_the_embedding_reaches_it(tmp_path: Path) -> None:
    tensors = checkpoint(architectures.make(tmp_path, "qwen2", tied=True))
    rewrite(tmp_path, {"lm_head.weight": tensors.pop("model.embed_tokens.weight"), **tensors})
    assert "lm_head.weight" in assert_writing_the_views_is_loading(tmp_path)


def test_every_tensor_that_does_not_fit_is_named(tmp_path: Path) -> None:
    shapes = shapes_of(checkpoint(architectures.make(tmp_path, "mixtral")))
    del shapes["model.norm.weight"], shapes["model.layers.0.block_sparse_moe.experts.3.w1.weight"]
    shapes |= {"lm_head.weight": (28, 8), "model.layers.0.adapter.weight": (2, 2)}
    with pytest.raises(ValueError, match="without missing or unexpected weights") as caught:
        bind(live_model(tmp_path), shapes)
    text = str(caught.value)
    assert "no parameter of the model takes model.layers.0.adapter.weight (2, 2)" in text
    assert "lm_head.weight has shape (28, 8), the model's lm_head.weight (28, 16)" in text
    assert "no tensor of the checkpoint reaches the model's model.norm.weight (16,)" in text
    assert "7 tensors such as model.layers.0.block_sparse_moe.experts.0.w1.weight" in text
    assert len(text.splitlines()) == 5


def test_two_names_of_one_parameter_are_refused(tmp_path: Path) -> None:
    shapes = shapes_of(checkpoint(architectures.make(tmp_path, "gpt2")))
    with pytest.raises(ValueError, match=r"transformer\.wpe\.weight, wpe\.weight are all the model's"):
        bind(live_model(tmp_path), {**shapes, "wpe.weight": shapes["transformer.wpe.weight"]})


def test_tensors_that_a_conversion_spreads_or_rearranges_are_refused(tmp_path: Path) -> None:
    """HRM splits stored projections into several parameters: none of those is one view."""
    model = architectures.build(AutoConfig.for_model("hrm_text", **SIZES))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"gate_up_proj\.weight .* are no views of the model's .*mlp\.up_proj\.weight"):
        bind(model, shapes_of(checkpoint(tmp_path)))


def test_a_model_without_memory_is_bound_by_its_shapes(tmp_path: Path) -> None:
    shapes = shapes_of(checkpoint(architectures.make(tmp_path, "qwen3_moe", tied=True)))
    with torch.device("meta"):
        model = architectures.build(AutoConfig.from_pretrained(tmp_path))
    assert {name: tuple(view.shape) for name, view in bind(model, shapes).items()} == shapes
