"""Optimizers compared at equal items, on merges of the embedded zoo.

python -m experiments.optimizers all                        # what is missing of the study and its reports; resumable
python -m experiments.optimizers run --problems lfs-2 --optimizers evolution random_search --seeds 2 --trials 20
python -m experiments.optimizers report                     # results.json, tables, figures of all finished runs
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

from automerge.benchmark.processes import each_done
from experiments.optimizers import figures, tables
from experiments.optimizers.cache import ScoreStore
from experiments.optimizers.contestants import ABLATIONS, CONTESTANTS, FOCUS, RIVALS
from experiments.optimizers.problems import PROBLEMS, Scale
from experiments.optimizers.record import as_json, check_kept, key, recorded
from experiments.optimizers.results import Results
from experiments.optimizers.worker import FAULT, FIGURES, Job, work

FOLDER = Path(__file__).parent

FIRST_SEED = 5
"""Seeds below served the development of bayes_evolution, so its figures there would flatter it."""

STORE = "scores.db"
"""Name of the file in the folder of all runs that holds the item scores they share."""

RECORD = "results.json"
"""Name of the file with all runs of a report."""

TABLES = "tables.md"
"""Name of the file beside results.json that holds the tables."""

LONGER = 2.5
"""How many times the budget the best optimizers are run with too."""

BEST = 4
"""How many optimizers of a problem these are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that the arguments name; returns the exit status."""
    options = parser().parse_args(arguments)
    scale = Scale(options.trials, options.min_items, options.max_items, options.test_items)
    try:
        return int(options.command(options, scale))
    except ValueError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the logs", file=sys.stderr)
        return 130
    except BrokenProcessPool:
        print("a worker was killed, perhaps for memory; the same command goes on from the logs", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    scale = argparse.ArgumentParser(add_help=False)
    own = Scale()
    scale.add_argument("--runs", type=Path, default=Path("runs/optimizers"), help="folder of all runs (%(default)s)")
    scale.add_argument(
        "--trials", type=int, default=own.trials, help="budget: the items that halving of so many takes (%(default)s)"
    )
    scale.add_argument("--min-items", type=int, default=own.least, help="least items of the first rung (%(default)s)")
    scale.add_argument("--max-items", type=int, default=own.most, help="search items per task (%(default)s)")
    scale.add_argument("--test-items", type=int, default=own.test_items, help="test items per task (%(default)s)")
    record = argparse.ArgumentParser(add_help=False)
    record.add_argument("--record", type=Path, metavar="FILE",
                        help="a results.json whose runs count as finished: `run` leaves them out, `report` has them "
                             "beside those of the folder")  # fmt: skip
    seeds = argparse.ArgumentParser(add_help=False)
    seeds.add_argument("--seeds", type=int, default=5, help="how many seeds (%(default)s)", metavar="N")
    seeds.add_argument("--first-seed", type=int, default=FIRST_SEED, help="the first of them (%(default)s)")
    seeds.add_argument("--jobs", type=int, default=2, help="runs at once, each with one thread (%(default)s)")
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument(
        "--to", type=Path, default=FOLDER, help="folder for results.json, tables and figures (this study's)"
    )
    found = argparse.ArgumentParser(
        "python -m experiments.optimizers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = found.add_subparsers(required=True, metavar="all | run | report")
    whole = commands.add_parser(
        "all",
        parents=[scale, seeds, place],
        help=f"run what is missing of all optimizers, ablations too, and of the best {BEST} of every problem with "
        f"{LONGER} times the budget, and write both reports; runs of results.json where a report goes are not missing",
    )
    whole.set_defaults(command=run_whole, focus=FOCUS)
    run = commands.add_parser("run", parents=[scale, record, seeds], help="run what is missing of a part of it")
    run.set_defaults(command=run_missing)
    run.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), metavar="PROBLEM",
                     help=f"of {', '.join(PROBLEMS)} (all)")  # fmt: skip
    run.add_argument("--optimizers", nargs="+", choices=CONTESTANTS, default=list(RIVALS), metavar="OPTIMIZER",
                     help=f"of {', '.join(RIVALS)} (all these), {', '.join(ABLATIONS)}")  # fmt: skip
    report = commands.add_parser("report", parents=[scale, record, place], help="write results.json, tables, figures")
    report.set_defaults(command=write_report)
    report.add_argument("--focus", choices=CONTESTANTS, default=FOCUS, metavar="OPTIMIZER",
                        help="whom the others are compared with (%(default)s)")  # fmt: skip
    return found


def run_whole(options: argparse.Namespace, scale: Scale) -> int:
    """Runs and reports what is missing of the whole study; returns 1 if a run could not be made."""
    everybody = dict.fromkeys(PROBLEMS, (*RIVALS, *ABLATIONS))
    faults = run_and_report(options, scale, everybody, options.to)
    results = Results.read(options.runs / scale.name, recorded(options.to / RECORD, scale)).only(RIVALS)
    longer = replace(scale, trials=round(LONGER * scale.trials))
    best = {problem: list(dict.fromkeys([*results.best(problem, BEST), FOCUS])) for problem in PROBLEMS}
    return run_and_report(options, longer, best, options.to / f"{longer.trials}_trials") or faults


def run_and_report(options: argparse.Namespace, scale: Scale, wanted: Mapping[str, Sequence[str]], to: Path) -> int:
    """Runs what is missing of the wanted optimizers by problem and reports it; returns 1 if a run could not be made."""
    record = to / RECORD
    faults = 0
    chosen = argparse.Namespace(**{**vars(options), "to": to, "record": record if record.is_file() else None})
    for problem, optimizers in wanted.items():
        chosen.problems, chosen.optimizers = [problem], optimizers
        faults = run_missing(chosen, scale) or faults
    write_report(chosen, scale)
    return faults


def run_missing(options: argparse.Namespace, scale: Scale) -> int:
    """Runs all jobs that are not finished, and prints a line for each; returns 1 if one could not be run."""
    wanted = jobs(options, scale)
    known = [] if options.record is None else recorded(options.record, scale)
    elsewhere = {key(run) for run in known}
    missing = [job for job in wanted if not job.finished and (job.problem, job.optimizer, job.seed) not in elsewhere]
    print(f"{len(missing)} of {len(wanted)} runs to do in {options.runs / scale.name}", flush=True)
    with ScoreStore(options.runs / STORE):
        pass  # it is made here, before several processes would make it at once
    # Every library of a worker takes one thread, also those that read this when they are loaded.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    faults = 0
    for number, (job, fault) in enumerate(each_done(work, missing, options.jobs, apart=True), start=1):
        faults += bool(fault)
        outcome = f"FAULT {fault} (see {job.folder / FAULT})" if fault else summary(job)
        print(f"[{number}/{len(missing)}] {job.name}: {outcome}", flush=True)
    return int(faults > 0)


def jobs(options: argparse.Namespace, scale: Scale) -> list[Job]:
    """All jobs that the options name; those of one seed together, so that whole blocks come early."""
    return [
        Job(
            problem=problem,
            optimizer=optimizer,
            seed=seed,
            overrides=(*scale.overrides(PROBLEMS[problem]), *CONTESTANTS[optimizer].at(scale.rungs[0])),
            folder=options.runs / scale.name / problem / f"{optimizer}-{seed}",
            store=options.runs / STORE,
        )
        for seed in range(options.first_seed, options.first_seed + options.seeds)
        for problem in options.problems
        for optimizer in options.optimizers
    ]


def summary(job: Job) -> str:
    """The figures of a finished run in a line."""
    found = json.loads((job.folder / FIGURES).read_text())
    curve = " ".join(f"{point['gain']:+.3f}" for point in found["checkpoints"])
    return (
        f"gain {curve}, final {found['final']['gain']:+.4f}; {found['n_trials']} trials, "
        f"{found['items_nested']} items, {found['seconds']:.0f} s, {found['ask_seconds']:.1f} s in ask"
    )


def write_report(options: argparse.Namespace, scale: Scale) -> int:
    """Writes results.json, tables and figures of all finished runs of a scale, and prints the tables; returns 0."""
    known = [] if options.record is None else recorded(options.record, scale)
    results = Results.read(options.runs / scale.name, known)
    check_kept(options.to / RECORD, scale, results.runs)
    options.to.mkdir(parents=True, exist_ok=True)
    compared = results.only(RIVALS if options.focus in RIVALS else ABLATIONS)
    ranking = compared.ranking()
    (options.to / RECORD).write_text(as_json(results.runs, scale, ranking))
    figures.draw_hypervolumes(compared, options.focus, options.to / "hypervolume.png")
    if ranking is not None:
        figures.draw_ranks(ranking, options.focus, options.to / "ranks.png")
    parts = results.only((options.focus, *ABLATIONS)).of_problems(results.only(ABLATIONS).problems)
    if len(parts.optimizers) > 1:
        figures.draw_hypervolumes(parts, options.focus, options.to / "ablations.png")
    sections = {
        "Problems": tables.problems(results),
        "Gains on test items over sources and uniform merges": tables.gains(results),
        f"Final gains, {options.focus} minus the others: mean [95 % interval] wins/seeds": tables.differences(
            results, options.focus
        ),
        "Until the best rival's end": tables.reaching(compared, options.focus),
        "Ranks": tables.ranks(compared),
        "What a run takes": tables.costs(results),
    }
    text = "\n\n".join(f"## {title}\n\n{table}" for title, table in sections.items())
    (options.to / TABLES).write_text(f"# The study in tables, of {scale.trials} trials' items\n\n{text}\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
