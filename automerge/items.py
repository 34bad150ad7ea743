"""The items of a task: rows of a local file or of a dataset of the hub, and templates over their columns."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from automerge.options import refuse, whole_faults
from automerge.records import Split

Item = TypeVar("Item")

BUILDERS = {".parquet": "parquet"}
"""File suffixes and the `datasets` builders that read them."""

JSON = (".jsonl", ".json")
"""Suffixes of files that are read as they stand: builders take texts that look like dates for times."""

SEPARATORS = {".csv": ",", ".tsv": "\t"}
"""Suffixes of tables whose cells are texts as they stand, and what stands between them: builders make 007 to 7."""

PART = r"train(\[(-?\d+%?)?:(-?\d+%?)?\])?"
"""The form of a split of a file."""

SUFFIXES = (*JSON, *SEPARATORS, *BUILDERS)
"""Suffixes by which a path is a file and no id of a dataset."""

Row = Mapping[str, Any]


def load_rows(
    path: str,
    *,
    split: str = "train",
    name: str | None = None,
    revision: str | None = None,
    limit: int | None = None,
) -> list[Row]:
    """The rows of a local file (its suffix tells the format) or of a split of a hub dataset, as dictionaries.

    `split` may name a part as `datasets` writes it, `train[200:]` or `train[:20%]`; the one split of a file is
    `train`. `limit` keeps the first rows only. Raises FileNotFoundError if there is no such file or dataset,
    ValueError if it cannot be read so or holds no rows.
    """
    if limit is not None:
        refuse(whole_faults(1, limit=limit))
    file = Path(path).expanduser()
    if file.suffix.lower() in SUFFIXES:
        if name is not None or revision is not None:
            raise ValueError(f"{file} is a file; only datasets of the hub have a `name` or a `revision`, leave it out")
        if not file.is_file():
            raise FileNotFoundError(f"no task file at {file}; give an existing JSONL, CSV or Parquet file or a hub id")
        rows = _from_file(file, split, limit)
    else:
        rows = _from_hub(path, split=split, name=name, revision=revision, limit=limit)
    if not rows:
        raise ValueError(f"{path!r} (split {split!r}) holds no rows; a task needs items")
    return rows


class Templates:
    """Jinja templates over the columns of a row, such as `Question: {{ question }}\\nAnswer:`."""

    def __init__(self, **templates: str) -> None:
        environment = SandboxedEnvironment(
            undefined=StrictUndefined, finalize=_written, keep_trailing_newline=True, autoescape=False
        )
        self._templates: dict[str, Template] = {}
        for field, text in templates.items():
            if not isinstance(text, str):
                raise ValueError(f"the template of {field!r} is no text: {text!r}")
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


def by_split(
    search: Mapping[str, Any], test: Mapping[str, Any], item: Callable[[Row], Item]
) -> dict[Split, list[Item]]:
    """The items of both splits of a task: what `item` makes of their rows.

    `search` and `test` hold the arguments of `load_rows`. Raises ValueError naming the row of which none can be
    made.
    """
    data: dict[Split, Mapping[str, Any]] = {"search": search, "test": test}
    for split, arguments in data.items():
        known = (*signature(load_rows).parameters,)
        if not isinstance(arguments, Mapping) or "path" not in arguments or not {*arguments} <= {*known}:
            raise ValueError(
                f"`{split}` says where the rows are by the keys {', '.join(known)}, of which `path` is needed, such as "
                f"{{path: rows.jsonl}}; got {arguments!r}"
            )
    found: dict[Split, list[Item]] = {}
    for split, arguments in data.items():
        found[split] = []
        try:
            rows = load_rows(**arguments)
        except ValueError as fault:
            raise ValueError(f"`{split}`: {fault}") from fault
        for number, row in enumerate(rows, start=1):
            try:
                found[split].append(item(row))
            except ValueError as fault:
                raise ValueError(f"row {number} of `{split}`: {fault}") from fault
    return found


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


def _from_file(file: Path, split: str, limit: int | None) -> list[Row]:
    suffix = file.suffix.lower()
    if not isinstance(split, str) or not re.fullmatch(PART, split):
        raise ValueError(f"{file} has one split: write train, or a part of it such as train[200:]; got {split!r}")
    if suffix in JSON or suffix in SEPARATORS:
        return _part(_json_rows(file) if suffix in JSON else _table_rows(file, SEPARATORS[suffix]), split)[:limit]
    # Importing `datasets` takes a second, which commands without tasks should not pay.
    from datasets import load_dataset  # noqa: PLC0415
    from datasets.exceptions import DatasetGenerationError  # noqa: PLC0415

    try:
        return _first(load_dataset(BUILDERS[suffix], data_files=str(file), split=split), limit)
    except (DatasetGenerationError, StopIteration) as fault:
        raise ValueError(f"{file} cannot be read as {suffix} or holds no rows: {fault.__cause__ or fault!r}") from fault


def _part(rows: list[Row], split: str) -> list[Row]:
    if split == "train":
        return rows
    from datasets import ReadInstruction  # noqa: PLC0415

    parts = ReadInstruction.from_spec(split).to_absolute({"train": len(rows)})
    return [row for part in parts for row in rows[part.from_ : part.to]]


def _from_hub(path: str, *, split: str, name: str | None, revision: str | None, limit: int | None) -> list[Row]:
    from datasets import load_dataset  # noqa: PLC0415
    from datasets.exceptions import DatasetNotFoundError  # noqa: PLC0415

    try:
        return _first(load_dataset(path, name, split=split, revision=revision), limit)
    except (DatasetNotFoundError, ConnectionError, FileNotFoundError, ValueError, RuntimeError) as fault:
        raise FileNotFoundError(
            f"dataset {path!r} (name {name!r}, split {split!r}) is neither a file ending in "
            f"{', '.join(SUFFIXES)} nor to be had from the hub ({type(fault).__name__}: {fault})"
        ) from fault


def _first(rows: Any, limit: int | None) -> list[Row]:
    return list(rows if limit is None else rows.select(range(min(limit, len(rows)))))


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise ValueError(f"{file} is not written in UTF-8: {fault}") from fault


def _table_rows(file: Path, separator: str) -> list[Row]:
    """The rows of a table by the names of its first row; cells are texts, an empty one is an empty text."""
    reader = csv.DictReader(StringIO(_text(file), newline=""), delimiter=separator, strict=True)
    rows: list[Row] = []
    try:
        for row in reader:
            if None in row or None in row.values():
                names = ", ".join(reader.fieldnames or ())
                raise ValueError(
                    f"{file}: expected as many cells as there are columns ({names}), unlike line {reader.line_num}; "
                    "put cells that hold the separator or the end of a line in double quotes"
                )
            rows.append(row)
    except csv.Error as fault:
        raise ValueError(f"{file} cannot be read as a table after line {reader.line_num}: {fault}") from fault
    return rows


def _json_rows(file: Path) -> list[Row]:
    """The objects of a file: one in every line, or one list of them."""
    text = _text(file)
    whole = text.lstrip().startswith("[")
    rows: list[Any] = []
    for number, part in enumerate([text] if whole else text.split("\n"), start=1):
        if not part.strip():
            continue
        try:
            found = json.loads(part)
        except json.JSONDecodeError as fault:
            place = "" if whole else f"line {number}: "
            raise ValueError(
                f"{file}: expected an object in every line, or one list of them ({place}{fault})"
            ) from fault
        rows += found if whole else [found]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise ValueError(f"{file}: expected rows such as {{'question': ...}}, got {row!r} as number {number}")
    return rows


def _written(value: Any) -> Any:
    """What a template writes for a value: itself, but nulls are refused, which else read as the word None."""
    if value is None:
        raise ValueError("a value is null; write {{ column or '' }} if it may be, or leave such rows out")
    return value
