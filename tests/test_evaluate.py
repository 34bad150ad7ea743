from pathlib import Path

import numpy as np
import pytest
import torch

from automerge.evaluate import Evaluator
from automerge.model import ResidentModel
from automerge.protocols import Task
from automerge.recipe import uniform
from automerge.records import Orders, Query, Slice
from automerge.tasks.exact_continuation import ExactContinuation
from automerge.tasks.multiple_choice import MultipleChoice
from tests import toy
from tests.toy import N_LAYERS, fused

LEFT = uniform(fused("passthrough", ("left", 1.0)), N_LAYERS)


@pytest.fixture
def tasks(tmp_path: Path) -> dict[str, Task]:
    search, test = (
        {"path": str(toy.write_jsonl(tmp_path / f"{seed}.jsonl", toy.copy_rows(90, seed)))} for seed in (0, 1)
    )
    return {
        "copy": MultipleChoice(name="copy", search=search, test=test, prompt="{{ prompt }}"),
        "write": ExactContinuation(
            name="write", search=search, test=test, prompt="{{ prompt }}", answer="{{ answer }}"
        ),
    }


@pytest.fixture
def evaluator(resident: ResidentModel, tasks: dict[str, Task]) -> Evaluator:
    orders: Orders = {(name, "test"): np.arange(90) for name in tasks}
    orders.update({(name, "search"): np.arange(90)[::-1].copy() for name in tasks})
    return Evaluator(resident, tasks, orders)


def test_slices_of_a_promotion_add_up_to_the_whole(evaluator: Evaluator) -> None:
    whole = evaluator(Query(LEFT, (Slice("copy", "search", 0, 90),))).scores[0]
    parts = [evaluator(Query(LEFT, (Slice("copy", "search", *ends),))).scores[0] for ends in ((0, 30), (30, 90))]
    assert parts[0].values + parts[1].values == whole.values
    assert parts[0].items + parts[1].items == whole.items == tuple(range(89, -1, -1))
    assert 0 < sum(whole.values) < 90


def test_scores_follow_the_recipe_and_costs_and_times_are_told(evaluator: Evaluator) -> None:
    recipes = [LEFT, uniform(fused("passthrough", ("right", 1.0)), N_LAYERS)]
    answers = [evaluator(Query(recipe, (Slice("copy", "test", 0, 90),))) for recipe in recipes]
    assert answers[0].scores[0].values != answers[1].scores[0].values
    assert all(
        answer.status == "ok" and answer.costs["layers"] == 3 and answer.costs["tokens"] > 90 for answer in answers
    )
    assert all(set(answer.seconds) == {"merge", "forward", "score"} for answer in answers)
    assert all(value >= 0 for value in answers[0].seconds.values())


def test_broken_weights_are_invalid_with_a_reason_and_no_scores(evaluator: Evaluator) -> None:
    exploded = uniform(fused("task_arithmetic", ("left", 3e38), ("right", 3e38)), N_LAYERS)
    answer = evaluator(Query(exploded, (Slice("copy", "search", 0, 10),)))
    assert answer.status == "invalid"
    assert "NaN or infinity" in answer.reason
    assert answer.scores == ()


def test_a_collapsed_model_is_invalid(evaluator: Evaluator, resident: ResidentModel) -> None:
    # All logits are equal whatever is read: the first token wins everywhere.
    resident.write(LEFT)
    resident.lm.model.get_output_embeddings().weight.data.zero_()
    answer = evaluator(Query(LEFT, (Slice("write", "search", 0, 90),)))
    assert answer.status == "invalid"
    assert "collapsed" in answer.reason


def test_running_out_of_memory_is_a_failure_with_a_remedy(
    evaluator: Evaluator, resident: ResidentModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr(resident.lm, "likelihoods", exhausted)
    answer = evaluator(Query(LEFT, (Slice("copy", "search", 0, 10),)))
    assert answer.status == "failed"
    assert "lower model.batch_tokens" in answer.reason


def test_what_a_kernel_cannot_compute_is_a_failure_with_its_message(
    evaluator: Evaluator, resident: ResidentModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(resident.lm, "likelihoods", broken)
    answer = evaluator(Query(LEFT, (Slice("copy", "search", 0, 10),)))
    assert (answer.status, answer.scores) == ("failed", ())
    assert "RuntimeError: device-side assert triggered" in answer.reason


def test_unknown_tasks_and_items_are_mistakes_of_the_caller(evaluator: Evaluator) -> None:
    with pytest.raises(ValueError, match="unknown task or split 'other'/'search'; there are"):
        evaluator(Query(LEFT, (Slice("other", "search", 0, 1),)))
    with pytest.raises(ValueError, match="has 90 search items, the query asks for item 91"):
        evaluator(Query(LEFT, (Slice("copy", "search", 0, 91),)))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0], "task 'copy': expected a score for each of 2 items, got 1"),
        ([1.0, float("nan")], "task 'copy': scores lie between 0 and 1, test item 1 got nan"),
        ([5.0, 1.0], "task 'copy': scores lie between 0 and 1, test item 0 got 5.0"),
    ],
)
def test_scores_that_are_none_are_told_and_not_logged(
    evaluator: Evaluator, tasks: dict[str, Task], monkeypatch: pytest.MonkeyPatch, scores: list[float], message: str
) -> None:
    monkeypatch.setattr(tasks["copy"], "score", lambda *_: scores)
    with pytest.raises(ValueError, match=message):
        evaluator(Query(LEFT, (Slice("copy", "test", 0, 2),)))
