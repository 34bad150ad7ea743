"""A stack as a table: its output layers in runs, each of which reads source layers in their order and in one way."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from automerge.recipe import Fusion, OutputLayer, Recipe
from automerge.report.weights import remarks
from automerge.scaling import Gains, gains


class Run(NamedTuple):
    """Output layers in a row: their numbers, what they read (a line per component where these differ), scale, gain."""

    outputs: str
    reads: tuple[str, ...]
    scale: str
    gain: str


def runs(recipe: Recipe) -> list[Run]:
    """The runs of a recipe, as long as they can be. Raises ValueError as `gains` does."""
    added = gains(recipe)
    found: list[Run] = []
    start = 0
    for depth in range(1, len(recipe.layers) + 1):
        if depth < len(recipe.layers) and added[depth] == added[start]:
            first, own = recipe.layers[start], recipe.layers[depth]
            if _moved(first, depth - start) == own:
                continue
        found.append(_run(recipe, start, depth - 1, added[start]))
        start = depth
    return found


def _moved(layer: OutputLayer, by: int) -> OutputLayer:
    """The output layer that reads source layers so much further up."""
    components = tuple((name, _moved_fusion(fusion, by)) for name, fusion in layer.components)
    return replace(layer, components=components)


def _moved_fusion(fusion: Fusion, by: int) -> Fusion:
    moved = (replace(read, layer=None if read.layer is None else read.layer + by) for read in fusion.inputs)
    return replace(fusion, inputs=tuple(moved))


def _run(recipe: Recipe, first: int, last: int, added: Gains) -> Run:
    layer = recipe.layers[first]
    together: dict[str, list[str]] = {}
    for name, fusion in layer.components:
        together.setdefault(_words(fusion, last - first), []).append(name)
    alike = len(together) == 1
    return Run(
        outputs=_span(first, last),
        reads=tuple(text if alike else f"{', '.join(names)}: {text}" for text, names in together.items()),
        scale=f"{layer.scale:.3g}",
        gain=f"{added.mlp:.3g}" if added.attention == added.mlp else f"mlp {added.mlp:.3g}",
    )


def _words(fusion: Fusion, more: int) -> str:
    """What a run of `more` + 1 layers reads: `math 4-7`, or `ties: math 4-7 (0.75), code 4-7 (0.5), sum 1.25`."""
    places = [f"{read.source} {_span(read.layer or 0, (read.layer or 0) + more)}" for read in fusion.inputs]
    if fusion.method == "passthrough":
        return ", ".join(places)
    parts = [f"{place} ({read.weight:.3g})" for place, read in zip(places, fusion.inputs, strict=True)]
    return f"{fusion.method}: {', '.join(parts + remarks(fusion))}"


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
