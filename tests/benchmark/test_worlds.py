"""Items of a benchmark; the folder is made by hand, so that the truth is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from automerge.benchmark import load


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("rows", [*range(54)], "got 54 rows and 55 difficulties; export or copy"),
        ("rows", [0, *range(54)], r"expected different rows of 'math' \(search\) from 0 to 59"),
        ("rows", [*range(6, 61)], "from 0 to 59"),
        ("difficulties", [float("nan")] * 55, "a difficulty for each"),
    ],
)
def test_items_are_different_known_ones_with_a_difficulty_each(
    folder: Path, tmp_path: Path, key: str, values: list[float], message: str
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    items = json.loads((copy / "items.json").read_text())
    items["math"]["search"][key] = values
    (copy / "items.json").write_text(json.dumps(items))
    with pytest.raises(ValueError, match=message):
        load(copy)
