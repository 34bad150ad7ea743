from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from automerge.protocols import Likelihood
from automerge.tasks.multiple_choice import MultipleChoice
from tests.toy import ToyModel, write_jsonl


class Fixed(ToyModel):
    """One token per character, each of log-probability -1, and -1.5 for the letter z."""

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        return [Likelihood(-sum(1.5 if c == "z" else 1.0 for c in text), len(text), False) for _, text in pairs]


def task(folder: Path, row: dict[str, Any], **options: Any) -> MultipleChoice:
    data = [{"path": str(write_jsonl(folder / f"{k}.jsonl", [{"p": k, **row}]))} for k in "ab"]
    return MultipleChoice(name="m", search=data[0], test=data[1], prompt="{{ p }}", **options)


def test_length_normalization_decides_between_short_and_likely(tmp_path: Path) -> None:
    row = {"choices": ["z", "aa"], "label": 1}
    assert task(tmp_path, row).score(Fixed(), "search", [0]) == [0.0]
    assert task(tmp_path, row, normalize="tokens").score(Fixed(), "search", [0]) == [1.0]
    assert task(tmp_path, row, normalize="characters").score(Fixed(), "search", [0]) == [1.0]


def test_labels_may_be_positions_or_texts_and_prefixes_are_added(tmp_path: Path) -> None:
    for label in (0, "0", "aa"):
        assert task(tmp_path, {"choices": ["aa", "zzz"], "label": label}).score(Fixed(), "test", [0]) == [1.0]
    assert task(tmp_path, {"choices": ["aa", "b"], "label": 0}, prefix=" ").chance == 0.5


def test_cells_of_csv_files_hold_choices_as_json(tmp_path: Path) -> None:
    row = {"choices": '["zzz", "aa"]', "label": 1}
    assert task(tmp_path, row).score(Fixed(), "search", [0]) == [1.0]
    for cell in ("zzz, aa", '{"a": "zzz"}'):
        with pytest.raises(ValueError, match="expected a list of choices, or its JSON in a CSV cell"):
            task(tmp_path, {"choices": cell, "label": 1})


def test_faulty_labels_and_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label 5 is neither a choice nor a position"):
        task(tmp_path, {"choices": ["a", "b"], "label": 5})
    with pytest.raises(ValueError, match=r"no column 'options'; the rows have \['choices', 'label', 'p'\]"):
        task(tmp_path, {"choices": ["a", "b"], "label": 0}, choices="options")
    assert task(tmp_path, {"choices": ["a"], "label": 0}).check()[0].startswith("2 questions have fewer than two")
