"""Benchmarks of merges of the embedded zoo: data, export, validation, and SMM-Bench's comparison of optimizers.

python -m experiments.smm_bench collect     # runs on live models, resumable
python -m experiments.smm_bench export      # zoo-lfs, zoo-dis, zoo-ps, zoo-dfs, and zoo-ps-random
python -m experiments.smm_bench validate    # figures of each, into its report.json and CARD.md
python -m experiments.smm_bench study       # real and simulated runs on zoo-ps, resumable
python -m experiments.smm_bench report      # results.json, a figure, tables
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from automerge.benchmark.folder import read_metadata
from automerge.benchmark.simulation import fingerprint
from automerge.benchmark.trajectories import comparable
from automerge.benchmark.validation import validate
from automerge.parts import versions
from experiments.smm_bench import collection, figures, study
from experiments.smm_bench.problems import FIRST_REAL_SEED, PROBLEMS, SHARES, STUDIED, Scale, existing
from experiments.smm_bench.worker import run_missing

FOLDER = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that the arguments name; returns the exit status."""
    options = parser().parse_args(arguments)
    scale = Scale(options.trials, options.items, options.test_items)
    try:
        return int(options.command(options, scale))
    except (ValueError, OSError) as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the logs", file=sys.stderr)
        return 130
    except BrokenProcessPool:
        print("a worker was killed, perhaps for memory; the same command goes on from the logs", file=sys.stderr)
        return 1
    except RuntimeError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    own = Scale()
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--folder", type=Path, default=Path("runs/smm_bench"), help="of all runs (%(default)s)")
    common.add_argument("--to", type=Path, default=Path("runs/smm_bench/benchmarks"), help="benchmarks (%(default)s)")
    common.add_argument("--trials", type=int, default=own.trials, help="of a run (%(default)s)")
    common.add_argument("--items", type=int, default=own.items, help="search items per task (%(default)s)")
    common.add_argument("--test-items", type=int, default=own.test_items, help="test items per task (%(default)s)")
    some = argparse.ArgumentParser(add_help=False)
    some.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS), metavar="PROBLEM",
                      help=f"of {', '.join(PROBLEMS)} (all)")  # fmt: skip
    jobs = argparse.ArgumentParser(add_help=False)
    jobs.add_argument("--jobs", type=int, default=2, help="runs at once, each with one thread (%(default)s)")
    found = argparse.ArgumentParser(
        "python -m experiments.smm_bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = found.add_subparsers(required=True, metavar="collect | export | validate | study | report")
    collect = commands.add_parser("collect", parents=[common, some, jobs], help="run what is missing of the data")
    collect.set_defaults(command=_collect)
    collect.add_argument("--seeds", type=int, default=3, help="runs of each optimizer (%(default)s)", metavar="N")
    collect.add_argument("--optimizers", nargs="+", choices=SHARES, default=list(SHARES), metavar="OPTIMIZER",
                         help=f"of {', '.join(SHARES)} (all)")  # fmt: skip
    export = commands.add_parser("export", parents=[common, some], help="write the benchmarks")
    export.set_defaults(command=_export)
    export.add_argument("--runs", nargs="+", type=Path, default=[], metavar="DIR",
                        help="folders of a scale of the study of optimizers, whose runs are taken in too")  # fmt: skip
    export.add_argument("--partial", action="store_true",
                        help="also without the optimizers that have no finished run")  # fmt: skip
    check = commands.add_parser("validate", parents=[common, some, jobs], help="measure how far they can be trusted")
    check.set_defaults(command=_validate)
    check.add_argument("--optimizers", nargs="+", metavar="NAME",
                       help="whose runs are repeated where a benchmark has any, by their names in it")  # fmt: skip
    compare = commands.add_parser("study", parents=[common, jobs], help="run what is missing of the comparison")
    compare.set_defaults(command=_study)
    compare.add_argument("--seeds", type=int, default=20, help="of simulated runs (%(default)s)", metavar="N")
    compare.add_argument("--real-seeds", type=int, default=5, help="of real runs (%(default)s)", metavar="N")
    report = commands.add_parser("report", parents=[common], help="write results.json and a figure, print tables")
    report.set_defaults(command=_report)
    report.add_argument("--report-to", type=Path, default=FOLDER, help="folder for both (this study's)")
    return found


def _collect(options: argparse.Namespace, scale: Scale) -> int:
    jobs = collection.jobs(
        options.folder,
        scale,
        problems=options.problems,
        seeds=range(options.seeds),
        optimizers=options.optimizers,
    )
    return int(run_missing(jobs, options.jobs) > 0)


def _export(options: argparse.Namespace, scale: Scale) -> int:
    for problem in options.problems:
        own = collection.counts(options.folder, scale, problem).items()
        told = [f"{optimizer} {n_finished} of {n_begun}" for optimizer, (n_finished, n_begun) in own]
        n_others = len(existing(options.runs, problem))
        print(f"{problem}: finished runs that go in: {', '.join(told)}; of other studies {n_others}", flush=True)
    if not options.partial:
        collection.require_all(options.folder, scale, options.problems)
    found = collection.export(options.folder, scale, options.to, problems=options.problems, others=options.runs)
    for name, quality in found.items():
        size = sum(path.stat().st_size for path in (options.to / name).rglob("*") if path.is_file())
        print(f"{name}: {size / 1e6:.1f} MB; {json.dumps(quality)}")
    return 0


def _validate(options: argparse.Namespace, _: Scale) -> int:
    names = [name for name in PROBLEMS if name in options.problems]
    folders = [options.to / name for name in names]
    if STUDIED in names and (options.to / collection.RANDOM_ONLY).is_dir():
        folders.append(options.to / collection.RANDOM_ONLY)
    known = {folder: {run["optimizer"] for run in comparable(read_metadata(folder)["runs"])} for folder in folders}
    wanted = options.optimizers
    if unknown := sorted(set(wanted or ()).difference(*known.values())):
        listed = ", ".join(sorted(set().union(*known.values())))
        raise ValueError(
            f"optimizers: none of the benchmarks has comparable runs of {', '.join(unknown)}, only {listed}"
        )
    for folder in folders:
        # Kept searches are those of a benchmark as it is and of the packages as they are.
        packages = hashlib.sha256(json.dumps(versions()).encode()).hexdigest()[:8]
        searches = options.folder / "searches" / f"{folder.name}-{fingerprint(folder)}-{packages}"
        own = None if wanted is None else sorted(known[folder].intersection(wanted))
        found = validate(folder, optimizers=own, searches=searches, jobs=options.jobs)
        print(f"{folder.name}: {json.dumps(found['interpolation'])}", flush=True)
    return 0


def _study(options: argparse.Namespace, scale: Scale) -> int:
    for name in (STUDIED, collection.RANDOM_ONLY):
        if not (options.to / name).is_dir():
            raise FileNotFoundError(f"no benchmark at {options.to / name}; run `collect` and `export` first")
    real = range(FIRST_REAL_SEED, FIRST_REAL_SEED + options.real_seeds)
    # Simulated runs take the seeds of the real ones first, which are paired with them.
    seeds = range(FIRST_REAL_SEED, FIRST_REAL_SEED + options.seeds)
    jobs = study.real_jobs(options.folder, scale, real)
    jobs += study.simulated_jobs(options.folder, scale, options.to.resolve(), seeds)
    return int(run_missing(jobs, options.jobs) > 0)


def _report(options: argparse.Namespace, scale: Scale) -> int:
    found = study.curves(options.folder, scale)
    options.report_to.mkdir(parents=True, exist_ok=True)
    (options.report_to / "results.json").write_text(study.as_json(found, scale))
    figures.draw(found, options.report_to / "hypervolume.png")
    print(f"{study.table(found)}\n\n{study.agreement(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
