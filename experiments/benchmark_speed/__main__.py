"""Seconds that an exported benchmark takes to load and to answer, on one thread.

Load times are those of fresh processes, with this environment's packages and with numpy, scipy and lightgbm alone, as a
reader's environment has them. Times of answers are the least of some repetitions, so that other work on the machine
counts little.

python -m experiments.benchmark_speed DIR [DIR ...]             # writes results.json
python -m experiments.benchmark_speed DIR --write no
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from automerge.benchmark import load
from automerge.benchmark.folder import BROKEN, score_target
from experiments.machine import describe

FOLDER = Path(__file__).parent
LOADS = 5
REPETITIONS = 7
N_ROWS = 2000
N_ITEMS = 300

OPTIONAL = ("pandas", "sklearn", "pyarrow", "matplotlib", "dask", "cffi", "graphviz")
"""What lightgbm imports where it is there; a reader of benchmarks does not need it."""

LOADING = """
import sys, time
sys.modules.update(dict.fromkeys({blocked!r}))
start = time.perf_counter()
import numpy
from automerge.benchmark import load
from automerge.benchmark.folder import BROKEN, score_target
imported = time.perf_counter()
load({folder!r})
print(imported - start, time.perf_counter() - imported)
"""


def load_seconds(folder: Path, *, alone: bool) -> dict[str, float]:
    """Least seconds of importing and of loading in a fresh process."""
    code = LOADING.format(blocked=list(OPTIONAL) if alone else [], folder=str(folder))
    times = []
    for _ in range(LOADS):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        times.append([float(number) for number in done.stdout.split()])
    imported, loaded = min(times, key=sum)
    return {"import": imported, "load": loaded, "both": imported + loaded}


def least(call: Callable[[], object], calls: int) -> float:
    """Least mean seconds of a call over repetitions of some calls."""
    found = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        found.append((time.perf_counter() - start) / calls)
    return min(found)


def measure(folder: Path) -> dict[str, Any]:
    """All figures of one benchmark."""
    b = load(folder)
    X = b.space.sample(N_ROWS, np.random.default_rng(0))
    one = X[:1]
    # A model that is asked about twice in a row is answered from memory.
    models = cycle([x[None] for x in X])
    configs = cycle([b.config(x) for x in X[:100]])
    n = min(N_ITEMS, max(sizes["search"] for sizes in b.n_items.values()))
    b.query(one)
    inputs = np.concatenate([b.space.features(X), X], axis=1)
    asked = [score_target(task, "search") for task in b.tasks] + [
        name for name in b.metadata["models"] if name == BROKEN
    ]
    ensembles = [b.ensemble(target) for target in asked]
    milliseconds = {
        "with noise": 1e3 * least(lambda: b.query(next(models), n), 200),
        "without noise": 1e3 * least(lambda: b.query(next(models), noise=False), 200),
        "by name": 1e3 * least(lambda: b.query(next(configs), n), 200),
        "repair": 1e3 * least(lambda: b.space.repair(one), 200),
        "features": 1e3 * least(lambda: b.space.features(one), 200),
        "models": 1e3 * least(lambda: [each.mean(inputs[:1]) for each in ensembles], 200),
    }
    seconds = {
        "with noise": least(lambda: b.query(X, n), 1),
        "without noise": least(lambda: b.query(X, noise=False), 1),
        "models": least(lambda: [each.mean(inputs) for each in ensembles], 1),
        "distance": least(lambda: b.nearness.distance(inputs[:, : b.n_features]), 1),
    }
    return {
        "benchmark": b.name,
        "trials": b.metadata["n_trials"],
        "genes": len(b.space.genes),
        "features": b.n_features,
        "tasks": len(b.tasks),
        "items": n,
        "trees of search": sum(each.n_trees for each in ensembles),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "seconds of loading": {
            "all packages": load_seconds(folder, alone=False),
            "numpy and lightgbm": load_seconds(folder, alone=True),
        },
        "milliseconds of one query": milliseconds,
        "rows a second": {name: N_ROWS / value for name, value in seconds.items()},
    }


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="exported benchmarks")
    parser.add_argument("--write", choices=("yes", "no"), default="yes")
    options = parser.parse_args()
    table = Table(title="one thread", title_justify="left")
    rows = [measure(folder) for folder in options.folders]
    for column in (
        "benchmark",
        "trees",
        "MB",
        "load s",
        "load s, light",
        "query ms",
        "calm ms",
        "rows/s",
        "calm rows/s",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        loading, one, many = row["seconds of loading"], row["milliseconds of one query"], row["rows a second"]
        table.add_row(
            row["benchmark"],
            str(row["trees of search"]),
            f"{row['bytes'] / 1e6:.1f}",
            *(f"{each['both']:.2f}" for each in loading.values()),
            *(f"{one[name]:.2f}" for name in ("with noise", "without noise")),
            *(f"{many[name]:.0f}" for name in ("with noise", "without noise")),
        )
    Console().print(table)
    Console().print_json(json.dumps(rows))
    if options.write == "yes":
        (FOLDER / "results.json").write_text(json.dumps({"machine": describe(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
