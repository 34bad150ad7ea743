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


class Favouring(ToyModel):
    """Log-probability 0 for one text, -1 for all others."""

    def __init__(self, text: str) -> None:
        self._text = text

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        return [Likelihood(-float(text != self._text), 1, False) for _, text in pairs]


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
        with pytest.raises(ValueError, match=r"row 1 of `search`: expected a list of choices .*in a CSV cell as JSON"):
            task(tmp_path, {"choices": cell, "label": 1})


def test_faulty_labels_and_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label 5 is no choice, position from 0 or letter from A"):
        task(tmp_path, {"choices": ["a", "b"], "label": 5})
    with pytest.raises(ValueError, match=r"no column 'options'; the row has columns \['choices', 'label', 'p'\]"):
        task(tmp_path, {"choices": ["a", "b"], "label": 0}, choices="options")
    assert task(tmp_path, {"choices": ["a"], "label": 0}).check()[0].startswith("2 questions have fewer than two")


@pytest.mark.parametrize(
    ("choices", "label", "position"),
    [
        (["x", "y", "z"], "B", 1),
        (["A", "x", "B"], "A", 0),
        (["1", "2", "3"], "2", 1),
        (["1", "2", "3"], 2, 2),
        ([10, 20], 20, 1),
        ([0, 1], 1, 1),
        ({"text": ["x", "y"], "label": ["1", "2"]}, "1", 0),
        ({"text": ["x", "y"], "label": ["A", "B"]}, "B", 1),
        ({"text": ["x", "y"], "label": ["1", "2"]}, 2, 1),
    ],
)
def test_a_label_is_a_choice_else_a_position_or_a_letter(
    tmp_path: Path, choices: Any, label: Any, position: int
) -> None:
    texts = choices["text"] if isinstance(choices, dict) else choices
    right = [str(text) for text in texts][position]
    model = Favouring(right)
    assert task(tmp_path, {"choices": choices, "label": label}).score(model, "search", [0]) == [1.0]
    others = [str(text) for text in texts if str(text) != right]
    for other in others:
        assert task(tmp_path, {"choices": choices, "label": label}).score(Favouring(other), "search", [0]) == [0.0]


def test_a_number_that_could_be_a_choice_or_a_position_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"label 2 is a choice of \[1, 2, 3\], and the place of another"):
        task(tmp_path, {"choices": [1, 2, 3], "label": 2})
    with pytest.raises(ValueError, match=r"label 'B' is a choice of \['O', 'A', 'B'\], and the place of another"):
        task(tmp_path, {"choices": ["O", "A", "B"], "label": "B"})
    with pytest.raises(ValueError, match=r"label 'C' is none of the labels A, B"):
        task(tmp_path, {"choices": {"text": ["x", "y"], "label": ["A", "B"]}, "label": "C"})
    for labels in (["A"], [], "AB"):
        with pytest.raises(ValueError, match="with a label for every text"):
            task(tmp_path, {"choices": {"text": ["x", "y"], "label": labels}, "label": "A"})


def test_a_list_of_labelled_choices_is_read_and_other_things_are_no_choices(tmp_path: Path) -> None:
    listed = [{"label": "A", "text": "zzz"}, {"label": "B", "text": "aa"}]
    assert task(tmp_path, {"choices": listed, "label": "B"}).score(Favouring("aa"), "search", [0]) == [1.0]
    for choices in ([{"text": "a"}, {"text": "b"}], [["a"], ["b"]], ["a", None]):
        with pytest.raises(ValueError, match=r"row 1 of `search`: expected a list of choices such as"):
            task(tmp_path, {"choices": choices, "label": 0})


def test_a_column_of_labels_has_one_reading(tmp_path: Path) -> None:
    rows = [{"p": k, "choices": choices, "label": "2"} for k, choices in enumerate((["2", "4", "6"], ["1", "4", "6"]))]
    data = [{"path": str(write_jsonl(tmp_path / f"{k}.jsonl", rows))} for k in "ab"]
    faults = MultipleChoice(name="m", search=data[0], test=data[1], prompt="{{ p }}").check()
    assert "would be read as choices in 2 rows and positions in 2 rows; write letters" in faults[0]


def test_a_tie_is_shared(tmp_path: Path) -> None:
    """Otherwise the first choice would be right more often, in half precision and of broken models above all."""
    for label in (0, 1, 2):
        one = task(tmp_path, {"choices": ["a", "b", "c"], "label": label})
        assert one.score(Favouring("none of them"), "search", [0]) == [pytest.approx(1 / 3)]


def test_unknown_options_are_refused_before_any_model_answers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="normalize: expected one of none, tokens, characters, got 'token'"):
        task(tmp_path, {"choices": ["a", "b"], "label": 0}, normalize="token")
    options: dict[str, Any] = {"choices": ["yes", "no"]}
    with pytest.raises(ValueError, match=r"choices: expected a text, got \['yes', 'no'\]"):
        task(tmp_path, {"choices": ["a", "b"], "label": 0}, **options)
    with pytest.raises(ValueError, match="prefix: expected a text, got 1"):
        task(tmp_path, {"choices": ["a", "b"], "label": 0}, prefix=1)
