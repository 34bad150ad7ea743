"""Exact continuation: an item counts if greedy decoding after the prompt yields the answer and then stops.

Scored by one forward pass: greedy decoding yields the reference's tokens if and only if every position's argmax, given
the reference before it, is the reference's token. Tokens are compared, not text: where a tokenizer has several ways to
write a text (a full stop and a line end as one token or as two), the one that it gives the reference counts. If that is
too strict, use `generation`, which compares text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from automerge.items import Templates, by_split, fingerprint, overlap
from automerge.options import refuse, text_faults
from automerge.protocols import LanguageModel, Request
from automerge.records import Split


class ExactContinuation:
    """Prompts with one right continuation each.

    `search` and `test` name the data (arguments of `items.load_rows`); `prompt` and `answer` are templates over its
    columns; `stop` is the text that must follow the answer, empty if anything may.
    """

    chance = 0.0

    def __init__(
        self,
        *,
        name: str,
        search: Mapping[str, Any],
        test: Mapping[str, Any],
        prompt: str,
        answer: str,
        stop: str = "\n",
    ) -> None:
        refuse(text_faults(stop=stop))
        self.name = name
        templates = Templates(prompt=prompt, answer=answer)
        self._items: dict[Split, list[tuple[str, str]]] = by_split(
            search, test, lambda row: (templates.render("prompt", row), templates.render("answer", row) + stop)
        )

    @property
    def fingerprint(self) -> str:
        """A hash of all rendered items."""
        return fingerprint(self._items)

    def size(self, split: Split) -> int:
        """Number of items of that split."""
        return len(self._items[split])

    def requests(self, split: Split) -> list[Request]:
        """Every prompt with its answer and stop."""
        return [Request(prompt, (answer,)) for prompt, answer in self._items[split]]

    def pairs(self, split: Split, items: Sequence[int]) -> list[tuple[str, str]]:
        """(prompt, answer with stop) of these items."""
        return [self._items[split][item] for item in items]

    def score(self, model: LanguageModel, split: Split, items: Sequence[int]) -> list[float]:
        """1.0 where greedy decoding yields the answer, else 0.0."""
        return [float(answer.greedy) for answer in model.likelihoods(self.pairs(split, items))]

    def check(self) -> list[str]:
        """Empty answers, and test items that stand among the search items."""
        empty = sum(not answer for pairs in self._items.values() for _, answer in pairs)
        faults = [f"{empty} items have an empty answer; check the template `answer`"] if empty else []
        return faults + overlap(self._items["search"], self._items["test"])
