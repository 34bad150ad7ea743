"""The items of a benchmark: their order, their difficulties, and what models answer on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from automerge.benchmark.folder import ITEMS, read_json
from automerge.benchmark.responses import Responses, started, text_key, uniforms
from automerge.records import Split

REMEMBERED = 32
"""Orders of items that are kept: those of a few tasks and seeds that are asked for again and again."""


class Worlds:
    """By task and split the answers, made when they are asked for, and the orders in which items are asked."""

    def __init__(self, folder: Path, name: str, sizes: Mapping[str, Mapping[Split, int]]) -> None:
        """Those of the benchmark of this name in a folder. Raises ValueError if its file of items is damaged."""
        self._name = name
        self._sizes = sizes
        self._known = _read(folder, sizes)
        self._made: dict[tuple[str, Split], Responses] = {}
        self._orders: dict[tuple[str, Split, int], NDArray[np.int64]] = {}

    def __getitem__(self, place: tuple[str, Split]) -> Responses:
        """The answers on the items of a task's split."""
        if place not in self._made:
            task, split = place
            rows, known = self._known[place]
            # Items that no run used count as neither easy nor hard.
            difficulties = np.zeros(self._sizes[task][split])
            difficulties[rows] = known
            self._made[place] = Responses(self._name, task, split, difficulties)
        return self._made[place]

    def order(self, task: str, split: Split, seed: int) -> NDArray[np.int64]:
        """A random order of the items of a task's split, by row, shape (n_items,): of every seed another."""
        key = (task, split, seed)
        if key not in self._orders:
            if len(self._orders) >= REMEMBERED:
                self._orders.clear()
            states = started(np.zeros(1, dtype=np.uint64), text_key(self._name, task, split, "order"), seed)
            numbers = uniforms(states, np.arange(self._sizes[task][split]))[0]
            self._orders[key] = np.argsort(numbers, kind="stable")
        return self._orders[key]


def _read(
    folder: Path, sizes: Mapping[str, Mapping[Split, int]]
) -> dict[tuple[str, Split], tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """By task and split the rows of the known items, in order, and their difficulties."""
    content = read_json(folder, ITEMS)
    found: dict[tuple[str, Split], tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
    for task, by_split in sizes.items():
        for split, n in by_split.items():
            told = content[task][split]
            rows = np.array(told["rows"], dtype=np.int64)
            difficulties = np.array(told["difficulties"], dtype=np.float64)
            known = rows[(rows >= 0) & (rows < n)]
            is_whole = len(set(known.tolist())) == len(rows) == len(difficulties)
            if not is_whole or not np.isfinite(difficulties).all():
                raise ValueError(
                    f"{folder / ITEMS} is damaged: expected different rows of {task!r} ({split}) from 0 "
                    f"to {n - 1} and a difficulty for each, got {len(rows)} rows and {len(difficulties)} "
                    "difficulties; export or copy the benchmark again"
                )
            found[task, split] = (rows, difficulties)
    return found
