"""What the terminal shows of a search, with and without bars."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from automerge.progress import follow
from automerge.records import Phase
from automerge.search import Progress
from tests.toy import trial


def step(
    phase: Phase, share: float, *, n_failed: int = 0, used_up: bool = False, best: float | None = None
) -> Progress:
    return Progress(
        phase=phase,
        share=share,
        n_trials=280,
        n_items=123_456,
        hypervolume=0.12344,
        best=best,
        populations=(280, 93, 31),
        thinking=0.034,
        n_failed=n_failed,
        used_up=used_up,
        trial=trial(0, np.zeros(1), {}),
        resumed=False,
    )


STEPS = [step(phase, share) for phase in ("reference", "search", "verify", "test") for share in (0.5, 1.0)]


def told(width: int, *, is_terminal: bool, steps: Sequence[Progress] = STEPS) -> str:
    console = Console(file=StringIO(), width=width, force_terminal=is_terminal, color_system=None, legacy_windows=False)
    follow(steps, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_lines_tell_trials_rungs_items_hypervolume_and_time_in_ask() -> None:
    lines = told(100, is_terminal=False).splitlines()
    assert len(lines) == len(STEPS)
    assert "search: 100%, 280 trials, rungs 280/93/31, 123456 items, hypervolume 0.1234, thinking 3 %" in lines
    # Before there are trials nothing has reached a rung, and only the search asks.
    assert lines[0] == "reference models: 50%, 280 trials, 123456 items, hypervolume 0.1234"
    assert lines[-1] == "front on test items: 100%, 280 trials, rungs 280/93/31, 123456 items, hypervolume 0.1234"
    assert max(map(len, lines)) <= 100


def test_failed_evaluations_are_counted_where_there_are_any() -> None:
    (line,) = told(120, is_terminal=False, steps=[step("search", 1.0, n_failed=3)]).splitlines()
    assert line.endswith("thinking 3 %, 3 failed")


def test_with_one_objective_the_best_score_is_told() -> None:
    (line,) = told(120, is_terminal=False, steps=[step("search", 1.0, best=0.7584)]).splitlines()
    assert line.endswith("123456 items, best 75.8 %, thinking 3 %")


def test_a_space_that_is_used_up_is_told() -> None:
    (line,) = told(120, is_terminal=False, steps=[step("search", 1.0, used_up=True)]).splitlines()
    assert line.endswith("thinking 3 %, the space has no more models")


@pytest.mark.parametrize("width", [100, 160])
def test_bars_show_the_same_figures_whole(width: int) -> None:
    text = told(width, is_terminal=True)
    for part in ("280/93/31", "123456", "0.1234", "thinking", "promising ones, all items"):
        assert part in text
    assert "\u2026" not in text
