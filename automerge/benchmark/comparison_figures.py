"""A comparison of optimizers as pictures and as a table: curves over items and over virtual time, and ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import t

from automerge.benchmark.comparison import Comparison
from automerge.benchmark.ranking import Paired, Ranking, alike

CURVES = "comparison.png"
RANKS = "ranks.png"
TABLE = "comparison.md"

N_POINTS = 201
"""Points of a curve."""

SHARES = (0.1, 0.25, 0.5, 1.0)
BRIEF = (0.25, 1.0)
"""Shares of the budget that the table has, and a brief one."""

PANEL = (6.0, 4.4)
"""Width and height of a panel in inches."""

DPI = 130

Curves = Callable[[str, NDArray[np.float64]], NDArray[np.float64]]


def write_figures(found: Comparison, to: Path) -> None:
    """Writes the curves, the table and, if there is a ranking, the ranks into a folder."""
    _draw_curves(found, to / CURVES)
    (to / TABLE).write_text(f"{markdown(found)}\n", encoding="utf-8")
    if found.ranking is not None:
        _draw_ranks(found.ranking, to / RANKS)


def rows(found: Comparison, *, brief: bool = False) -> list[list[str]]:
    """The table as text, the header first, the best optimizer on top: means over seeds with 95 % intervals.

    A brief one fits 80 columns.
    """
    shares = BRIEF if brief else SHARES
    header = [f"{share:.0%}".replace("%", " %") for share in shares]
    table = [["optimizer", *header, "recommended", "minus the best", "rank"]]
    table[0] += [] if brief else ["trials", "virtual minutes"]
    ranks = {} if found.ranking is None else found.ranking.ranks
    for name in sorted(found.optimizers, key=lambda name: -_mean(found.finals(name).values())):
        curve = found.over_items(name, np.array(shares) * found.items).mean(axis=0)
        mean, half = interval(np.array(list(found.finals(name).values()))[:, None])
        row = [name, *(f"{value:.4f}" for value in curve), f"{mean[0]:.4f}{_half(half[0])}"]
        row += [_difference(found.behind(name)), f"{ranks[name]:.2f}" if name in ranks else "-"]
        if not brief:
            runs = found.of(name)
            row += [f"{_mean(run.n_trials for run in runs):.0f}", f"{_mean(run.seconds[-1] for run in runs) / 60:.2g}"]
        table.append(row)
    return table


def notes(found: Comparison) -> list[str]:
    """What the table says, as sentences."""
    said = [
        f"Surrogate benchmark {found.benchmark}, not models. {len(found.seeds)} seeds, {found.items:,} search items a "
        f"run, {_workers(found)}. Gains in {found.what} over sources and uniform merges: after shares of the items "
        "those of fully evaluated models on search items, under `recommended` those of the recommended models by their "
        "expected scores, without noise. Means over seeds with Student's 95 % intervals.",
    ]
    if found.ranking is not None:
        said.append(
            f"Ranks by seed of `recommended`: Friedman p = {found.ranking.p_value:.2g}, Nemenyi's critical distance "
            f"{found.ranking.distance:.2f} at 5 %."
        )
    return said


def markdown(found: Comparison) -> str:
    """The table and what it says, as Markdown."""
    header, *body = rows(found)
    lines = [header, ["---"] * len(header), *body]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", "\n\n".join(notes(found))])


def _draw_curves(found: Comparison, path: Path) -> None:
    figure = Figure(figsize=(2 * PANEL[0], PANEL[1] + 0.5), layout="constrained")
    over_items, over_time = figure.subplots(1, 2, sharey=True)
    _draw(over_items, found, np.linspace(0, found.items, N_POINTS), 1.0, found.over_items)
    over_items.set(xlabel="search items evaluated", ylabel=f"gain in {found.what}, search items")
    longest = max(run.seconds[-1] for run in found.runs)
    unit, name = (3600.0, "hours") if longest > 7200 else (60.0, "minutes") if longest > 120 else (1.0, "seconds")
    _draw(over_time, found, np.linspace(0, longest, N_POINTS), unit, found.over_seconds)
    over_time.set(xlabel=f"virtual {name} of {_workers(found)}, without the optimizer's own time")
    handles, labels = over_items.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)), frameon=False)
    title = f"surrogate benchmark {found.benchmark}: mean of {len(found.seeds)} seeds, 95 % intervals"
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=DPI)


def _draw(axes: Axes, found: Comparison, places: NDArray[np.float64], unit: float, curves: Curves) -> None:
    for name, colour in zip(found.optimizers, _colours(len(found.optimizers)), strict=True):
        mean, half = interval(curves(name, places))
        axes.plot(places / unit, mean, color=colour, label=name, linewidth=1.8)
        if np.isfinite(half).all():
            axes.fill_between(places / unit, mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eceef1")
    axes.set_axisbelow(True)


def _draw_ranks(ranking: Ranking, path: Path) -> None:
    """Mean ranks, the best on top, joined by a bar where they are not told apart."""
    names = sorted(ranking.ranks, key=lambda name: ranking.ranks[name])
    spans = alike(ranking)
    figure = Figure(figsize=(7.0, 1.2 + 0.32 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([ranking.ranks[name] for name in names], range(len(names)), "o", color="#1f2937")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(0.8, len(names) + 0.2)
    axes.set_ylim(len(names) - 0.5, -0.7 - 0.2 * len(spans))
    for number, (best, worst) in enumerate(spans):
        axes.plot([best, worst], [-0.5 - 0.2 * number] * 2, color="black", linewidth=3.5, solid_capstyle="round")
    axes.set_xlabel(f"mean rank over {ranking.n_blocks} seeds; bars join what Nemenyi's test does not tell apart")
    axes.set_title(f"Friedman p = {ranking.p_value:.2g}, critical distance {ranking.distance:.2f}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#eceef1")
    figure.savefig(path, dpi=DPI)


def _colours(n: int) -> list[tuple[float, ...]]:
    palette = colormaps["tab10" if n <= 10 else "tab20"]
    return [palette(number % palette.N) for number in range(n)]


def interval(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means over the first axis and half widths of Student's 95 % intervals, infinite for one value."""
    n = len(values)
    if n == 1:
        return values[0], np.full(values.shape[1], np.inf)
    return values.mean(axis=0), t.ppf(0.975, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)


def _workers(found: Comparison) -> str:
    return f"{found.n_workers} worker{'' if found.n_workers == 1 else 's'}"


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _difference(found: Paired | None) -> str:
    return "-" if found is None else f"{found.mean:+.4f}{_half(found.high - found.mean)}"


def _half(width: float) -> str:
    return f" ± {width:.4f}" if np.isfinite(width) else ""
