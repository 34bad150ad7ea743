from dataclasses import replace

import numpy as np
import pytest

from automerge.history import eligible, reference_point
from automerge.records import Constraint, Objective
from tests.toy import trial

A, B, LAYERS = Objective("a"), Objective("b"), Objective("layers", "cost")
SOURCES = [
    trial(0, np.zeros(1), {"a": (100, 30.0), "b": (100, 50.0)}),
    trial(1, np.zeros(1), {"a": (100, 80.0), "b": (100, 50.0)}),
]
CHANCES = {"a": 0.5, "b": 0.1}


def test_scores_count_from_a_little_below_the_worst_source() -> None:
    assert reference_point(SOURCES, (A, B), chances=CHANCES, depth=1.5) == pytest.approx([0.3 - 0.05, 0.5 - 0.05])


def test_with_a_cost_scores_count_from_chance_and_costs_from_above_the_largest_model_of_the_space() -> None:
    # Every toy source has 3 layers; the space allows 3/2 of that, or only shallower models.
    deep = reference_point(SOURCES, (A, B, LAYERS), chances=CHANCES, depth=1.5)
    assert deep == pytest.approx([0.25, 0.1, -1.1 * 4.5])
    shallow = reference_point(SOURCES, (A, B, LAYERS), chances=CHANCES, depth=0.75)
    assert shallow == pytest.approx([0.25, 0.1, -1.1 * 3])


def test_under_constraints_scores_count_from_chance_too() -> None:
    """What keeps a bound may score below every source and be the best that there is."""
    bounded = reference_point(SOURCES, (A, B), chances=CHANCES, depth=1.5, constrained=True)
    assert bounded == pytest.approx([0.25, 0.1])


def test_where_no_source_may_be_recommended_scores_count_from_chance_too() -> None:
    """As in a space of shallower models: else all of them could lie below the point, and none be recommended."""
    excluded = [replace(source, origin={**source.origin, "eligible": False}) for source in SOURCES]
    assert reference_point(excluded, (A, B), chances=CHANCES, depth=0.7) == pytest.approx([0.25, 0.1])
    one = reference_point([excluded[0], SOURCES[1]], (A, B), chances=CHANCES, depth=0.7)
    assert one == pytest.approx([0.25, 0.45])


def test_chance_of_a_weighted_mean_is_the_mean_of_chances() -> None:
    mean = Objective.mean_of({"a": 1, "b": 3})
    found = reference_point(SOURCES, (mean, LAYERS), chances=CHANCES, depth=1.0)
    assert found == pytest.approx([0.25 * 0.5 + 0.75 * 0.1, -1.1 * 3])
    # Without a cost: 0.45 and 0.575 less a tenth of what lies between.
    assert reference_point(SOURCES, (mean,), chances=CHANCES, depth=1.0) == pytest.approx([0.45 - 0.0125])


def test_what_breaks_a_constraint_is_not_eligible() -> None:
    assert eligible(SOURCES[0], [Constraint("layers", "<=", 3), Constraint("a", ">=", 0.3, "task")])
    assert not eligible(SOURCES[0], [Constraint("layers", "<=", 2)])
    assert not eligible(SOURCES[0], [Constraint("a", ">=", 0.31, "task")])
