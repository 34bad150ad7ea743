"""What commands tell on the terminal, as text."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from automerge.terminal import show_validation

SEARCHES: dict[str, Any] = {"rank_correlation": 0.5, "optimizers": {"a": {}, "b": {}, "c": {}}}


@pytest.mark.parametrize("in_sample", [True, False])
def test_a_validation_says_whether_searches_are_in_sample_and_which_were_left_out(in_sample: bool) -> None:
    text = StringIO()
    found: dict[str, Any] = {"interpolation": {}, "extrapolation": {}, "random_only": {}}
    searches = {**SEARCHES, "in_sample": in_sample, "left_out": {"smac": "it needs [SMAC]"}, "not_chosen": ["tpe"]}
    show_validation(Console(file=text, width=200), {**found, "trajectories": searches})
    assert "3 optimizers searched again: rank correlation with real searches 0.50" in text.getvalue()
    assert ("in sample" in text.getvalue()) == in_sample
    assert "smac was left out: it needs [SMAC]" in text.getvalue()
    assert "not chosen to be repeated: tpe" in text.getvalue()
