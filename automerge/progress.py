"""Progress of a search on the terminal: a bar per phase with trials, rungs, items, hypervolume and time left."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from automerge import search

PHASES = {
    "reference": "reference models",
    "search": "search",
    "verify": "promising ones, all items",
    "test": "front on test items",
}
"""What each phase does, in words."""

LINES = 10
"""Without a terminal this many lines are printed per phase, in place of a moving bar."""


def follow(steps: Iterable[search.Progress], console: Console) -> None:
    """Runs the search to its end and shows its progress."""
    columns = (
        TextColumn("{task.description:<26}"),
        BarColumn(bar_width=10),
        TextColumn("{task.percentage:>3.0f} %"),
        # On a narrow terminal the figures go on in a second line; they are not cut.
        TextColumn("{task.fields[figures]}", table_column=Column(no_wrap=False)),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}
        printed: dict[str, int] = {}
        for step in steps:
            figures = _figures(step)
            if step.phase not in tasks:
                tasks[step.phase] = bars.add_task(PHASES[step.phase], total=1.0, figures="")
            bars.update(tasks[step.phase], completed=step.share, figures=figures)
            tenth = int(step.share * LINES)
            if not console.is_terminal and tenth > printed.get(step.phase, 0):
                printed[step.phase] = tenth
                console.print(f"{PHASES[step.phase]}: {step.share:.0%}, {figures}", highlight=False, soft_wrap=True)


def _figures(step: search.Progress) -> str:
    """`120 trials, rungs 120/40/13, 5400 items, hypervolume 0.1234, thinking 3 %, 2 failed`.

    With one objective its best score stands in place of the hypervolume. Without rungs at the references, which have
    none, thinking in the search only, and failures if there are any.
    """
    parts = [f"{step.n_trials} trial{'' if step.n_trials == 1 else 's'}"]
    if step.phase != "reference":
        parts.append(f"rungs {'/'.join(map(str, step.populations))}")
    found = f"hypervolume {step.hypervolume:.4f}" if step.best is None else f"best {100 * step.best:.1f} %"
    parts += [f"{step.n_items} items", found]
    if step.phase == "search":
        parts.append(f"thinking {100 * step.thinking:.0f} %")
    if step.n_failed:
        parts.append(f"{step.n_failed} failed")
    if step.used_up:
        parts.append("the space has no more models")
    return ", ".join(parts)
