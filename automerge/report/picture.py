"""report.png: the figures of the page as one picture, drawn with matplotlib."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator, StrMethodFormatter

from automerge.report.findings import Findings
from automerge.report.labels import over_cost
from automerge.report.marks import (
    GREY,
    MARKS,
    axis_title,
    brackets,
    cost,
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

PANEL = (5.4, 4.3)
"""Width and height of a panel in inches."""

AXIS_LENGTH = 235.0
"""About so many points (72 to an inch) of a panel lie between its lowest and its highest model."""

LINE_HEIGHT = 10.5
"""The distance in points at which names do not touch."""


def write_picture(findings: Findings) -> None:
    """Writes report.png into the run folder: a panel for every pair of objectives, and the hypervolume."""
    columns = pairs(findings.history.objectives)
    n_panels = max(1, len(columns)) + 1
    n_columns = min(3 if n_panels > 4 else 2, n_panels)
    n_rows = -(-n_panels // n_columns)
    # A Figure of its own needs no pyplot, which would keep global state and might choose a screen to draw on.
    figure = Figure(figsize=(PANEL[0] * n_columns, PANEL[1] * n_rows + 0.5), layout="constrained")
    grid = figure.add_gridspec(n_rows, n_columns)
    panels = [figure.add_subplot(grid[k // n_columns, k % n_columns]) for k in range(n_panels - 1)]
    # The last panel takes what is left of its row.
    panels.append(figure.add_subplot(grid[n_rows - 1, (n_panels - 1) % n_columns :]))
    for axes, pair in zip(panels, columns, strict=False):
        _draw_front(axes, findings, pair)
    if not columns:
        _draw_ranking(panels[0], findings)
    _draw_progress(panels[-1], findings)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#eceef1")
        axes.set_axisbelow(True)
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.savefig(findings.run / "report.png", dpi=150)


def _draw_front(axes: Axes, findings: Findings, columns: tuple[int, int]) -> None:
    split = findings.split
    objectives = [findings.history.objectives[column] for column in columns]
    is_over_cost = has_cost(findings.history.objectives, columns)
    for line in fronts(findings, columns):
        x, y = ([at.at for at in places(line.points, split, column)] for column in columns)
        axes.step(x, y, where="pre", color=line.colour, linewidth=1, linestyle=":")
    for group, mark in marks(findings).items():
        points = drawn(findings.points, group, split, columns)
        if not points:
            continue
        x_places, y_places = (places(points, split, column) for column in columns)
        axes.errorbar(
            [at.at for at in x_places],
            [at.at for at in y_places],
            xerr=[[at.minus for at in x_places], [at.plus for at in x_places]],
            yerr=[[at.minus for at in y_places], [at.plus for at in y_places]],
            fmt=mark.marker,
            color=mark.colour,
            markersize=6 * mark.scale,
            elinewidth=0.8,
            label=mark.label,
        )
        for k, point in enumerate([] if is_over_cost else points):
            # Sources are often alike in an objective, so their names go below, left and right in turn.
            is_left = group == "given" or (group == "source" and k % 2 == 1)
            offset = (-5.0 if is_left else 5.0, -12.0 if group == "source" else 5.0)
            at = (x_places[k].at, y_places[k].at)
            _write(axes, label(findings, point, group, columns), at, offset, mark.colour)
    if is_over_cost:
        for name in over_cost(findings, columns, AXIS_LENGTH, LINE_HEIGHT):
            _write(axes, name.text, (name.x, name.y), (5.0, name.shift - 3), name.colour)
    told = [findings.history.objectives[column].name for column in brackets(findings.history.objectives, columns)]
    if told:
        axes.set_title(f"in brackets: {', '.join(told)}", loc="left", fontsize=9, color=GREY)
    axes.set_xlabel(axis_title(objectives[0], split))
    axes.set_ylabel(axis_title(objectives[1], split))
    for column, objective, axis in zip(columns, objectives, (axes.xaxis, axes.yaxis), strict=True):
        if objective.kind == "cost":
            step = cost_step(findings, column)
            axis.set_inverted(True)
            axis.set_major_locator(MaxNLocator(6) if step is None else MultipleLocator(step))
            axis.set_major_formatter(FuncFormatter(lambda value, _: cost(value)))


def _write(axes: Axes, text: str, point: tuple[float, float], offset: tuple[float, float], colour: str) -> None:
    """A name so many points of type (72 to an inch) from its point, on the side of it that it lies on."""
    axes.annotate(
        text,
        point,
        xytext=offset,
        textcoords="offset points",
        horizontalalignment="right" if offset[0] < 0 else "left",
        color=colour,
        fontsize=9,
    )


def _draw_ranking(axes: Axes, findings: Findings) -> None:
    split = findings.split
    known = [point for point in findings.points if point.values(split)[0] is not None]
    known.sort(key=lambda point: float(point.vector(split, findings.history.objectives)[0]))
    for group, mark in marks(findings).items():
        rows = [row for row, point in enumerate(known) if point.group == group]
        at = places([known[row] for row in rows], split, 0)
        if rows:
            axes.errorbar(
                [each.at for each in at],
                rows,
                xerr=[[each.minus for each in at], [each.plus for each in at]],
                fmt=mark.marker,
                color=mark.colour,
                markersize=6 * mark.scale,
                elinewidth=0.8,
                label=mark.label,
            )
    names = [point.name if point.number is None else f"{point.name} ({point.number})" for point in known]
    axes.set_yticks(range(len(known)), names)
    axes.set_xlabel(axis_title(findings.history.objectives[0], split))


def _draw_progress(axes: Axes, findings: Findings) -> None:
    lines = [(findings.trajectory, MARKS["recommended"].colour, "this run", "-")]
    if findings.baseline_trajectory:
        lines.append((findings.baseline_trajectory, MARKS["baseline"].colour, "baseline run", "--"))
    for steps, colour, name, style in lines:
        x, y = zip(*steps, strict=True)
        axes.step(x, y, where="post", color=colour, linestyle=style, linewidth=2, label=name)
    for level in levels(findings):
        axes.axhline(level.value, color=level.colour, linestyle=":", linewidth=1.2, label=level.label)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("search items evaluated")
    axes.set_ylabel("hypervolume, search items")
    axes.legend(frameon=False, fontsize=9, loc="best")
