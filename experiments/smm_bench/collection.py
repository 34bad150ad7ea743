"""What is run to collect data, and the benchmarks that are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from automerge.benchmark.export import export_benchmark
from experiments.smm_bench.problems import PROBLEMS, RANDOM, SHARES, STUDIED, Scale, existing, merging
from experiments.smm_bench.worker import FAULT, Job

COLLECTED = "collected"
"""Name of the folder of all runs that benchmarks are made of, below that of a scale."""

RANDOM_ONLY = f"{STUDIED}-random"
"""Name of the benchmark of the compared problem that saw random data alone."""


def jobs(
    folder: Path,
    scale: Scale,
    *,
    problems: Sequence[str],
    seeds: Sequence[int],
    optimizers: Sequence[str] = tuple(SHARES),
) -> list[Job]:
    """The runs that collect data: those of one seed together, so that all problems have some early.

    Every trial is tested too, for models of the test scores.
    """
    return [
        Job(
            (
                *merging(problem),
                *scale.searching(optimizer, seed, times=SHARES[optimizer]),
                "report.test_trials=all",
            ),
            folder / scale.name / COLLECTED / problem / f"{optimizer}-{seed}",
        )
        for seed in seeds
        for problem in problems
        for optimizer in optimizers
    ]


def collected(folder: Path, scale: Scale, problem: str, optimizers: Sequence[str] = tuple(SHARES)) -> list[Path]:
    """The finished runs of a problem by some of the optimizers. Raises ValueError if there is none."""
    own = folder / scale.name / COLLECTED / problem
    found = [job for optimizer in optimizers for job in sorted(own.glob(f"{optimizer}-*")) if Job((), job).finished]
    if not found:
        raise ValueError(f"no finished run below {own}; `collect` first, with the same options")
    return found


def counts(folder: Path, scale: Scale, problem: str) -> dict[str, tuple[int, int]]:
    """By optimizer how many runs of a problem are finished, and how many were begun."""
    own = folder / scale.name / COLLECTED / problem
    begun = {optimizer: list(own.glob(f"{optimizer}-*")) for optimizer in SHARES}
    return {optimizer: (sum(Job((), run).finished for run in runs), len(runs)) for optimizer, runs in begun.items()}


def require_all(folder: Path, scale: Scale, problems: Sequence[str]) -> None:
    """Raises ValueError listing the optimizers that have runs of a problem, but none that is finished."""
    found = [
        f"{problem}/{optimizer}"
        for problem in problems
        for optimizer, (n_finished, n_begun) in counts(folder, scale, problem).items()
        if n_begun and not n_finished
    ]
    if found:
        raise ValueError(
            f"no run of {', '.join(found)} is finished; `collect` again, see {FAULT} in the folders of runs that "
            "raised, or export without them: --partial"
        )


def export(
    folder: Path, scale: Scale, to: Path, *, problems: Sequence[str], others: Sequence[Path] = ()
) -> dict[str, dict[str, dict[str, float]]]:
    """Writes the benchmarks below `to` and returns by name their quality by task.

    Of the compared problem there is a second one, of the collected random data alone. `others` are folders of the study
    of optimizers, whose runs of the same problems go into the benchmarks too.
    """
    found = {}
    for problem in (name for name in PROBLEMS if name in problems):
        runs = [*collected(folder, scale, problem), *existing(list(others), problem)]
        found[problem] = export_benchmark(runs, to / problem)
    if STUDIED in problems:
        found[RANDOM_ONLY] = export_benchmark(collected(folder, scale, STUDIED, RANDOM), to / RANDOM_ONLY)
    return found
