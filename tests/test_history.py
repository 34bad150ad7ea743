import numpy as np
import pytest

from automerge.history import reference_point
from automerge.records import Objective
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
