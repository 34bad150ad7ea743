"""A recipe as a map of depth by component: which sources each part of the model is made of, and by which method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from automerge.recipe import BASE, OUTER, Fusion, Recipe

COLOURS = ("#7db8e0", "#f2b37e", "#7fcbb0", "#dcabc8", "#f0e27d", "#a9c6f5", "#e8c46a", "#b9b4e0")
"""Light tones of colours that the colour-blind can tell apart, dark text stays legible on them."""

BASE_COLOUR = "#d1d5db"


class Cell(NamedTuple):
    """One part of the model: a short text, the whole fusion in words, and its background (CSS)."""

    text: str
    details: str
    background: str


class Row(NamedTuple):
    """One layer, or the part outside the layers, with a cell per component."""

    title: str
    cells: tuple[Cell, ...]


class Anatomy(NamedTuple):
    """The map of one recipe: names of the components, a row per layer, and the part outside the layers."""

    components: tuple[str, ...]
    rows: tuple[Row, ...]
    outer: Row


def palette(recipes: Sequence[Recipe]) -> dict[str, str]:
    """A colour for every source that the recipes read, the base first and grey."""
    names = {name for recipe in recipes for name in recipe.sources}
    others = sorted(names - {BASE})
    base = {BASE: BASE_COLOUR} if BASE in names else {}
    return base | {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(others)}


def anatomy(recipe: Recipe, colours: Mapping[str, str]) -> Anatomy:
    """The map of a recipe with the colours of `palette`."""
    rows = []
    for depth, layer in enumerate(recipe.layers):
        scale = "" if layer.scale == 1 else f", scale {layer.scale:.3g}"
        cells = tuple(_cell(fusion, depth, colours) for _, fusion in layer.components)
        rows.append(Row(f"layer {depth}{scale}", cells))
    components = tuple(name for name, _ in recipe.layers[0].components) if recipe.layers else ()
    return Anatomy(components, tuple(rows), Row(OUTER, (_cell(recipe.outer, None, colours),)))


def _cell(fusion: Fusion, depth: int | None, colours: Mapping[str, str]) -> Cell:
    dominant = max(fusion.inputs, key=lambda read: abs(read.weight))
    moved = "" if dominant.layer == depth else f" layer {dominant.layer}"
    text = f"{dominant.source}{moved}"
    if fusion.method != "passthrough":
        text = f"{fusion.method}: {text} {dominant.weight:.2f}"
    parts = [f"{read.source}{_layer(read.layer)} {read.weight:.3g}" for read in fusion.inputs]
    parts += [f"{name} {value:.3g}" for name, value in fusion.parameters]
    return Cell(text, f"{fusion.method}: {', '.join(parts)}", _bar(fusion, colours))


def _layer(layer: int | None) -> str:
    return "" if layer is None else f" layer {layer}"


def _bar(fusion: Fusion, colours: Mapping[str, str]) -> str:
    """A background that is divided between the sources in proportion to their weights."""
    total = sum(abs(read.weight) for read in fusion.inputs) or 1.0
    stops, edge = [], 0.0
    for read in fusion.inputs:
        share = 100 * abs(read.weight) / total
        stops.append(f"{colours[read.source]} {edge:.1f}% {edge + share:.1f}%")
        edge += share
    return f"linear-gradient(to right, {', '.join(stops)})"
