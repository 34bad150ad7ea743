"""Constraints as users write them, with every way to write one wrongly."""

from __future__ import annotations

import pytest

from automerge.check.constraints import constraint_warnings, read_constraints
from automerge.records import Constraint
from automerge.spaces.dis import DepthIntegration

TASKS = ("sums", "long name")


def test_names_of_tasks_and_costs_are_bounded_from_above_and_below() -> None:
    found, faults = read_constraints(["layers<=30", "parameters <= 4e8", " sums >= 0.8", "long name<=1"], TASKS)
    assert faults == []
    assert found == [
        Constraint("layers", "<=", 30, "cost"),
        Constraint("parameters", "<=", 4e8, "cost"),
        Constraint("sums", ">=", 0.8, "task"),
        Constraint("long name", "<=", 1, "task"),
    ]
    assert read_constraints(None, TASKS) == read_constraints([], TASKS) == ([], [])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("layers", "expected a name, <= or >=, and a number, such as 'layers <= 30'"),
        ("carbon <= 3", "there is no task or cost 'carbon'; there are sums, long name, layers, parameters"),
        ("layers < 30", "expected <= or >=, got <"),
        ("layers == 30", "expected <= or >=, got =="),
        ("layers <= many", "expected a number after <=, got 'many'"),
        ("layers <= ", "expected a number after <=, got ''"),
        ("layers <= inf", "expected a finite number after <=, got inf"),
        ("sums >= 80", "scores lie between 0 and 1, got 80; write 0.8 for 80 %"),
    ],
)
def test_faults_say_what_was_expected(text: str, fault: str) -> None:
    found, faults = read_constraints([text, "layers >= 2"], TASKS)
    assert found == [Constraint("layers", ">=", 2)]
    assert faults == [f"constraints: {text!r}: {fault}"]


def test_one_text_is_no_list() -> None:
    assert read_constraints("layers <= 3", TASKS)[1] == [
        "constraints: expected a list such as ['layers <= 30'], got 'layers <= 3'"
    ]


def test_a_bound_that_no_model_of_the_space_keeps_is_warned_of() -> None:
    space = DepthIntegration(sources=["left", "right"], n_layers=8, min_layers=4, max_layers=8)
    good = [Constraint("layers", "<=", 6), Constraint("sums", ">=", 1, "task"), Constraint("parameters", "<=", 1)]
    assert constraint_warnings(space, good) == []
    (warning,) = constraint_warnings(space, [*good, Constraint("layers", "<=", 3)])
    assert "keeps layers <= 3: they have 4 to 8 layers; if no model keeps it" in warning
