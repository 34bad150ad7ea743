"""Seconds to choose a batch of 4 of 48 finalists for three objectives, by the number of known points.

First the division of the space above one front, by automerge, which sweeps, and by BoTorch; then whole choices, each
above 32 sampled fronts, with either division. In turns, PyTorch on one thread, the least of some repetitions.

python -m experiments.batch_speed                      # writes results.json; three minutes
python -m experiments.batch_speed --write no
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from automerge.acquisition import batch
from automerge.acquisition.improvement import boxes
from experiments.machine import describe

FOLDER = Path(__file__).parent
FRONTS = (8, 24, 48, 96)
"""Points of a front that is divided once; none dominates another."""
POINTS = (24, 64, 88, 152)
"""Known points above whose sampled fronts a batch is chosen."""
N_FINALISTS = 48
N_CHOSEN = 4
REPETITIONS = 3
REFERENCE = np.zeros(3)


def least_seconds(works: dict[str, Callable[[], Any]], repetitions: int) -> dict[str, float]:
    """The least seconds of each work, taken in turns."""
    found = dict.fromkeys(works, float("inf"))
    for _ in range(repetitions):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            found[name] = min(found[name], time.perf_counter() - start)
    return found


def front(n: int) -> NDArray[np.float64]:
    """A front of n points on the part of a sphere above the reference point, shape (n, 3)."""
    directions = np.abs(np.random.default_rng(n).standard_normal((n, 3)))
    points: NDArray[np.float64] = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return points


def divisions(n: int) -> dict[str, float]:
    """Seconds of dividing the space above a front of n points."""
    points = front(n)
    reference, values = torch.as_tensor(REFERENCE), torch.as_tensor(points)
    ours, theirs = boxes(points, REFERENCE), FastNondominatedPartitioning(reference, values)
    _same(ours, theirs.get_hypercell_bounds().numpy())
    works: dict[str, Callable[[], Any]] = {
        "sweep": lambda: boxes(points, REFERENCE),
        "BoTorch": lambda: FastNondominatedPartitioning(reference, values),
    }
    return least_seconds(works, REPETITIONS)


def _same(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> None:
    """Raises AssertionError unless both leave the same volume below 2 in every objective."""
    volumes = [np.prod(np.clip(np.minimum(each[1], 2.0) - each[0], 0.0, None), axis=1).sum() for each in (ours, theirs)]
    np.testing.assert_allclose(*volumes)


def choices(n: int) -> dict[str, float]:
    """Seconds of choosing a batch with n known points and finalists whose scores are uncertain by .03."""
    rng = np.random.default_rng(n)
    total = n + N_FINALISTS
    means = front(total) * rng.uniform(0.7, 1.0, (total, 1))
    covariances = np.einsum("ij,kl->ikjl", 0.03**2 * np.eye(total), np.eye(3))

    def choose() -> list[int]:
        model = batch.FinitePosterior(means, covariances)
        return batch.choose(
            model,
            baseline=range(n),
            pending=(),
            finalists=range(n, total),
            handicaps=np.zeros(N_FINALISTS),
            reference=REFERENCE,
            n=N_CHOSEN,
            seed=0,
        )

    def with_botorch() -> list[int]:
        with mock.patch.object(batch, "ImprovementOfThree", qLogNoisyExpectedHypervolumeImprovement):
            return choose()

    # Hypervolumes also where automerge would go over to random weights of the objectives.
    with mock.patch.object(batch, "MAX_POINTS", n + N_CHOSEN):
        if choose() != with_botorch():
            raise AssertionError("both divisions must choose the same batch")
        return least_seconds({"sweep": choose, "BoTorch": with_botorch}, REPETITIONS)


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", choices=("yes", "no"), default="yes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    measured = [("division", n, divisions(n)) for n in FRONTS] + [("batch", n, choices(n)) for n in POINTS]
    table = Table(title="seconds, three objectives, one thread", title_justify="left")
    for column in ("what", "points", "sweep", "BoTorch", "ratio"):
        table.add_column(column, justify="right")
    for what, n, seconds in measured:
        sweep, botorch = seconds["sweep"], seconds["BoTorch"]
        table.add_row(what, str(n), f"{sweep:.5f}", f"{botorch:.4f}", f"{botorch / sweep:.0f}")
    Console().print(table)
    if options.write == "yes":
        rows = [{"what": what, "points": n, "seconds": seconds} for what, n, seconds in measured]
        (FOLDER / "results.json").write_text(json.dumps({"machine": describe(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
