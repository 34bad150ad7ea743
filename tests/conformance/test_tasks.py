"""What every task must do."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from automerge.protocols import Likelihood, Task
from tests.conformance.members import make_tasks
from tests.toy import ToyModel


@pytest.fixture(params=["exact_continuation", "multiple_choice", "generation"])
def task(request: pytest.FixtureRequest, tmp_path: Path) -> Task:
    return make_tasks(tmp_path)[request.param]


def test_scores_lie_in_the_unit_interval_in_the_order_of_the_items(task: Task) -> None:
    whole = task.score(ToyModel(), "search", range(task.size("search")))
    assert len(whole) == task.size("search") == 12
    assert all(0.0 <= score <= 1.0 for score in whole)
    picked = [7, 0, 3]
    assert task.score(ToyModel(), "search", picked) == [whole[item] for item in picked]


def test_a_model_that_follows_the_rule_is_right_and_one_that_does_not_is_wrong(task: Task) -> None:
    class Contrary(ToyModel):
        def _rule(self, prompt: str) -> str:
            return "9\n"

    assert set(task.score(ToyModel(), "test", range(12))) == {1.0}
    assert set(task.score(Contrary(), "test", range(12))) == {0.0}


def test_requests_are_what_scoring_has_a_model_read(task: Task) -> None:
    read: list[set[tuple[str, str | int]]] = []

    class Recorder(ToyModel):
        def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
            read.append(set(pairs))
            return super().likelihoods(pairs)

        def generate(self, prompts: Sequence[str], *, stop: Sequence[str], max_new_tokens: int) -> list[str]:
            read.append({(prompt, max_new_tokens) for prompt in prompts})
            return super().generate(prompts, stop=stop, max_new_tokens=max_new_tokens)

    requests = task.requests("test")
    assert len(requests) == task.size("test")
    for item in (0, 5):
        read.clear()
        task.score(Recorder(), "test", [item])
        request = requests[item]
        told = {(request.prompt, after) for after in request.continuations or (request.n_new_tokens,)}
        assert set().union(*read) == told


def test_fingerprints_tell_other_data_apart(task: Task, tmp_path: Path) -> None:
    assert make_tasks(tmp_path / "same")[task.name].fingerprint == task.fingerprint
    assert make_tasks(tmp_path / "other", first=3)[task.name].fingerprint != task.fingerprint


def test_sound_data_has_no_faults_and_a_chance_level(task: Task) -> None:
    assert task.check() == []
    assert 0.0 <= task.chance < 1.0
