"""Sources that are only names, and recipes of them."""

from __future__ import annotations

from typing import Any

import torch
import yaml

from automerge.alignment import Alignment, align
from automerge.mergekit import from_yaml, to_yaml
from automerge.protocols import LowRank
from automerge.recipe import BASE, COMPONENTS, Fusion, Input, OutputLayer, Recipe

PATHS = {"base": "org/base", "math": "org/math", "code": "/models/code", "chat": "org/chat"}
NAMES = {path: name for name, path in PATHS.items()}

LLAMA = (
    "self_attn.q_proj.weight",
    "self_attn.o_proj.weight",
    "mlp.up_proj.weight",
    "mlp.down_proj.weight",
    "input_layernorm.weight",
)


class Names:
    """A source that has nothing but tensor names."""

    name = BASE

    def __init__(self, n_layers: int, locals_: tuple[str, ...] = LLAMA, stem: str = "model.layers") -> None:
        layers = [f"{stem}.{depth}.{local}" for depth in range(n_layers) for local in locals_]
        self.shapes = dict.fromkeys(
            ["model.embed_tokens.weight", *layers, "model.norm.weight", "lm_head.weight"], (2, 2)
        )
        self.dtypes = dict.fromkeys(self.shapes, torch.float32)

    def tensor(self, name: str) -> torch.Tensor:
        return torch.full((2, 2), float(len(name)))

    def low_rank(self, name: str) -> LowRank | None:
        return None


FIVE = align([Names(5)])


def layered(fusions: list[dict[str, Fusion]], outer: Fusion) -> Recipe:
    return Recipe(tuple(OutputLayer(tuple((c, found[c]) for c in COMPONENTS)) for found in fusions), outer)


def reading(method: str, layer: int | None, *weights: tuple[str, float], **parameters: float) -> Fusion:
    return Fusion(method, tuple(Input(name, layer, weight) for name, weight in weights), tuple(parameters.items()))


def written(recipe: Recipe, alignment: Alignment = FIVE) -> dict[str, Any]:
    found = to_yaml(recipe, PATHS, alignment, dtype="bfloat16")
    assert found.text is not None, found.faults
    content: dict[str, Any] = yaml.safe_load(found.text)
    return content


def read(text: str, alignment: Alignment = FIVE) -> Recipe:
    return from_yaml(text, NAMES, alignment)
