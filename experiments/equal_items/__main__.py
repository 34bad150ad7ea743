"""Hypervolume on test items of sources, uniform merges, random search and evolution at equal items.

python -m experiments.equal_items                       # 5 seeds, writes results.json and a table
python -m experiments.equal_items --seeds 2 --items 9000
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table

from automerge import cli, run
from automerge.history import History
from automerge.log import LOG, RunLog
from automerge.pareto import hypervolume
from automerge.report import write_report
from experiments.machine import describe

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
    cli.register_resolvers()
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
    overrides = [
        f"experiment={options.experiment}",
        f"optimizer={optimizer}",
        f"seed={seed}",
        "budget.trials=null",
        f"budget.items={options.items}",
        *options.overrides,
    ]
    with initialize_config_dir(str(cli.config_folder()), version_base="1.3"):
        return cli.plain(compose("config", overrides=overrides))


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Figures of one run, which is searched to its end in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with RunLog(folder / LOG) as log:
        for _ in run.search(settings, run.assemble(settings), log):
            pass
        history = History.of(log)
    write_report(folder)

    def volume(trials: tuple[int, ...]) -> float:
        tested = [values for trial in trials if (values := history.test_values(trial)) is not None]
        return hypervolume(np.array(tested), history.reference_point)

    searched = [row for row in history.evaluations if row.phase == "search"]
    forward = sum(row.evaluation.seconds["forward"] for row in searched)
    wall = sum(row.wall for row in searched)
    return {
        "sources": volume(history.sources),
        "sources_and_uniform": volume(history.references),
        "recommended": volume(history.recommended),
        "recommended_with_references": volume((*history.references, *history.recommended)),
        "reference_point": list(history.reference_point),
        "front": {history.name(t): list(history.test_values(t)) for t in history.recommended},  # type: ignore[arg-type]
        "n_trials": len(history.trials) - len(history.references),
        "n_items": sum(part.stop - part.start for row in searched for part in row.slices),
        "evaluations_per_second": len(searched) / wall,
        "share_outside_forward": 1 - forward / wall,
        "seconds": sum(row.wall for row in history.evaluations),
    }


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
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        found.add_row(name, f"{np.mean(values):.4f} ({spread:.4f})")
    return found


if __name__ == "__main__":
    main()
