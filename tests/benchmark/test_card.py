"""The card of a benchmark: figures of its metadata and report, as Markdown."""

from __future__ import annotations

from pathlib import Path

import pytest

from automerge.benchmark.card import card_text, table
from automerge.benchmark.folder import CARD, METADATA, REPORT, read_json


def test_the_card_of_a_folder_tells_its_metadata_and_report(example_exported: Path) -> None:
    metadata, report = read_json(example_exported, METADATA), read_json(example_exported, REPORT)
    text = (example_exported / CARD).read_text()
    assert text == card_text(metadata, report)
    assert text.startswith("# example 1.0.0\n")
    assert "Validation" not in text
    figures = report["tasks"]["a"]["search"]
    assert f"| a | search | {figures['n_models']:.0f} | {figures['rows']:.0f} | {figures['r2']:.3g} |" in text
    assert "| evolution-1 | evolution | 1 | 48 |" in text
    left = next(each for each in metadata["references"] if each["name"] == "left")
    k, n = left["results"]["a"]["search"]
    assert f"| left | source | {k / n:.3g} |" in text
    assert "35 broke" in text
    assert "CC-BY-4.0" in text


def test_every_figure_of_a_validation_is_in_the_card(example_exported: Path) -> None:
    report = read_json(example_exported, REPORT)
    report["validation"] = {
        "interpolation": {"a": {"search": {"r2": 0.912345, "tau": 0.8}, "test": {"r2": None}}},
        "leave_one_out": {"tpe": {"a": {"search": {"tau": 0.65}}}},
        "trajectories": {
            "in_sample": True,
            "left_out": {},
            "tau": 1.0,
            "optimizers": {"tpe": {"gap": -0.0123, "curve": [0.0, 1.0]}},
        },
        "coverage": {},
    }
    text = card_text(read_json(example_exported, METADATA), report)
    assert "| a | search | 0.912 | 0.8 |" in text
    assert "| a | test | - | - |" in text
    assert "| tpe | a | search | 0.65 |" in text
    assert "|  |  | 1 | - |" in text
    assert "| optimizers | tpe | - | -0.0123 |" in text
    assert "Intervals" not in text
    assert "curve |" not in text


def test_the_card_tells_of_intervals_and_of_repeated_searches_in_words(example_exported: Path) -> None:
    metadata, report = read_json(example_exported, METADATA), read_json(example_exported, REPORT)
    left_out = {"smac": "it needs SMAC"}
    searches = {"in_sample": True, "left_out": left_out, "not_chosen": ["tpe"], "tau": 0.5, "optimizers": {}}
    intervals = {"a": {"search": {"inside": 0.5, "noise_only": 0.25, "factor": 2.75, "calibrated": 0.875}}}
    report["validation"] = {"coverage": intervals, "trajectories": searches}
    text = card_text(metadata, report)
    assert "no standard error" in text
    assert "| a | search | 0.5 | 0.25 | 2.75 | 0.875 |" in text
    assert "In sample: " in text
    assert "smac was left out: it needs SMAC." in text
    assert "Only some optimizers were chosen to be repeated, not tpe." in text
    assert "In sample: " not in card_text(
        metadata, {**report, "validation": {"trajectories": {**searches, "in_sample": False}}}
    )


@pytest.mark.parametrize(("binary", "splits"), [(False, ["search", "test"]), (True, ["search"])])
def test_the_card_tells_the_limits_of_a_task(example_exported: Path, binary: bool, splits: list[str]) -> None:
    metadata, report = read_json(example_exported, METADATA), read_json(example_exported, REPORT)
    metadata["tasks"]["b"] |= {"binary": binary, "splits": splits}
    text = card_text(metadata, report)
    assert ("b has scores between right and wrong" in text) == (not binary)
    assert ("b has no model of scores on test items" in text) == ("test" not in splits)
    assert "a has" not in text


def test_cells_keep_a_table_whole() -> None:
    found = table(["a|b", "n"], [["x\ny|z", None], ["", 1234567.0], ["share", 0.98765]])
    assert found.splitlines() == [
        r"| a\|b | n |",
        "| --- | --- |",
        r"| x y\|z | - |",
        "|  | 1234567 |",
        "| share | 0.988 |",
    ]
