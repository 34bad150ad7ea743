"""Whether a live model can be stacked and scaled as recipes of a space ask, tried on the model itself.

What a stack of layers is depends on the architecture: some tell their layers apart by rules that no configuration of
a stack can express, or add their branches in a way that scales cannot be folded into. Both are found by comparison
with an independent way to the same model, before a search begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from automerge.model import ResidentModel
from automerge.recipe import BASE, Fusion, Input, OutputLayer, Recipe, uniform
from automerge.scaling import Gains, gains
from automerge.stacking import in_place, origins

PROBE = (2, 16)
"""Rows and tokens of the text on which scales are tried."""

SCALE = 0.6
"""Layers are scaled by this and by its inverse in turns, so that no product leaves its bounds in deep models."""

TOLERANCE = 0.2
"""Largest share of the effect of scales by which folded and true ones may differ: the epsilon of norms and rounding
make some percent, an architecture to which they cannot be folded makes about 1."""


def stack_faults(model: ResidentModel, recipes: Sequence[Recipe]) -> list[str]:
    """Every reason why the live model cannot be what such recipes describe; empty if there is none.

    The model is written meanwhile and holds the base in the end; recipes that leave all layers at their places,
    unscaled, need no trial.
    """
    n_layers = model.sources.alignment.n_layers
    stacks = [recipe for recipe in recipes if not in_place(recipe, n_layers)]
    found = _moving_faults(model, _telling(stacks))
    scaled = [recipe for recipe in stacks if any(gain != Gains() for gain in gains(recipe))]
    if scaled and not model.sources.writers:
        found.append(
            "scales are searched, but no tensors are known that end a layer's branches; set space.scaling: null"
        )
    elif any(recipe.scaling == "residual" for recipe in scaled):
        # A factor of what an mlp adds is folded as it is, whatever the model does with the sum.
        found += _scaling_faults(model)
    if stacks:
        model.write(uniform(Fusion("passthrough", (Input(BASE, None),)), n_layers))
    return found


@contextmanager
def scaled_hidden_states(layers: Sequence[Module], scales: Sequence[float]) -> Iterator[None]:
    """Inside, what each layer hands on is multiplied by its scale: what folded scales stand for, done directly."""

    def times(scale: float) -> Callable[[Module, Any, Any], Any]:
        def hook(_module: Module, _inputs: Any, output: Any) -> Any:
            return (output[0] * scale, *output[1:]) if isinstance(output, tuple) else output * scale

        return hook

    hooks = [layer.register_forward_hook(times(scale)) for layer, scale in zip(layers, scales, strict=True)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _telling(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Few of the recipes, which together move every layer to every place to which some of them moves it."""
    left = {k: {pair for pair in enumerate(origins(recipe)) if pair[0] != pair[1]} for k, recipe in enumerate(recipes)}
    chosen = []
    while any(left.values()):
        most = max(left, key=lambda k: len(left[k]))
        chosen.append(recipes[most])
        told = left[most]
        left = {k: pairs - told for k, pairs in left.items()}
    return chosen


def _moving_faults(model: ResidentModel, recipes: Sequence[Recipe]) -> list[str]:
    """What differs between live stacks and models that are built from their configurations."""
    live: Any = model.lm.model
    for recipe in recipes:
        model.write(recipe)
        with torch.device("meta"):
            fresh = type(live)(deepcopy(live.config))
        expected = dict(_facts(fresh.get_submodule(model.path)))
        for name, fact in _facts(live.get_submodule(model.path)):
            if expected.get(name) != fact:
                return [
                    f"layers of {type(live).__name__} cannot be moved: {name} is {expected.get(name)!r} by the "
                    f"configuration of the stack, {fact!r} in the source's layer; search a space that leaves layers at "
                    "their places, such as lfs"
                ]
    return []


def _facts(layers: Module) -> Iterator[tuple[str, Any]]:
    """Yields (name, value) of what makes layers act as they do: shapes of weights, plain attributes."""
    for name, weight in layers.state_dict(keep_vars=True).items():
        yield name, tuple(weight.shape)
    for path, module in layers.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, bool | int | float | str) and not key.startswith("_") and key != "training":
                yield f"{path}.{key}", value


def _scaling_faults(model: ResidentModel) -> list[str]:
    """Whether folded residual scales act as if the hidden states were multiplied after each layer."""
    n_layers = model.sources.alignment.n_layers
    plain = uniform(Fusion("passthrough", (Input(BASE, None),)), n_layers)
    scales = [(SCALE, 1 / SCALE)[depth % 2] for depth in range(n_layers)]
    scaled = Recipe(
        tuple(OutputLayer(layer.components, s) for layer, s in zip(plain.layers, scales, strict=True)), plain.outer
    )
    model.write(scaled)
    folded = _logits(model)
    model.write(plain)
    unscaled = _logits(model)
    with scaled_hidden_states(model.layers, scales):
        true = _logits(model)
    effect = float((true - unscaled).norm())
    error = float((folded - true).norm())
    # The only layer of a model has no later ones that its scale could act on.
    if n_layers == 1 or error <= TOLERANCE * effect:
        return []
    return [
        f"scales cannot be folded into the weights of {type(model.lm.model).__name__}: the logits differ from those of "
        f"scaled hidden states by {100 * error / effect:.0f} % of the scales' effect; set space.scaling to null or "
        "branch_mlp"
    ]


def _logits(model: ResidentModel) -> Tensor:
    live: Any = model.lm.model
    n_tokens = int(live.config.get_text_config().vocab_size)
    ids = torch.randint(n_tokens, PROBE, generator=torch.Generator().manual_seed(0)).to(live.device)
    with torch.inference_mode():
        found: Tensor = live(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits.float()
    return found
