from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from automerge.alignment import Place, align, differences, is_constant, place
from automerge.protocols import LowRank


class Shapes:
    """A source of names and shapes; every tensor is zero, or the value given for the first part of its name."""

    def __init__(self, name: str, shapes: Mapping[str, tuple[int, ...]], **values: float) -> None:
        self.name = name
        self.shapes = shapes
        self.dtypes = dict.fromkeys(shapes, torch.float32)
        self.values = values

    def tensor(self, name: str) -> Tensor:
        return torch.full(self.shapes[name], self.values.get(name.partition(".")[0], 0.0))

    def low_rank(self, name: str) -> LowRank | None:
        return None


@pytest.mark.parametrize(
    ("name", "layer", "component"),
    [
        ("model.layers.3.self_attn.q_proj.weight", 3, "attention"),
        ("model.layers.11.mlp.gate_proj.weight", 11, "mlp"),
        ("model.layers.0.input_layernorm.weight", 0, "other"),
        ("model.layers.0.post_attention_layernorm.weight", 0, "other"),
        ("model.layers.2.self_attn.q_norm.weight", 2, "attention"),
        ("model.layers.2.block_sparse_moe.experts.4.w1.weight", 2, "mlp"),
        ("transformer.h.5.attn.c_attn.bias", 5, "attention"),
        ("transformer.h.5.ln_1.weight", 5, "other"),
        ("model.decoder.layers.1.fc1.weight", 1, "mlp"),
        ("model.decoder.layers.1.self_attn_layer_norm.weight", 1, "other"),
        ("model.decoder.layers.1.self_attn.k_proj.bias", 1, "attention"),
        # Falcon, BLOOM, MPT, GPT-NeoX
        ("transformer.h.1.self_attention.query_key_value.weight", 1, "attention"),
        ("transformer.h.1.mlp.dense_h_to_4h.weight", 1, "mlp"),
        ("transformer.h.1.ln_attn.weight", 1, "other"),
        ("transformer.h.1.ln_mlp.bias", 1, "other"),
        ("h.1.self_attention.dense.bias", 1, "attention"),
        ("transformer.blocks.4.attn.Wqkv.weight", 4, "attention"),
        ("transformer.blocks.4.attn.q_ln.weight", 4, "attention"),
        ("transformer.blocks.4.ffn.up_proj.weight", 4, "mlp"),
        ("transformer.blocks.4.norm_1.weight", 4, "other"),
        ("gpt_neox.layers.5.attention.query_key_value.bias", 5, "attention"),
        ("gpt_neox.layers.5.mlp.dense_4h_to_h.bias", 5, "mlp"),
        # StableLM, Cohere, OLMo 2, Gemma 3, Phi-3, InternLM 2, BitNet
        ("model.layers.0.self_attn.q_layernorm.norms.1.weight", 0, "attention"),
        ("model.layers.0.self_attn.k_norm.weight", 0, "attention"),
        ("model.layers.0.post_feedforward_layernorm.weight", 0, "other"),
        ("model.layers.0.pre_feedforward_layernorm.weight", 0, "other"),
        ("model.layers.0.mlp.gate_up_proj.weight", 0, "mlp"),
        ("model.layers.0.attention.wqkv.weight", 0, "attention"),
        ("model.layers.0.attention_norm.weight", 0, "other"),
        ("model.layers.0.feed_forward.w3.weight", 0, "mlp"),
        ("model.layers.0.ffn_norm.weight", 0, "other"),
        ("model.layers.0.mlp.ffn_sub_norm.weight", 0, "mlp"),
        # DeepSeek, Qwen-MoE, Granite-MoE, gpt-oss, Jamba, Qwen3-Next
        ("model.layers.7.self_attn.q_a_proj.weight", 7, "attention"),
        ("model.layers.7.self_attn.kv_a_proj_with_mqa.weight", 7, "attention"),
        ("model.layers.7.self_attn.kv_a_layernorm.weight", 7, "attention"),
        ("model.layers.7.mlp.shared_experts.down_proj.weight", 7, "mlp"),
        ("model.layers.7.mlp.gate.e_score_correction_bias", 7, "mlp"),
        ("model.layers.7.mlp.shared_expert_gate.weight", 7, "mlp"),
        ("model.layers.7.block_sparse_moe.router.layer.weight", 7, "mlp"),
        ("model.layers.7.block_sparse_moe.input_linear.weight", 7, "mlp"),
        ("model.layers.7.shared_mlp.output_linear.weight", 7, "mlp"),
        ("model.layers.7.self_attn.sinks", 7, "attention"),
        ("model.layers.7.mlp.experts.gate_up_proj_bias", 7, "mlp"),
        ("model.layers.7.feed_forward.experts.0.up_proj.weight", 7, "mlp"),
        ("model.layers.7.linear_attn.A_log", 7, "attention"),
        # Mamba and the attention layers that Nemotron-H calls mixers too
        ("backbone.layers.3.mixer.in_proj.weight", 3, "other"),
        ("backbone.layers.3.mixer.A_log", 3, "other"),
        ("backbone.layers.3.mixer.q_proj.weight", 3, "attention"),
        ("backbone.layers.3.mixer.down_proj.weight", 3, "mlp"),
        ("model.embed_tokens.weight", None, "outer"),
        ("transformer.wpe.weight", None, "outer"),
        ("lm_head.weight", None, "outer"),
    ],
)
def test_layer_and_component_are_read_off_the_name(name: str, layer: int | None, component: str) -> None:
    found = place(name)
    assert (found.layer, found.component) == (layer, component)


def test_slots_hold_every_tensor_once_and_names_move_between_layers() -> None:
    shapes = {f"model.layers.{i}.{part}": (2, 2) for i in range(3) for part in ("mlp.up.weight", "norm.weight")}
    layout = align([Shapes("base", {**shapes, "lm_head.weight": (4, 2)})])
    assert layout.n_layers == 3
    assert sorted(name for names in layout.slots.values() for name in names) == sorted(layout.places)
    assert layout.name_at("model.layers.0.mlp.up.weight", 2) == "model.layers.2.mlp.up.weight"
    assert layout.name_at("lm_head.weight", 2) == "lm_head.weight"
    assert layout.places["lm_head.weight"] == Place(None, "outer", "lm_head.weight")


def test_all_differences_are_listed_at_once() -> None:
    base = Shapes("base", {"model.layers.0.mlp.w": (2, 2), "model.layers.0.mlp.v": (2, 2), "head": (3,)})
    other = Shapes("other", {"model.layers.0.mlp.w": (2, 3), "head": (3,), "extra": (1,)})
    with pytest.raises(ValueError, match="cannot be merged") as caught:
        align([base, other])
    text = str(caught.value)
    assert "'other' lacks 1 tensors of 'base': model.layers.0.mlp.v" in text
    assert "'other' has 1 tensors that 'base' lacks: extra" in text
    assert "model.layers.0.mlp.w (2, 3) instead of (2, 2)" in text


def test_models_without_one_stack_of_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="no layers found"):
        align([Shapes("base", {"weight": (1,)})])
    with pytest.raises(ValueError, match=r"models and those with further towers .* save the text model"):
        align([Shapes("base", {"encoder.layers.0.w": (1,), "decoder.layers.0.w": (1,)})])
    with pytest.raises(ValueError, match="no sources given"):
        align([])


LAYER = {"model.layers.0.mlp.up_proj.weight": (2, 2)}
TIED = {**LAYER, "model.embed_tokens.weight": (4, 2)}
STORED = {**TIED, "lm_head.weight": (4, 2)}


def test_tensors_of_layers_that_no_name_explains_are_listed() -> None:
    mixer = "model.layers.0.mamba.in_proj.weight"
    norm = "model.layers.0.mamba.dt_layernorm.weight"
    layout = align([Shapes("base", {**TIED, mixer: (2, 2), norm: (2,)})])
    assert layout.unknown == (mixer,)
    assert layout.slots[0, "other"] == (norm, mixer)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("h.0.attn.bias", (1, 1, 8, 8)),
        ("h.0.attn.masked_bias", ()),
        ("gpt_neox.layers.0.attention.bias", (1, 1, 8, 8)),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", (4,)),
        ("model.embeddings.position_ids", (1, 8)),
    ],
)
def test_constants_may_be_absent_and_are_never_merged(name: str, shape: tuple[int, ...]) -> None:
    with_constant, without = Shapes("one", {**TIED, name: shape}), Shapes("two", TIED)
    for sources in ([with_constant, without], [without, with_constant], [with_constant, with_constant]):
        assert differences(sources) == []
        assert align(sources) == align([without])


def test_a_bias_of_the_attention_is_a_weight() -> None:
    assert not is_constant("model.layers.0.attn.bias", (8,))
    assert not is_constant("transformer.h.0.attn.c_attn.bias", (24,))


def test_a_head_that_repeats_the_embedding_may_be_absent() -> None:
    stored, tied = Shapes("stored", STORED, model=1.0, lm_head=1.0), Shapes("tied", TIED, model=2.0)
    assert differences([stored, tied]) == differences([tied, stored]) == []
    assert align([stored, tied]).copies == {"lm_head.weight": "model.embed_tokens.weight"}
    assert align([tied, stored]).copies == {}
    for sources in ([stored, tied], [tied, stored], [stored, stored]):
        assert align(sources).slots[None, "outer"] == ("model.embed_tokens.weight",)


def test_a_head_of_its_own_is_merged_and_must_be_everywhere() -> None:
    own, tied = Shapes("own", STORED, model=1.0, lm_head=2.0), Shapes("tied", TIED, model=1.0)
    assert align([own, own]).slots[None, "outer"] == ("lm_head.weight", "model.embed_tokens.weight")
    assert align([own, own]).copies == {}
    assert differences([own, tied]) == ["'tied' lacks 1 tensors of 'own': lm_head.weight"]
    equal = Shapes("equal", STORED, model=1.0, lm_head=1.0)
    assert align([equal, own]).copies == {}


def test_names_that_differ_by_a_prefix_are_told_with_the_remedy() -> None:
    short = {"h.0.mlp.c_fc.weight": (2, 2), "h.0.ln_1.weight": (2,), "wte.weight": (4, 2)}
    long = {f"transformer.{name}": shape for name, shape in short.items()}
    for first, second in ((short, long), (long, short)):
        with pytest.raises(ValueError, match=r"differ by the prefix 'transformer\.'; load both once"):
            align([Shapes("base", first), Shapes("other", second)])
