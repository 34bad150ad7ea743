from collections.abc import Mapping

import numpy as np
import pytest

from automerge.history import History, advanced
from automerge.log import EvaluationRow
from automerge.recipe import uniform
from automerge.records import REFERENCE, Evaluation, Objective, Phase, Query, Scores, Slice, Trial
from experiments.optimizers.checkpoints import GRID, TestItems, known_by, recommended_by, trajectory
from tests.toy import N_LAYERS, fused

OBJECTIVES = (Objective("a"), Objective("b"))
RECIPE = uniform(fused("passthrough", ("left", 1.0)), N_LAYERS)
FULL = 10
SOURCE, STRANGER, SHORT, WHOLE, LOST, LATE = range(6)
"""Ids: a source, a reference that may not be recommended, and trials."""


def answer(scores: tuple[float, float], start: int, stop: int) -> Evaluation:
    return Evaluation(
        status="ok",
        scores=tuple(
            Scores(Slice(task, "search", start, stop), tuple(range(start, stop)), (score,) * (stop - start))
            for task, score in zip("ab", scores, strict=True)
        ),
        costs={"layers": 3.0},
    )


@pytest.fixture
def history() -> History:
    """Two references, then 20 items of SHORT, 20 of WHOLE, 6 of LOST, 14 more of SHORT; LATE is verified only."""
    script: list[tuple[int, Phase, int, int, Evaluation]] = [
        (SOURCE, "reference", 0, 10, answer((0.5, 0.5), 0, 10)),
        (STRANGER, "reference", 0, 10, answer((1.0, 1.0), 0, 10)),
        (SHORT, "search", 0, 3, answer((0.9, 0.3), 0, 3)),
        (WHOLE, "search", 0, 10, answer((0.6, 0.6), 0, 10)),
        (LOST, "search", 0, 3, Evaluation(status="invalid", reason="NaN")),
        (LATE, "search", 0, 3, answer((0.2, 0.2), 0, 3)),
        (SHORT, "search", 3, 10, answer((0.8, 0.4), 3, 10)),
        (LATE, "verify", 3, 10, answer((1.0, 1.0), 3, 10)),
    ]
    origins: Mapping[int, Mapping[str, object]] = {
        SOURCE: {"operator": REFERENCE, "name": "left", "kind": "source"},
        STRANGER: {"operator": REFERENCE, "name": "deep", "kind": "uniform", "eligible": False},
    }
    trials: dict[int, Trial] = {}
    rows = []
    for number, (trial, phase, start, stop, evaluation) in enumerate(script):
        origin = origins.get(trial, {"operator": "sample"})
        before = trials.get(trial, Trial(trial, np.array([float(trial)]), RECIPE, origin, "ok"))
        trials[trial] = advanced(before, evaluation)
        slices = tuple(Slice(task, "search", start, stop) for task in "ab")
        rows.append(EvaluationRow(number, trial, phase, slices, evaluation, 1.0))
    return History(trials, {}, rows, OBJECTIVES, np.array([0.1, 0.1]), (WHOLE, SHORT))


def ids(trials: list[Trial]) -> list[int]:
    return [trial.id for trial in trials]


def test_references_are_known_from_the_beginning(history: History) -> None:
    assert ids(known_by(history, 0)) == [SOURCE, STRANGER]
    assert ids(recommended_by(history, 0, n_items=FULL, limit=8)) == [SOURCE]


def test_a_trial_is_known_as_far_as_it_had_been_evaluated(history: History) -> None:
    known = {trial.id: trial for trial in known_by(history, 38)}
    assert known[SHORT].n_items == 3
    assert known[SHORT].values(OBJECTIVES) == pytest.approx([0.9, 0.3])
    assert known[LOST].status == "invalid"
    assert LATE in known
    assert LATE not in {trial.id for trial in known_by(history, 37)}


def test_only_full_evaluations_are_recommended_and_one_under_way_does_not_count(history: History) -> None:
    # SHORT's promotion ends at 6 + 20 + 6 + 6 + 14 = 52 items.
    assert ids(recommended_by(history, 51, n_items=FULL, limit=8)) == [WHOLE]
    assert ids(recommended_by(history, 52, n_items=FULL, limit=8)) == [SHORT, WHOLE]
    assert ids(recommended_by(history, 25, n_items=FULL, limit=8)) == [SOURCE]


def test_verification_at_the_end_is_not_known_before(history: History) -> None:
    late = next(trial for trial in known_by(history, np.inf) if trial.id == LATE)
    assert late.n_items == 3


def test_the_limit_is_kept(history: History) -> None:
    assert ids(recommended_by(history, np.inf, n_items=FULL, limit=1)) == [WHOLE]


def test_the_trajectory_counts_search_items_and_what_ends_beyond_the_budget_at_its_end(history: History) -> None:
    curve = np.array(trajectory(history, budget=50))
    assert len(curve) == len(GRID)
    # The source alone: (0.5 - 0.1)^2; with WHOLE from 26 items: (0.6 - 0.1)^2; with SHORT, (0.83, 0.37), at the end.
    assert curve[GRID < 26 / 50] == pytest.approx(0.16)
    assert curve[(GRID >= 26 / 50) & (GRID < 1)] == pytest.approx(0.25)
    assert curve[-1] == pytest.approx(0.25 + (0.83 - 0.6) * (0.37 - 0.1))


def test_volumes_on_test_items_leave_out_models_without_scores(history: History) -> None:
    def evaluate(query: Query) -> Evaluation:
        assert query.slices == slices
        return next(answers)

    slices = tuple(Slice(task, "test", 0, 4) for task in "ab")
    answers = iter([answer((0.6, 0.3), 0, 4), Evaluation(status="failed", reason="out of memory")])
    tests = TestItems(history, evaluate, slices)
    assert tests.volume([history.trials[WHOLE], history.trials[SHORT]]) == pytest.approx(0.5 * 0.2)
    assert TestItems(history, evaluate, slices).volume([]) == 0
