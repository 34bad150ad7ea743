"""The command `automerge benchmark export | validate | compare`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from automerge.composition import composed
from automerge.log import refuse_simulated
from automerge.options import whole_faults
from automerge.terminal import show_benchmark, show_line, show_notes, show_table, show_validation

console = Console(stderr=False)


def main(arguments: list[str]) -> None:
    """Runs the action that the first argument names. Raises what its work raises, ValueError for other actions."""
    actions = {"export": _export, "validate": _validate, "compare": _compare}
    action, *rest = arguments or [""]
    if action not in actions:
        raise ValueError(f"expected automerge benchmark {' | '.join(actions)}, got {action!r}; see automerge --help")
    actions[action](rest)


def _export(arguments: list[str]) -> None:
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
        refuse_simulated(run, "a benchmark of a benchmark would say nothing of models; export the runs that it is of")
    with console.status("fitting the surrogate benchmark"):
        quality = export_benchmark(options.runs, options.to, name=options.name)
    show_benchmark(console, quality, options.to)
    if not answered(read_metadata(options.to)):
        lacking = f"{options.to} holds the data of these runs, but no models of all its tasks, so it answers no query"
        show_notes(console, [], [f"{lacking}; export more runs together"])


def _validate(arguments: list[str]) -> None:
    from automerge.benchmark.validation import validate  # noqa: PLC0415

    parser = argparse.ArgumentParser(
        "automerge benchmark validate",
        description="Measures how good a benchmark is; writes the figures into its report and card.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--real", type=Path, nargs="+", default=[], metavar="RUN", help="runs to repeat on it")
    parser.add_argument(
        "--optimizers", nargs="+", metavar="NAME", help="whose runs are repeated, as the card names them (all)"
    )
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
    show_line(console, f"all figures: {options.folder / 'CARD.md'}")


def _compare(arguments: list[str]) -> None:
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
        settings = composed(["problem=benchmark", f"optimizer={name}", *overrides])
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
        tell=partial(show_line, console),
    )
    write_figures(found, options.to)
    show_table(console, f"on the surrogate benchmark {found.benchmark}", rows(found, brief=True))
    show_notes(console, notes(found), [])
    show_line(console, f"figure: {options.to / CURVES}, whole table: {options.to / TABLE}")


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
