"""Stacks: which source layers a recipe puts where, and the configuration of a model with its layers in that order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from automerge.recipe import OutputLayer, Recipe

DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""How the configurations of architectures call the number of layers."""


def origins(recipe: Recipe) -> tuple[int, ...]:
    """For every output layer the source layer whose attention it reads first: what a configuration says of that source
    layer, such as the kind of its attention, holds for the output layer.

    Raises ValueError for an output layer that reads no layer of a source.
    """
    return tuple(_origin(layer) for layer in recipe.layers)


def in_place(recipe: Recipe, n_layers: int) -> bool:
    """Whether every output layer reads the source layers of its own depth only, and all are there, unscaled."""
    return len(recipe.layers) == n_layers and all(
        layer.scale == 1 and all(read.layer == depth for _, fusion in layer.components for read in fusion.inputs)
        for depth, layer in enumerate(recipe.layers)
    )


def stacked_config(config: Mapping[str, Any], layers: Sequence[int], n_layers: int) -> dict[str, Any]:
    """The keys of a configuration of `n_layers` layers that change if the model is a stack of these source layers.

    Lists with one entry per layer, such as `layer_types`, follow their layers; empty if nothing moves.
    """
    if tuple(layers) == tuple(range(n_layers)):
        return {}
    changed: dict[str, Any] = {key: len(layers) for key in DEPTHS if key in config}
    for key, value in config.items():
        if isinstance(value, list | tuple) and len(value) == n_layers and ("layer" in key or "block" in key):
            changed[key] = [value[layer] for layer in layers]
    return changed


def _origin(layer: OutputLayer) -> int:
    named = dict(layer.components)
    first = named.get("attention") or next(iter(named.values()), None)
    if first is None or first.inputs[0].layer is None:
        raise ValueError(f"an output layer must read layers of sources, got {layer}; give it components with layers")
    return first.inputs[0].layer
