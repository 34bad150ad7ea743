"""The reckoning against searches that really run and against counting by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from automerge.check.workload import Ends, Rates, Sizes, Work, candidate, evaluation, n_candidates, workload
from automerge.fidelity import Ladder
from automerge.log import RunLog
from automerge.search import Budget
from tests.simulation import N_ITEMS, TASKS, make_search


def test_an_evaluation_asks_tasks_for_what_they_have() -> None:
    assert evaluation({"a": 100, "b": 30}, 20, 60) == Work(1, {"a": 40, "b": 10})
    assert evaluation({"a": 100, "b": 10}, 20, 60).n_items == 40


def test_a_candidate_climbs_the_ladder_by_its_share() -> None:
    work = candidate({"a": 500, "b": 100}, Ladder(minimum=30, maximum=270))
    assert work.evaluations == pytest.approx(1 + 1 / 3 + 1 / 9)
    assert work.items == pytest.approx({"a": 30 + 60 / 3 + 180 / 9, "b": 30 + 60 / 3 + 10 / 9})


@pytest.mark.parametrize(
    ("budget", "n_workers", "expected"),
    [
        (Budget(trials=17), 1, 17),
        (Budget(items=1000), 1, 50),
        (Budget(minutes=1), 1, 20),
        (Budget(minutes=1), 4, 80),
        (Budget(trials=30, items=1000, minutes=1), 1, 20),
        (Budget(items=3), 1, 1),
    ],
)
def test_the_tightest_bound_of_the_budget_counts(budget: Budget, n_workers: int, expected: int) -> None:
    average, rates = Work(2, {"a": 15, "b": 5}), Rates(merge=0.25, items={"a": 0.1, "b": 0.2})
    assert rates.seconds(average) == pytest.approx(3)
    assert n_candidates(average, budget, rates, n_workers=n_workers) == expected


def test_one_rung_needs_no_verification() -> None:
    sizes = Sizes(search={"a": 100}, test={"a": 40})
    work = workload(sizes, Ladder(minimum=100, maximum=100), Ends(references=4, verify=8, recommend=3), 20)
    assert work["verification"].n_items == 0
    assert {phase: part.items["a"] for phase, part in work.items()} == {
        "reference models": 400,
        "search": 2000,
        "verification": 0,
        "test": 280,
    }


def test_the_reckoning_agrees_with_a_search_that_ran(tmp_path: Path) -> None:
    """40 candidates with 7 references: shares of a promoted candidate are whole numbers there, so not quite equal."""
    asked: Counter[str] = Counter()
    with RunLog(tmp_path / "run.db") as log:
        search, _ = make_search(log, trials=40)
        n_references = sum(step.phase == "reference" for step in search.run())
        recommended = len(log.settings()["recommended"])
        for row in log.evaluations():
            asked[row.phase] += sum(part.stop - part.start for part in row.slices)
    sizes = Sizes(search=dict.fromkeys(TASKS, N_ITEMS), test=dict.fromkeys(TASKS, N_ITEMS))
    ends = Ends(references=n_references, verify=3, recommend=recommended)
    work = workload(sizes, Ladder(minimum=12, maximum=N_ITEMS), ends, 40)
    assert asked["reference"] == work["reference models"].n_items
    assert asked["search"] == pytest.approx(work["search"].n_items, rel=0.25)
    assert 0 < asked["verify"] <= work["verification"].n_items
    assert 0.6 * work["test"].n_items < asked["test"] <= work["test"].n_items
