"""The folder of an exported benchmark: names of its files, checksums, and JSON read with faults that say what to do.

::

    metadata.json  space.json  encoder.json  items.json  report.json  CARD.md  LICENSE  SHA256SUMS
    models/  LightGBM text models, packed, and what tells how far a model lies from all that was measured
    data/    every trial, its scores item by item, and how the searches went, as Parquet
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SCHEMA = 2
"""Version of the layout of the folder, kept in its metadata."""

METADATA = "metadata.json"
SPACE = "space.json"
ENCODER = "encoder.json"
ITEMS = "items.json"
REPORT = "report.json"
CARD = "CARD.md"
LICENCE = "LICENSE"
SUMS = "SHA256SUMS"
NEARNESS = "models/nearness.npz"
EVALUATIONS = "data/evaluations.parquet"
RESPONSES = "data/responses.parquet"
TRAJECTORIES = "data/trajectories.parquet"

BROKEN = "broken"
MERGE_SECONDS = "seconds.merge"
ITEM_SECONDS = "seconds.item"


def score_target(task: str, split: str) -> str:
    """The name of what a model of a task's expected score on the items of a split predicts."""
    return f"{task}.{split}"


def is_benchmark(folder: Path) -> bool:
    """Whether there is an exported benchmark, of whatever version."""
    return (folder / METADATA).is_file()


def write_json(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    """Writes a file of the folder. Raises ValueError for a number that is not finite, which JSON does not have."""
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    (folder / name).write_text(text + "\n", encoding="utf-8")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """What a file of the folder holds. Raises FileNotFoundError if it is not there, ValueError if it is damaged."""
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {name}, so it is no whole benchmark; export or copy it again")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise ValueError(f"{path} is damaged ({fault}); export or copy the benchmark again") from fault
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: expected a JSON object, got {type(content).__name__}")
    return content


def read_metadata(folder: Path) -> dict[str, Any]:
    """The metadata of a benchmark.

    Raises FileNotFoundError if the folder is no benchmark, ValueError if it is damaged or of another schema.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder at {folder}; name one that `automerge benchmark export` wrote")
    if not is_benchmark(folder):
        raise FileNotFoundError(f"{folder} is no exported benchmark: it has no {METADATA}")
    metadata = read_json(folder, METADATA)
    if metadata.get("schema") != SCHEMA:
        raise ValueError(
            f"{folder} has schema {metadata.get('schema')!r}, this automerge reads schema {SCHEMA}; "
            "export its runs again, or use the automerge that wrote it"
        )
    return metadata


def write_sums(folder: Path) -> None:
    """Writes the SHA-256 of every file of the folder, as `sha256sum --check` reads them."""
    lines = [f"{_sum(folder / name)}  {name}\n" for name in sorted(_files(folder))]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def check_sums(folder: Path) -> None:
    """Raises ValueError listing the files that are missing or differ from what was exported.

    Files that the checksums do not name are nobody's business. Raises FileNotFoundError if there are no checksums.
    """
    path = folder / SUMS
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {SUMS}, so it is no whole benchmark; export or copy it again")
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        if not (folder / name).is_file():
            found.append(f"{name} is missing")
        elif _sum(folder / name) != expected:
            found.append(f"{name} has changed")
    if found:
        raise ValueError(f"{folder} is not what was exported: {'; '.join(found)}; copy or export it again")


def _files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != SUMS:
            yield name


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
