"""Multiple choice: an item counts if the right choice is the likeliest continuation of the prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from automerge.items import Row, Templates, by_split, fingerprint, overlap
from automerge.protocols import LanguageModel, Likelihood, Request
from automerge.records import Split


class Question(NamedTuple):
    """A prompt, its choices and the position of the right one."""

    prompt: str
    choices: tuple[str, ...]
    label: int


class MultipleChoice:
    """Questions with listed choices.

    `prompt` is a template over the columns, `choices` the column with the list of texts (in CSV
    files as JSON), `label` the column with the
    position of the right one (a number, or the text of the choice); `prefix` is put before every choice. Choices are
    compared by log-probability, divided by their number of tokens or characters if `normalize` says so.
    """

    def __init__(
        self,
        *,
        name: str,
        search: Mapping[str, Any],
        test: Mapping[str, Any],
        prompt: str,
        choices: str = "choices",
        label: str = "label",
        prefix: str = "",
        normalize: Literal["none", "tokens", "characters"] = "none",
    ) -> None:
        self.name = name
        self._normalize = normalize
        templates = Templates(prompt=prompt)

        def question(row: Row) -> Question:
            for column in (choices, label):
                if column not in row:
                    raise ValueError(f"task {name!r}: no column {column!r}; the rows have {sorted(row)}")
            listed = _listed(row[choices], name)
            texts = tuple(prefix + str(choice) for choice in listed)
            return Question(templates.render("prompt", row), texts, _position(row[label], listed, name))

        self._items: dict[Split, list[Question]] = {
            split: [question(row) for row in rows] for split, rows in by_split(search, test).items()
        }
        self.chance = sum(1 / len(q.choices) for q in self._items["search"]) / len(self._items["search"])

    @property
    def fingerprint(self) -> str:
        """A hash of all rendered items."""
        return fingerprint(self._items)

    def size(self, split: Split) -> int:
        """Number of items of that split."""
        return len(self._items[split])

    def requests(self, split: Split) -> list[Request]:
        """Every prompt with its choices."""
        return [Request(question.prompt, question.choices) for question in self._items[split]]

    def score(self, model: LanguageModel, split: Split, items: Sequence[int]) -> list[float]:
        """1.0 where the right choice has the highest log-probability, else 0.0; a tie goes to the first."""
        questions = [self._items[split][item] for item in items]
        answers = iter(model.likelihoods([(q.prompt, choice) for q in questions for choice in q.choices]))
        scores = []
        for q in questions:
            values = [self._value(next(answers), choice) for choice in q.choices]
            scores.append(float(values.index(max(values)) == q.label))
        return scores

    def check(self) -> list[str]:
        """Questions with fewer than two choices, and test items that stand among the search items."""
        lone = sum(len(q.choices) < 2 for questions in self._items.values() for q in questions)
        faults = [f"{lone} questions have fewer than two choices"] if lone else []
        search, test = ([(q.prompt, *q.choices) for q in self._items[split]] for split in ("search", "test"))
        return faults + overlap(search, test)

    def _value(self, answer: Likelihood, choice: str) -> float:
        length = {"none": 1, "tokens": answer.n_tokens, "characters": max(1, len(choice))}[self._normalize]
        return answer.log_probability / length


def _listed(choices: Any, name: str) -> Sequence[Any]:
    """The choices of a row as a list; a cell of a CSV file holds them as JSON."""
    found = choices
    if isinstance(choices, str):
        try:
            found = json.loads(choices)
        except json.JSONDecodeError:
            found = None
    if not isinstance(found, list):
        raise ValueError(
            f'task {name!r}: expected a list of choices, or its JSON in a CSV cell such as ["yes", "no"], '
            f"got {choices!r}"
        )
    return found


def _position(label: Any, choices: Sequence[Any], name: str) -> int:
    if isinstance(label, str) and label in choices:
        return list(choices).index(label)
    position = int(label) if str(label).lstrip("-").isdigit() else -1
    if not 0 <= position < len(choices):
        raise ValueError(f"task {name!r}: label {label!r} is neither a choice nor a position in {list(choices)}")
    return position
