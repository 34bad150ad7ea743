"""The log of a run: an append-only, crash-safe SQLite file of all trials and evaluations, with all item scores.

Each evaluation is written in one transaction, in write-ahead mode with full synchronisation: when it ends, or, if it
failed, with the next that does not. Killing the process at any moment loses at most the evaluations in flight and those
that failed just before. The log is the truth; a search is resumed by running it again with the logged evaluations as
answers.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from automerge.recipe import Recipe
from automerge.records import Evaluation, Phase, Scores, Slice, Split, Status

LOG = "run.db"
"""Name of the log in its run folder."""

VERSION = 1
"""Version of the schema, kept in SQLite's user_version."""

SCHEMA = """
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE trials (
    id INTEGER PRIMARY KEY, recipe_id TEXT NOT NULL, genotype BLOB NOT NULL, recipe TEXT NOT NULL, origin TEXT NOT NULL
);
CREATE TABLE evaluations (
    id INTEGER PRIMARY KEY, trial INTEGER NOT NULL REFERENCES trials(id), phase TEXT NOT NULL, slices TEXT NOT NULL,
    status TEXT NOT NULL, reason TEXT NOT NULL, seconds TEXT NOT NULL, costs TEXT NOT NULL, wall REAL NOT NULL,
    finished TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE TABLE scores (
    evaluation INTEGER NOT NULL REFERENCES evaluations(id), task TEXT NOT NULL, split TEXT NOT NULL,
    start INTEGER NOT NULL, stop INTEGER NOT NULL, items BLOB NOT NULL, vals BLOB NOT NULL
);
CREATE TABLE orders (task TEXT NOT NULL, split TEXT NOT NULL, items BLOB NOT NULL, PRIMARY KEY (task, split));
CREATE INDEX evaluations_by_trial ON evaluations(trial);
CREATE INDEX scores_by_evaluation ON scores(evaluation);
"""


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One trial as logged: a recipe with its genotype, which is empty outside the space, and its origin."""

    id: int
    recipe_id: str
    genotype: NDArray[np.float64]
    recipe: Recipe
    origin: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One evaluation as logged. `wall` is the time in seconds since the evaluation before it, thinking included."""

    id: int
    trial: int
    phase: Phase
    slices: tuple[Slice, ...]
    evaluation: Evaluation
    wall: float


class RunLog:
    """The log of one run, in the file `path`. Holds the connection; use it as a context manager or close it.

    One process may write at a time. Raises ValueError if another does, or if the file is not a log of this version, and
    OSError if the file system has no locks.
    """

    def __init__(self, path: Path | str, *, read_only: bool = False) -> None:
        self.path = Path(path)
        if read_only and not self.path.is_file():
            raise FileNotFoundError(f"no log at {self.path}; a run folder holds one named run.db")
        self._lock = None if read_only else _lock(self.path)
        target = f"{self.path.resolve().as_uri()}?mode=ro" if read_only else str(self.path)
        self._connection = sqlite3.connect(target, uri=read_only, isolation_level=None)
        try:
            self._prepare(read_only=read_only)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

    # Settings

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Stores settings as JSON by key, in one transaction; replaces those of the same key."""
        with _Transaction(self._connection) as cursor:
            cursor.executemany(
                "INSERT OR REPLACE INTO settings VALUES (?, ?)",
                [(key, json.dumps(value)) for key, value in settings.items()],
            )

    def settings(self) -> dict[str, Any]:
        """All settings by key."""
        return {key: json.loads(value) for key, value in self._connection.execute("SELECT key, value FROM settings")}

    # Orders of items

    def write_order(self, task: str, split: Split, items: NDArray[np.int64]) -> None:
        """Stores the fixed order of a task's items. Raises ValueError if another one is stored already."""
        stored = self.orders().get((task, split))
        if stored is not None:
            if not np.array_equal(stored, items):
                raise ValueError(
                    f"the log holds another order of the {split} items of {task!r}; the task's data or the seed has "
                    "changed since the run was started: start a new run"
                )
            return
        with _Transaction(self._connection) as cursor:
            cursor.execute("INSERT INTO orders VALUES (?, ?, ?)", (task, split, items.astype("<i8").tobytes()))

    def orders(self) -> dict[tuple[str, Split], NDArray[np.int64]]:
        """The fixed orders by task and split."""
        rows = self._connection.execute("SELECT task, split, items FROM orders")
        return {(task, cast(Split, split)): np.frombuffer(items, dtype="<i8") for task, split, items in rows}

    # Trials and evaluations

    def write_evaluation(
        self, trial: TrialRow, *, phase: Phase, slices: Sequence[Slice], evaluation: Evaluation, wall: float
    ) -> None:
        """Appends an evaluation, and its trial if it is new, in one transaction."""
        listed = json.dumps([[part.task, part.split, part.start, part.stop] for part in slices])
        with _Transaction(self._connection) as cursor:
            cursor.execute(
                "INSERT OR IGNORE INTO trials VALUES (?, ?, ?, ?, ?)",
                (
                    trial.id,
                    trial.recipe_id,
                    trial.genotype.astype("<f8").tobytes(),
                    trial.recipe.to_json(),
                    json.dumps(dict(trial.origin), sort_keys=True),
                ),
            )
            cursor.execute(
                "INSERT INTO evaluations (trial, phase, slices, status, reason, seconds, costs, wall) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    trial.id,
                    phase,
                    listed,
                    evaluation.status,
                    evaluation.reason,
                    json.dumps(dict(evaluation.seconds), sort_keys=True),
                    json.dumps(dict(evaluation.costs), sort_keys=True),
                    wall,
                ),
            )
            row = cursor.lastrowid
            cursor.executemany(
                "INSERT INTO scores VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        row,
                        part.slice.task,
                        part.slice.split,
                        part.slice.start,
                        part.slice.stop,
                        np.array(part.items, dtype="<i8").tobytes(),
                        np.array(part.values, dtype="<f8").tobytes(),
                    )
                    for part in evaluation.scores
                ],
            )

    def trials(self) -> list[TrialRow]:
        """All trials in order of their ids."""
        rows = self._connection.execute("SELECT id, recipe_id, genotype, recipe, origin FROM trials ORDER BY id")
        return [
            TrialRow(
                id=number,
                recipe_id=recipe_id,
                genotype=np.frombuffer(genotype, dtype="<f8"),
                recipe=Recipe.from_json(recipe),
                origin=json.loads(origin),
            )
            for number, recipe_id, genotype, recipe, origin in rows
        ]

    def evaluations(self) -> list[EvaluationRow]:
        """All evaluations in the order in which they ended."""
        scores: dict[int, list[Scores]] = {}
        for number, task, split, start, stop, items, values in self._connection.execute(
            "SELECT evaluation, task, split, start, stop, items, vals FROM scores ORDER BY rowid"
        ):
            part = Slice(task, cast(Split, split), start, stop)
            read = Scores(part, _integers(items), tuple(np.frombuffer(values, dtype="<f8").tolist()))
            scores.setdefault(number, []).append(read)
        rows = self._connection.execute(
            "SELECT id, trial, phase, slices, status, reason, seconds, costs, wall FROM evaluations ORDER BY id"
        )
        return [
            EvaluationRow(
                id=number,
                trial=trial,
                phase=phase,
                slices=tuple(Slice(*part) for part in json.loads(slices)),
                evaluation=Evaluation(
                    status=cast(Status, status),
                    scores=tuple(scores.get(number, ())),
                    seconds=json.loads(seconds),
                    costs=json.loads(costs),
                    reason=reason,
                ),
                wall=wall,
            )
            for number, trial, phase, slices, status, reason, seconds, costs, wall in rows
        ]

    def _prepare(self, *, read_only: bool) -> None:
        try:
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            empty = not self._connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        except sqlite3.DatabaseError as fault:
            raise ValueError(f"{self.path} is not a log of automerge: {fault}") from fault
        if empty and version == 0 and not read_only:
            self._connection.execute("PRAGMA journal_mode = WAL")
            # One transaction, so that a process killed here leaves an empty file or a whole schema.
            self._connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise ValueError(f"{self.path} has log version {version}, this automerge reads version {VERSION}")
        if not read_only:
            self._connection.execute("PRAGMA synchronous = FULL")


def refuse_simulated(run: Path, why: str) -> None:
    """Raises ValueError, saying why, if a benchmark answered in place of models in this run folder."""
    with RunLog(run / LOG, read_only=True) as log:
        if "benchmark" in log.settings():
            raise ValueError(f"{run} is a simulated run: {why}")


def _lock(path: Path) -> IO[str]:
    """An open file that keeps other writers away until it is closed or the process ends."""
    file = path.with_name(path.name + ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as fault:
        file.close()
        raise ValueError(f"another process is writing to {path}; wait for it or end it") from fault
    except OSError as fault:
        file.close()
        raise OSError(
            f"{path} cannot be locked ({fault}), and a log needs a file system with locks; take a folder on a local "
            "disk, or one that is mounted with them (Lustre: -o flock)"
        ) from fault
    return file


class _Transaction:
    """BEGIN IMMEDIATE to COMMIT around a block, rolled back if the block raises."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Cursor:
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection.cursor()

    def __exit__(self, kind: object, *_: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")


def _integers(blob: bytes) -> tuple[int, ...]:
    return tuple(np.frombuffer(blob, dtype="<i8").tolist())
