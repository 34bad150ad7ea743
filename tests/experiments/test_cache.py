from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from automerge.evaluate import Evaluator
from automerge.merge import ResidentSources
from automerge.model import ResidentModel, load_causal_lm
from automerge.protocols import LanguageModel, Task
from automerge.recipe import Recipe, uniform
from automerge.records import Evaluation, Orders, Query, Scores, Slice, Split
from automerge.sources.checkpoint import CheckpointSource
from automerge.tasks.exact_continuation import ExactContinuation
from automerge.tasks.multiple_choice import MultipleChoice
from experiments.optimizers.cache import CachedEvaluator, Fault, ScoreStore
from tests import toy
from tests.toy import N_LAYERS, fused

LEFT = uniform(fused("passthrough", ("left", 1.0)), N_LAYERS)
MERGED = uniform(fused("linear", ("left", 0.5), ("right", 0.5)), N_LAYERS)
EXPLODED = uniform(fused("task_arithmetic", ("left", 3e38), ("right", 3e38)), N_LAYERS)


class Watched(MultipleChoice):
    """A task that remembers the items it was asked to score."""

    asked: list[tuple[Split, int]]

    def score(self, model: LanguageModel, split: Split, items: Sequence[int]) -> list[float]:
        self.asked += [(split, item) for item in items]
        return super().score(model, split, items)


@pytest.fixture
def tasks(tmp_path: Path) -> dict[str, Task]:
    search, test = (
        {"path": str(toy.write_jsonl(tmp_path / f"{seed}.jsonl", toy.copy_rows(90, seed)))} for seed in (0, 1)
    )
    watched = Watched(name="copy", search=search, test=test, prompt="{{ prompt }}")
    watched.asked = []
    write = ExactContinuation(name="write", search=search, test=test, prompt="{{ prompt }}", answer="{{ answer }}")
    return {"copy": watched, "write": write}


def asked(tasks: dict[str, Task]) -> list[tuple[Split, int]]:
    """What the watched task was asked for since the last call."""
    watched = tasks["copy"]
    assert isinstance(watched, Watched)
    found, watched.asked = watched.asked, []
    return found


def orders(tasks: dict[str, Task], seed: int) -> Orders:
    rng = np.random.default_rng(seed)
    splits: tuple[Split, ...] = ("search", "test")
    return {(name, split): rng.permutation(90) for name in tasks for split in splits}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ScoreStore]:
    with ScoreStore(tmp_path / "scores.db") as opened:
        yield opened


def query(recipe: Recipe, start: int, stop: int, split: Split = "search") -> Query:
    return Query(recipe, tuple(Slice(task, split, start, stop) for task in ("copy", "write")))


def content(evaluation: Evaluation) -> object:
    """All of an evaluation that does not tell how long it took."""
    costs = {key: value for key, value in evaluation.costs.items() if key != "tokens"}
    return evaluation.status, evaluation.scores, evaluation.reason, costs, set(evaluation.seconds)


def test_answers_are_those_of_an_evaluation_without_the_store_whatever_is_known(
    resident: ResidentModel, tasks: dict[str, Task], store: ScoreStore
) -> None:
    for seed in (0, 1, 2):
        order = orders(tasks, seed)
        plain, cached = Evaluator(resident, tasks, order), CachedEvaluator(resident, tasks, order, store)
        for recipe in (LEFT, MERGED, EXPLODED):
            for question in (query(recipe, 0, 20), query(recipe, 20, 70), query(recipe, 0, 90, "test")):
                assert content(cached(question)) == content(plain(question))


def test_only_items_without_a_score_are_evaluated(
    resident: ResidentModel, tasks: dict[str, Task], store: ScoreStore
) -> None:
    first, second = orders(tasks, 0), orders(tasks, 1)
    CachedEvaluator(resident, tasks, first, store)(query(LEFT, 0, 40))
    assert asked(tasks) == [("search", row) for row in first["copy", "search"][:40]]
    CachedEvaluator(resident, tasks, second, store)(query(LEFT, 10, 60))
    known = set(first["copy", "search"][:40])
    assert asked(tasks) == [("search", row) for row in second["copy", "search"][10:60] if row not in known]
    CachedEvaluator(resident, tasks, first, store)(query(MERGED, 0, 5))
    assert len(asked(tasks)) == 5


def test_what_is_known_takes_no_tokens_and_no_forward_pass_but_tells_its_costs(
    resident: ResidentModel, tasks: dict[str, Task], store: ScoreStore
) -> None:
    evaluate = CachedEvaluator(resident, tasks, orders(tasks, 0), store)
    first, again = evaluate(query(LEFT, 0, 40)), evaluate(query(LEFT, 0, 40))
    assert first.costs["tokens"] > 0
    assert first.seconds["forward"] > 0
    assert again.costs == {**first.costs, "tokens": 0.0}
    assert again.seconds["merge"] == again.seconds["forward"] == 0
    assert 0 < again.seconds["score"] < sum(first.seconds.values())


def test_a_broken_model_is_evaluated_once(resident: ResidentModel, tasks: dict[str, Task], store: ScoreStore) -> None:
    first = CachedEvaluator(resident, tasks, orders(tasks, 0), store)(query(EXPLODED, 0, 20))
    assert asked(tasks)
    again = CachedEvaluator(resident, tasks, orders(tasks, 1), store)(query(EXPLODED, 0, 20))
    assert asked(tasks) == []
    assert first.status == again.status == "invalid"
    assert first.reason == again.reason != ""


def test_what_failed_is_tried_again_and_hides_no_scores_that_are_stored(
    resident: ResidentModel, tasks: dict[str, Task], store: ScoreStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = CachedEvaluator(resident, tasks, orders(tasks, 0), store)
    before = evaluate(query(LEFT, 0, 20))

    def exhausted(*_: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    monkeypatch.setattr(resident.lm, "likelihoods", exhausted)
    failed = evaluate(query(LEFT, 20, 40))
    monkeypatch.undo()
    assert (failed.status, failed.scores) == ("failed", ())
    assert evaluate(query(LEFT, 20, 40)).status == "ok"
    assert content(evaluate(query(LEFT, 0, 20))) == content(before)


def test_equal_recipes_of_other_weights_share_nothing(
    resident: ResidentModel, qwen2: dict[str, Path], tasks: dict[str, Task], store: ScoreStore
) -> None:
    others = ResidentModel(
        load_causal_lm(qwen2["base"]), ResidentSources([CheckpointSource(name, str(qwen2[name])) for name in qwen2])
    )
    order = orders(tasks, 0)
    for model in (resident, others):
        CachedEvaluator(model, tasks, order, store)(query(LEFT, 0, 10))
    assert len(asked(tasks)) == 20


def test_unknown_tasks_and_items_are_mistakes_of_the_caller(
    resident: ResidentModel, tasks: dict[str, Task], store: ScoreStore
) -> None:
    evaluate = CachedEvaluator(resident, tasks, orders(tasks, 0), store)
    with pytest.raises(ValueError, match="unknown task or split 'other'/'search'; there are"):
        evaluate(Query(LEFT, (Slice("other", "search", 0, 1),)))
    with pytest.raises(ValueError, match="has 90 search items, the query asks for item 91"):
        evaluate(Query(LEFT, (Slice("copy", "search", 0, 91),)))


def test_writers_wait_for_each_other_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "scores.db"
    faults: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            with ScoreStore(path) as own:
                for item in range(100):
                    scores = Scores(Slice("t", "search", 0, 1), (100 * writer + item,), (1 / 3,))
                    own.write_scores("m", [("t", scores)])
                own.write_fault("broken", Fault("invalid", f"writer {writer}"))
        except BaseException as fault:
            faults.append(fault)
            raise

    with ScoreStore(path) as store:
        threads = [Thread(target=write, args=(writer,)) for writer in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not faults
        assert store.scores("m", "t", "search") == dict.fromkeys(range(300), 1 / 3)
        fault = store.fault("broken")
        assert fault is not None
        assert fault.status == "invalid"
        assert store.fault("m") is None
