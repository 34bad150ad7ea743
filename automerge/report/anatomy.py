"""A recipe as a map of depth by component: which method makes every part of the model, and how much of each source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import NamedTuple

from automerge.recipe import BASE, Fusion, Recipe
from automerge.report.weights import described, effective

COLOURS = ("#7db8e0", "#f2b37e", "#8f82f3", "#8c980f", "#fbe364", "#bc846d", "#eb5caa", "#b9fbbc")
"""Light enough for dark text, and at least 20 apart in CIELAB, also as the colour-blind see them."""

BASE_COLOUR = "#d1d5db"

WIDEST_WITH_WORDS = 16
"""So many strips side by side leave room for a weight in each and the name of its source above."""


class Key(NamedTuple):
    """How a source looks in maps and pictures: its colour and the letter that stands for it."""

    colour: str
    letter: str


class Strip(NamedTuple):
    """One source in one part of the model: its weight in short, and the share of the strip that is filled (percent)."""

    text: str
    filled: float
    colour: str


class Cell(NamedTuple):
    """One part of the model: its method, whether it differs from the layer before, all in words, a strip per source."""

    method: str
    changes: bool
    details: str
    strips: tuple[Strip, ...]


class Row(NamedTuple):
    """One layer with a cell per column."""

    title: str
    cells: tuple[Cell, ...]


class Anatomy(NamedTuple):
    """The map of one recipe: its sources, the titles of its columns, a row per layer, and the part outside them.

    Components that are alike in every layer share a column. A strip is full at the weight `full`.
    """

    sources: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    outer: Cell
    full: float
    has_words: bool


def palette(names: Iterable[str]) -> dict[str, Key]:
    """Colour and letter of every source, the base first and grey."""
    found = set(names)
    others = sorted(found - {BASE})
    colours = {BASE: BASE_COLOUR} if BASE in found else {}
    colours |= {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(others)}
    return {
        name: Key(colour, ascii_uppercase[k % len(ascii_uppercase)]) for k, (name, colour) in enumerate(colours.items())
    }


def largest_weight(recipes: Iterable[Recipe]) -> float:
    """The largest effective weight in the recipes, 1 at least: what fills a strip in all their maps."""
    sizes = [abs(weight) for recipe in recipes for _, fusion in recipe.fusions() for weight in effective(fusion)]
    return max([1.0, *sizes])


def anatomy(recipe: Recipe, keys: Mapping[str, Key], full: float) -> Anatomy:
    """The map of a recipe with the colours of `palette`, whose strips are full at the weight `full`."""
    sources = tuple(name for name in keys if name in recipe.sources)
    columns = _columns(recipe)
    rows = []
    before: Sequence[Fusion | None] = [None] * len(columns)
    for depth, layer in enumerate(recipe.layers):
        fusions = [dict(layer.components).get(names[0]) for names in columns]
        cells = tuple(_cell(own, old, sources, keys, full) for own, old in zip(fusions, before, strict=True))
        rows.append(Row(f"layer {depth}", cells))
        before = fusions
    return Anatomy(
        sources=sources,
        columns=tuple(", ".join(names) for names in columns),
        rows=tuple(rows),
        outer=_cell(recipe.outer, None, sources, keys, full),
        full=full,
        has_words=len(columns) * len(sources) <= WIDEST_WITH_WORDS,
    )


def _columns(recipe: Recipe) -> list[list[str]]:
    """Names of the components, those together that have equal fusions in every layer."""
    names = dict.fromkeys(name for layer in recipe.layers for name, _ in layer.components)
    together: dict[tuple[Fusion | None, ...], list[str]] = {}
    for name in names:
        together.setdefault(tuple(dict(layer.components).get(name) for layer in recipe.layers), []).append(name)
    return list(together.values())


def _cell(
    fusion: Fusion | None, before: Fusion | None, sources: Sequence[str], keys: Mapping[str, Key], full: float
) -> Cell:
    if fusion is None:
        return Cell("", changes=False, details="no part of the recipe", strips=())
    weights = dict.fromkeys(sources, 0.0)
    for read, weight in zip(fusion.inputs, effective(fusion), strict=True):
        weights[read.source] += weight
    read_sources = {read.source for read in fusion.inputs}
    strips = tuple(
        Strip(_short(weight) if name in read_sources else "", 100 * min(1.0, abs(weight) / full), keys[name].colour)
        for name, weight in weights.items()
    )
    return Cell(fusion.method, _settings(before) != _settings(fusion), described(fusion), strips)


def _settings(fusion: Fusion | None) -> Fusion | None:
    """The fusion without the layers that it reads."""
    return fusion and replace(fusion, inputs=tuple(replace(read, layer=None) for read in fusion.inputs))


def _short(weight: float) -> str:
    """A weight in few signs: `.75`, `1`, `-.5`."""
    text = f"{abs(weight):.2f}".rstrip("0").rstrip(".")
    return ("-" if weight < 0 else "") + (text.removeprefix("0") or "0")
