"""Multiple choice: an item counts if the right choice is the likeliest continuation of the prompt."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any, Literal, NamedTuple

from automerge.items import Row, Templates, by_split, fingerprint, overlap
from automerge.options import choice_faults, refuse, text_faults
from automerge.protocols import LanguageModel, Likelihood, Request
from automerge.records import Split

NORMALIZERS = ("none", "tokens", "characters")
"""What log-probabilities may be divided by."""


class Question(NamedTuple):
    """A prompt, its choices and the position of the right one."""

    prompt: str
    choices: tuple[str, ...]
    label: int


class MultipleChoice:
    """Questions with listed choices.

    `prompt` is a template over the columns, `choices` the column with the list of texts (in CSV files as JSON), `label`
    the column that tells the right one: the choice itself, its position from 0, or its letter from A. Where `choices`
    are `{"text": [...], "label": [...]}`, or a list of `{"text": ..., "label": ...}`, as in many datasets of the hub,
    `label` tells one of these labels. `prefix` is put before every choice. Choices are compared by log-probability,
    divided by their number of tokens or characters if `normalize` says so.
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
        refuse(
            [
                *choice_faults(NORMALIZERS, normalize=normalize),
                *text_faults(prefix=prefix, choices=choices, label=label),
            ]
        )
        self.name = name
        self._normalize = normalize
        templates = Templates(prompt=prompt)
        self._readings: Counter[str] = Counter()

        def question(row: Row) -> Question:
            for column in (choices, label):
                if column not in row:
                    raise ValueError(f"no column {column!r}; the row has columns {sorted(row)}")
            listed, labels = _listed(row[choices])
            written = tuple(prefix + str(choice) for choice in listed)
            if labels is None and isinstance(row[label], str) and row[label].isdigit():
                self._readings["choices" if row[label] in listed else "positions"] += 1
            return Question(templates.render("prompt", row), written, _position(row[label], listed, labels))

        self._items: dict[Split, list[Question]] = by_split(search, test, question)
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
        """1.0 where the right choice has the highest log-probability, else 0.0; a tie of n gives 1/n to each."""
        questions = [self._items[split][item] for item in items]
        answers = iter(model.likelihoods([(q.prompt, choice) for q in questions for choice in q.choices]))
        scores = []
        for q in questions:
            values = [self._value(next(answers), choice) for choice in q.choices]
            best = max(values)
            scores.append(float(values[q.label] == best) / values.count(best))
        return scores

    def check(self) -> list[str]:
        """Questions with fewer than two choices, labels of two readings, and test items among the search items."""
        lone = sum(len(q.choices) < 2 for questions in self._items.values() for q in questions)
        faults = [f"{lone} questions have fewer than two choices"] if lone else []
        if len(self._readings) > 1:
            told = " and ".join(f"{kind} in {n} rows" for kind, n in sorted(self._readings.items()))
            faults.append(f"numbers in the column of labels would be read as {told}; write letters, A for the first")
        search, test = ([(q.prompt, *q.choices) for q in self._items[split]] for split in ("search", "test"))
        return faults + overlap(search, test)

    def _value(self, answer: Likelihood, choice: str) -> float:
        length = {"none": 1, "tokens": answer.n_tokens, "characters": max(1, len(choice))}[self._normalize]
        return answer.log_probability / length


def _listed(cell: Any) -> tuple[Sequence[Any], Sequence[Any] | None]:
    """The choices of a row and the labels that it gives them, if any; a cell of a CSV file holds them as JSON."""
    found = cell
    if isinstance(cell, str):
        try:
            found = json.loads(cell)
        except json.JSONDecodeError:
            found = None
    texts, labels = found, None
    if isinstance(found, Mapping) and {*found} == {"text", "label"}:
        texts, labels = found["text"], found["label"]
    elif isinstance(found, list) and found and all(_is_labelled(each) for each in found):
        texts, labels = ([each[key] for each in found] for key in ("text", "label"))
    listed = isinstance(texts, list) and all(isinstance(text, str | int | float) for text in texts)
    if not listed or not (labels is None or (isinstance(labels, list) and len(labels) == len(texts))):
        raise ValueError(
            'expected a list of choices such as ["yes", "no"], or {"text": [...], "label": [...]} with a label for '
            f"every text (in a CSV cell as JSON), got {cell!r}"
        )
    return texts, labels


def _is_labelled(choice: Any) -> bool:
    return isinstance(choice, Mapping) and {*choice} == {"text", "label"}


def _position(label: Any, choices: Sequence[Any], labels: Sequence[Any] | None) -> int:
    """The position of the right choice. Raises ValueError if the label names none, or could mean two.

    A text that is a choice is that choice also where it is a number, which else could be a position.
    """
    if labels is not None:
        known = [str(each) for each in labels]
        if str(label) not in known:
            raise ValueError(f"label {label!r} is none of the labels {', '.join(known)} of its choices")
        return known.index(str(label))
    chosen = next((k for k, choice in enumerate(choices) if type(choice) is type(label) and choice == label), None)
    counted = _counted(label, len(choices))
    is_number = isinstance(label, str) and label.isdigit()
    if chosen is not None and not is_number and counted not in (None, chosen):
        raise ValueError(
            f"label {label!r} is a choice of {list(choices)}, and the place of another, counted from 0 or from A; tell "
            "the right one by what can be one only, such as its letter for numbers and its position for letters"
        )
    found = counted if chosen is None else chosen
    if found is None:
        raise ValueError(f"label {label!r} is no choice, position from 0 or letter from A in {list(choices)}")
    return found


def _counted(label: Any, n_choices: int) -> int | None:
    """The position that a number from 0 or a letter from A tells, None if it tells none of so many."""
    text = str(label)
    position = ascii_uppercase.find(text) if len(text) == 1 else -1
    if re.fullmatch("[0-9]+", text):
        position = int(text)
    return position if 0 <= position < n_choices else None
