"""The interactive figures of the page, drawn with plotly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from automerge.records import Split
from automerge.report.findings import Findings
from automerge.report.labels import over_cost
from automerge.report.marks import (
    MARKS,
    axis_title,
    cost_step,
    drawn,
    fronts,
    has_cost,
    label,
    levels,
    marks,
    pairs,
    places,
)
from automerge.report.points import Group, Point

AXIS_LENGTH = 370.0
"""About so many pixels of a figure lie between its lowest and its highest point."""

LINE_HEIGHT = 15.0
"""The distance in pixels at which names do not touch."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def models(findings: Findings) -> list[go.Figure]:
    """A front for every pair of objectives; a ranking if there is one objective only."""
    objectives = findings.history.objectives
    return [front(findings, pair) for pair in pairs(objectives)] if len(objectives) > 1 else [ranking(findings)]


def front(findings: Findings, columns: tuple[int, int]) -> go.Figure:
    """The models in two objectives, better to the upper right, with 95 % intervals.

    The values on search items of a tested run are there too, hidden until the page shows them.
    """
    objectives = [findings.history.objectives[column] for column in columns]
    figure = go.Figure()
    for line in fronts(findings, columns):
        x, y = ([at.at for at in places(line.points, findings.split, column)] for column in columns)
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"shape": "vh", "width": 1.5, "dash": "dot", "color": line.colour},
            name=line.label,
            hoverinfo="skip",
        )
    for group in marks(findings):
        _add_group(figure, findings, group, findings.split, columns)
    if findings.split == "test":
        for group in marks(findings):
            _add_group(figure, findings, group, "search", columns)
    if has_cost(findings.history.objectives, columns):
        _add_names(figure, findings, columns)
    titles = [axis_title(objective, findings.split) for objective in objectives]
    _lay_out(figure, *titles, height=500)
    if any(objective.kind == "cost" for objective in findings.history.objectives):
        # Names with their costs in brackets, and those that stand in columns, may reach beyond the rightmost point.
        figure.update_layout(margin_r=70)
    for column, update in zip(columns, (figure.update_xaxes, figure.update_yaxes), strict=True):
        if findings.history.objectives[column].kind == "cost":
            # Costs fall towards the upper right, so that better lies there for every pair.
            update(autorange="reversed", exponentformat="B", dtick=cost_step(findings, column))
    return figure


def ranking(findings: Findings) -> go.Figure:
    """The models in order of the one objective, best on top, with 95 % intervals."""
    objective = findings.history.objectives[0]
    split = findings.split
    known = [point for point in findings.points if point.values(split)[0] is not None]
    known.sort(key=lambda point: float(point.vector(split, findings.history.objectives)[0]))
    figure = go.Figure()
    for group, mark in marks(findings).items():
        own = [point for point in known if point.group == group]
        if own:
            at = places(own, split, 0)
            figure.add_scatter(
                x=[each.at for each in at],
                y=[_row_name(point) for point in own],
                mode="markers",
                error_x=_bars(at, mark.colour),
                marker={"symbol": mark.symbol, "size": 10 * mark.scale, "color": mark.colour},
                name=mark.label,
                text=[describe(findings, point) for point in own],
                hovertemplate="%{text}<extra></extra>",
            )
    _lay_out(figure, axis_title(objective, split), "", height=110 + 32 * len(known))
    figure.update_yaxes(categoryorder="array", categoryarray=[_row_name(point) for point in known])
    return figure


def progress(findings: Findings) -> go.Figure:
    """The hypervolume of fully evaluated models on search items, over the items spent."""
    figure = go.Figure()
    lines = [(findings.trajectory, MARKS["recommended"].colour, "this run", "solid")]
    if findings.baseline_trajectory:
        lines.append((findings.baseline_trajectory, MARKS["baseline"].colour, "baseline run", "dash"))
    for steps, colour, name, dash in lines:
        figure.add_scatter(
            x=[n_items for n_items, _ in steps],
            y=[volume for _, volume in steps],
            mode="lines",
            line={"shape": "hv", "width": 2.5, "color": colour, "dash": dash},
            name=name,
            hovertemplate="%{x:,} items: %{y:.4g}<extra></extra>",
        )
    last = max(steps[-1][0] for steps, *_ in lines)
    for level in levels(findings):
        figure.add_scatter(
            x=[0, last],
            y=[level.value, level.value],
            mode="lines",
            line={"width": 1.5, "dash": "dot", "color": level.colour},
            name=level.label,
            hovertemplate=f"{level.label}: %{{y:.4g}}<extra></extra>",
        )
    _lay_out(figure, "search items evaluated", "hypervolume, search items", height=420)
    figure.update_layout(showlegend=True)
    figure.update_xaxes(rangemode="tozero")
    return figure


def describe(findings: Findings, point: Point) -> str:
    """What hovering over a point shows: its name, methods and values."""
    number = f"<b>point {point.number}</b> " if point.number is not None else ""
    lines = [f"{number}<b>{escape(point.name)}</b>, {marks(findings)[point.group].label}", escape(point.methods)]
    for k, objective in enumerate(findings.history.objectives):
        search, test = point.search[k], point.test[k]
        if objective.kind == "cost":
            lines.append(f"{escape(objective.name)}: {search.text if search else 'unknown'}")
        else:
            shown = f"test {test.text}" if test else escape(point.note)
            lines.append(f"{escape(objective.name)}: {shown}" + (f", search {search.text}" if search else ""))
    return "<br>".join(lines)


def to_html(figures: Iterable[go.Figure]) -> list[str]:
    """Each figure as a piece of a page that holds plotly.js already."""
    # Named one by one, because among the default buttons is one that sends the data elsewhere.
    buttons = ["toImage", "zoom2d", "pan2d", "resetScale2d"]
    config = {"displaylogo": False, "responsive": True, "modeBarButtons": [buttons]}
    return [
        figure.to_html(full_html=False, include_plotlyjs=False, config=config, div_id=f"figure-{k}")
        for k, figure in enumerate(figures)
    ]


def _add_group(figure: go.Figure, findings: Findings, group: Group, split: Split, columns: tuple[int, int]) -> None:
    mark = marks(findings)[group]
    points = drawn(findings.points, group, split, columns)
    if not points:
        return
    x, y = (places(points, split, column) for column in columns)
    is_main = split == findings.split
    has_text = is_main and not has_cost(findings.history.objectives, columns)
    style: dict[str, Any] = {"symbol": mark.symbol if is_main else f"{mark.symbol}-open", "color": mark.colour}
    figure.add_scatter(
        x=[at.at for at in x],
        y=[at.at for at in y],
        mode="markers+text" if has_text else "markers",
        error_x=_bars(x, mark.colour) if is_main else None,
        error_y=_bars(y, mark.colour) if is_main else None,
        marker={**style, "size": mark.scale * (11 if group == "recommended" else 9), "opacity": 1 if is_main else 0.6},
        name=mark.label if is_main else f"{mark.label}, search items",
        text=[escape(label(findings, point, group, columns)) for point in points] if has_text else None,
        textposition=[_side(group, k) for k in range(len(points))],
        cliponaxis=False,
        textfont={"color": mark.colour, "size": 13},
        customdata=[describe(findings, point) for point in points],
        hovertemplate="%{customdata}<extra></extra>",
        visible=is_main,
        meta=split,
    )


def _add_names(figure: go.Figure, findings: Findings, columns: tuple[int, int]) -> None:
    """Names in a figure of a cost: plotly's few places for texts would let those of a column cover each other."""
    for name in over_cost(findings, columns, AXIS_LENGTH, LINE_HEIGHT):
        figure.add_annotation(
            x=name.x,
            y=name.y,
            text=escape(name.text),
            showarrow=False,
            xanchor="left",
            xshift=8,
            yshift=name.shift,
            font={"color": name.colour, "size": 13},
        )


def _side(group: Group, k: int) -> str:
    """Where a label stands; sources are often alike in an objective, so theirs go below, left and right in turn.

    Numbers of recommended models go to the right, so names of given recipes to the left.
    """
    if group == "given":
        return "top left"
    if group == "source":
        return f"bottom {('right', 'left')[k % 2]}"
    return "top right"


def _bars(at: Sequence[Any], colour: str) -> dict[str, Any] | None:
    if not any(each.minus or each.plus for each in at):
        return None
    return {
        "type": "data",
        "symmetric": False,
        "array": [each.plus for each in at],
        "arrayminus": [each.minus for each in at],
        "color": colour,
        "thickness": 1,
        "width": 0,
    }


def _row_name(point: Point) -> str:
    return escape(point.name if point.number is None else f"{point.name} (point {point.number})")


def _lay_out(figure: go.Figure, x: str, y: str, *, height: int) -> None:
    line = {"showline": True, "linecolor": "#9ca3af", "gridcolor": "#eceef1", "zeroline": False, "ticks": "outside"}
    figure.update_layout(
        template="none",
        height=height,
        font={"family": FONT, "size": 14, "color": "#1f2937"},
        margin={"l": 70, "r": 25, "t": 20, "b": 60},
        showlegend=False,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "font": {"size": 13}},
        hoverlabel={"bgcolor": "white", "align": "left", "font": {"size": 13}},
        paper_bgcolor="white",
        plot_bgcolor="white",
    )
    figure.update_xaxes(title={"text": escape(x), "standoff": 12}, automargin=True, **line)
    figure.update_yaxes(title={"text": escape(y), "standoff": 12}, automargin=True, **line)
