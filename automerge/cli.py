"""The command line: `automerge search | check | report | benchmark | export`.

Hydra reads the command lines of searches and checks; what they do gets plain dictionaries.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from automerge import benchmark_cli
from automerge.check.settings import complete
from automerge.composition import config_folder, explained, plain, refuse_faulty_files, register_resolvers
from automerge.log import LOG, RunLog, refuse_simulated
from automerge.terminal import show_benchmark, show_fault, show_findings, show_line, show_notes

USAGE = """\
automerge finds the best merges of language models by itself.

  automerge search experiment=demo [KEY=VALUE ...]   search; Hydra's options work (-m for several runs, --config-dir)
  automerge search --resume RUN [KEY=VALUE ...]      go on with a run that was stopped; say what has moved since, such
                                                     as source.base=DIR, or where it goes on, such as
                                                     model.device=cuda:1
  automerge check experiment=demo                    load and check everything, search nothing
  automerge report RUN [--baseline RUN]              write the report of a run again
  automerge benchmark export RUN... --to DIR         export the surrogate benchmark of one or several runs
  automerge benchmark validate DIR                   measure how good a benchmark is, into its report and card
  automerge benchmark compare DIR optimizers=[evolution,tpe] seeds=10 --to DIR
                                                     compare optimizers on a benchmark
  automerge search problem=benchmark benchmark.path=DIR optimizer=tpe
                                                     search on a benchmark in place of models
  automerge export RUN --point N --to DIR [source.base=DIR ...]
                                                     write a recommended model as a Hugging Face folder; say which
                                                     models have moved
"""

MISTAKES = (ValueError, OSError, RuntimeError, MemoryError, ImportError, sqlite3.Error)
"""Faults with a message for the user; anything else is a fault of automerge and shows its traceback."""

console = Console(stderr=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command that the arguments name; exits with 2 after a message if something is wrong."""
    command, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    commands = {
        "search": _search,
        "check": _check,
        "report": _report,
        "benchmark": benchmark_cli.main,
        "export": _export,
    }
    if command not in commands:
        show_line(console, USAGE)
        sys.exit(0 if command in ("--help", "-h", "help") else 2)
    try:
        commands[command](rest)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped")
        sys.exit(130)
    except BrokenPipeError:
        # Whoever reads what Hydra prints has enough, as `head` does; of what Rich prints, Rich sees to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except MISTAKES as fault:
        show_fault(fault)
        sys.exit(2)


def _search(arguments: list[str]) -> None:
    if joined := [text for text in arguments if text.startswith("--resume=")]:
        # Hydra's own options take their value after `=` as well.
        at = arguments.index(joined[0])
        arguments = [*arguments[:at], *joined[0].split("=", 1), *arguments[at + 1 :]]
    if "--resume" in arguments:
        from automerge.parts import changes, listed  # noqa: PLC0415 (each command loads what it needs)
        from automerge.relocation import changed, refuse_lost  # noqa: PLC0415

        at = arguments.index("--resume")
        before, after = arguments[:at], arguments[at + 1 :]
        if not after:
            raise ValueError("expected a run folder after --resume: automerge search --resume runs/demo/...")
        folder = Path(after[0])
        stored = _stored(folder)
        overrides = [*before, *after[1:]]
        settings = changed(stored, overrides)
        if overrides and (found := changes(stored, settings)):
            hint = (
                ""
                if _is_simulated(stored)
                else f"\nto search on from what it found, start a new run with {_start(folder)}"
            )
            raise ValueError(listed(f"{folder} was started with other settings, so it", found, "be resumed") + hint)
        refuse_lost(settings, f"automerge search {shlex.join(arguments)}")
        _run(settings, folder)
    else:
        _hydra(arguments, _begin)


def _begin(settings: Mapping[str, Any]) -> None:
    """A new run in the folder that Hydra made for it, which is gone again if the run does not begin."""
    config = HydraConfig.get()
    folder = Path(config.runtime.output_dir)
    is_own = not any(text.startswith(("hydra.run", "hydra.sweep")) for text in config.overrides.hydra)
    try:
        _run(settings, folder)
    except MISTAKES:
        # A folder that the user named is left as it is, and whatever hinders this must not hide the fault.
        with suppress(OSError):
            if is_own and [path.name for path in folder.iterdir()] == [".hydra"]:
                shutil.rmtree(folder)
        raise


def _start(folder: Path) -> str:
    """What has a new run start from the best models of this one, as it is typed."""
    from automerge.relocation import quoted  # noqa: PLC0415

    return shlex.quote(f"start=[{quoted(str(folder))}]")


def _resume(folder: Path) -> str:
    """The command that goes on with the run in a folder, as it is typed."""
    return f"automerge search --resume {shlex.quote(str(folder))}"


def _stored(folder: Path) -> dict[str, Any]:
    """The settings that a run was started with."""
    if not (folder / LOG).is_file():
        raise FileNotFoundError(f"{folder} is no run folder of automerge: it has no {LOG}")
    with RunLog(folder / LOG, read_only=True) as log:
        settings: dict[str, Any] | None = log.settings().get("config")
    if settings is None:
        raise ValueError(f"{folder} stopped before it began; start it again with the command it was started with")
    return settings


def _check(arguments: list[str]) -> None:
    def check(settings: dict[str, Any]) -> None:
        parts = _assemble(settings)
        if _is_simulated(settings):
            show_notes(console, _simulation_notes(parts), _constraint_warnings(parts))
            what = f"benchmark {parts.facts['benchmark']['name']}"
        else:
            _check_live(settings, parts)
            what = (
                f"{len(parts.sources.names)} sources beside the base, {parts.sources.alignment.n_layers} layers, "
                f"{parts.sources.n_bytes / 2**20:.1f} MiB of weights"
            )
        fidelities = ", ".join(map(str, parts.ladder.rungs))
        show_line(console, f"all is well: {what}, {len(parts.space.genes)} genes, fidelities {fidelities} items")

    # A check leaves nothing behind.
    _hydra([*arguments, "hydra.output_subdir=null", "hydra.run.dir=."], check)


def _check_live(settings: Mapping[str, Any], parts: Any) -> None:
    from automerge.check import overview  # noqa: PLC0415 (each command loads what it needs)

    found = _estimate(settings, parts, Path.cwd())
    console.print(overview.sources_table(parts.family, parts.vectors))
    cosines = overview.cosines_table(parts.vectors)
    if cosines is not None:
        console.print(cosines)
    console.print(overview.estimate_table(found))
    if parts.starts:
        show_line(console, f"given recipes: {', '.join(parts.starts)}")
    tied = bool(parts.model.lm.model.config.get_text_config().tie_word_embeddings)
    notes = [f"{name}: {folder}" for name, folder in parts.family.folders.items()]
    notes += overview.layout_notes(parts.sources.alignment, tied=tied)
    show_notes(console, [*notes, *parts.family.vocabulary.summary, *parts.sources.notes], _warnings(parts, found))


def _report(arguments: list[str]) -> None:
    from automerge.report import write_report  # noqa: PLC0415

    parser = argparse.ArgumentParser("automerge report", description="Writes the report of a run into its folder.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--baseline", type=Path, help="folder of another run to show beside it (as set)")
    options = parser.parse_args(arguments)
    if options.baseline is not None:
        write_report(options.run, baseline=options.baseline)
    else:
        _write_report(options.run, _stored(options.run)["report"]["baseline"])
    show_line(console, f"report: {options.run / 'report.html'}")


def _export(arguments: list[str]) -> None:
    from automerge.export.model import Adapter, export_run  # noqa: PLC0415
    from automerge.parts import changes, listed  # noqa: PLC0415
    from automerge.relocation import changed, refuse_lost  # noqa: PLC0415

    parser = argparse.ArgumentParser("automerge export", description="Writes a model of a run as a folder.")
    parser.add_argument("run", type=Path)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--point", type=int, help="number in the report's table of recommended models, from 1")
    chosen.add_argument("--trial", type=int, help="number of any trial in the log")
    parser.add_argument("--to", type=Path, required=True, help="folder to write; must not exist")
    parser.add_argument(
        "--as-adapter",
        action="store_true",
        help="write one LoRA adapter; all sources must be adapters, and all methods linear or task_arithmetic",
    )
    parser.add_argument("--max-rank", type=int, help="compress the adapter to this rank")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="where models are now, as source.base=DIR")
    options = parser.parse_intermixed_args(arguments)
    if options.max_rank is not None and not options.as_adapter:
        raise ValueError("--max-rank is for adapters; add --as-adapter")
    refuse_simulated(
        options.run,
        "its recipes were merged nowhere. To try the best of them on models, search with the sources and the space of "
        f"the benchmark's own runs and begin from this one: automerge search ... {_start(options.run)}",
    )
    if others := [text for text in options.overrides if not text.startswith("source.")]:
        raise ValueError(f"an export can be told only where models are, as source.base=DIR, got {', '.join(others)}")
    stored = _stored(options.run)
    settings = changed(stored, options.overrides)
    # It reads no task, no recipe to start from and no other run.
    refuse_lost({**settings, "task": {}, "start": [], "report": {}}, f"automerge export {shlex.join(arguments)}")
    if found := changes(stored, settings):
        raise ValueError(listed("these settings", found, "change in an export"))
    adapter = Adapter(max_rank=options.max_rank) if options.as_adapter else None
    written = export_run(
        options.run,
        options.to,
        point=options.point,
        trial=options.trial,
        adapter=adapter,
        source=settings["source"],
    )
    if written is not None:
        console.print(f"rank {written.rank}, differs from the merge by {100 * written.error:.2g} %", highlight=False)
    show_line(console, f"model: {options.to}")


def _hydra(arguments: list[str], job: Any) -> None:
    """Composes the configuration from command-line arguments as Hydra does and gives it to the job, once a run."""
    register_resolvers()
    failed: list[str] = []

    def task(config: DictConfig) -> None:
        try:
            job(plain(config))
        except MISTAKES as fault:
            # Left to itself, Hydra wraps a message in its own traceback.
            show_fault(fault)
            if not _is_one_of_several():
                sys.exit(2)
            failed.append(" ".join(HydraConfig.get().overrides.task))

    # Hydra takes overrides only in one row, but people write flags between them.
    overrides = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    flags = [argument for argument in arguments if argument not in overrides]
    # Hydra would tell of a file that is no YAML by a traceback.
    refuse_faulty_files([config_folder(), *_config_folders(flags)], overrides)
    sys.argv = ["automerge search", *flags, *overrides]
    # Hydra would print what is wrong in its own words and exit; so it raises.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        hydra.main(config_path=str(config_folder()), config_name="config", version_base="1.3")(task)()
    except HydraException as fault:
        raise ValueError(explained(fault, overrides, [*_config_folders(flags)])) from fault
    if failed:
        lines = "".join(f"\n  - {overrides}" for overrides in failed)
        raise RuntimeError(f"{len(failed)} of these runs ended with an error, told above:{lines}")


def _is_one_of_several() -> bool:
    """Whether this is a run of a multirun whose others come after it in this process."""
    config = HydraConfig.get()
    return config.mode == RunMode.MULTIRUN and str(config.launcher["_target_"]).endswith(".BasicLauncher")


def _config_folders(flags: Sequence[str]) -> Iterator[Path]:
    """The folder that Hydra's option names, if it does."""
    for flag, following in pairwise([*flags, ""]):
        if flag in ("--config-dir", "-cd") and following:
            yield Path(following)
        elif flag.startswith("--config-dir="):
            yield Path(flag.partition("=")[2])


def _is_simulated(settings: Mapping[str, Any]) -> bool:
    return settings.get("benchmark") is not None


def _assemble(settings: Mapping[str, Any], log: Path | None = None) -> Any:
    """The parts of a search, which goes on where the file `log` is there."""
    from automerge.report.baseline import refuse_other  # noqa: PLC0415 (each command loads what it needs)

    parts = _assembled(settings, log)
    if baseline := settings["report"]["baseline"]:
        # At the end of the search would be late to say so.
        refuse_other(Path(baseline), parts.objectives, parts.constraints, parts.identity["tasks"])
    return parts


def _assembled(settings: Mapping[str, Any], log: Path | None) -> Any:
    if _is_simulated(settings):
        from automerge.benchmark.simulation import assemble as simulated  # noqa: PLC0415

        with console.status("loading the benchmark"):
            return simulated(settings)
    # Whatever is on the hub is asked for by name; telemetry and progress bars of libraries would hide our own.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from automerge.run import assemble  # noqa: PLC0415

    _quieten()
    with console.status("loading tasks, sources and model"):
        return assemble(settings, log=log)


def _estimate(settings: Mapping[str, Any], parts: Any, folder: Path) -> Any:
    from automerge.check.estimate import estimate  # noqa: PLC0415

    options = complete(settings)["report"]
    # More than there are candidates means all of them.
    n_tested = sys.maxsize if options["test_trials"] == "all" else int(options["recommend"])
    with console.status("estimating what the search takes"):
        return estimate(
            parts.model,
            parts.tasks,
            parts.space,
            parts.ladder,
            parts.budget,
            n_verify=int(options["verify"]),
            n_recommend=n_tested,
            n_given=len(parts.starts),
            test_items=options["test_items"],
            n_workers=parts.runner.n_workers,
            folder=folder,
        )


def _warnings(parts: Any, found: Any) -> list[str]:
    from automerge.check.beginning import beginning_warnings  # noqa: PLC0415
    from automerge.check.kinship import kinship_warnings  # noqa: PLC0415

    return [
        *parts.family.warnings,
        *kinship_warnings(parts.vectors),
        *_constraint_warnings(parts),
        *beginning_warnings(parts.optimizer, found.candidates),
        *found.warnings(),
    ]


def _constraint_warnings(parts: Any) -> list[str]:
    from automerge.check.constraints import constraint_warnings  # noqa: PLC0415

    return constraint_warnings(parts.space, parts.constraints)


def _simulation_notes(parts: Any) -> list[str]:
    told = parts.facts["benchmark"]
    lines = [
        f"simulated: the surrogate benchmark {told['name']} {told['version']}, fitted on {told['n_trials']:,} models, "
        "answers; nothing is merged, and no score is a model's"
    ]
    if told["untested"]:
        lines.append(
            f"it has no model of the test items of {', '.join(told['untested'])}: models are expected to score there "
            "as on search items, with items of their own"
        )
    return lines


def _quieten() -> None:
    import datasets  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _run(settings: Mapping[str, Any], folder: Path) -> None:
    from automerge.parts import search  # noqa: PLC0415
    from automerge.progress import follow  # noqa: PLC0415

    if (folder / LOG).is_file():
        # A run that another process goes on with is refused here, not after minutes of loading.
        RunLog(folder / LOG).close()
    parts = _assemble(settings, folder / LOG)
    folder.mkdir(parents=True, exist_ok=True)
    show_line(console, f"run folder: {folder}")
    if _is_simulated(settings):
        show_notes(console, _simulation_notes(parts), _constraint_warnings(parts))
    else:
        found = _estimate(settings, parts, folder)
        show_notes(console, [*parts.sources.notes, *found.lines()], _warnings(parts, found))
    with RunLog(folder / LOG) as log:
        if n_known := len(log.evaluations()):
            show_line(console, f"going on: {n_known:,} evaluations are in the log and are not made again")
        try:
            follow(search(settings, parts, log), console)
        except KeyboardInterrupt:
            show_line(console, f"stopped; go on with: {_resume(folder)}")
            sys.exit(130)
        except sqlite3.OperationalError as fault:
            raise OSError(
                f"the log could not be written ({fault}); every evaluation before this one is kept: "
                f"mend the disk, then {_resume(folder)}"
            ) from fault
    findings = _write_report(folder, settings["report"]["baseline"])
    show_findings(console, findings)
    show_line(console, f"report: {folder / 'report.html'}")
    if findings.recommended and not findings.simulated:
        show_line(console, f"a model: automerge export {shlex.quote(str(folder))} --point 1 --to DIR")
    if not _is_simulated(settings):
        # Last, because a folder in its place that must not be replaced ends the command.
        show_benchmark(console, _fit_benchmark(folder), folder / "benchmark")


def _write_report(folder: Path, baseline: str | None) -> Any:
    """The findings of a run, with its report written; without the baseline if that cannot be compared with it."""
    from automerge.report import write_report  # noqa: PLC0415

    with console.status("writing the report"):
        if baseline:
            try:
                return write_report(folder, baseline=Path(baseline))
            except (ValueError, OSError) as fault:
                show_notes(console, [], [f"the report is without its baseline: {fault}"])
        return write_report(folder)


def _fit_benchmark(folder: Path) -> Mapping[str, Mapping[str, float]]:
    from automerge.benchmark.export import export_benchmark  # noqa: PLC0415

    with console.status("fitting the surrogate benchmark"):
        return export_benchmark([folder], folder / "benchmark")


if __name__ == "__main__":
    main()
