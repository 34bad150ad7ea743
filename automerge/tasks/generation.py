"""Generation: the model writes freely until a stop string; an extracted final answer is compared with the right one.

The shape of GSM8K: a written-out solution of any length, of which only the answer at the end counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from automerge.items import Templates, by_split, fingerprint, overlap
from automerge.options import choice_faults, refuse, text_faults, whole_faults
from automerge.protocols import LanguageModel, Request
from automerge.records import Split

METRICS = ("exact", "numeric")
"""Ways to compare an answer with the right one."""


UNSIGNED = r"(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"

NUMBER = re.compile(rf"(-?{UNSIGNED})(?:\s*/\s*({UNSIGNED}))?")
"""A number, or two as a fraction."""


class Problem(NamedTuple):
    """A prompt and its right final answer."""

    prompt: str
    answer: str


class Generation:
    """Prompts answered by greedy generation.

    `prompt` and `answer` are templates over the columns; generation ends at the first of the `stop` strings or after
    `max_new_tokens`; `extract` is a regular expression whose last match gives the final answer, by the first of its
    groups that took part; `metric` compares it as text (`exact`) or as a number (`numeric`: 1,000 equals 1000.0, and
    1/2 equals .5).
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
        max_new_tokens: int,
        stop: str | Sequence[str] = ("\n",),
        extract: str = r"(?s)(.*)",
        metric: Literal["exact", "numeric"] = "exact",
    ) -> None:
        stops = (stop,) if isinstance(stop, str) else stop
        faults = [
            *whole_faults(1, max_new_tokens=max_new_tokens),
            *choice_faults(METRICS, metric=metric),
            *text_faults(extract=extract),
        ]
        if not isinstance(stops, Sequence) or not all(isinstance(text, str) and text for text in stops):
            faults.append(f"stop: expected a list of texts that are not empty, or [] for none, got {stop!r}")
        refuse(faults)
        self.name = name
        self._stop = tuple(stops)
        self._max_new_tokens = max_new_tokens
        self._metric = metric
        try:
            self._pattern = re.compile(extract)
        except re.error as fault:
            raise ValueError(f"`extract` is no regular expression ({fault}): {extract!r}") from fault
        if self._pattern.groups < 1:
            raise ValueError(f"`extract` needs a group around the answer, got {extract!r}")
        templates = Templates(prompt=prompt, answer=answer)
        self._items: dict[Split, list[Problem]] = by_split(
            search, test, lambda row: Problem(templates.render("prompt", row), templates.render("answer", row))
        )

    @property
    def fingerprint(self) -> str:
        """A hash of all rendered items."""
        return fingerprint(self._items)

    def size(self, split: Split) -> int:
        """Number of items of that split."""
        return len(self._items[split])

    def requests(self, split: Split) -> list[Request]:
        """Every prompt with the most tokens that may be generated after it."""
        return [Request(problem.prompt, n_new_tokens=self._max_new_tokens) for problem in self._items[split]]

    def score(self, model: LanguageModel, split: Split, items: Sequence[int]) -> list[float]:
        """1.0 where the extracted final answer is right, else 0.0."""
        problems = [self._items[split][item] for item in items]
        texts = model.generate(
            [problem.prompt for problem in problems], stop=self._stop, max_new_tokens=self._max_new_tokens
        )
        return [float(self._is_right(text, problem.answer)) for text, problem in zip(texts, problems, strict=True)]

    def check(self) -> list[str]:
        """Empty answers, those that are no number where numbers are compared, and test items among the search items."""
        answers = [problem.answer for problems in self._items.values() for problem in problems]
        empty = sum(not answer for answer in answers)
        faults = [f"{empty} items have an empty answer; check the template `answer`"] if empty else []
        odd = [answer for answer in answers if answer and len(_numbers(answer)) != 1]
        if self._metric == "numeric" and odd:
            faults.append(
                f"{len(odd)} items have answers that hold no number or several, such as {odd[0][:80]!r}; have the "
                "template `answer` give one, as {{ answer.split('####')[1] }} does, or take metric: exact"
            )
        return faults + overlap(self._items["search"], self._items["test"])

    def _is_right(self, text: str, answer: str) -> bool:
        matched = (next((g for g in match.groups() if g is not None), None) for match in self._pattern.finditer(text))
        found = [group.strip() for group in matched if group is not None]
        if not found:
            return False
        # A pattern that matches anything ends with an empty match at the end of the text.
        final = next((candidate for candidate in reversed(found) if candidate), "")
        if self._metric == "exact":
            return final == answer.strip()
        return _numbers(final)[:1] == _numbers(answer)[:1] != []


def _numbers(text: str) -> list[float]:
    """The numbers in a text, in order: with commas, decimals and exponents, and fractions."""
    found = []
    for match in NUMBER.finditer(text.replace("\N{MINUS SIGN}", "-")):
        value, divisor = (float(part.replace(",", "")) if part else 1.0 for part in match.groups())
        if divisor:
            found.append(value / divisor)
    return found
