"""What every runner does, whatever its clock."""

from __future__ import annotations

import pytest

from automerge.protocols import Runner
from automerge.records import Evaluation, Query, Slice
from tests.conformance.members import RUNNERS, RunnerFactory
from tests.toy import SOURCE_RECIPE


def query(n_items: int) -> Query:
    return Query(SOURCE_RECIPE, (Slice("a", "search", 0, n_items),))


@pytest.fixture(params=list(RUNNERS))
def build(request: pytest.FixtureRequest) -> RunnerFactory:
    return RUNNERS[request.param]


def counting(build: RunnerFactory) -> tuple[Runner, list[int]]:
    """A runner, and the numbers of items of the queries that it had evaluated."""
    asked: list[int] = []

    def evaluate(query: Query) -> Evaluation:
        asked.append(query.n_items)
        return Evaluation("ok", seconds={"merge": 0.001 * query.n_items}, costs={"items": float(query.n_items)})

    return build(evaluate), asked


def test_every_query_comes_back_once_under_its_ticket(build: RunnerFactory) -> None:
    runner, asked = counting(build)
    tickets = {runner.submit(query(n_items)): n_items for n_items in (5, 3, 9, 3)}
    assert asked == []
    found = dict(runner.collect() for _ in tickets)
    assert {ticket: answer.costs["items"] for ticket, answer in found.items()} == tickets
    assert sorted(asked) == [3, 3, 5, 9]


def test_there_is_nothing_to_collect_before_a_query(build: RunnerFactory) -> None:
    runner, _ = counting(build)
    with pytest.raises(RuntimeError, match="submit a query first"):
        runner.collect()


def test_what_a_log_answers_is_not_evaluated_and_its_ticket_is_gone(build: RunnerFactory) -> None:
    runner, asked = counting(build)
    first, second = runner.submit(query(4)), runner.submit(query(6))
    runner.settle(first, 2.5)
    with pytest.raises(ValueError, match=f"ticket {first} is not in flight"):
        runner.settle(first, 2.5)
    assert runner.collect()[0] == second
    assert asked == [6]


def test_the_clock_never_goes_back_and_there_is_a_worker(build: RunnerFactory) -> None:
    runner, _ = counting(build)
    moments = [runner.clock()]
    for n_items in (3, 1, 2):
        runner.submit(query(n_items))
        moments.append(runner.clock())
    for _ in range(3):
        runner.collect()
        moments.append(runner.clock())
    assert moments == sorted(moments)
    assert runner.n_workers >= 1
