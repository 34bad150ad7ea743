import inspect
from types import SimpleNamespace
from typing import Any

import pytest

from automerge.check.beginning import beginning_warnings
from automerge.records import Objective
from tests.conformance.members import OPTIMIZERS, lfs
from tests.conformance.test_optimizers import Problem


@pytest.mark.parametrize("candidates", [3, 8])
def test_a_budget_that_ends_with_the_first_models_is_told(candidates: int) -> None:
    optimizer: Any = SimpleNamespace(n_initial=8)
    (warning,) = beginning_warnings(optimizer, candidates)
    assert f"about {candidates} candidates, but the first 8 of this optimizer" in warning
    assert beginning_warnings(optimizer, 9) == []


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_with_an_option_for_it_say_how_they_begin(name: str) -> None:
    problem = Problem(lfs(), [Objective("a")])
    optimizer = OPTIMIZERS[name](problem.space, problem.objectives, problem.ladder, 0)
    begins_blindly = "n_initial" in inspect.signature(type(optimizer)).parameters
    assert bool(beginning_warnings(optimizer, 2)) == begins_blindly
