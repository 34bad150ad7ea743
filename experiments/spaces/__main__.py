"""Hypervolume on test items of searches in several spaces, with the same number of evaluated items.

python -m experiments.spaces                  # 5 seeds, writes results.json and a table; resumable
python -m experiments.spaces --seeds 2 --items 9000 --processes 1
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from automerge.composition import composed
from experiments.machine import describe
from experiments.runs import measure, spread

SPACES = {
    "lfs": ["space=lfs"],
    "dis": ["space=dis"],
    "dis, fused": ["space=dis", "space.methods=[task_arithmetic]"],
}
FOLDER = Path(__file__).parent


def main() -> None:
    """Runs what is missing of the study and writes its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--items", type=int, default=87000, help="search items per run, over all tasks")
    parser.add_argument("--experiment", default="demo")
    parser.add_argument("--runs", type=Path, default=Path("runs/spaces"), help="folder of the runs")
    parser.add_argument("--processes", type=int, default=2, help="runs at once, each with one thread")
    options = parser.parse_args()
    jobs = [(space, seed) for seed in range(options.seeds) for space in SPACES]
    console = Console()
    rows = []
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        settings = [compose_settings(options, space, seed) for space, seed in jobs]
        folders = [options.runs / f"{space.replace(', ', '-')}-{seed}" for space, seed in jobs]
        for (space, seed), figures in zip(jobs, pool.map(measure, settings, folders), strict=True):
            rows.append({"space": space, "seed": seed, **figures})
            console.print(rows[-1], highlight=False)
    results = {"machine": describe(), "experiment": options.experiment, "items": options.items, "runs": rows}
    (FOLDER / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    console.print(table(rows))


def table(rows: list[dict[str, Any]]) -> Table:
    """Mean and standard deviation over seeds of the hypervolumes on test items, and the share of lost candidates."""
    found = Table(title="hypervolume on test items: mean (sd over seeds)", title_justify="left")
    for column in ("what", "hypervolume", "not ok, % of candidates", "candidates"):
        found.add_column(column, justify="left" if column == "what" else "right")
    lfs = [row for row in rows if row["space"] == "lfs"]
    found.add_row("base and sources", spread([row["sources"] for row in lfs]))
    found.add_row("+ uniform merges", spread([row["sources_and_uniform"] for row in lfs]))
    for space in SPACES:
        own = [row for row in rows if row["space"] == space]
        n_trials = sum(row["n_trials"] for row in own)
        lost = n_trials - sum(row["statuses"].get("ok", 0) for row in own)
        found.add_row(
            f"{space}, recommended",
            spread([row["recommended"] for row in own]),
            f"{100 * lost / n_trials:.2f}",
            str(n_trials),
        )
    return found


def compose_settings(options: argparse.Namespace, space: str, seed: int) -> dict[str, Any]:
    """The settings of one run."""
    return composed(
        [
            f"experiment={options.experiment}",
            *SPACES[space],
            "optimizer=evolution",
            f"seed={seed}",
            "budget.trials=null",
            f"budget.items={options.items}",
            "model.threads=1",
        ]
    )


if __name__ == "__main__":
    main()
