"""The folder of an exported benchmark: names of its files, checksums, and JSON read with faults that say what to do.

::

    metadata.json  space.json  encoder.json  items.json  report.json  CARD.md  LICENSE  SHA256SUMS
    models/  LightGBM text models, packed, and what tells how far a model lies from all that was measured
    data/    every trial, its scores item by item, and how the searches went, as Parquet
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from automerge.records import Split

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

SPLITS: tuple[Split, ...] = ("search", "test")

LISTED = 5
"""Most files that a message lists."""


class Content(dict[str, Any]):
    """An object of a JSON file; what it lacks is a fault of the file, at `path`."""

    path: Path

    def __missing__(self, key: str) -> Any:
        """Raises ValueError naming the file and the key."""
        raise ValueError(f"{self.path} is damaged: it lacks {key!r}; export or copy the benchmark again")


def score_target(task: str, split: str) -> str:
    """The name of what a model of a task's expected score on the items of a split predicts."""
    return f"{task}.{split}"


def is_benchmark(folder: Path) -> bool:
    """Whether there is an exported benchmark, of whatever version."""
    return (folder / METADATA).is_file()


def answered(metadata: Mapping[str, Any]) -> tuple[Split, ...]:
    """The splits that a benchmark of this metadata can be asked about: those with a model for every task."""
    return tuple(
        split for split in SPLITS if all(score_target(task, split) in metadata["models"] for task in metadata["tasks"])
    )


def check_replaceable(folder: Path) -> None:
    """Raises FileExistsError if there is anything but a whole benchmark, which a newer one may replace.

    One that holds files of which its checksums do not know is refused with their list: they would be lost.
    """
    if not folder.exists():
        return
    if not is_benchmark(folder):
        raise FileExistsError(f"{folder} exists and is no surrogate benchmark; name a new folder")
    try:
        metadata, sums = read_json(folder, METADATA), read_sums(folder)
    except (OSError, ValueError):
        metadata, sums = {}, {}
    if not (isinstance(metadata.get("schema"), int) and isinstance(metadata.get("models"), Mapping) and sums):
        raise FileExistsError(
            f"{folder} holds no whole benchmark, or one of an earlier automerge, so it is not replaced; "
            "remove it, or name a new folder"
        )
    if strangers := sorted(set(_files(folder)) - sums.keys()):
        more = f" and {len(strangers) - LISTED} more" if len(strangers) > LISTED else ""
        raise FileExistsError(
            f"{folder} holds files that are not the benchmark's, so it is not replaced: "
            f"{', '.join(strangers[:LISTED])}{more}; move them away, or name a new folder"
        )


def find(folder: Path, name: str) -> Path:
    """The path of a file of the folder. Raises FileNotFoundError if it is not there."""
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {name}, so it is no whole benchmark; export or copy it again")
    return path


def write_json(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    """Writes a file of the folder. Raises ValueError for a number that is not finite, which JSON does not have."""
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    (folder / name).write_text(text + "\n", encoding="utf-8")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """What a file of the folder holds. Raises FileNotFoundError if it is not there, ValueError if it is damaged.

    Keys that its objects lack raise ValueError when they are asked for.
    """
    path = find(folder, name)

    def content_of(values: dict[str, Any]) -> Content:
        content = Content(values)
        content.path = path
        return content

    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_hook=content_of)
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


def write_sums(folder: Path, names: Sequence[str] | None = None) -> None:
    """Writes the SHA-256 of every file of the folder, or of these anew, as `sha256sum --check` reads them.

    Raises FileNotFoundError if one of these, or the checksums of the others, are not there.
    """
    known = {} if names is None else read_sums(folder)
    known |= {name: _sum(folder / name) for name in (_files(folder) if names is None else names)}
    lines = [f"{known[name]}  {name}\n" for name in sorted(known)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def read_sums(folder: Path) -> dict[str, str]:
    """By file what its SHA-256 should be. Raises FileNotFoundError if there are no checksums."""
    lines = find(folder, SUMS).read_text(encoding="utf-8").splitlines()
    return {name: told for told, _, name in (line.partition("  ") for line in lines)}


def check_sums(folder: Path) -> None:
    """Raises ValueError listing the files that are missing or differ from what was exported.

    Files that the checksums do not name are nobody's business. Raises FileNotFoundError if there are no checksums.
    """
    found = []
    for name, expected in read_sums(folder).items():
        if not (folder / name).is_file():
            found.append(f"{name} is missing")
        elif _sum(folder / name) != expected:
            found.append(f"{name} has changed")
    if found:
        raise ValueError(f"{folder} is not what was exported: {'; '.join(found)}; copy or export it again")


def _files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        # A link is a file of its own, wherever it leads.
        if (path.is_symlink() or not path.is_dir()) and name != SUMS:
            yield name


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
