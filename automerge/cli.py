"""The command line: `automerge search | check | report | benchmark | export`.

The only place that sees Hydra: it composes the configuration, turns it into plain dictionaries and draws progress.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from automerge.check.settings import complete
from automerge.log import LOG, RunLog
from automerge.options import whole_faults
from automerge.terminal import show_benchmark, show_findings, show_notes, show_table, show_validation

USAGE = """\
automerge finds the best merges of language models by itself.

  automerge search experiment=demo [KEY=VALUE ...]   search; Hydra's options work (-m for several runs, --config-dir)
  automerge search --resume RUN                      go on with a run that was stopped
  automerge check experiment=demo                    load and check everything, search nothing
  automerge report RUN [--baseline RUN]              write the report of a run again
  automerge benchmark export RUN... --to DIR         export the surrogate benchmark of one or several runs
  automerge benchmark validate DIR                   measure how good a benchmark is, into its report and card
  automerge benchmark compare DIR optimizers=[evolution,tpe] seeds=10 --to DIR
                                                     compare optimizers on a benchmark
  automerge search problem=benchmark benchmark.path=DIR optimizer=tpe
                                                     search on a benchmark in place of models
  automerge export RUN --point N --to DIR            write a recommended model as a Hugging Face folder
"""

MISTAKES = (ValueError, OSError, RuntimeError, MemoryError, ImportError, sqlite3.Error)
"""Faults with a message for the user; anything else is a fault of automerge and shows its traceback."""

console = Console(stderr=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command that the arguments name; exits with 2 after a message if something is wrong."""
    command, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    commands = {"search": _search, "check": _check, "report": _report, "benchmark": _benchmark, "export": _export}
    if command not in commands:
        console.print(USAGE, markup=False, highlight=False, soft_wrap=True)
        sys.exit(0 if command in ("--help", "-h", "help") else 2)
    try:
        commands[command](rest)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped")
        sys.exit(130)
    except MISTAKES as fault:
        Console(stderr=True).print(f"[bold red]error:[/] {_escaped(fault)}", highlight=False, soft_wrap=True)
        sys.exit(2)


def config_folder() -> Path:
    """The folder of the configuration: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def _search(arguments: list[str]) -> None:
    if arguments[:1] == ["--resume"]:
        if len(arguments) != 2:
            raise ValueError("expected one run folder after --resume: automerge search --resume runs/demo/...")
        folder = Path(arguments[1])
        if not (folder / LOG).is_file():
            raise FileNotFoundError(f"{folder} is no run folder of automerge: it has no {LOG}")
        with RunLog(folder / LOG, read_only=True) as log:
            settings = log.settings().get("config")
        if settings is None:
            raise ValueError(f"{folder} stopped before it began; start it again with the command it was started with")
        _run(settings, folder)
    else:
        _hydra(arguments, lambda settings: _run(settings, Path(HydraConfig.get().runtime.output_dir)))


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
        console.print(
            f"all is well: {what}, {len(parts.space.genes)} genes, "
            f"fidelities {', '.join(map(str, parts.ladder.rungs))} items"
        )

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
        console.print(f"given recipes: {', '.join(parts.starts)}", markup=False, highlight=False, soft_wrap=True)
    tied = bool(parts.model.lm.model.config.get_text_config().tie_word_embeddings)
    notes = [f"{name}: {folder}" for name, folder in parts.family.folders.items()]
    notes += overview.layout_notes(parts.sources.alignment, tied=tied)
    show_notes(console, [*notes, *parts.family.vocabulary.summary, *parts.sources.notes], _warnings(parts, found))


def _report(arguments: list[str]) -> None:
    from automerge.report import write_report  # noqa: PLC0415

    parser = argparse.ArgumentParser("automerge report", description="Writes the report of a run into its folder.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--baseline", type=Path, help="folder of another run to show beside it")
    options = parser.parse_args(arguments)
    write_report(options.run, baseline=options.baseline)
    console.print(f"report: {options.run / 'report.html'}", highlight=False, soft_wrap=True)


def _benchmark(arguments: list[str]) -> None:
    actions = {"export": _benchmark_export, "validate": _benchmark_validate, "compare": _benchmark_compare}
    action, *rest = arguments or [""]
    if action not in actions:
        raise ValueError(f"expected automerge benchmark {' | '.join(actions)}, got {action!r}; see automerge --help")
    actions[action](rest)


def _benchmark_export(arguments: list[str]) -> None:
    from automerge.benchmark.export import export_benchmark  # noqa: PLC0415
    from automerge.benchmark.folder import answered, read_metadata  # noqa: PLC0415

    parser = argparse.ArgumentParser(
        "automerge benchmark export", description="Exports the surrogate benchmark of one or several runs of a problem."
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--to", type=Path, required=True, help="folder to write; an older benchmark there is replaced")
    parser.add_argument("--name", help="name of the benchmark; that of its folder if not given")
    options = parser.parse_args(arguments)
    for run in options.runs:
        _refuse_simulated(run, "a benchmark of a benchmark would say nothing of models; export the runs that it is of")
    with console.status("fitting the surrogate benchmark"):
        quality = export_benchmark(options.runs, options.to, name=options.name)
    show_benchmark(console, quality, options.to)
    if not answered(read_metadata(options.to)):
        lacking = f"{options.to} holds the data of these runs, but no models of all its tasks, so it answers no query"
        show_notes(console, [], [f"{lacking}; export more runs together"])


def _benchmark_validate(arguments: list[str]) -> None:
    from automerge.benchmark.validation import validate  # noqa: PLC0415

    parser = argparse.ArgumentParser(
        "automerge benchmark validate",
        description="Measures how good a benchmark is; writes the figures into its report and card.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--real", type=Path, nargs="+", default=[], metavar="RUN", help="runs to repeat on it")
    parser.add_argument("--optimizers", nargs="+", default=[], metavar="NAME", help="whose runs are repeated (all)")
    parser.add_argument("--searches", type=Path, help="folder of the repeated searches; what is there is taken up")
    parser.add_argument("--jobs", type=int, default=1, help="searches at once")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with console.status("fitting and searching again; this takes minutes"):
        found = validate(
            options.folder,
            real=options.real,
            optimizers=options.optimizers,
            searches=options.searches,
            jobs=options.jobs,
            seed=options.seed,
        )
    show_validation(console, found)
    console.print(f"all figures: {options.folder / 'CARD.md'}", highlight=False, soft_wrap=True)


def _benchmark_compare(arguments: list[str]) -> None:
    from automerge.benchmark.comparison import compare, halving_items  # noqa: PLC0415
    from automerge.benchmark.comparison_figures import CURVES, TABLE, notes, rows, write_figures  # noqa: PLC0415
    from automerge.benchmark.simulation import assemble  # noqa: PLC0415

    parser = argparse.ArgumentParser(
        "automerge benchmark compare",
        description="Compares optimizers on a benchmark by searches with the same number of evaluated items.",
        epilog="KEY=VALUE: optimizers=[NAME,...] of conf/optimizer; seeds=10, how many; trials=200: every run may "
        "evaluate the items that successive halving of so many takes; workers=1; and settings: fidelity=full",
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--to", type=Path, required=True, help="folder of runs and results; finished runs are kept")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    options = parser.parse_intermixed_args(arguments)
    own, overrides = _comparison_options(options.settings)
    contestants = {}
    for name in own["optimizers"]:
        settings = _composed(["problem=benchmark", f"optimizer={name}", *overrides])
        settings["benchmark"]["path"] = str(options.folder)
        settings["runner"]["n_workers"] = own["workers"]
        settings["budget"] |= {"trials": own["trials"], "items": None}
        items = halving_items(assemble(settings), own["trials"])
        contestants[name] = {**settings, "budget": {"trials": None, "items": items, "minutes": None}}
    found = compare(
        contestants,
        range(own["seeds"]),
        options.to,
        jobs=options.jobs,
        tell=lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True),
    )
    write_figures(found, options.to)
    show_table(console, f"on the surrogate benchmark {found.benchmark}", rows(found, brief=True))
    show_notes(console, notes(found), [])
    console.print(f"figure: {options.to / CURVES}, whole table: {options.to / TABLE}", highlight=False, soft_wrap=True)


COMPARED: Mapping[str, Any] = {"optimizers": [], "seeds": 10, "trials": 200, "workers": 1}
"""What `benchmark compare` takes as KEY=VALUE beside settings, with defaults."""

DECIDED: Mapping[str, str] = {
    "budget": "trials=N: every run may evaluate the items that successive halving of so many takes",
    "seed": "seeds=N: every run has its own",
    "runner": "workers=N: runs have a virtual clock",
    "benchmark.path": "the folder as the argument DIR",
}
"""Settings that `benchmark compare` decides, with what is to be written in their place."""


def _overlap(first: str, second: str) -> bool:
    """Whether one of two keys of settings is the other or lies below it."""
    return f"{first}.".startswith(f"{second}.") or f"{second}.".startswith(f"{first}.")


def _comparison_options(given: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The options of a comparison, and all else, which is for the settings of its searches."""
    if wrong := [text for text in given if "=" not in text]:
        raise ValueError(f"expected KEY=VALUE, got {', '.join(wrong)}; write optimizers=[evolution,tpe] seeds=10")
    own = [text for text in given if text.split("=", 1)[0] in COMPARED]
    read = OmegaConf.to_container(OmegaConf.from_dotlist(own))
    options = {**COMPARED, **(read if isinstance(read, dict) else {})}
    names = options["optimizers"]
    faults = [
        f"{text}: write {remedy}"
        for text in given
        for key, remedy in DECIDED.items()
        if _overlap(text.split("=", 1)[0].lstrip("+~"), key)
    ]
    faults += whole_faults(1, **{key: options[key] for key in COMPARED if key != "optimizers"})
    if not isinstance(names, list) or not names or len(set(names)) < len(names):
        faults.append(f"optimizers: expected different names, got {names!r}; write optimizers=[evolution,tpe]")
    if faults:
        raise ValueError("; ".join(faults))
    return options, [text for text in given if text not in own]


def _export(arguments: list[str]) -> None:
    from automerge.export.model import Adapter, export_run  # noqa: PLC0415

    parser = argparse.ArgumentParser("automerge export", description="Writes a model of a run as a folder.")
    parser.add_argument("run", type=Path)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--point", type=int, help="number in the report's table of recommended models, from 1")
    chosen.add_argument("--trial", type=int, help="number of any trial in the log")
    parser.add_argument("--to", type=Path, required=True, help="folder to write; must not exist")
    parser.add_argument(
        "--as-adapter", action="store_true", help="write one LoRA adapter; all sources must be adapters"
    )
    parser.add_argument("--max-rank", type=int, help="compress the adapter to this rank")
    options = parser.parse_args(arguments)
    if options.max_rank is not None and not options.as_adapter:
        raise ValueError("--max-rank is for adapters; add --as-adapter")
    _refuse_simulated(
        options.run,
        "its recipes were merged nowhere. To try the best of them on models, search with the sources and the space of "
        f"the benchmark's own runs and begin from this one: automerge search ... start=[{options.run}]",
    )
    adapter = Adapter(max_rank=options.max_rank) if options.as_adapter else None
    written = export_run(options.run, options.to, point=options.point, trial=options.trial, adapter=adapter)
    if written is not None:
        console.print(f"rank {written.rank}, differs from the merge by {100 * written.error:.2g} %", highlight=False)
    console.print(f"model: {options.to}", highlight=False, soft_wrap=True)


def _composed(overrides: Sequence[str]) -> dict[str, Any]:
    """The settings that these overrides compose, outside a run of Hydra."""
    register_resolvers()
    try:
        with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
            return plain(hydra.compose("config", overrides=list(overrides)))
    except HydraException as fault:
        raise ValueError(f"these settings do not compose: {fault}") from fault


def _refuse_simulated(run: Path, why: str) -> None:
    with RunLog(run / LOG, read_only=True) as log:
        if "benchmark" in log.settings():
            raise ValueError(f"{run} is a simulated run: {why}")


def _hydra(arguments: list[str], job: Any) -> None:
    """Composes the configuration from command-line arguments as Hydra does and gives it to the job, once a run."""
    register_resolvers()

    def task(config: DictConfig) -> None:
        try:
            job(plain(config))
        except MISTAKES as fault:
            # Left to itself, Hydra wraps a message in its own traceback.
            Console(stderr=True).print(f"[bold red]error:[/] {_escaped(fault)}", highlight=False, soft_wrap=True)
            sys.exit(2)

    # Hydra takes overrides only in one row, but people write flags between them.
    overrides = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    flags = [argument for argument in arguments if argument not in overrides]
    sys.argv = ["automerge search", *flags, *overrides]
    hydra.main(config_path=str(config_folder()), config_name="config", version_base="1.3")(task)()


def register_resolvers() -> None:
    """Teaches OmegaConf `${zoo:PATH}`, a file of the embedded zoo."""
    from automerge import zoo  # noqa: PLC0415

    OmegaConf.register_new_resolver("zoo", zoo.path, replace=True)


def plain(config: Any) -> dict[str, Any]:
    """The settings of a composed configuration as nested dictionaries, without Hydra's own."""
    settings = OmegaConf.to_container(config, resolve=True)
    return {str(key): value for key, value in settings.items() if key != "hydra"} if isinstance(settings, dict) else {}


def _is_simulated(settings: Mapping[str, Any]) -> bool:
    return settings.get("benchmark") is not None


def _assemble(settings: Mapping[str, Any]) -> Any:
    if _is_simulated(settings):
        from automerge.benchmark.simulation import assemble as simulated  # noqa: PLC0415

        with console.status("loading the benchmark"):
            return simulated(settings)
    # Whatever is on the hub is asked for by name; telemetry and progress bars of libraries would hide our own.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from automerge.run import assemble  # noqa: PLC0415

    _quieten()
    with console.status("loading tasks, sources and model"):
        return assemble(settings)


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
    from automerge.check.kinship import kinship_warnings  # noqa: PLC0415

    return [*kinship_warnings(parts.vectors), *_constraint_warnings(parts), *found.warnings()]


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
    from automerge.report import write_report  # noqa: PLC0415

    parts = _assemble(settings)
    folder.mkdir(parents=True, exist_ok=True)
    console.print(f"run folder: {folder}", highlight=False, soft_wrap=True)
    if _is_simulated(settings):
        show_notes(console, _simulation_notes(parts), _constraint_warnings(parts))
    else:
        found = _estimate(settings, parts, folder)
        show_notes(console, [*parts.sources.notes, *found.lines()], _warnings(parts, found))
    with RunLog(folder / LOG) as log:
        try:
            follow(search(settings, parts, log), console)
        except KeyboardInterrupt:
            console.print(f"stopped; go on with: automerge search --resume {folder}", highlight=False, soft_wrap=True)
            sys.exit(130)
        except sqlite3.OperationalError as fault:
            raise OSError(
                f"the log could not be written ({fault}); every evaluation before this one is kept: "
                f"mend the disk, then automerge search --resume {folder}"
            ) from fault
    baseline = settings["report"]["baseline"]
    with console.status("writing the report"):
        findings = write_report(folder, baseline=Path(baseline) if baseline else None)
    show_findings(console, findings)
    console.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)
    if findings.recommended and not findings.simulated:
        console.print(f"a model: automerge export {folder} --point 1 --to DIR", highlight=False, soft_wrap=True)
    if not _is_simulated(settings):
        # Last, because a folder in its place that must not be replaced ends the command.
        show_benchmark(console, _fit_benchmark(folder), folder / "benchmark")


def _fit_benchmark(folder: Path) -> Mapping[str, Mapping[str, float]]:
    from automerge.benchmark.export import export_benchmark  # noqa: PLC0415

    with console.status("fitting the surrogate benchmark"):
        return export_benchmark([folder], folder / "benchmark")


def _escaped(fault: BaseException) -> str:
    return str(fault).replace("[", "\\[")


if __name__ == "__main__":
    main()
