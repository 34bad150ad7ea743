from __future__ import annotations

import pytest

from automerge.records import Evaluation, Query, Slice
from automerge.runners.virtual import VirtualRunner
from tests.toy import SOURCE_RECIPE


def lasting(seconds: int) -> Query:
    """A query that takes so many seconds: as many as it has items."""
    return Query(SOURCE_RECIPE, (Slice("a", "search", 0, seconds),))


def evaluate(query: Query) -> Evaluation:
    return Evaluation("ok", seconds={"merge": 0.25 * query.n_items, "forward": 0.75 * query.n_items})


def test_what_ends_first_in_virtual_time_comes_first_and_the_clock_stands_there() -> None:
    runner = VirtualRunner(evaluate, n_workers=2)
    assert runner.clock() == 0
    assert [runner.submit(lasting(seconds)) for seconds in (7, 2)] == [0, 1]
    assert (runner.collect()[0], runner.clock()) == (1, 2)
    # The free worker takes the next one from now on.
    runner.submit(lasting(4))
    assert (runner.collect()[0], runner.clock()) == (2, 6)
    runner.submit(lasting(1))
    # Two end at the same moment: the one submitted first comes first.
    assert [runner.collect()[0], runner.collect()[0]] == [0, 3]
    assert runner.clock() == 7


def test_queries_beyond_the_workers_wait_for_one_to_be_free() -> None:
    runner = VirtualRunner(evaluate, n_workers=2)
    for seconds in (3, 5, 4, 1):
        runner.submit(lasting(seconds))
    # By hand: the first worker has 0 to 3 and then the third query to 7, the second 0 to 5 and then the fourth to 6.
    ends = []
    for _ in range(4):
        ticket, _ = runner.collect()
        ends.append((ticket, runner.clock()))
    assert ends == [(0, 3), (1, 5), (3, 6), (2, 7)]


def test_one_worker_takes_the_sum_of_all_seconds() -> None:
    runner = VirtualRunner(evaluate)
    for seconds in (3, 1, 2):
        runner.submit(lasting(seconds))
    assert [runner.collect()[0] for _ in range(3)] == [0, 1, 2]
    assert runner.clock() == 6


def test_time_that_a_log_tells_moves_the_clock_and_later_queries_begin_there() -> None:
    runner = VirtualRunner(evaluate, n_workers=2)
    first, second = runner.submit(lasting(2)), runner.submit(lasting(5))
    runner.settle(first, 2.0)
    third = runner.submit(lasting(2))
    # The second has run since the beginning, the third since the first ended.
    assert (runner.collect()[0], runner.clock()) == (third, 4)
    assert (runner.collect()[0], runner.clock()) == (second, 5)


def test_a_number_of_workers_that_is_none_is_refused() -> None:
    for wrong in (0, 1.5, True):
        with pytest.raises(ValueError, match="n_workers: expected a whole number from 1"):
            VirtualRunner(evaluate, n_workers=wrong)  # type: ignore[arg-type]
