from pathlib import Path

import pandas as pd
import pytest

from automerge.items import Templates, load_rows, overlap
from tests.toy import write_jsonl

ROWS = [{"question": f"{k} + {k}?", "answer": str(2 * k)} for k in range(5)]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    if suffix == ".jsonl":
        write_jsonl(path, ROWS)
    elif suffix == ".parquet":
        pd.DataFrame(ROWS).to_parquet(path)
    else:
        pd.DataFrame(ROWS).to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    rows = load_rows(str(path))
    assert [(row["question"], str(row["answer"])) for row in rows] == [(r["question"], r["answer"]) for r in ROWS]
    assert len(load_rows(str(path), limit=2)) == 2


def test_missing_files_empty_files_and_unreachable_datasets_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give an existing JSONL, CSV or Parquet file or a hub id"):
        load_rows(str(tmp_path / "none.jsonl"))
    pd.DataFrame({"question": []}).to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match="or holds no rows"):
        load_rows(str(tmp_path / "empty.parquet"))
    with pytest.raises(FileNotFoundError, match="nor to be had from the hub"):
        load_rows("nobody/nothing", split="test")


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
