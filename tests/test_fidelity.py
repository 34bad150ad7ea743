from dataclasses import replace

import numpy as np
import pytest

from automerge.fidelity import Ladder, first_rung
from automerge.records import Objective, Trial
from tests.toy import trial

OBJECTIVES = (Objective("a"), Objective("b"))
X = np.zeros(2)


def points(trials: list[Trial]) -> np.ndarray:
    return np.array([trial.values(OBJECTIVES) for trial in trials])


@pytest.mark.parametrize(
    ("minimum", "maximum", "rungs"),
    [(100, 900, (100, 300, 900)), (100, 1000, (111, 333, 1000)), (50, 50, (50,)), (1, 5, (1, 5))],
)
def test_rungs_go_down_from_the_maximum_by_eta(minimum: int, maximum: int, rungs: tuple[int, ...]) -> None:
    assert Ladder(minimum=minimum, maximum=maximum).rungs == rungs


def test_a_small_factor_ends_too() -> None:
    assert Ladder(minimum=1, maximum=2, eta=1.2).rungs == (1, 2)


def test_the_best_third_is_promoted_and_no_more() -> None:
    ladder = Ladder(minimum=100, maximum=900)
    trials = [trial(k, X, {"a": (100, 10.0 * k), "b": (100, 50.0)}) for k in range(6)]
    promoted: list[int] = []
    for _ in range(6):
        due = ladder.promotion(trials, points(trials), promoted)
        if due is None:
            break
        assert due[1] == 300
        promoted.append(due[0].id)
    assert promoted == [5, 4]


def test_no_more_than_a_third_goes_beyond_a_rung_even_if_the_best_change() -> None:
    ladder = Ladder(minimum=100, maximum=300)
    old = [trial(k, X, {"a": (300, 30.0 + k), "b": (300, 30.0)}) for k in range(2)]
    new = [trial(10 + k, X, {"a": (100, 90.0), "b": (100, 90.0)}) for k in range(4)]
    assert ladder.promotion([*old, *new], points([*old, *new])) is None
    more = [trial(20 + k, X, {"a": (100, 5.0), "b": (100, 5.0)}) for k in range(3)]
    due = ladder.promotion([*old, *new, *more], points([*old, *new, *more]))
    assert due is not None
    assert due[0].id in {10, 11, 12, 13}


def test_the_highest_rung_is_promoted_first() -> None:
    ladder = Ladder(minimum=100, maximum=900)
    low = [trial(k, X, {"a": (100, 90.0), "b": (100, 90.0)}) for k in range(6)]
    high = [trial(10 + k, X, {"a": (300, 100.0 + k), "b": (300, 100.0)}) for k in range(3)]
    due = ladder.promotion([*low, *high], points([*low, *high]))
    assert due is not None
    assert (due[0].id, due[1]) == (12, 900)


def test_ladder_refuses_bounds_out_of_order() -> None:
    with pytest.raises(ValueError, match="1 <= min <= max"):
        Ladder(minimum=10, maximum=5)


def timed(merge: float, forward: float, n_items: int = 900) -> Trial:
    """A trial with the seconds of one evaluation."""
    return replace(
        trial(0, X, {"a": (n_items, 1.0), "b": (n_items, 1.0)}), seconds={"merge": merge, "forward": forward}
    )


@pytest.mark.parametrize(
    ("merge", "item", "rung"),
    # The bounds are sqrt(c0 / c1 / 4) / 0.05: 10, 100, 316 and 1000 items.
    [(0.01, 0.01, 33), (1.0, 0.01, 100), (10.0, 0.01, 300), (100.0, 0.01, 300)],
)
def test_dear_merges_begin_with_more_items_up_to_half_of_all(merge: float, item: float, rung: int) -> None:
    ladder = Ladder(minimum=30, maximum=900)
    assert ladder.rungs == (33, 100, 300, 900)
    assert first_rung(ladder, [timed(merge, 900 * item)] * 3) == rung


def test_without_measured_costs_the_lowest_rung_is_the_first() -> None:
    ladder = Ladder(minimum=30, maximum=900)
    assert first_rung(ladder, []) == 33
    assert first_rung(ladder, [trial(0, X, {"a": (900, 1.0), "b": (900, 1.0)})]) == 33
    assert first_rung(ladder, [timed(5.0, 0.0)]) == 33


def test_a_ladder_of_one_rung_begins_there() -> None:
    assert first_rung(Ladder(minimum=90, maximum=90), [timed(5.0, 1.0)]) == 90
