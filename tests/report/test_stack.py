"""The picture of a stack, read back from its SVG."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from xml.etree.ElementTree import Element, fromstring

import numpy as np
import pytest

from automerge.recipe import BASE, Fusion, Input, OutputLayer, Recipe
from automerge.report.anatomy import BASE_COLOUR, palette
from automerge.report.stack import HEIGHT, LEFT, TOP, WIDTH, Read, Stack, pictured, reads, stack
from tests.report.recipes import OUTER, copied, deep_stack, mixed, pruned_fusions, scaled_stack, stacked


def drawn(recipe: Recipe, n_source_layers: int) -> tuple[Stack, Element]:
    found = stack(recipe, n_source_layers, palette(pictured(recipe)))
    return found, fromstring(found.svg)  # noqa: S314 (written here)


def of_class(parent: Element, name: str) -> list[Element]:
    return [element for element in parent.iter() if element.get("class") == name]


def number(element: Element, name: str) -> float:
    return float(element.attrib[name])


def middles(layer: Element) -> list[float]:
    return [number(mark, "y") + number(mark, "height") / 2 for mark in of_class(layer, "mark")]


def test_marks_stand_at_the_layers_that_they_read() -> None:
    recipe = scaled_stack()
    _, svg = drawn(recipe, 8)
    layers = of_class(svg, "layer")
    assert len(layers) == 9
    sources_read = [0, 1, 2, 1, 2, 3, 6, 5, 7]
    heights = [middles(layer)[0] for layer in layers]
    step = heights[0] - heights[1]
    assert [round((heights[0] - height) / step) for height in heights] == sources_read
    lefts = [number(of_class(layer, "mark")[0], "x") for layer in layers]
    steps = [right - left for left, right in pairwise(lefts)]
    assert steps == pytest.approx([steps[0]] * 8, abs=0.11)
    keys = palette(pictured(recipe))
    fills = [of_class(layer, "mark")[0].get("fill") for layer in layers]
    names = ["math"] * 5 + ["code", "code", "chat", "math"]
    assert fills == [keys[name].colour for name in names]


def thicknesses(svg: Element) -> list[float]:
    return [number(of_class(layer, "mark")[0], "height") for layer in of_class(svg, "layer")]


def test_thickness_grows_with_the_logarithm_of_the_gain() -> None:
    """Gains by hand: 1 / .5 after layer 2, 1 / (.5 x 1.6) after layer 5."""
    found, svg = drawn(scaled_stack(), 8)
    thick = thicknesses(svg)
    octave = thick[3] - thick[0]
    assert octave > 5
    logarithms = [0, 0, 0, 1, 1, 1] + [np.log2(1.25)] * 3
    assert thick == pytest.approx([thick[0] + octave * each for each in logarithms], abs=0.11)
    assert [sample.text for sample in found.samples] == ["1", "2"]
    assert [sample.thickness for sample in found.samples] == pytest.approx([thick[0], thick[3]], abs=0.11)


def test_scales_other_than_1_are_written_above_their_columns() -> None:
    _, svg = drawn(scaled_stack(), 8)
    columns, written = of_class(svg, "column"), of_class(svg, "scale")
    assert [text.text for text in written] == ["0.5", "1.6"]
    middle = [number(column, "x") + number(column, "width") / 2 for column in columns]
    assert [number(text, "x") for text in written] == pytest.approx([middle[2], middle[5]], abs=0.11)
    assert all(0 < number(text, "y") < TOP for text in written)


@pytest.mark.parametrize(("n_layers", "n_written"), [(30, 30), (31, 0)])
def test_scales_are_written_where_columns_are_wide_enough(n_layers: int, n_written: int) -> None:
    _, svg = drawn(Recipe(tuple(copied("math", k, 1.01) for k in range(n_layers)), OUTER), n_layers)
    assert len(of_class(svg, "scale")) == n_written


def test_columns_are_clear_without_a_stylesheet() -> None:
    _, svg = drawn(scaled_stack(), 8)
    assert {column.get("fill") for column in of_class(svg, "column")} == {"transparent"}
    assert all(rect.get("fill") for rect in svg.iter("rect"))


def test_lines_follow_a_source_and_jumps_are_dashed() -> None:
    """By hand: 0-1-2 and 1-2 of math follow; 2-1 is a repeat, 2-3 another source, and then three moves."""
    _, svg = drawn(scaled_stack(), 8)
    assert len(of_class(svg, "run")) == 3
    assert len(of_class(svg, "jump")) == 5
    assert all(line.get("stroke-dasharray") != "none" for line in of_class(svg, "jump"))


def test_letters_stand_where_a_run_begins() -> None:
    _, svg = drawn(scaled_stack(), 8)
    letters = ["".join(text.text or "" for text in layer.iter("text")) for layer in of_class(svg, "layer")]
    assert letters == ["D", "", "", "D", "", "C", "C", "B", "D"]


def test_layers_that_nothing_reads_are_bands_and_repeats_are_counted() -> None:
    _, svg = drawn(pruned_fusions(), 8)
    bands = of_class(svg, "unread")
    step = number(bands[1], "height")
    # Layers 2 and 3 are one band, layer 6 another.
    assert [number(band, "height") / step for band in bands] == pytest.approx([2, 1])
    tallies = of_class(svg, "tally")
    assert [len(list(tally.iter("rect"))) for tally in tallies] == [1, 2, 0, 0, 3, 1, 0, 1]
    assert [tally.findtext("title") for tally in tallies[1:3]] == [
        "source layer 1: math by output layer 1; code by output layer 1",
        "source layer 2: not read",
    ]
    _, repeated = drawn(stacked([("math", 0), ("math", 1), ("math", 0), ("math", 1)]), 2)
    assert of_class(repeated, "tally")[0].findtext("title") == "source layer 0: math by output layer 0, 2"


def test_a_fused_layer_is_divided_by_weight() -> None:
    _, svg = drawn(pruned_fusions(), 8)
    linear, ties = (of_class(of_class(svg, "layer")[depth], "mark") for depth in (1, 2))
    whole = number(of_class(of_class(svg, "layer")[0], "mark")[0], "width")
    assert [number(mark, "width") for mark in linear] == pytest.approx([0.75 * whole, 0.25 * whole], abs=0.06)
    assert [number(mark, "width") for mark in ties] == pytest.approx(
        [whole * w / 1.5 for w in (0.5, 0.4, 0.6)], abs=0.11
    )
    assert number(linear[0], "x") + number(linear[0], "width") == pytest.approx(number(linear[1], "x"), abs=0.11)


def test_what_weights_lack_of_the_whole_is_the_base_s_grey() -> None:
    weak, strong = mixed("task_arithmetic", 1, math=0.2, code=0.1), mixed("task_arithmetic", 1, math=1.4)
    recipe = Recipe((copied("math", 0), weak, strong), Fusion("passthrough", (Input("math", None),)))
    assert [(read.source, read.layer) for read in reads(weak)] == [("math", 1), ("code", 1), (BASE, 1)]
    assert [read.share for read in reads(weak)] == pytest.approx([0.2, 0.1, 0.7])
    assert reads(strong) == (Read("math", 1, 1.0),)
    assert pictured(recipe) == {BASE, "math", "code"}
    assert pictured(Recipe((strong,), recipe.outer)) == {"math"}
    _, svg = drawn(recipe, 2)
    whole, own = (of_class(layer, "mark") for layer in of_class(svg, "layer")[:2])
    assert own[-1].get("fill") == BASE_COLOUR
    assert number(own[-1], "width") == pytest.approx(0.7 * number(whole[0], "width"), abs=0.06)
    assert of_class(svg, "layer")[1].findtext("title") == (
        "output layer 1\ntask_arithmetic: math layer 1 0.2, code layer 1 0.1, sum 0.3\ngain 1"
    )


def test_components_leave_the_base_a_part_at_the_layer_where_they_are_added_to_it() -> None:
    nothing = Fusion("ties", (Input("math", 3, 0.0),))
    half = Fusion("task_arithmetic", (Input("code", 2, 0.5), Input("math", 3, 0.1)))
    layer = OutputLayer((("attention", nothing), ("mlp", half)))
    found = {(read.source, read.layer): read.share for read in reads(layer)}
    assert found == pytest.approx({("code", 2): 0.25, ("math", 3): 0.05, (BASE, 3): 0.5, (BASE, 2): 0.2})


def test_components_that_read_other_layers_have_marks_at_each() -> None:
    layer = copied("math", 4)
    mlp = Fusion("linear", (Input("code", 2, 1.0), Input("math", 4, 1.0)))
    split = replace(layer, components=(layer.components[0], ("mlp", mlp), layer.components[2]))
    found = reads(split)
    assert [(read.source, read.layer) for read in found] == [("math", 4), ("code", 2)]
    assert [read.share for read in found] == pytest.approx([2.5 / 3, 0.5 / 3])
    _, svg = drawn(Recipe((split,), OUTER), 6)
    (group,) = of_class(svg, "layer")
    assert len(set(middles(group))) == 2
    assert group.findtext("title") == (
        "output layer 0\nattention: math layer 4\nmlp: linear: code layer 2 1, math layer 4 1\n"
        "other: math layer 4\ngain 1"
    )


def test_hovering_tells_source_layer_scale_gain_and_weights() -> None:
    _, svg = drawn(scaled_stack(), 8)
    titles = [layer.findtext("title") for layer in of_class(svg, "layer")]
    assert titles[2] == "output layer 2\nmath layer 2\nscale 0.5\ngain 1"
    assert titles[5] == "output layer 5\ncode layer 3\nscale 1.6\ngain 2"
    _, fused = drawn(pruned_fusions(), 8)
    assert of_class(fused, "layer")[2].findtext("title") == (
        "output layer 2\nties: math layer 4 0.5, code layer 4 0.4, chat layer 4 0.6, sum 1.5, density 0.5\ngain 1"
    )


def test_scaled_mlp_branches_are_told_as_such() -> None:
    recipe = Recipe((copied("math", 0), copied("math", 1, 0.0), copied("math", 2, 4.0)), OUTER, "branch_mlp")
    found, svg = drawn(recipe, 3)
    assert found.thickness == "factor of what the mlp adds"
    assert [sample.text for sample in found.samples] == ["0", "1", "4"]
    thick = thicknesses(svg)
    assert thick[1] < thick[0] / 4 < thick[2] / 7.5
    assert (
        of_class(svg, "layer")[2].findtext("title") == "output layer 2\nmath layer 2\nscale 4\ngain 1 attention, 4 mlp"
    )


def ticks(svg: Element, anchor: str, coordinate: str) -> list[float]:
    """Where the numbers along an axis stand; those across are centred, those up end at the axis."""
    found = [text for text in svg.findall("text") if (text.text or "").isdigit() and text.get("text-anchor") == anchor]
    return sorted(number(text, coordinate) for text in found)


@pytest.mark.parametrize(("n_layers", "n_source_layers"), [(3, 9), (9, 12), (40, 32), (100, 80), (100, 12)])
def test_every_size_fits_the_page_and_keeps_its_parts_inside(n_layers: int, n_source_layers: int) -> None:
    _, svg = drawn(deep_stack(n_layers, n_source_layers, seed=n_layers), n_source_layers)
    assert number(svg, "width") < 1265
    assert number(svg, "height") < 600
    assert len(of_class(svg, "layer")) == n_layers
    marks = of_class(svg, "mark")
    assert all(LEFT <= number(mark, "x") <= LEFT + WIDTH for mark in marks)
    assert all(0 < number(mark, "y") < HEIGHT + 60 for mark in marks)
    assert min(number(layer, "width") for layer in of_class(svg, "column")) > 10
    # Numbers of neighbours do not touch: three digits across are about 20 pixels wide, a line of them 11 high.
    assert min(right - left for left, right in pairwise(ticks(svg, "middle", "x"))) >= 23.8
    assert min(below - above for above, below in pairwise(ticks(svg, "end", "y"))) >= 13.8


def test_scales_out_of_bounds_are_refused() -> None:
    recipe = Recipe((copied("math", 0, 0.0), copied("math", 1)), OUTER)
    with pytest.raises(ValueError, match="leave the layers out"):
        stack(recipe, 2, palette(pictured(recipe)))


def test_names_of_sources_are_escaped() -> None:
    found, _ = drawn(stacked([("<b>&", 1)]), 2)
    assert "<b>" not in found.svg
    assert "&lt;b&gt;&amp;" in found.svg
