"""The results as pictures: hypervolume over items, and ranks that are or are not told apart."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from automerge.benchmark.ranking import Ranking, alike
from experiments.optimizers.checkpoints import SHARES
from experiments.optimizers.contestants import CONTESTANTS
from experiments.optimizers.problems import PROBLEMS
from experiments.optimizers.results import Results, standard_error

PANEL = (4.6, 3.6)
"""Width and height of a panel in inches."""

N_COLUMNS = 3
LEGEND = 3.0
"""Width of a name in the legend in inches."""

DPI = 130


def draw_hypervolumes(results: Results, focus: str, path: Path) -> None:
    """Writes a panel for each problem: mean gain in hypervolume on test items over items, a standard error each way.

    Gains are over the references of the same seed, so that curves of different seeds begin at one point.
    """
    if not results.runs:
        raise ValueError("no finished run of an optimizer that is no ablation; start `run` first")
    n_columns = min(N_COLUMNS, len(results.problems))
    n_rows = -(-len(results.problems) // n_columns)
    width = max(PANEL[0] * n_columns, 8.0)
    n_names = int(width // LEGEND)
    n_legend = -(-(len(results.optimizers) + 1) // n_names)
    figure = Figure(figsize=(width, PANEL[1] * n_rows + 0.3 * n_legend + 0.2), layout="constrained")
    handles = {}
    for index, problem in enumerate(results.problems):
        axes = figure.add_subplot(n_rows, n_columns, index + 1)
        _draw_problem(axes, results, problem, focus)
        handles.update(dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True)))
        if index % n_columns == 0:
            axes.set_ylabel("gain in hypervolume, test items")
        if index >= len(results.problems) - n_columns:
            axes.set_xlabel("search items, share of the budget")
    names = [name for name in (*results.optimizers, REFERENCES) if name in handles]
    figure.legend(
        [handles[name] for name in names], names, loc="outside lower center", ncols=n_names, frameon=False, fontsize=9
    )
    figure.savefig(path, dpi=DPI)


REFERENCES = "sources and uniform merges"


def _draw_problem(axes: Axes, results: Results, problem: str, focus: str) -> None:
    # The focus is drawn last, so that it lies above the others.
    for optimizer in sorted(results.optimizers, key=lambda name: name == focus):
        curves = results.curves(problem, optimizer, "gain")
        if not len(curves):
            continue
        style = CONTESTANTS[optimizer]
        mean, error = curves.mean(axis=0), standard_error(curves)
        thick = optimizer == focus
        axes.plot(
            SHARES, mean, style.line, color=style.colour, label=optimizer, linewidth=3.2 if thick else 1.4, marker="o",
            markersize=5 if thick else 2.5,
        )  # fmt: skip
        axes.fill_between(SHARES, mean - error, mean + error, color=style.colour, alpha=0.22 if thick else 0.09, lw=0)
    axes.axhline(0.0, color="black", linestyle=":", linewidth=1.2, label=REFERENCES)
    axes.set_title(f"{problem}: {PROBLEMS[problem].about}", fontsize=9.5)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xticks(SHARES)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eceef1")
    axes.set_axisbelow(True)


def draw_ranks(ranking: Ranking, focus: str, path: Path) -> None:
    """Writes the critical-difference diagram: mean ranks, joined by a bar where they are not told apart.

    Demsar, JMLR 2006, figure 1.
    """
    names = sorted(ranking.ranks, key=lambda name: ranking.ranks[name])
    spans = alike(ranking)
    n_left = -(-len(names) // 2)
    top = 0.55 + 0.22 * len(spans)
    height = top + 0.42 * n_left
    figure = Figure(figsize=(10.0, 1.2 + 0.55 * height + 0.6), layout="constrained")
    axes = figure.add_subplot()
    low, high = 1, len(names)
    margin = 0.42 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(-height, 1.3)
    axes.axis("off")
    axes.plot([low, high], [0, 0], color="black", lw=1.2)
    for rank in range(low, high + 1):
        axes.plot([rank, rank], [0, 0.14], color="black", lw=1.2)
        axes.text(rank, 0.22, str(rank), ha="center", va="bottom", fontsize=9)
    axes.plot([low, low + ranking.distance], [0.85, 0.85], color="black", lw=2, marker="|", markersize=8)
    axes.text(low, 1.02, f"critical distance {ranking.distance:.2f}", ha="left", va="bottom", fontsize=9)
    for number, (best, worst) in enumerate(spans):
        y = -0.22 - 0.22 * number
        axes.plot([best - 0.03, worst + 0.03], [y, y], color="black", lw=3.5, solid_capstyle="round")
    for index, name in enumerate(names):
        left = index < n_left
        y = -top - 0.42 * (index if left else len(names) - 1 - index)
        end = low - 0.02 * (high - low) if left else high + 0.02 * (high - low)
        style = CONTESTANTS[name]
        axes.plot(
            [ranking.ranks[name], ranking.ranks[name], end], [0, y, y],
            color=style.colour, linestyle=style.line, lw=2.6 if name == focus else 1.2,
        )  # fmt: skip
        axes.text(
            end, y, f" {name} ({ranking.ranks[name]:.2f}) ", ha="right" if left else "left", va="center", fontsize=9.5,
            fontweight="bold" if name == focus else "normal",
        )  # fmt: skip
    axes.set_title(
        f"mean ranks of final gains over {ranking.n_blocks} blocks (problem, seed); Friedman p = {ranking.p_value:.2g}",
        fontsize=10,
    )
    figure.savefig(path, dpi=DPI)
