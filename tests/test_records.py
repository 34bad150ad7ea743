import numpy as np
import pytest

from automerge.records import Objective, Query, Result, Slice
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
