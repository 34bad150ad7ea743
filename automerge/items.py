"""The items of a task: rows of a local file or a hub dataset, read through `datasets`, and templates over columns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from automerge.records import Split

READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
"""File suffixes and the `datasets` builders that read them."""

Row = Mapping[str, Any]


def load_rows(
    path: str, *, split: str = "train", name: str | None = None, revision: str | None = None, limit: int | None = None
) -> list[Row]:
    """The rows of a local file (its suffix tells the format) or of a split of a hub dataset, as dictionaries.

    `limit` keeps the first rows only. Raises FileNotFoundError if there is no such file or dataset, ValueError if it
    holds no rows.
    """
    # Importing `datasets` takes a second, which commands without tasks should not pay.
    from datasets import load_dataset  # noqa: PLC0415
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError  # noqa: PLC0415

    file = Path(path).expanduser()
    if file.suffix.lower() in READERS:
        if not file.is_file():
            raise FileNotFoundError(f"no task file at {file}; give an existing JSONL, CSV or Parquet file or a hub id")
        options = {"sep": "\t"} if file.suffix.lower() == ".tsv" else {}
        try:
            rows = load_dataset(READERS[file.suffix.lower()], data_files=str(file), split="train", **options)
        except DatasetGenerationError as fault:
            raise ValueError(f"{file} cannot be read as {file.suffix} or holds no rows: {fault.__cause__}") from fault
    else:
        try:
            rows = load_dataset(path, name, split=split, revision=revision)
        except (DatasetNotFoundError, ConnectionError, FileNotFoundError, ValueError) as fault:
            raise FileNotFoundError(
                f"dataset {path!r} (name {name!r}, split {split!r}) is neither a file ending in "
                f"{', '.join(READERS)} nor to be had from the hub ({type(fault).__name__}: {fault})"
            ) from fault
    rows = list(rows if limit is None else rows.select(range(min(limit, len(rows)))))
    if not rows:
        raise ValueError(f"{path!r} (split {split!r}) holds no rows; a task needs items")
    return rows


class Templates:
    """Jinja templates over the columns of a row, such as `Question: {{ question }}\\nAnswer:`."""

    def __init__(self, **templates: str) -> None:
        environment = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
        self._templates: dict[str, Template] = {}
        for field, text in templates.items():
            try:
                self._templates[field] = environment.from_string(text)
            except TemplateError as fault:
                raise ValueError(f"the template of {field!r} is faulty ({fault}): {text!r}") from fault

    def render(self, field: str, row: Row) -> str:
        """The text of one field for one row. Raises ValueError naming the columns if the template wants others."""
        try:
            return self._templates[field].render(**row)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as fault:
            raise ValueError(f"the template of {field!r} fails ({fault}); the row has columns {sorted(row)}") from fault


def by_split(search: Mapping[str, Any], test: Mapping[str, Any]) -> dict[Split, list[Row]]:
    """The rows of both splits of a task; each argument holds the arguments of `load_rows`."""
    return {"search": load_rows(**search), "test": load_rows(**test)}


def fingerprint(items: object) -> str:
    """The first 16 hex digits of the SHA-256 of rendered items: other prompts or answers give another."""
    return hashlib.sha256(repr(items).encode()).hexdigest()[:16]


def overlap(search: Iterable[tuple[str, ...]], test: Sequence[tuple[str, ...]]) -> list[str]:
    """A message if items of the test split stand among the search items too, else an empty list."""
    shared = len(set(search) & set(test))
    if not shared:
        return []
    return [
        f"{shared} of {len(test)} test items are search items too; test items must be new, "
        "or the final scores are those of the search"
    ]
