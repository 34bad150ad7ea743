"""What each recommended model is made of: a map if its layers lie where the sources have them, else a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from automerge.recipe import Recipe
from automerge.report.anatomy import Anatomy, Key, anatomy, largest_weight, palette
from automerge.report.findings import Findings
from automerge.report.points import Point
from automerge.report.runs import Run, runs
from automerge.report.stack import Stack, pictured, stack
from automerge.report.weights import described
from automerge.stacking import in_place


class Portrait(NamedTuple):
    """One recommended model: its map, or the picture of its stack with the same in runs and the outer part in words."""

    point: Point
    map: Anatomy | None = None
    stack: Stack | None = None
    runs: tuple[Run, ...] = ()
    outer: str = ""


class Gallery(NamedTuple):
    """All portraits, with the keys of the sources that they read and the weight that fills a strip in the maps."""

    keys: Mapping[str, Key]
    full: float
    portraits: tuple[Portrait, ...]


def gallery(findings: Findings) -> Gallery:
    """The portraits of the recommended models, by number."""
    recipes = [point.trial.recipe for point in findings.recommended]
    references = [findings.history.trials[number].recipe for number in findings.history.references]
    depth = n_source_layers([*references, *recipes])
    names = [recipe.sources if in_place(recipe, depth) else pictured(recipe) for recipe in recipes]
    keys, full = palette(name for own in names for name in own), largest_weight(recipes)

    def portrait(point: Point) -> Portrait:
        recipe = point.trial.recipe
        if in_place(recipe, depth):
            return Portrait(point, map=anatomy(recipe, keys, full))
        return Portrait(
            point, stack=stack(recipe, depth, keys), runs=tuple(runs(recipe)), outer=described(recipe.outer)
        )

    return Gallery(keys, full, tuple(portrait(point) for point in findings.recommended))


def n_source_layers(recipes: list[Recipe]) -> int:
    """How many layers the sources have, as far as the recipes read them; the sources as they are read all."""
    layers = (
        read.layer for recipe in recipes for _, fusion in recipe.fusions() for read in fusion.inputs if read.layer
    )
    return 1 + max(layers, default=0)
