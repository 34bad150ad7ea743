import json
from dataclasses import asdict

import numpy as np
import pytest

from automerge.records import Constraint, Objective, Query, Result, Slice
from tests.toy import SOURCE_RECIPE, trial


def test_slices_are_not_empty_and_queries_count_items() -> None:
    query = Query(SOURCE_RECIPE, (Slice("a", "search", 0, 10), Slice("b", "search", 5, 7)))
    assert query.n_items == 12
    with pytest.raises(ValueError, match="needs 0 <= start < stop"):
        Slice("a", "search", 3, 3)


def test_values_are_larger_is_better_and_unknown_ones_nan() -> None:
    told = trial(0, np.zeros(1), {"a": (10, 4.0)})
    values = told.values([Objective("a"), Objective("layers", "cost"), Objective("b")])
    assert values[:2].tolist() == [0.4, -3.0]
    assert np.isnan(values[2])
    assert told.n_items == 10


def test_caution_takes_more_off_short_evaluations() -> None:
    short, long = (trial(0, np.zeros(1), {"a": (n, 0.5 * n)}) for n in (20, 2000))
    objective = [Objective("a")]
    assert short.values(objective) == long.values(objective)
    assert short.values(objective, caution=1.0) < long.values(objective, caution=1.0)
    assert Result(100, 50.0).standard_error == pytest.approx(0.05, abs=1e-3)
    assert Result(10, 10.0).standard_error > 0


def test_a_weighted_mean_is_that_of_all_its_tasks_and_unknown_without_one_of_them() -> None:
    mean = Objective.mean_of({"a": 3, "b": 1})
    assert mean.shares == (("a", 0.75), ("b", 0.25))
    assert mean.sign == 1
    both = trial(0, np.zeros(1), {"a": (10, 4.0), "b": (20, 16.0)})
    assert both.values([mean])[0] == pytest.approx(0.75 * 0.4 + 0.25 * 0.8)
    assert np.isnan(trial(0, np.zeros(1), {"a": (10, 4.0)}).values([mean])[0])


def test_caution_takes_the_standard_error_of_a_weighted_mean_off() -> None:
    """Against means drawn at random: the tasks' items are independent."""
    rng = np.random.default_rng(0)
    drawn = 0.75 * rng.binomial(400, 0.4, 100_000) / 400 + 0.25 * rng.binomial(100, 0.8, 100_000) / 100
    both = trial(0, np.zeros(1), {"a": (400, 160.0), "b": (100, 80.0)})
    mean = [Objective.mean_of({"a": 3, "b": 1})]
    assert both.values(mean)[0] - both.values(mean, caution=1.0)[0] == pytest.approx(drawn.std(), rel=0.02)


@pytest.mark.parametrize(
    "objective", [Objective("a"), Objective("layers", "cost"), Objective.mean_of({"a": 2, "b": 1})]
)
def test_objectives_come_back_from_the_json_of_a_log(objective: Objective) -> None:
    assert Objective.from_settings(json.loads(json.dumps(asdict(objective)))) == objective


def test_objectives_of_old_logs_have_no_weights() -> None:
    assert Objective.from_settings({"name": "a", "kind": "task"}) == Objective("a")


def test_constraints_are_kept_while_nothing_is_known_and_broken_in_parts_of_their_bound() -> None:
    told = trial(0, np.zeros(1), {"a": (10, 4.0)}, costs={"layers": 12.0})
    assert Constraint("layers", "<=", 10).violation(told) == pytest.approx(0.2)
    assert Constraint("a", ">=", 0.5, "task").violation(told) == pytest.approx(0.2)
    for kept in (Constraint("layers", ">=", 12), Constraint("a", ">=", 0.4, "task"), Constraint("b", ">=", 1, "task")):
        assert kept.violation(told) == 0
    assert Constraint("parameters", "<=", 4e8).text == "parameters <= 400000000"
