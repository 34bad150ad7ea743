import numpy as np
import pytest

from automerge.acquisition.preference import Preference, achievements
from automerge.records import Objective

OBJECTIVES = (Objective("a"), Objective("b"), Objective("layers", "cost"))
SOURCES = np.array([[0.8, 0.2, -12.0], [0.3, 0.7, -12.0]])


def test_without_a_preference_improvements_count_from_below_the_worst_source() -> None:
    preference = Preference(OBJECTIVES)
    assert preference.reference(SOURCES) == pytest.approx([0.25, 0.15, -13.2])
    assert preference.aspiration is None


def test_a_reference_point_is_in_the_units_of_the_objectives_and_may_name_some() -> None:
    preference = Preference(OBJECTIVES, reference_point={"a": 0.6, "layers": 10})
    assert preference.reference(SOURCES) == pytest.approx([0.6, 0.15, -10.0])


def test_an_aspiration_names_every_objective() -> None:
    found = Preference(OBJECTIVES, aspiration={"a": 0.8, "b": 0.7, "layers": 9}).aspiration
    assert found is not None
    assert found.tolist() == [0.8, 0.7, -9.0]
    with pytest.raises(ValueError, match="layers is missing"):
        Preference(OBJECTIVES, aspiration={"a": 0.8, "b": 0.7})


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="reference_point: c is no objective; there are a, b, layers"):
        Preference(OBJECTIVES, reference_point={"c": 0.5})


def test_the_way_to_an_aspiration_is_that_of_the_worst_objective() -> None:
    reference, aspiration = np.array([0.2, 0.2]), np.array([0.8, 0.6])
    points = np.array([[0.8, 0.6], [0.5, 0.6], [0.9, 0.2], [1.0, 0.7]])
    assert achievements(points, reference, aspiration) == pytest.approx([1.0, 0.5, 0.0, 1.25])
    with pytest.raises(ValueError, match="lies above"):
        achievements(points, aspiration, reference)
