"""Runs in processes of their own, each with one thread: begun, gone on with from their logs, or left as they are."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from automerge import parts, run
from automerge.benchmark import simulation
from automerge.benchmark.processes import each_done
from automerge.composition import composed
from automerge.log import LOG, RunLog

DONE = "done"
"""Name of the empty file in a run's folder that says that the run is finished."""

FAULT = "fault.txt"
"""Name of the file in a run's folder that holds the traceback of a run that raised."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run to do: its Hydra overrides and its folder."""

    overrides: tuple[str, ...]
    folder: Path

    @property
    def name(self) -> str:
        """What the run is called in messages."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def finished(self) -> bool:
        """Whether the run is done."""
        return (self.folder / DONE).is_file()


def work(job: Job) -> str:
    """Searches to the end of a run; returns why that could not be, empty if it could.

    A fault is data here, because one run must not end all others; its traceback lies in the run's folder.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        _quieten()
        settings = composed(job.overrides)
        is_live = settings["benchmark"] is None
        made = run.assemble(settings, log=job.folder / LOG) if is_live else simulation.assemble(settings)
        with RunLog(job.folder / LOG) as log:
            for _ in parts.search(settings, made, log):
                pass
    except Exception as fault:
        (job.folder / FAULT).write_text(traceback.format_exc())
        return f"{type(fault).__name__}: {fault}"
    (job.folder / FAULT).unlink(missing_ok=True)
    (job.folder / DONE).touch()
    return ""


def run_missing(jobs: Sequence[Job], n_processes: int) -> int:
    """Runs all jobs that are not finished and prints a line for each; returns how many could not be run."""
    missing = [job for job in jobs if not job.finished]
    print(f"{len(missing)} of {len(jobs)} runs to do", flush=True)
    # Every library of a worker takes one thread, also those that read this when they are loaded.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    n_faults = 0
    for number, (job, fault) in enumerate(each_done(work, missing, n_processes, apart=True), start=1):
        n_faults += bool(fault)
        outcome = f"FAULT {fault} (see {job.folder / FAULT})" if fault else "done"
        print(f"[{number}/{len(missing)}] {job.name}: {outcome}", flush=True)
    return n_faults


def _quieten() -> None:
    import datasets  # noqa: PLC0415 (slow to import, and only processes that run need it)
    import transformers  # noqa: PLC0415 (likewise)

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
