from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from automerge.alignment import Place, align, place


class Shapes:
    """A source of names and shapes alone."""

    def __init__(self, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.name = name
        self.shapes = shapes

    def tensor(self, name: str) -> Tensor:
        return torch.zeros(self.shapes[name])


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
    with pytest.raises(ValueError, match="encoder-decoder and multi-tower models are not supported"):
        align([Shapes("base", {"encoder.layers.0.w": (1,), "decoder.layers.0.w": (1,)})])
    with pytest.raises(ValueError, match="no sources given"):
        align([])
