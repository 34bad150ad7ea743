"""A stack as a picture: which source layer every output layer reads, from which source, and how strongly it is added.

Output layers stand from left to right, the source layers that they read from below upwards, so that a model in its own
order is a rising diagonal: a repeat falls back, a skipped layer leaves a gap and a grey band, a moved layer leaves the
diagonal. The picture is an SVG element that stands in a page as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

from automerge.recipe import BASE, OutputLayer, Recipe
from automerge.report.anatomy import Key
from automerge.report.marks import GREY
from automerge.report.ruler import Sample, number, ruler
from automerge.report.weights import LEAST, described, rest, shares
from automerge.scaling import Gains, gains

WIDTH, HEIGHT = 1030.0, 500.0
"""The largest extent of the plotted part in pixels."""

LARGEST_STEP = (50.0, 25.0)
"""The largest width of an output layer and height of a source layer in pixels."""

LEFT, TOP, RIGHT, BOTTOM = 58.0, 26.0, 26.0, 48.0
"""Room around the plotted part in pixels."""

TALLY = 130.0
"""Room for the tally of reads in pixels."""

ROOM_FOR_SCALE = 34.0
"""An output layer as wide as this in pixels has its scale written above it."""

INK, BAND = "#1f2937", "#eceef1"


class Read(NamedTuple):
    """A source layer that an output layer reads, with its share in the output layer."""

    source: str
    layer: int
    share: float


class Stack(NamedTuple):
    """The picture of one recipe as SVG, what the thickness of its marks tells, and samples of it."""

    svg: str
    thickness: str
    samples: tuple[Sample, ...]


class Plot(NamedTuple):
    """Numbers of layers and their sizes in pixels."""

    n_output: int
    n_source: int
    step_x: float
    step_y: float

    @property
    def unit(self) -> float:
        """The height of a source layer as far as it suits a mark."""
        return min(13.0, max(7.0, 0.6 * self.step_y))

    @property
    def right(self) -> float:
        """Where the plotted part ends."""
        return LEFT + self.n_output * self.step_x

    @property
    def bottom(self) -> float:
        """Where the plotted part ends."""
        return TOP + self.n_source * self.step_y

    def x(self, depth: float) -> float:
        """The left edge of an output layer."""
        return LEFT + depth * self.step_x

    def y(self, layer: float) -> float:
        """The middle of a source layer."""
        return self.bottom - (layer + 0.5) * self.step_y


class Slice(NamedTuple):
    """A read with the piece of the mark that shows it, in pixels."""

    read: Read
    left: float
    width: float
    y: float

    @property
    def middle(self) -> float:
        """The middle of the piece from left to right."""
        return self.left + self.width / 2


def stack(recipe: Recipe, n_source_layers: int, keys: Mapping[str, Key]) -> Stack:
    """The picture of a recipe with the keys of what is `pictured`. Raises ValueError as `gains` does."""
    plot = _plot(len(recipe.layers), n_source_layers)
    found = [reads(layer) for layer in recipe.layers]
    added = gains(recipe)
    sizes = [own.mlp for own in added]
    scale = ruler(sizes, plot.unit)
    svg = Element(
        "svg",
        {
            "class": "stack",
            "role": "img",
            "font-family": "sans-serif",
            "aria-label": f"source layers read by {len(recipe.layers)} output layers",
            "width": _px(plot.right + RIGHT + TALLY),
            "height": _px(plot.bottom + BOTTOM),
            "viewBox": f"0 0 {_px(plot.right + RIGHT + TALLY)} {_px(plot.bottom + BOTTOM)}",
        },
    )
    _draw_bands(svg, plot, found)
    _draw_axes(svg, plot)
    _draw_scales(svg, plot, recipe)
    slices = [_slices(plot, depth, own) for depth, own in enumerate(found)]
    _draw_lines(svg, slices, keys)
    for depth, own in enumerate(slices):
        group = SubElement(svg, "g", {"class": "layer"})
        SubElement(group, "title").text = reading(recipe, depth, added[depth])
        _draw_column(group, plot, depth)
        starts = depth == 0 or not _continues(found[depth - 1], found[depth])
        for piece in own:
            _draw_mark(group, piece, scale.thickness(added[depth].mlp), keys, is_named=starts)
    _draw_tally(svg, plot, found, keys)
    return Stack(tostring(svg, encoding="unicode"), _meaning(recipe), scale.samples(sizes))


def reads(layer: OutputLayer) -> tuple[Read, ...]:
    """What an output layer reads, in the order of its inputs; the shares are means over components and add up to 1.

    Last comes the base with what the weights leave of 1, at the layer of a fusion's first input, where task vectors
    are added to it.
    """
    fusions = [fusion for _, fusion in layer.components]
    found = [
        Read(read.source, read.layer or 0, share)
        for fusion in fusions
        for read, share in zip(fusion.inputs, shares(fusion), strict=True)
    ]
    found += [Read(BASE, fusion.inputs[0].layer or 0, rest(fusion)) for fusion in fusions]
    total: dict[tuple[str, int], float] = {}
    for source, at, share in found:
        total[source, at] = total.get((source, at), 0.0) + share / len(fusions)
    return tuple(Read(*place, share) for place, share in total.items() if share > LEAST)


def pictured(recipe: Recipe) -> set[str]:
    """Names of the sources that a recipe reads, with the base where weights leave it a part."""
    return set(recipe.sources) | {read.source for layer in recipe.layers for read in reads(layer)}


def reading(recipe: Recipe, depth: int, added: Gains) -> str:
    """All that a recipe says of an output layer, in lines: what each component reads, its scale and its gains."""
    layer = recipe.layers[depth]
    texts = {name: described(fusion) for name, fusion in layer.components}
    if len(set(texts.values())) == 1:
        texts = {"": next(iter(texts.values()))}
    lines = [f"output layer {depth}", *(f"{name}: {text}" if name else text for name, text in texts.items())]
    if layer.scale != 1:
        lines.append(f"scale {layer.scale:.3g}")
    alike = added.attention == added.mlp
    lines.append(f"gain {added.mlp:.3g}" if alike else f"gain {added.attention:.3g} attention, {added.mlp:.3g} mlp")
    return "\n".join(lines)


def _plot(n_output: int, n_source: int) -> Plot:
    widest, highest = LARGEST_STEP
    return Plot(n_output, n_source, min(widest, WIDTH / n_output), min(highest, HEIGHT / n_source))


def _slices(plot: Plot, depth: int, own: Sequence[Read]) -> list[Slice]:
    """The mark of an output layer, divided from left to right between its reads."""
    room = 0.86 * plot.step_x
    left = plot.x(depth) + 0.07 * plot.step_x
    found = []
    for read in own:
        found.append(Slice(read, left, room * read.share, plot.y(read.layer)))
        left += room * read.share
    return found


def _continues(before: Sequence[Read], own: Sequence[Read]) -> bool:
    """Whether an output layer reads the next layers of the same sources as the one before it."""
    return {(read.source, read.layer + 1) for read in before} == {(read.source, read.layer) for read in own}


def _draw_bands(svg: Element, plot: Plot, found: Sequence[Sequence[Read]]) -> None:
    """Grey bands over the source layers that nothing reads, one for those that follow each other."""
    used = sorted({-1, plot.n_source, *(read.layer for own in found for read in own)})
    for below, above in pairwise(used):
        if above - below > 1:
            height = (above - below - 1) * plot.step_y
            _add(
                svg,
                "rect",
                x=LEFT,
                y=plot.y(above - 0.5),
                width=plot.right - LEFT,
                height=height,
                fill=BAND,
                class_="unread",
            )


def _draw_axes(svg: Element, plot: Plot) -> None:
    for x, y in ((plot.right, plot.bottom), (LEFT, TOP)):
        _line(svg, (LEFT, plot.bottom), (x, y), stroke="#9ca3af")
    for depth in _ticks(plot.n_output, plot.step_x, 24):
        middle = plot.x(depth + 0.5)
        _line(svg, (middle, plot.bottom), (middle, plot.bottom + 4), stroke="#9ca3af")
        _text(svg, str(depth), middle, plot.bottom + 16, fill=GREY)
    for layer in _ticks(plot.n_source, plot.step_y, 14):
        _line(svg, (LEFT - 4, plot.y(layer)), (LEFT, plot.y(layer)), stroke="#9ca3af")
        _text(svg, str(layer), LEFT - 7, plot.y(layer) + 4, fill=GREY, anchor="end")
    middle = max((LEFT + plot.right) / 2, LEFT + 40)
    _text(svg, "output layer", middle, plot.bottom + 36, size=13)
    turned = _text(svg, "source layer", 0, 0, size=13)
    turned.set("transform", f"translate(16 {_px(max((TOP + plot.bottom) / 2, TOP + 34))}) rotate(-90)")
    last = min(plot.n_output, plot.n_source) - 1
    _line(
        svg,
        (plot.x(0.5), plot.y(0)),
        (plot.x(last + 0.5), plot.y(last)),
        stroke="#9ca3af",
        dash="2 4",
        class_="in-place",
    )


def _draw_scales(svg: Element, plot: Plot, recipe: Recipe) -> None:
    """Above the columns the scales of the layers that are not 1, if there is room."""
    texts = {depth: number(layer.scale) for depth, layer in enumerate(recipe.layers)}
    written = {depth: text for depth, text in texts.items() if text != "1"}
    if not written or plot.step_x < ROOM_FOR_SCALE:
        return
    _text(svg, "scale", LEFT - 7, TOP - 10, size=10, fill=GREY, anchor="end")
    for depth, text in written.items():
        _text(svg, text, plot.x(depth + 0.5), TOP - 10, size=10).set("class", "scale")


def _draw_column(group: Element, plot: Plot, depth: int) -> None:
    """What an output layer is pointed at by, all over its column."""
    _add(
        group,
        "rect",
        x=plot.x(depth),
        y=TOP,
        width=plot.step_x,
        height=plot.bottom - TOP,
        fill="transparent",
        class_="column",
    )


def _draw_lines(svg: Element, slices: Sequence[Sequence[Slice]], keys: Mapping[str, Key]) -> None:
    """Lines between output layers: in a source's colour where its next layer follows, else dashed."""
    for before, own in pairwise(slices):
        places = {(piece.read.source, piece.read.layer + 1): piece for piece in before}
        follows = [(places.get((piece.read.source, piece.read.layer)), piece) for piece in own]
        pairs = [(old, new) for old, new in follows if old is not None]
        for old, new in pairs:
            colour = keys[new.read.source].colour
            _line(svg, (old.middle, old.y), (new.middle, new.y), stroke=colour, width=3, class_="run")
        if not pairs and before and own:
            old, new = (max(each, key=lambda piece: piece.read.share) for each in (before, own))
            _line(svg, (old.middle, old.y), (new.middle, new.y), stroke=GREY, dash="3 3", class_="jump")


def _draw_mark(group: Element, piece: Slice, thick: float, keys: Mapping[str, Key], *, is_named: bool) -> None:
    key = keys[piece.read.source]
    _add(
        group,
        "rect",
        x=piece.left,
        y=piece.y - thick / 2,
        width=piece.width,
        height=thick,
        fill=key.colour,
        stroke=INK,
        stroke_width=0.6,
        class_="mark",
    )
    if is_named and piece.width >= 8:
        below = 3.6 if thick >= 10 else -thick / 2 - 2.5
        _text(group, key.letter, piece.middle, piece.y + below, size=10)


def _draw_tally(svg: Element, plot: Plot, found: Sequence[Sequence[Read]], keys: Mapping[str, Key]) -> None:
    """Right of the plot a square for every read of a source layer."""
    readers: dict[int, list[tuple[str, int]]] = {layer: [] for layer in range(plot.n_source)}
    for depth, own in enumerate(found):
        for read in own:
            readers[read.layer].append((read.source, depth))
    left = plot.right + RIGHT
    most = max(len(readers[layer]) for layer in readers)
    width = min(9.0, TALLY / max(1, most))
    height = min(9.0, plot.step_y)
    _text(svg, "times read", left, TOP - 10, size=12, anchor="start", fill=GREY)
    for layer, own_readers in readers.items():
        group = SubElement(svg, "g", {"class": "tally"})
        SubElement(group, "title").text = _tally_text(layer, own_readers)
        for k, (source, _) in enumerate(own_readers):
            _add(
                group,
                "rect",
                x=left + k * width,
                y=plot.y(layer) - height / 2,
                width=width,
                height=height,
                fill=keys[source].colour,
                stroke="white",
                stroke_width=0.8,
            )


def _tally_text(layer: int, readers: Sequence[tuple[str, int]]) -> str:
    by_source: dict[str, list[str]] = {}
    for source, depth in readers:
        by_source.setdefault(source, []).append(str(depth))
    texts = [f"{source} by output layer {', '.join(depths)}" for source, depths in by_source.items()]
    return f"source layer {layer}: {'; '.join(texts) or 'not read'}"


def _meaning(recipe: Recipe) -> str:
    if recipe.scaling == "branch_mlp":
        return "factor of what the mlp adds"
    return "gain with which attention and mlp are added"


def _ticks(n: int, step: float, room: float) -> range:
    """Every 1, 2, 5, 10, 20 or 50 layers, so that a number has its room in pixels."""
    return range(0, n, next((every for every in (1, 2, 5, 10, 20) if every * step >= room), 50))


def _line(
    parent: Element,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    stroke: str,
    width: float = 1.0,
    dash: str = "none",
    class_: str = "axis",
) -> None:
    (x1, y1), (x2, y2) = start, end
    _add(
        parent,
        "line",
        x1=x1,
        y1=y1,
        x2=x2,
        y2=y2,
        stroke=stroke,
        stroke_width=width,
        stroke_dasharray=dash,
        class_=class_,
    )


def _text(
    parent: Element, text: str, x: float, y: float, *, size: float = 11, fill: str = INK, anchor: str = "middle"
) -> Element:
    element = _add(parent, "text", x=x, y=y, font_size=size, fill=fill, text_anchor=anchor)
    element.text = text
    return element


def _add(parent: Element, tag: str, **attributes: float | str) -> Element:
    """A new child; names of attributes are written with `_` for `-`, and with a last `_` if Python reserves them."""
    return SubElement(
        parent,
        tag,
        {
            name.rstrip("_").replace("_", "-"): value if isinstance(value, str) else _px(value)
            for name, value in attributes.items()
        },
    )


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
