from typing import Any

import numpy as np
import pytest

from automerge.acquisition.preference import Preference, achievements
from automerge.records import Objective

OBJECTIVES = (Objective("a"), Objective("b"), Objective("layers", "cost"))
POINT = np.array([0.25, 0.15, -13.2])


def test_without_a_preference_improvements_count_from_where_the_search_counts() -> None:
    preference = Preference(OBJECTIVES)
    assert preference.reference(POINT).tolist() == POINT.tolist()
    assert preference.aspiration is None


def test_a_reference_point_is_in_the_units_of_the_objectives_and_may_name_some() -> None:
    preference = Preference(OBJECTIVES, reference_point={"a": 0.6, "layers": 10})
    assert preference.reference(POINT).tolist() == [0.6, 0.15, -10.0]


def test_an_aspiration_names_every_objective() -> None:
    found = Preference(OBJECTIVES, aspiration={"a": 0.8, "b": 0.7, "layers": 9}).aspiration
    assert found is not None
    assert found.tolist() == [0.8, 0.7, -9.0]
    with pytest.raises(ValueError, match="layers is missing"):
        Preference(OBJECTIVES, aspiration={"a": 0.8, "b": 0.7})


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="reference_point: c is no objective of this search; they are a, b, layers"):
        Preference(OBJECTIVES, reference_point={"c": 0.5})
    with pytest.raises(ValueError, match="a, b are no objectives of this search; the only one is weighted mean"):
        Preference([Objective.mean_of({"a": 1, "b": 1})], aspiration={"a": 0.5, "b": 0.5})


@pytest.mark.parametrize("option", ["reference_point", "aspiration"])
@pytest.mark.parametrize(
    ("point", "fault"), [(0.5, "got 0.5"), ([0.8, 0.8], r"got \[0.8, 0.8\]"), ({"a": "high", "b": 0.5}, "got 'high'")]
)
def test_what_is_no_point_is_refused_with_an_example(option: str, point: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=rf"{option}: expected numbers by objective, such as {{a: 0.5, .*}}, {fault}"):
        Preference(OBJECTIVES, **{option: point})


def test_a_reference_point_that_no_score_can_lie_above_is_refused() -> None:
    with pytest.raises(ValueError, match="no score lies above 1, which is given for b"):
        Preference(OBJECTIVES, reference_point={"b": 1})
    assert Preference(OBJECTIVES, aspiration={"a": 1, "b": 1, "layers": 8}).aspiration is not None


@pytest.mark.parametrize("option", ["reference_point", "aspiration"])
@pytest.mark.parametrize(
    ("value", "fault"), [(60.0, "got 60 for a; write 0.8 for 80 %"), (-0.1, "got -0.1"), (float("nan"), "got nan")]
)
def test_values_that_no_model_can_have_are_refused(option: str, value: float, fault: str) -> None:
    point = {"a": value, "b": 0.5, "layers": 12}
    with pytest.raises(ValueError, match=f"{option}: .*{fault}"):
        Preference(OBJECTIVES, **{option: point})


def test_the_way_to_an_aspiration_is_that_of_the_worst_objective() -> None:
    reference, aspiration = np.array([0.2, 0.2]), np.array([0.8, 0.6])
    points = np.array([[0.8, 0.6], [0.5, 0.6], [0.9, 0.2], [1.0, 0.7]])
    assert achievements(points, reference, aspiration) == pytest.approx([1.0, 0.5, 0.0, 1.25])
    with pytest.raises(ValueError, match="lies above"):
        achievements(points, aspiration, reference)
