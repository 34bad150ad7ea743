"""What commands tell on the terminal when they are done: notes, findings, and the quality of benchmarks, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

POOR_R2 = 0.3
"""R2 by cross-validation below which a surrogate benchmark is told to be poor."""


def show_notes(console: Console, notes: Sequence[str], warnings: Sequence[str]) -> None:
    """A line for every note, and in colour for every warning."""
    for note in notes:
        show_line(console, note)
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True, style="yellow")


def show_line(console: Console, text: str) -> None:
    """One line as it is: folders of runs have names that Rich would read as markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def show_fault(fault: BaseException) -> None:
    """The message of a fault, on the standard error."""
    message = Text.assemble(("error: ", "bold red"), str(fault))
    Console(stderr=True).print(message, highlight=False, soft_wrap=True)


def show_table(console: Console, title: str, rows: Sequence[Sequence[str]]) -> None:
    """Rows of text, the first of which is the header and the first column of which holds names."""
    header, *body = rows
    table = Table(title=escape(title), title_justify="left")
    for number, column in enumerate(header):
        table.add_column(escape(column), justify="right" if number else "left")
    for row in body:
        table.add_row(*map(escape, row))
    console.print(table)


def show_findings(console: Console, findings: Any) -> None:
    """The conclusion and the front; with one objective, the differences to sources and the best uniform merge."""
    show_line(console, findings.conclusion)
    if findings.simulated:
        console.print(findings.simulated, markup=False, highlight=False, soft_wrap=True, style="yellow")
    if findings.bounds:
        show_line(console, f"constraints: {findings.bounds}")
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
        table.add_column(escape(objective.name), justify="right")
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
    table.add_row(escape(label), *cells)


def _cells(history: Any, values: Any) -> Iterator[str]:
    for objective, value in zip(history.objectives, values, strict=True):
        yield f"{objective.sign * value:g}" if objective.kind == "cost" else f"{100 * value:.1f} %"


def show_benchmark(console: Console, quality: Mapping[str, Mapping[str, float]], folder: Path) -> None:
    """How good the surrogate in this folder is, by task, and which tasks have none."""
    from automerge.benchmark.fit import MINIMUM  # noqa: PLC0415 (lightgbm takes its time)

    show_line(console, f"surrogate benchmark: {folder}")
    table = Table(title="its models of the scores, by cross-validation", title_justify="left")
    for column in ("task", "trials", "R2", "Kendall tau"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task, figures in quality.items():
        numbers = (f"{figures[key]:.2f}" if figures[key] == figures[key] else "-" for key in ("r2", "kendall_tau"))
        table.add_row(escape(task), str(int(figures["n_trials"])), *numbers)
    console.print(table)
    if poor := [task for task, figures in quality.items() if figures["r2"] < POOR_R2]:
        show_line(
            console,
            f"an R2 below {POOR_R2:g} ({', '.join(poor)}) says that the models hardly tell merges apart: trials are "
            "too few, or too much alike; join more runs by automerge benchmark export before you rely on them",
        )
    if few := [task for task, figures in quality.items() if figures["n_trials"] < MINIMUM]:
        show_line(
            console, f"fewer than {MINIMUM} trials of {', '.join(few)}: {folder} holds a table of them, but no models"
        )


def show_validation(console: Console, found: Mapping[str, Any]) -> None:
    """How good the models of expected scores are, and whether the benchmark ranks optimizers as reality does."""
    ways = {
        "interpolation": "others",
        "extrapolation": "later ones",
        "random_only": "by random ones",
    }
    rows = [["models", "task", "items", "rows", "R2", "of its ceiling", "Kendall tau"]]
    for way, words in ways.items():
        for task, splits in found[way].items():
            for split, figures in splits.items():
                values = (figures[key] for key in ("r2", "of_ceiling", "tau"))
                numbers = ("-" if value is None else f"{value:.2f}" for value in values)
                rows.append([words, task, split, f"{figures['rows']:.0f}", *numbers])
    show_table(
        console,
        "expected scores of models that were not fitted: others of the same searches, later ones by earlier ones, "
        "searched ones by random ones",
        rows,
    )
    searches = found["trajectories"]
    if searches:
        agreement = searches["rank_correlation"]
        ranked = "too few to rank" if agreement is None else f"rank correlation with real searches {agreement:.2f}"
        known = " (in sample: the benchmark is made of these searches)" if searches["in_sample"] else ""
        lines = [f"{len(searches['optimizers'])} optimizers searched again: {ranked}{known}"]
        lines += [f"{name} was left out: {reason}" for name, reason in searches["left_out"].items()]
        if others := searches["not_chosen"]:
            lines.append(f"not chosen to be repeated: {', '.join(others)}")
        show_notes(console, lines, ())
