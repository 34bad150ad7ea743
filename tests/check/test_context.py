"""Items that do not fit the context, counted against tokenizers that count characters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from automerge.check.context import context_faults, context_length, long_items
from automerge.language_model import CausalLM
from automerge.model import load_causal_lm
from automerge.protocols import LanguageModel, Request
from automerge.records import Split
from tests import toy
from tests.adapters import make_gpt2
from tests.conformance.members import make_tasks


class Asking:
    """A task that only tells what it asks for."""

    name = "asking"
    chance = 0.0
    fingerprint = ""

    def __init__(self, **requests: list[Request]) -> None:
        self._requests = requests

    def size(self, split: Split) -> int:
        return len(self._requests[split])

    def requests(self, split: Split) -> list[Request]:
        return self._requests[split]

    def score(self, model: LanguageModel, split: Split, items: Sequence[int]) -> list[float]:
        raise AssertionError("nothing is scored here")

    def check(self) -> list[str]:
        return []


def config(length: int | None) -> Any:
    return SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=length))


@pytest.mark.parametrize(
    ("positions", "tokenizer", "expected"), [(128, 10**30, 128), (128, 64, 64), (None, 64, 64), (None, 10**30, None)]
)
def test_the_smaller_limit_of_model_and_tokenizer_holds(
    positions: int | None, tokenizer: int, expected: int | None
) -> None:
    assert context_length(config(positions), SimpleNamespace(model_max_length=tokenizer)) == expected


def test_the_last_token_is_predicted_and_needs_no_position() -> None:
    fits, too_long = Request("a" * 20, ("b" * 13,)), Request("a" * 20, ("b", "b" * 14))
    written, overwritten = Request("a" * 20, n_new_tokens=13), Request("a" * 20, n_new_tokens=14)
    task = Asking(search=[fits, too_long, written], test=[overwritten, Request("a" * 40)])
    (fault,) = long_items({"asking": task}, toy.make_tokenizer(), 32)
    assert "task 'asking': 3 of 5 items need more than the context of 32 tokens, up to 39 (test item 1)" in fault
    assert long_items({"asking": task}, toy.make_tokenizer(), 39) == []


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    """A model that cannot read more than its 64 learned positions."""
    folder = make_gpt2(tmp_path_factory.mktemp("gpt2"))
    toy.make_tokenizer().save_pretrained(folder)
    return load_causal_lm(folder)


def test_a_model_reads_what_fits_and_breaks_on_what_does_not(gpt2: CausalLM) -> None:
    context = context_length(gpt2.model.config, gpt2.tokenizer)
    assert context == 64
    for n, fits in ((45, True), (46, False)):
        for request in (Request("a" * 20, ("b" * n,)), Request("a" * 20, n_new_tokens=n)):
            assert (long_items({"asking": Asking(search=[request], test=[])}, gpt2.tokenizer, context) == []) == fits

    def ask(n: int) -> None:
        gpt2.likelihoods([("a" * 20, "b" * n)])

    def write(n: int) -> None:
        gpt2.generate(["a" * 20], stop=(), max_new_tokens=n)

    for use in (ask, write):
        use(45)
        with pytest.raises(IndexError, match="out of range"):
            use(46)


def test_the_tasks_that_do_not_fit_are_named_and_no_others(llama: dict[str, Path], tmp_path: Path) -> None:
    tasks = make_tasks(tmp_path)
    tokenizer = toy.make_tokenizer()
    assert context_faults(tasks, llama["base"], tokenizer, trust_remote_code=False) == []
    # Prompts have at most 10 characters, and generation writes 12 more.
    tokenizer.model_max_length = 18
    (fault,) = context_faults(tasks, llama["base"], tokenizer, trust_remote_code=False)
    lengths = [
        len(request.prompt) + 11 for split in ("search", "test") for request in tasks["generation"].requests(split)
    ]
    expected = (
        f"{sum(n > 18 for n in lengths)} of 24 items need more than the context of 18 tokens, up to {max(lengths)}"
    )
    assert fault.startswith(f"task 'generation': {expected} ")
