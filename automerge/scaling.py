"""From the scales of a recipe's layers to gains of their branches, and from gains to ordinary weights.

Scaling the residual stream after layer l by s_l is, on models that normalise what a branch reads, the same as adding
every later branch with the gain 1 / (s_0 ... s_(l-1)): no norm sees the common factor, but for its epsilon. A gain is
folded into the last tensors of its branch, so that a scaled model is an ordinary checkpoint of its architecture.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from automerge.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Branch = Literal["attention", "mlp"]

MIN_SCALE = 0.05
"""The smallest scale of the residual stream: at 0 all that came before is lost, and later gains are infinite."""

MAX_GAIN = 1024.0
"""The product of the scales up to any layer lies in [1 / MAX_GAIN, MAX_GAIN]: weights must stay in range of 16 bits."""


ATTENTION_END = re.compile(
    r"(^|\.)(self_attn|attn|attention|self_attention)\.(o_proj|out_proj|c_proj|dense|wo)(\.(weight|bias))?$"
)
MLP_END = re.compile(r"(^|\.)(down_proj|c_proj|fc2|fc_out|dense_4h_to_h|w2|output_linear)((\.|_)(weight|bias))?$")
POST_NORMS: tuple[Mapping[str, Branch], ...] = (
    {"post_attention_layernorm.weight": "attention", "post_feedforward_layernorm.weight": "mlp"},
    {"post_self_attn_layernorm.weight": "attention", "post_mlp_layernorm.weight": "mlp"},
)
"""Norms of what a branch adds: they would undo a factor of the projection before them, so they take it themselves."""

STORED_LESS_ONE = frozenset({"gemma2", "gemma3", "gemma3_text", "vaultgemma"})
"""Architectures whose norms multiply by 1 + weight."""


class Writer(NamedTuple):
    """A tensor in which a branch ends: whose gain it takes, and what is added to it before it multiplies."""

    branch: Branch
    offset: float = 0.0


class Gains(NamedTuple):
    """By how much the two branches of an output layer are multiplied."""

    attention: float = 1.0
    mlp: float = 1.0


def gains(recipe: Recipe) -> list[Gains]:
    """The gains of every output layer.

    Raises ValueError for a scale outside its bounds: a residual one below MIN_SCALE or with a product outside
    [1 / MAX_GAIN, MAX_GAIN], any below 0 or above MAX_GAIN.
    """
    if recipe.scaling == "branch_mlp":
        for depth, layer in enumerate(recipe.layers):
            if not 0 <= layer.scale <= MAX_GAIN:
                raise ValueError(f"layer {depth} scales its mlp by {layer.scale:g}; choose from 0 to {MAX_GAIN:g}")
        return [Gains(mlp=layer.scale) for layer in recipe.layers]
    found = []
    product = 1.0
    for depth, layer in enumerate(recipe.layers):
        if not 1 / MAX_GAIN <= product <= MAX_GAIN:
            raise ValueError(
                f"the scales before layer {depth} multiply to {product:g}, so its branches would be added with the "
                f"gain {1 / product:g}; keep the product between {1 / MAX_GAIN:g} and {MAX_GAIN:g}"
            )
        found.append(Gains(1 / product, 1 / product))
        if layer.scale < MIN_SCALE:
            raise ValueError(
                f"layer {depth} scales the residual stream by {layer.scale:g}, which discards what came before; "
                f"choose at least {MIN_SCALE:g}, or leave the layers out"
            )
        product *= layer.scale
    return found


def writers(locals_: Collection[str], model_type: str) -> Mapping[str, Writer]:
    """By tensor name within a layer how it takes a gain; empty if no tensor is known that ends a branch.

    `locals_` are the tensor names within a layer, `model_type` is that of the configuration.
    """
    offset = 1.0 if model_type in STORED_LESS_ONE else 0.0
    for norms in POST_NORMS:
        if norms.keys() <= set(locals_):
            return {name: Writer(branch, offset) for name, branch in norms.items()}
    found: dict[str, Writer] = {}
    for name in locals_:
        if ATTENTION_END.search(name):
            found[name] = Writer("attention")
        elif MLP_END.search(name):
            found[name] = Writer("mlp")
    return found if {writer.branch for writer in found.values()} == {"attention", "mlp"} else {}


def folded(tensor: Tensor, gain: float, offset: float, dtype: torch.dtype) -> Tensor:
    """The tensor with a gain folded in, rounded to the dtype in which it is stored.

    Live model and export both hold what this gives, so they are one model to the last bit.
    """
    return ((tensor.float() + offset) * gain - offset).to(dtype)
