"""The command line: `automerge search | check | report | benchmark | export`.

The only place that sees Hydra: it composes the configuration, turns it into plain dictionaries and draws progress.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from automerge.log import LOG, RunLog

USAGE = """\
automerge finds the best merges of language models by itself.

  automerge search experiment=demo [KEY=VALUE ...]   search; Hydra's options work (-m for several runs, --config-dir)
  automerge search --resume RUN                      go on with a run that was stopped
  automerge check experiment=demo                    load and check everything, search nothing
  automerge report RUN [--baseline RUN]              write the report of a run again
  automerge benchmark RUN [--to DIR]                 fit and export the surrogate benchmark of a run again
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
        from automerge.check import overview  # noqa: PLC0415 (each command loads what it needs)

        parts = _assemble(settings)
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
        _show_notes([*notes, *parts.family.vocabulary.summary, *parts.sources.notes], _warnings(parts, found))
        console.print(
            f"all is well: {len(parts.sources.names)} sources beside the base, "
            f"{parts.sources.alignment.n_layers} layers, {parts.sources.n_bytes / 2**20:.1f} MiB of weights, "
            f"{len(parts.space.genes)} genes, fidelities {', '.join(map(str, parts.ladder.rungs))} items"
        )

    # A check leaves nothing behind.
    _hydra([*arguments, "hydra.output_subdir=null", "hydra.run.dir=."], check)


def _report(arguments: list[str]) -> None:
    from automerge.report import write_report  # noqa: PLC0415

    parser = argparse.ArgumentParser("automerge report", description="Writes the report of a run into its folder.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--baseline", type=Path, help="folder of another run to show beside it")
    options = parser.parse_args(arguments)
    write_report(options.run, baseline=options.baseline)
    console.print(f"report: {options.run / 'report.html'}", highlight=False, soft_wrap=True)


def _benchmark(arguments: list[str]) -> None:
    from automerge.benchmark.fit import export_benchmark  # noqa: PLC0415

    parser = argparse.ArgumentParser("automerge benchmark", description="Exports the surrogate benchmark of a run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--to", type=Path, help="folder to write; RUN/benchmark if not given")
    options = parser.parse_args(arguments)
    folder = options.to or options.run / "benchmark"
    _show_benchmark(export_benchmark(options.run, folder), folder)


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
    adapter = Adapter(max_rank=options.max_rank) if options.as_adapter else None
    written = export_run(options.run, options.to, point=options.point, trial=options.trial, adapter=adapter)
    if written is not None:
        console.print(f"rank {written.rank}, differs from the merge by {100 * written.error:.2g} %", highlight=False)
    console.print(f"model: {options.to}", highlight=False, soft_wrap=True)


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


def _assemble(settings: Mapping[str, Any]) -> Any:
    # Whatever is on the hub is asked for by name; telemetry and progress bars of libraries would hide our own.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from automerge.run import assemble  # noqa: PLC0415

    _quieten()
    with console.status("loading tasks, sources and model"):
        return assemble(settings)


def _estimate(settings: Mapping[str, Any], parts: Any, folder: Path) -> Any:
    from automerge.check.estimate import estimate  # noqa: PLC0415

    options = settings["report"]
    with console.status("estimating what the search takes"):
        return estimate(
            parts.model,
            parts.tasks,
            parts.space,
            parts.ladder,
            parts.budget,
            n_verify=int(options["verify"]),
            n_recommend=int(options["recommend"]),
            n_given=len(parts.starts),
            test_items=options["test_items"],
            n_workers=parts.runner.n_workers,
            folder=folder,
        )


def _warnings(parts: Any, found: Any) -> list[str]:
    from automerge.check.constraints import constraint_warnings  # noqa: PLC0415
    from automerge.check.kinship import kinship_warnings  # noqa: PLC0415

    return [
        *kinship_warnings(parts.vectors),
        *constraint_warnings(parts.space, parts.constraints),
        *found.warnings(),
    ]


def _show_notes(notes: Sequence[str], warnings: Sequence[str]) -> None:
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True, style="yellow")


def _quieten() -> None:
    import datasets  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _run(settings: Mapping[str, Any], folder: Path) -> None:
    from automerge.benchmark.fit import export_benchmark  # noqa: PLC0415
    from automerge.progress import follow  # noqa: PLC0415
    from automerge.report import write_report  # noqa: PLC0415
    from automerge.run import search  # noqa: PLC0415

    parts = _assemble(settings)
    folder.mkdir(parents=True, exist_ok=True)
    console.print(f"run folder: {folder}", highlight=False, soft_wrap=True)
    found = _estimate(settings, parts, folder)
    _show_notes([*parts.sources.notes, *found.lines()], _warnings(parts, found))
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
    with console.status("fitting the surrogate benchmark"):
        quality = export_benchmark(folder, folder / "benchmark")
    with console.status("writing the report"):
        findings = write_report(folder, baseline=Path(baseline) if baseline else None)
    _show_findings(findings)
    _show_benchmark(quality, folder / "benchmark")
    console.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)
    if findings.recommended:
        console.print(f"a model: automerge export {folder} --point 1 --to DIR", highlight=False, soft_wrap=True)


def _show_findings(findings: Any) -> None:
    """The conclusion and the front; with one objective, the differences to sources and the best uniform merge."""
    console.print(findings.conclusion, markup=False, highlight=False, soft_wrap=True)
    if findings.bounds:
        console.print(f"constraints: {findings.bounds}", markup=False, highlight=False, soft_wrap=True)
    if findings.headline is not None:
        console.print(_differences(findings.headline))
    console.print(_front(findings.history))


def _differences(headline: Any) -> Table:
    name, title = escape(headline.best.name), "in points of percent, with 95 % intervals of paired differences"
    table = Table(title=f"{name} {headline.value.text} %: what it has more than others, {title}", title_justify="left")
    table.add_column("model")
    for column in ("test items, %", f"{name} minus this"):
        table.add_column(column, justify="right")
    for row in headline.rows:
        best = f"{headline.title}: " if row.point.kind == "uniform" else ""
        table.add_row(escape(best + row.point.name), row.value.text, row.difference.text)
    return table


def _front(history: Any) -> Table:
    table = Table(title="on test items, which the search never saw", title_justify="left")
    table.add_column("model")
    for objective in history.objectives:
        table.add_column(objective.name, justify="right")
    for number, trial in enumerate(history.recommended, start=1):
        _add_row(table, history, trial, f"point {number} ({history.name(trial)})")
    table.add_section()
    for trial in history.references:
        if trial not in history.recommended:
            given = " (given)" if history.trials[trial].origin["kind"] == "given" else ""
            _add_row(table, history, trial, history.name(trial) + given)
    return table


def _add_row(table: Table, history: Any, trial: int, label: str) -> None:
    values = history.test_values(trial)
    cells = list(_cells(history, values)) if values is not None else ["not tested"] * len(history.objectives)
    table.add_row(label, *cells)


def _cells(history: Any, values: Any) -> Iterator[str]:
    for objective, value in zip(history.objectives, values, strict=True):
        yield f"{objective.sign * value:g}" if objective.kind == "cost" else f"{100 * value:.1f} %"


def _show_benchmark(quality: Mapping[str, Mapping[str, float]], folder: Path) -> None:
    from automerge.benchmark.fit import MINIMUM  # noqa: PLC0415

    table = Table(title=f"surrogate benchmark in {folder}, by cross-validation", title_justify="left")
    for column in ("task", "trials", "R2", "Kendall tau"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task, figures in quality.items():
        numbers = (f"{figures[key]:.2f}" if figures[key] == figures[key] else "-" for key in ("r2", "kendall_tau"))
        table.add_row(task, str(int(figures["n_trials"])), *numbers)
    console.print(table)
    if few := [task for task, figures in quality.items() if figures["n_trials"] < MINIMUM]:
        console.print(
            f"fewer than {MINIMUM} trials of {', '.join(few)}: {folder} holds a table of them, but no models",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def _escaped(fault: BaseException) -> str:
    return str(fault).replace("[", "\\[")


if __name__ == "__main__":
    main()
