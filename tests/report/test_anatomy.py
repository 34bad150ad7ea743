"""The map of a recipe, its columns and strips, and colours that can be told apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from automerge.recipe import Fusion, Input, Recipe, uniform
from automerge.report.anatomy import BASE_COLOUR, COLOURS, anatomy, largest_weight, palette
from tests.report.recipes import OUTER, copied, fused, mixed

DEFICIENCIES: dict[str, NDArray[np.float64]] = {
    "none": np.eye(3),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}
"""Linear RGB as the colour-blind see it (Machado, Oliveira and Fernandes 2009, severity 1)."""


def lab(colour: str, seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB under D65."""
    code = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = to_xyz @ np.clip(seen @ linear, 0, 1) / to_xyz.sum(axis=1)
    x, y, z = (t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29 for t in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", DEFICIENCIES)
def test_colours_are_apart_for_the_colour_blind(kind: str) -> None:
    seen = [lab(colour, DEFICIENCIES[kind]) for colour in (*COLOURS, BASE_COLOUR)]
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > 20


def test_dark_text_is_legible_on_every_colour() -> None:
    """Contrast of 4.5 against the ink of the page (WCAG 2, AA)."""

    def luminance(colour: str) -> float:
        lightness = float(lab(colour, np.eye(3))[0])
        return ((lightness + 16) / 116) ** 3 if lightness > 8 else lightness / 903.3

    ink = luminance("#1f2937")
    assert min((luminance(colour) + 0.05) / (ink + 0.05) for colour in (*COLOURS, BASE_COLOUR)) > 4.5


def test_sources_have_letters_and_colours_in_one_order_with_the_base_first() -> None:
    recipe = Recipe((copied("math", 0), copied("code", 1)), OUTER)
    keys = palette(recipe.sources)
    assert [(name, key.letter) for name, key in keys.items()] == [("base", "A"), ("code", "B"), ("math", "C")]
    assert keys["base"].colour == BASE_COLOUR
    assert keys["code"].colour == COLOURS[0]


def test_a_strip_is_filled_as_far_as_the_effective_weight() -> None:
    recipe = Recipe((mixed("ties", 0, math=0.5, code=1.25), mixed("linear", 1, math=3, code=1)), OUTER)
    assert largest_weight([recipe]) == 1.25
    found = anatomy(recipe, palette(recipe.sources), full=1.25)
    assert found.sources == ("base", "code", "math")
    ties, linear = (row.cells[0] for row in found.rows)
    assert [(strip.text, strip.filled) for strip in ties.strips] == [("", 0), ("1.25", 100), (".5", pytest.approx(40))]
    assert [strip.filled for strip in linear.strips] == pytest.approx([0, 100 * 0.25 / 1.25, 100 * 0.75 / 1.25])
    assert linear.details == "linear: math layer 1 3, code layer 1 1"
    assert (found.outer.method, found.outer.strips[0].text) == ("passthrough", "1")


@pytest.mark.parametrize(
    ("weight", "text"),
    [(0.75, ".75"), (1.0, "1"), (10.5, "10.5"), (-0.5, "-.5"), (0.001, "0"), (0.999, "1"), (0.1, ".1")],
)
def test_weights_are_written_short(weight: float, text: str) -> None:
    recipe = uniform(Fusion("task_arithmetic", (Input("math", None, weight),)), 1)
    assert anatomy(recipe, palette(recipe.sources), full=20).rows[0].cells[0].strips[0].text == text


def test_components_that_are_alike_share_a_column() -> None:
    alike = uniform(OUTER, 2)
    assert anatomy(alike, palette(alike.sources), 1).columns == ("attention, mlp, other",)
    other = Fusion("passthrough", (Input("math", 1),))
    last = alike.layers[1]
    changed = replace(last, components=(last.components[0], ("mlp", other), last.components[2]))
    recipe = replace(alike, layers=(alike.layers[0], changed))
    found = anatomy(recipe, palette(recipe.sources), 1)
    assert found.columns == ("attention, other", "mlp")
    assert [len(row.cells) for row in found.rows] == [2, 2]


def test_a_part_differs_where_method_weights_or_parameters_do() -> None:
    density = Fusion("ties", (Input("math", 3, 0.5),), (("density", 0.9),))
    layers = [mixed("linear", 0, math=1), mixed("linear", 1, math=1), mixed("ties", 2, math=0.5)]
    layers.append(replace(layers[2], components=tuple((name, density) for name, _ in layers[2].components)))
    recipe = Recipe(tuple(layers), OUTER)
    found = anatomy(recipe, palette(recipe.sources), 1)
    assert [row.cells[0].changes for row in found.rows] == [True, False, True, True]


def test_a_component_that_some_layers_lack_is_empty_there() -> None:
    layer = copied("math", 1)
    recipe = Recipe((copied("math", 0), replace(layer, components=layer.components[:2])), OUTER)
    found = anatomy(recipe, palette(recipe.sources), 1)
    assert found.columns == ("attention, mlp", "other")
    assert (found.rows[1].cells[1].method, found.rows[1].cells[1].strips) == ("", ())


@pytest.mark.parametrize(("n_sources", "has_words"), [(3, True), (5, True), (6, False)])
def test_words_give_way_to_many_sources(n_sources: int, has_words: bool) -> None:
    recipe = fused(80, [f"model-{k}" for k in range(n_sources)], ["linear", "ties"])
    found = anatomy(recipe, palette(recipe.sources), 1)
    assert (len(found.rows), len(found.columns), found.has_words) == (80, 3, has_words)
