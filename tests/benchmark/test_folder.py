"""The folder of a benchmark: JSON, metadata and checksums, and what is said when they are not right."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from automerge.benchmark.folder import (
    METADATA,
    SCHEMA,
    SUMS,
    answered,
    check_replaceable,
    check_sums,
    is_benchmark,
    read_json,
    read_metadata,
    write_json,
    write_sums,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "0 of é.txt").write_text("tree")
    write_json(tmp_path, METADATA, {"schema": SCHEMA, "name": "é"})
    write_sums(tmp_path)
    return tmp_path


def test_what_was_written_is_read(folder: Path) -> None:
    assert read_metadata(folder) == {"schema": SCHEMA, "name": "é"}
    # Tasks are told in the order that searches have them in.
    write_json(folder, "order.json", {"b": 1, "a": 2})
    assert list(read_json(folder, "order.json")) == ["b", "a"]
    assert is_benchmark(folder)
    assert not is_benchmark(folder / "models")


def test_numbers_that_json_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path, METADATA, {"r2": float("nan")})


def test_folders_that_are_no_benchmark_are_told_from_those_of_another_schema(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="name one that `automerge benchmark export` wrote"):
        read_metadata(folder / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"it has no metadata\.json"):
        read_metadata(folder / "models")
    write_json(folder, METADATA, {"schema": 1})
    with pytest.raises(ValueError, match="has schema 1, this automerge reads schema 2; export its runs again"):
        read_metadata(folder)


def test_damaged_and_missing_files_are_named(folder: Path) -> None:
    (folder / METADATA).write_text('{"schema": 2')
    with pytest.raises(ValueError, match=r"metadata\.json is damaged .* copy the benchmark again"):
        read_metadata(folder)
    (folder / METADATA).write_text("[]")
    with pytest.raises(ValueError, match="expected a JSON object, got list"):
        read_metadata(folder)
    with pytest.raises(FileNotFoundError, match=r"has no items\.json.* copy it again"):
        read_json(folder, "items.json")


def test_a_key_that_a_file_lacks_is_named_with_the_file_at_any_depth(folder: Path) -> None:
    metadata = read_metadata(folder)
    write_json(folder, "space.json", {"genes": [{"name": "a"}]})
    with pytest.raises(ValueError, match=r"metadata\.json is damaged: it lacks 'models'; export or copy"):
        metadata["models"]
    with pytest.raises(ValueError, match=r"space\.json is damaged: it lacks 'choices'"):
        read_json(folder, "space.json")["genes"][0]["choices"]


def test_a_split_is_answered_where_every_task_has_a_model() -> None:
    models = dict.fromkeys(("a.search", "b.search", "a.test", "broken"), "models/0.txt.gz")
    assert answered({"tasks": {"a": {}, "b": {}}, "models": models}) == ("search",)
    assert answered({"tasks": {"a": {}, "b": {}}, "models": {}}) == ()


def test_only_a_whole_benchmark_without_other_files_may_be_replaced(folder: Path) -> None:
    check_replaceable(folder / "nowhere")
    damaged: list[dict[str, Any]] = [{"schema": SCHEMA}, {"schema": "2", "models": {}}, {"models": {}}]
    for content in damaged:
        write_json(folder, METADATA, content)
        with pytest.raises(FileExistsError, match="remove it, or name a new folder"):
            check_replaceable(folder)
    write_json(folder, METADATA, {"schema": SCHEMA, "models": {}})
    check_replaceable(folder)
    (folder / "data").mkdir()
    for k in range(6):
        (folder / "data" / f"{k}.csv").touch()
    (folder / "away").symlink_to(folder / "data")
    with pytest.raises(FileExistsError, match=r": away, data/0\.csv, .* and 2 more; move them away, or name a new"):
        check_replaceable(folder)
    with pytest.raises(FileExistsError, match="is no surrogate benchmark; name a new folder"):
        check_replaceable(folder / "data")
    (folder / SUMS).unlink()
    with pytest.raises(FileExistsError, match=r"of an earlier automerge.* remove it"):
        check_replaceable(folder)


def test_checksums_of_some_files_leave_all_others_as_they_are(folder: Path) -> None:
    (folder / "note.txt").write_text("of nobody's business")
    (folder / "models" / "0 of é.txt").write_text("damaged")
    write_json(folder, METADATA, {"schema": SCHEMA})
    before = (folder / SUMS).read_text().splitlines()
    write_sums(folder, [METADATA])
    after = (folder / SUMS).read_text().splitlines()
    assert [line.partition("  ")[2] for line in after] == ["metadata.json", "models/0 of é.txt"]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True]
    with pytest.raises(ValueError, match=r"exported: models/0 of é\.txt has changed; copy"):
        check_sums(folder)


def test_checksums_are_those_of_sha256sum(folder: Path) -> None:
    check_sums(folder)
    subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=folder, check=True, capture_output=True)
    assert len((folder / SUMS).read_text().splitlines()) == 2


def test_all_that_has_changed_is_listed(folder: Path) -> None:
    (folder / "note.txt").write_text("of nobody's business")
    check_sums(folder)
    (folder / METADATA).write_text("{}")
    (folder / "models" / "0 of é.txt").unlink()
    with pytest.raises(ValueError, match=r"metadata\.json has changed; models/0 of é\.txt is missing; copy or export"):
        check_sums(folder)
    (folder / SUMS).unlink()
    with pytest.raises(FileNotFoundError, match="has no SHA256SUMS"):
        check_sums(folder)
