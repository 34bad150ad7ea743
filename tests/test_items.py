import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from automerge.items import Row, Templates, by_split, load_rows, overlap
from tests.toy import write_jsonl

ROWS = [{"question": f"{k} + {k}?", "answer": str(2 * k)} for k in range(5)]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    if suffix == ".jsonl":
        write_jsonl(path, ROWS)
    elif suffix == ".json":
        path.write_text(json.dumps(ROWS, indent=1))
    elif suffix == ".parquet":
        pd.DataFrame(ROWS).to_parquet(path)
    else:
        pd.DataFrame(ROWS).to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    rows = load_rows(str(path))
    assert [(row["question"], str(row["answer"])) for row in rows] == [(r["question"], r["answer"]) for r in ROWS]
    assert len(load_rows(str(path), limit=2)) == 2
    for split, expected in (("train[:2]", ROWS[:2]), ("train[3:]", ROWS[3:]), ("train[60%:]", ROWS[3:])):
        assert [row["question"] for row in load_rows(str(path), split=split)] == [row["question"] for row in expected]


def test_missing_files_empty_files_and_unreachable_datasets_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give an existing JSONL, CSV or Parquet file or a hub id"):
        load_rows(str(tmp_path / "none.jsonl"))
    pd.DataFrame({"question": []}).to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match="or holds no rows"):
        load_rows(str(tmp_path / "empty.parquet"))
    with pytest.raises(FileNotFoundError, match="nor to be had from the hub"):
        load_rows("nobody/nothing", split="test")


def test_what_holds_only_for_datasets_of_the_hub_is_refused_for_files(tmp_path: Path) -> None:
    path = str(write_jsonl(tmp_path / "rows.jsonl", ROWS))
    with pytest.raises(ValueError, match=r"one split: write train, or a part of it such as train\[200:\]; got 'test'"):
        load_rows(path, split="test")
    with pytest.raises(ValueError, match=r"one split: write train, .* got 'train\[x\]'"):
        load_rows(path, split="train[x]")
    with pytest.raises(ValueError, match="only datasets of the hub have a `name` or a `revision`"):
        load_rows(path, revision="main")
    with pytest.raises(ValueError, match="limit: expected a whole number from 1, got '5'"):
        load_rows(path, limit="5")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="holds no rows"):
        load_rows(path, split="train[5:]")


def test_values_of_json_come_as_they_stand(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"day": "2024-01-01", "note": "n/a"},
        {"day": "2024-01-02T03:04:05", "extra": [1, "a"]},
    ]
    assert load_rows(str(write_jsonl(tmp_path / "rows.jsonl", rows))) == rows


@pytest.mark.parametrize(("suffix", "between"), [(".csv", ","), (".tsv", "\t")])
def test_cells_of_tables_are_texts_as_they_stand(tmp_path: Path, suffix: str, between: str) -> None:
    path = tmp_path / f"rows{suffix}"
    lines = [["a", "b"], ["007", "NA"], ["3.10", '"two\nlines, and ""quotes"""'], ["", "null"]]
    path.write_text("\ufeff" + "".join(between.join(line) + "\r\n" for line in lines), encoding="utf-8", newline="")
    assert load_rows(str(path)) == [
        {"a": "007", "b": "NA"},
        {"a": "3.10", "b": 'two\nlines, and "quotes"'},
        {"a": "", "b": "null"},
    ]
    path.write_text(f"a{between}b\n1{between}2\n3\n")
    with pytest.raises(ValueError, match=r"as many cells as there are columns \(a, b\), unlike line 3; put cells"):
        load_rows(str(path))
    path.write_text(f'a{between}b\n"1{between}2\n')
    with pytest.raises(ValueError, match="cannot be read as a table after line 1"):
        load_rows(str(path))
    path.write_bytes(b"a\ncaf\xe9\n")
    with pytest.raises(ValueError, match="is not written in UTF-8"):
        load_rows(str(path))


def test_faulty_json_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(ValueError, match=r"an object in every line, or one list of them \(line 3: "):
        load_rows(str(path))
    path.write_text('{"a": 1}\n[{"a": 2}]\n')
    with pytest.raises(ValueError, match=r"got \[\{'a': 2\}\] as number 2"):
        load_rows(str(path))
    path.write_text('{"a": 1}\n7\n')
    with pytest.raises(ValueError, match="got 7 as number 2"):
        load_rows(str(path))
    path.write_bytes('{"a": "caf\u00e9"}'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"rows\.jsonl is not written in UTF-8"):
        load_rows(str(path))
    path.write_text("")
    with pytest.raises(ValueError, match="holds no rows"):
        load_rows(str(path))


def test_items_that_cannot_be_made_name_their_row_and_data_that_is_none_its_keys(tmp_path: Path) -> None:
    path = str(write_jsonl(tmp_path / "rows.jsonl", [{"a": "x"}, {"a": None}, {"b": "x"}]))
    templates = Templates(prompt="{{ a }}")
    data = {"path": path, "split": "train[:1]"}

    def item(row: Row) -> str:
        return templates.render("prompt", row)

    assert by_split(data, data, item) == {"search": ["x"], "test": ["x"]}
    with pytest.raises(ValueError, match=r"row 2 of `test`: the template of 'prompt' fails \(a value is null; write"):
        by_split(data, {"path": path}, item)
    with pytest.raises(ValueError, match=r"row 1 of `test`: .*'a' is undefined.*columns \['b'\]"):
        by_split(data, {"path": path, "split": "train[2:]"}, item)
    with pytest.raises(ValueError, match=r"`test`: .* holds no rows"):
        by_split(data, {"path": path, "split": "train[9:]"}, item)
    for faulty in (path, {"file": path}, {"path": path, "rows": 3}):
        with pytest.raises(ValueError, match="`search` says where the rows are by the keys path, split, name, "):
            by_split(faulty, data, item)  # type: ignore[arg-type]
    assert Templates(a="{{ x or '' }}").render("a", {"x": None}) == ""


def test_templates_render_columns_and_name_missing_ones() -> None:
    templates = Templates(prompt="Q: {{ question }}\nA:", answer="{{ answer | upper }}")
    assert templates.render("prompt", ROWS[1]) == "Q: 1 + 1?\nA:"
    assert Templates(a="{{ x }}\n").render("a", {"x": "<&>"}) == "<&>\n"
    with pytest.raises(ValueError, match=r"the row has columns \['text'\]"):
        templates.render("prompt", {"text": "x"})
    with pytest.raises(ValueError, match="template of 'prompt' is faulty"):
        Templates(prompt="{{ question")


def test_overlap_counts_shared_items() -> None:
    assert overlap([("a", "1")], [("a", "2")]) == []
    (fault,) = overlap([("a", "1"), ("b", "2")], [("b", "2"), ("c", "3"), ("b", "2")])
    assert fault.startswith("1 of 3 test items are search items too")
