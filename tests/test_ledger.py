import numpy as np
import pytest

from automerge.fidelity import Ladder
from automerge.ledger import Ledger
from automerge.records import REFERENCE, Constraint, Objective
from tests.toy import trial

OBJECTIVES = (Objective("a"), Objective("b"))
LADDER = Ladder(minimum=100, maximum=300)


def x(number: int) -> np.ndarray:
    return np.array([float(number), 0.0])


def test_trials_that_are_not_ok_are_not_promoted_and_do_not_count() -> None:
    ledger = Ledger(objectives=OBJECTIVES, ladder=LADDER)
    for k in range(9):
        ledger.tell(trial(k, x(k), {"a": (100, 99.0), "b": (100, 99.0)}, status="invalid"))
    for k in range(20, 22):
        ledger.tell(trial(k, x(k), {"a": (100, 1.0), "b": (100, 1.0)}))
    assert ledger.promotion() is None


def test_references_are_no_candidates_for_promotion() -> None:
    ledger = Ledger(objectives=OBJECTIVES, ladder=LADDER)
    for k in range(6):
        origin = {"operator": REFERENCE, "name": str(k), "kind": "source"}
        ledger.tell(trial(k, x(k), {"a": (100, 50.0), "b": (100, 50.0)}, origin=origin))
    assert ledger.promotion() is None


def test_a_promotion_in_flight_is_not_proposed_again_until_told() -> None:
    ledger = Ledger(objectives=OBJECTIVES, ladder=LADDER)
    trials = [trial(k, x(k), {"a": (100, 10.0 * k), "b": (100, 50.0)}) for k in range(3)]
    for each in trials:
        ledger.tell(each)
    promotion = ledger.promotion()
    assert promotion is not None
    assert (promotion.trial, promotion.stop) == (2, 300)
    assert ledger.promoting == {2}
    assert ledger.promotion() is None
    ledger.tell(trials[2])
    assert not ledger.promoting


def test_without_halving_everything_is_evaluated_on_all_items() -> None:
    ledger = Ledger(objectives=OBJECTIVES, ladder=LADDER, halving=False)
    for k in range(9):
        ledger.tell(trial(k, x(k), {"a": (100, 10.0 * k), "b": (100, 50.0)}))
    assert ledger.first_stop == 300
    assert ledger.promotion() is None


def test_told_and_proposed_genotypes_are_not_new() -> None:
    ledger = Ledger(objectives=OBJECTIVES, ladder=LADDER)
    ledger.tell(trial(0, x(0), {"a": (100, 1.0), "b": (100, 1.0)}))
    ledger.see(x(1))
    assert [ledger.is_new(x(k)) for k in range(3)] == [False, False, True]


def test_a_trial_that_breaks_a_constraint_lies_below_all_others_by_its_violation() -> None:
    constraints = (Constraint("layers", "<=", 10), Constraint("a", ">=", 0.5, "task"))
    ledger = Ledger(objectives=OBJECTIVES, ladder=LADDER, constraints=constraints)
    kept = trial(0, x(0), {"a": (100, 60.0), "b": (100, 20.0)}, costs={"layers": 10.0})
    deep = trial(1, x(1), {"a": (100, 90.0), "b": (100, 90.0)}, costs={"layers": 12.0})
    weak = trial(2, x(2), {"a": (100, 40.0), "b": (100, 90.0)}, costs={"layers": 8.0})
    points = ledger.points([kept, deep, weak])
    assert points[0].tolist() == [0.6, 0.2]
    assert points[1] == pytest.approx(np.array([0.4, 0.2]) - 0.2)
    assert points[2] == pytest.approx(np.array([0.4, 0.2]) - 0.2)


def test_promising_are_the_partly_evaluated_by_their_cautious_means() -> None:
    ledger = Ledger(objectives=OBJECTIVES, ladder=Ladder(minimum=100, maximum=900))
    lucky = trial(0, x(0), {"a": (100, 62.0), "b": (100, 62.0)})
    proven = trial(1, x(1), {"a": (300, 180.0), "b": (300, 180.0)})
    whole = trial(2, x(2), {"a": (900, 890.0), "b": (900, 890.0)})
    for each in (lucky, proven, whole):
        ledger.tell(each)
    assert ledger.promising(5) == [1, 0]
    assert ledger.promising(1) == [1]


def test_what_breaks_a_bound_on_a_cost_is_never_worth_verifying() -> None:
    ledger = Ledger(objectives=OBJECTIVES, ladder=LADDER, constraints=[Constraint("layers", "<=", 10)])
    ledger.tell(trial(0, x(0), {"a": (100, 90.0), "b": (100, 90.0)}, costs={"layers": 12.0}))
    ledger.tell(trial(1, x(1), {"a": (100, 10.0), "b": (100, 10.0)}, costs={"layers": 10.0}))
    assert ledger.promising(5) == [1]
