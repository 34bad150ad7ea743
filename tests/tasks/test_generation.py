from pathlib import Path
from typing import Any, Literal

import pytest

from automerge.tasks.generation import Generation
from tests.toy import ToyModel, write_jsonl


class Writer(ToyModel):
    """Writes the same text after every prompt."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _rule(self, prompt: str) -> str:
        return self.text


def task(
    folder: Path, answer: str, metric: Literal["exact", "numeric"] = "exact", extract: str = ".*;(.*)"
) -> Generation:
    data = [{"path": str(write_jsonl(folder / f"{k}.jsonl", [{"p": f"{k}?", "a": answer}]))} for k in "ab"]
    return Generation(
        name="g",
        search=data[0],
        test=data[1],
        prompt="{{ p }}",
        answer="{{ a }}",
        max_new_tokens=50,
        metric=metric,
        extract=extract,
    )


@pytest.mark.parametrize(
    ("text", "score"),
    [("8,6,0;0\n", 1.0), ("9,9;1;0\n", 1.0), ("8,6,0;1\n", 0.0), ("8,6,0\n", 0.0), ("0;\n0", 0.0), ("", 0.0)],
)
def test_only_the_final_answer_counts(tmp_path: Path, text: str, score: float) -> None:
    assert task(tmp_path, "0").score(Writer(text), "search", [0]) == [score]


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("so #### 1,000\n", 1.0),
        ("#### 1000.0 apples\n", 1.0),
        ("#### 100\n", 0.0),
        ("#### none\n", 0.0),
        ("1000\n", 0.0),
    ],
)
def test_numbers_are_compared_by_value(tmp_path: Path, text: str, score: float) -> None:
    assert task(tmp_path, "1000", "numeric", r"####\s*(.+)").score(Writer(text), "search", [0]) == [score]


@pytest.mark.parametrize(
    ("text", "answer", "score"),
    [
        ("#### 1/2", "0.5", 1.0),
        ("#### .5", "1/2", 1.0),
        ("#### 3/4", "3/5", 0.0),
        ("#### \N{MINUS SIGN}7", "-7", 1.0),
        ("#### 1.5e3", "1,500", 1.0),
        ("#### 1/0", "1", 0.0),
        ("#### two", "2", 0.0),
    ],
)
def test_numbers_may_be_fractions_and_have_exponents(tmp_path: Path, text: str, answer: str, score: float) -> None:
    assert task(tmp_path, answer, "numeric", r"####\s*(.+)").score(Writer(text), "search", [0]) == [score]


def test_answers_that_are_no_single_number_are_told_where_numbers_are_compared(tmp_path: Path) -> None:
    assert task(tmp_path, "$1,000 in all", "numeric").check() == []
    assert task(tmp_path, "two", "exact").check() == []
    for answer in ("two", "2 + 3 = 5 #### 5"):
        (fault,) = task(tmp_path, answer, "numeric").check()
        assert "2 items have answers that hold no number or several, such as" in fault


def test_the_group_of_a_pattern_that_took_part_is_the_answer(tmp_path: Path) -> None:
    either = task(tmp_path, "7", extract=r"answer is (\d+)|#### (\d+)")
    assert [either.score(Writer(text), "search", [0]) for text in ("so the answer is 7.", "#### 7")] == [[1.0], [1.0]]


def test_without_a_pattern_the_whole_text_counts(tmp_path: Path) -> None:
    assert task(tmp_path, "abc", extract=r"(?s)(.*)").score(Writer("abc\n"), "search", [0]) == [1.0]


def test_a_stop_string_alone_is_not_taken_for_its_letters(tmp_path: Path) -> None:
    data = {"path": str(write_jsonl(tmp_path / "x.jsonl", [{"p": "a", "a": "abc"}]))}
    one = Generation(name="g", search=data, test=data, prompt="{{ p }}", answer="{{ a }}", max_new_tokens=9, stop="xyz")
    assert one.score(Writer("abcxyz"), "search", [0]) == [1.0]


def test_a_faulty_pattern_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`extract` is no regular expression"):
        task(tmp_path, "0", extract="((")


def test_a_pattern_without_group_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a group around the answer"):
        task(tmp_path, "0", extract=".*")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("metric", "numerc", "metric: expected one of exact, numeric, got 'numerc'"),
        ("max_new_tokens", "300", "max_new_tokens: expected a whole number from 1, got '300'"),
        ("max_new_tokens", 0, "max_new_tokens: expected a whole number from 1, got 0"),
        ("stop", None, "stop: expected a list of texts that are not empty, or .* got None"),
        ("stop", ["\n", ""], "stop: expected a list of texts that are not empty"),
        ("extract", 3, "extract: expected a text, got 3"),
        ("extract", "(", "`extract` is no regular expression"),
        ("extract", "x", "`extract` needs a group around the answer"),
    ],
)
def test_unknown_options_are_refused_before_any_model_answers(
    tmp_path: Path, option: str, value: object, message: str
) -> None:
    data = {"path": str(write_jsonl(tmp_path / "rows.jsonl", [{"p": "x", "a": "y"}]))}
    options: dict[str, Any] = {"max_new_tokens": 50, option: value}
    with pytest.raises(ValueError, match=message):
        Generation(name="g", search=data, test=data, prompt="{{ p }}", answer="{{ a }}", **options)
