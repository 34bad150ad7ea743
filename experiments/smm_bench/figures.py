"""The comparison as a picture: mean hypervolume over items, real and simulated, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from automerge.benchmark.trajectories import Curve
from experiments.optimizers.contestants import CONTESTANTS
from experiments.smm_bench.problems import COMPARED
from experiments.smm_bench.study import WORLDS

PANEL = (4.4, 3.6)
"""Width and height of a panel in inches."""

DPI = 130
N_POINTS = 101


def draw(found: Mapping[str, Sequence[Curve]], path: Path) -> None:
    """Writes a panel for each world: the mean curve of every optimizer, a standard error each way."""
    figure = Figure(figsize=(PANEL[0] * len(WORLDS), PANEL[1] + 0.4), layout="constrained")
    panels = figure.subplots(1, len(WORLDS), sharex=True, sharey=True)
    grid = np.linspace(0, min(int(curve.items[-1]) for curves in found.values() for curve in curves), N_POINTS)
    handles = {}
    for axes, world in zip(panels, WORLDS, strict=True):
        for name in COMPARED:
            values = np.array([curve.at(grid) for curve in found[world] if curve.optimizer == name])
            if not len(values):
                continue
            style = CONTESTANTS[name]
            mean = values.mean(axis=0)
            (handles[name],) = axes.plot(grid, mean, style.line, color=style.colour, linewidth=1.8)
            if len(values) > 1:
                error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
                axes.fill_between(grid, mean - error, mean + error, color=style.colour, alpha=0.15, lw=0)
        n_seeds = max(len([c for c in found[world] if c.optimizer == name]) for name in COMPARED)
        axes.set_title(f"{world}, {n_seeds} seed{'s' if n_seeds > 1 else ''}", fontsize=10)
        axes.set_xlabel("search items")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#eceef1")
        axes.set_axisbelow(True)
    panels[0].set_ylabel("hypervolume, search items")
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=len(COMPARED), frameon=False)
    figure.savefig(path, dpi=DPI)
