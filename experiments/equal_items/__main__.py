"""Hypervolume on test items of sources, uniform merges, random search and evolution at equal items.

python -m experiments.equal_items                       # 5 seeds, writes results.json and a table
python -m experiments.equal_items --seeds 2 --items 9000
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from automerge.composition import composed
from experiments.machine import describe
from experiments.runs import measure, spread

OPTIMIZERS = ("random_search", "evolution")
FOLDER = Path(__file__).parent


def main() -> None:
    """Runs what is missing of the study and writes its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--items", type=int, default=87000, help="search items per run, over all tasks (the demo takes about as many)"
    )
    parser.add_argument("--experiment", default="demo")
    parser.add_argument("--runs", type=Path, default=Path("runs/equal_items"), help="folder of the runs; resumable")
    parser.add_argument("--overrides", nargs="*", default=[], help="Hydra overrides for every run")
    options = parser.parse_args()
    console = Console()
    rows = []
    for seed in range(options.seeds):
        for optimizer in OPTIMIZERS:
            settings = compose_settings(options, optimizer, seed)
            folder = options.runs / f"{optimizer}-{seed}"
            rows.append({"optimizer": optimizer, "seed": seed, **measure(settings, folder)})
            console.print(rows[-1], highlight=False)
    results = {"machine": describe(), "experiment": options.experiment, "items": options.items, "runs": rows}
    (FOLDER / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    console.print(table(rows))


def compose_settings(options: argparse.Namespace, optimizer: str, seed: int) -> dict[str, Any]:
    """The settings of one run."""
    return composed(
        [
            f"experiment={options.experiment}",
            f"optimizer={optimizer}",
            f"seed={seed}",
            "budget.trials=null",
            f"budget.items={options.items}",
            *options.overrides,
        ]
    )


def table(rows: list[dict[str, Any]]) -> Table:
    """Mean and standard deviation over seeds of the hypervolumes on test items."""
    found = Table(title="hypervolume on test items: mean (sd over seeds)", title_justify="left")
    found.add_column("what")
    found.add_column("hypervolume", justify="right")
    evolution = [row for row in rows if row["optimizer"] == "evolution"]
    lines = {
        "base and sources": [row["sources"] for row in evolution],
        "+ uniform merges": [row["sources_and_uniform"] for row in evolution],
        "random search, recommended": [row["recommended"] for row in rows if row["optimizer"] == "random_search"],
        "evolution, recommended": [row["recommended"] for row in evolution],
    }
    for name, values in lines.items():
        found.add_row(name, spread(values))
    return found


if __name__ == "__main__":
    main()
