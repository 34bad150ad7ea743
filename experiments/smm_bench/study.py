"""SMM-Bench's comparison of optimizers: real runs, and runs on benchmarks of all data and of random data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge.benchmark.ranking import paired
from automerge.benchmark.trajectories import Curve, compared
from automerge.history import History
from automerge.log import LOG, RunLog
from experiments.machine import describe
from experiments.smm_bench.collection import RANDOM_ONLY
from experiments.smm_bench.problems import COMPARED, STUDIED, Scale, merging
from experiments.smm_bench.worker import Job

REAL = "real"
"""The world of runs that really merge."""

WORLDS = (REAL, STUDIED, RANDOM_ONLY)
"""Where optimizers run: on models, on the benchmark of all data, and on that of random data."""

FOCUS = "sep_cma"
"""The optimizer that the others are compared with, as in SMM-Bench."""


def real_jobs(folder: Path, scale: Scale, seeds: Sequence[int]) -> list[Job]:
    """The real runs, of seeds of which no benchmark has data."""
    return [
        Job((*merging(STUDIED), *scale.searching(optimizer, seed)), _place(folder, scale, REAL, optimizer, seed))
        for seed in seeds
        for optimizer in COMPARED
    ]


def simulated_jobs(folder: Path, scale: Scale, benchmarks: Path, seeds: Sequence[int]) -> list[Job]:
    """The runs on both benchmarks, which lie below `benchmarks`."""
    return [
        Job(
            ("problem=benchmark", f"benchmark.path={benchmarks / world}", *scale.searching(optimizer, seed)),
            _place(folder, scale, world, optimizer, seed),
        )
        for world in (STUDIED, RANDOM_ONLY)
        for seed in seeds
        for optimizer in COMPARED
    ]


def _place(folder: Path, scale: Scale, world: str, optimizer: str, seed: int) -> Path:
    return folder / scale.name / "study" / world / f"{optimizer}-{seed}"


def curves(folder: Path, scale: Scale) -> dict[str, list[Curve]]:
    """The curves of all finished runs by world, above one reference point: the least of those of the real runs.

    Raises ValueError if a world has none.
    """
    histories: dict[str, list[tuple[str, int, History]]] = {world: [] for world in WORLDS}
    for world, found in histories.items():
        own = folder / scale.name / "study" / world
        for optimizer in COMPARED:
            for run in sorted(own.glob(f"{optimizer}-*")):
                if Job((), run).finished:
                    with RunLog(run / LOG, read_only=True) as log:
                        found.append((optimizer, int(run.name.rpartition("-")[2]), History.of(log)))
        if not found:
            raise ValueError(f"no finished run below {own}; run `study` first, with the same options")
    point = np.min([history.reference_point for _, _, history in histories[REAL]], axis=0)
    return {
        world: [
            Curve.of(replace(history, reference_point=point), optimizer=optimizer, seed=seed)
            for optimizer, seed, history in found
        ]
        for world, found in histories.items()
    }


def results(found: Mapping[str, Sequence[Curve]], scale: Scale) -> dict[str, Any]:
    """All figures of the study, ready for JSON."""
    return {
        "scale": asdict(scale),
        "machine": describe(),
        "worlds": {world: compared(found[REAL], found[world]) for world in WORLDS if world != REAL},
        "finals": {
            world: {name: _finals(found[world], name) for name in COMPARED if _finals(found[world], name)}
            for world in WORLDS
        },
    }


def table(found: Mapping[str, Sequence[Curve]]) -> str:
    """Mean final hypervolumes with standard errors, and the focus minus them, by optimizer and world, in Markdown."""
    header = ["optimizer", *(f"{world}{what}" for world in WORLDS for what in ("", f": {FOCUS} minus it"))]
    lines = [header, ["---"] * len(header)]
    for name in COMPARED:
        cells = [name]
        for world in WORLDS:
            own, focus = _finals(found[world], name), _finals(found[world], FOCUS)
            cells += [_mean(np.array(list(own.values()))), "" if name == FOCUS else _difference(focus, own)]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def agreement(found: Mapping[str, Sequence[Curve]]) -> str:
    """By benchmark how it ranks the optimizers and how far its means lie from the real ones, in Markdown."""
    lines = [["benchmark", "rank correlation", "gaps within two standard errors", "order, best first"]]
    lines.append(["---"] * 4)
    for world in WORLDS:
        figures = compared(found[REAL], found[world])
        means = {name: each["simulated"] for name, each in figures["optimizers"].items()}
        order = ", ".join(sorted(means, key=lambda name: -means[name]))
        own = world == REAL
        shares = [figures["rank_correlation"], figures["within_two_errors"]]
        lines.append([world, *("-" if own or share is None else f"{share:.2f}" for share in shares), order])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_json(found: Mapping[str, Sequence[Curve]], scale: Scale) -> str:
    """The figures as the text of a JSON file."""
    return json.dumps(results(found, scale), indent=1) + "\n"


def _finals(found: Sequence[Curve], optimizer: str) -> dict[int, float]:
    return {curve.seed: curve.final for curve in found if curve.optimizer == optimizer}


def _mean(values: NDArray[np.float64]) -> str:
    if not len(values):
        return "-"
    error = f" ({values.std(ddof=1) / np.sqrt(len(values)):.4f})" if len(values) > 1 else ""
    return f"{values.mean():.4f}{error}, n = {len(values)}"


def _difference(first: Mapping[int, float], second: Mapping[int, float]) -> str:
    pair = paired(first, second)
    if pair is None:
        return "-"
    if not np.isfinite(pair.low):
        return f"{pair.mean:+.4f}"
    return f"{pair.mean:+.4f} [{pair.low:+.4f}, {pair.high:+.4f}] {pair.wins}/{pair.n}"
