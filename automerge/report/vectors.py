"""The section on task vectors: how far every source is from the base, and how the sources lie to each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from automerge.recipe import OUTER
from automerge.report.figures import FONT
from automerge.report.marks import GREY
from automerge.task_vectors import Geometry, TaskVectors

NORMS = ((0, "#ffffff"), (0.5, "#a3dbc8"), (1, "#009e73"))
COSINES = ((0, "#d55e00"), (0.3, "#eda466"), (0.5, "#ffffff"), (0.7, "#9ccbe8"), (1, "#3d97d0"))
"""Scales of colour on all of which dark numbers are legible; that of cosines is steep around 0, where most are."""

INK = "#1f2937"

NOTHING = "#e3e6ea"
"""Where there is no task vector, or no such part."""

ROW, GAP, TOP, BOTTOM = 24, 46, 40, 60
"""Pixels of a row, between panels, above the first and below the last."""

WIDEST_WITH_NUMBERS = 20
"""Layers up to which cells have room for numbers."""

LONGEST_NAME, LONGEST_OF_PAIR = 26, 16
"""Characters of a source's name beside a row; hovering tells all of it."""


class Section(NamedTuple):
    """The tables: what their columns are of, the rows of the whole model and those of every layer."""

    sources: tuple[str, ...]
    pairs: tuple[str, ...]
    summary: tuple[Row, ...]
    by_layer: tuple[Row, ...]


class Row(NamedTuple):
    """A line of the tables: a part of the model, the relative norms of the sources, the cosines of the pairs."""

    part: str
    norms: tuple[str, ...]
    cosines: tuple[str, ...]


class Panel(NamedTuple):
    """Rows of cells over depth: a title, names of the rows short and long, values by row, and the scale they take."""

    title: str
    short: list[str]
    long: list[str]
    values: NDArray[np.float64]
    scale: str


def section(vectors: TaskVectors) -> Section:
    """The tables of the task vectors."""
    return Section(vectors.sources, _pair_names(vectors), tuple(_summary(vectors)), tuple(_by_layer(vectors)))


def heat_map(vectors: TaskVectors) -> go.Figure:
    """Relative norms by component and cosines of every two sources, over depth, one panel below the other."""
    panels = _panels(vectors)
    heights = [ROW * len(panel.short) for panel in panels]
    total = TOP + sum(heights) + GAP * (len(panels) - 1) + BOTTOM
    plotted = total - TOP - BOTTOM
    figure = go.Figure()
    top = 0
    for number, (panel, height) in enumerate(zip(panels, heights, strict=True), start=1):
        _add_panel(figure, panel, vectors.layers, number)
        figure.update_layout(
            {
                f"yaxis{number}": {
                    "domain": [1 - (top + height) / plotted, 1 - top / plotted],
                    "autorange": "reversed",
                    "tickvals": list(range(len(panel.short))),
                    "ticktext": panel.short,
                    "automargin": True,
                    "showgrid": False,
                    "zeroline": False,
                    "fixedrange": True,
                    "ticks": "outside",
                    "ticklen": 5,
                    "tickcolor": "white",
                }
            }
        )
        figure.add_annotation(
            text=f"<b>{panel.title}</b>",
            x=0,
            y=1 - top / plotted,
            xref="paper",
            yref="paper",
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
            font={"size": 13},
        )
        top += height + GAP
    _lay_out(figure, panels, heights, total)
    return figure


def _panels(vectors: TaskVectors) -> list[Panel]:
    names = list(vectors.sources)
    panels = [
        Panel(
            title=f"{component}: length relative to the base's weights",
            short=[_short(name, LONGEST_NAME) for name in names],
            long=names,
            values=np.array([vectors.at((layer, component)).norms for layer in vectors.layers]).T,
            scale="norms",
        )
        for component in vectors.components
    ]
    if vectors.pairs:
        cosines = [vectors.layer(layer).cosines for layer in vectors.layers]
        panels.append(
            Panel(
                title="whole layer: cosine between two task vectors",
                short=[", ".join(_short(names[k], LONGEST_OF_PAIR) for k in pair) for pair in vectors.pairs],
                long=list(_pair_names(vectors)),
                values=np.array([[found[pair] for found in cosines] for pair in vectors.pairs]),
                scale="cosines",
            )
        )
    return panels


def _add_panel(figure: go.Figure, panel: Panel, layers: Sequence[int], number: int) -> None:
    shown = ".3f" if panel.scale == "norms" else ".2f"
    figure.add_heatmap(
        x=list(layers),
        y=list(range(len(panel.short))),
        z=[[None if np.isnan(value) else value for value in row] for row in panel.values.tolist()],
        yaxis=f"y{number}",
        xgap=1,
        ygap=1,
        coloraxis="coloraxis" if panel.scale == "norms" else "coloraxis2",
        texttemplate=f"%{{z:{shown}}}" if len(layers) <= WIDEST_WITH_NUMBERS else None,
        textfont={"size": 11, "color": INK},
        customdata=[[name] * len(layers) for name in panel.long],
        hovertemplate=f"%{{customdata}}<br>layer %{{x}}: %{{z:{shown}}}<extra></extra>",
        hoverongaps=False,
    )


def _lay_out(figure: go.Figure, panels: Sequence[Panel], heights: Sequence[int], total: int) -> None:
    longest = max((float(np.nanmax(p.values, initial=0)) for p in panels if p.scale == "norms"), default=0.0)
    bar = {"thickness": 12, "outlinewidth": 0, "lenmode": "pixels", "yanchor": "top", "x": 1.01, "xpad": 4, "ypad": 0}
    above = sum(height + GAP for panel, height in zip(panels, heights, strict=True) if panel.scale == "norms")
    plotted = total - TOP - BOTTOM
    figure.update_layout(
        template="none",
        height=total,
        font={"family": FONT, "size": 13, "color": INK},
        margin={"l": 60, "r": 80, "t": TOP, "b": BOTTOM},
        paper_bgcolor="white",
        plot_bgcolor=NOTHING,
        hoverlabel={"bgcolor": "white", "align": "left", "font": {"size": 13}},
        coloraxis={
            "colorscale": NORMS,
            "cmin": 0,
            "cmax": longest or 1,
            "colorbar": {**bar, "y": 1, "len": max(90, min(above - GAP, 240))},
        },
        coloraxis2={
            "colorscale": COSINES,
            "cmin": -1,
            "cmax": 1,
            "colorbar": {**bar, "y": 1 - above / plotted, "len": max(90, min(plotted - above, 240)), "dtick": 0.5},
        },
        xaxis={
            "title": {"text": "layer", "standoff": 8},
            "anchor": f"y{len(panels)}",
            "showgrid": False,
            "zeroline": False,
            "tickfont": {"color": GREY},
            "tick0": 0,
            "dtick": 1 if panels[0].values.shape[1] <= 40 else 5,
            "ticks": "",
        },
    )


def _summary(vectors: TaskVectors) -> Iterator[Row]:
    """The whole model, every component over all layers, and the part outside them."""
    yield _row("whole model", vectors.whole(), vectors)
    for component in vectors.components:
        yield _row(component, vectors.component(component), vectors)
    if (None, OUTER) in vectors.slots:
        yield _row(f"{OUTER} (embeddings, head)", vectors.component(OUTER), vectors)


def _by_layer(vectors: TaskVectors) -> Iterator[Row]:
    """Every layer, whole and by component."""
    for layer in vectors.layers:
        yield _row(f"layer {layer}", vectors.layer(layer), vectors)
        for component in vectors.components:
            if (layer, component) in vectors.slots:
                yield _row(f"layer {layer}, {component}", vectors.at((layer, component)), vectors)


def _pair_names(vectors: TaskVectors) -> tuple[str, ...]:
    return tuple(f"{vectors.sources[k]}, {vectors.sources[other]}" for k, other in vectors.pairs)


def _row(part: str, geometry: Geometry, vectors: TaskVectors) -> Row:
    return Row(
        part,
        tuple(_text(value, 3) for value in geometry.norms),
        tuple(_text(geometry.cosines[pair], 2) for pair in vectors.pairs),
    )


def _text(value: float, digits: int) -> str:
    return "-" if np.isnan(value) else f"{value:.{digits}f}"


def _short(name: str, longest: int) -> str:
    """A name cut in its middle, since names of models often differ in their ends."""
    half = longest // 2
    return name if len(name) <= longest else f"{name[: half - 1]}…{name[-half:]}"
