from typing import Any

import numpy as np

from automerge.options import flag_faults, list_faults, number_faults, strength_faults, whole_faults


def test_options_of_a_wrong_type_are_named_with_what_was_got() -> None:
    value: Any
    for value in ("abc", 2.5, None, True, [3], 0):
        assert whole_faults(1, a=3, b=value) == [f"b: expected a whole number from 1, got {value!r}"]
    assert whole_faults(0, a=0, b=np.int64(3)) == []
    for value in ("0.5", None, False, [0.5], float("nan"), float("-inf")):
        assert number_faults(a=0.5, b=value) == [f"b: expected a number, got {value!r}"]
    assert number_faults(a=1, b=np.float64(0.5)) == []
    for value in ("true", None, 1):
        assert flag_faults(a=True, b=value) == [f"b: expected true or false, got {value!r}"]


def test_an_option_that_is_no_list_is_told_how_to_write_one() -> None:
    """With what was given, if it may be in the list, else with an example."""
    for name, value, written in (
        ("methods", "ties", "ties"),
        ("methods", None, "linear"),
        ("methods", {"ties": 1}, "linear"),
        ("components", "layer", "layer"),
        ("components", 3, "layer"),
        ("strengths", 0.7, 0.7),
        ("strengths", "abc", 0.5),
    ):
        expected = f"{name}: expected a list: write space.{name}=[{written}], got {value!r}"
        assert list_faults(**{name: value}) == [expected]
        if name == "strengths":
            assert strength_faults(value) == [expected]
    assert list_faults(methods=[], components=("layer",), strengths=[0.5]) == []
