"""A benchmark under the signatures of SMM-Bench (arXiv 2509.02555), and SMM-Bench's own models under the same ones.

::

    f_ps = SmmParameterFunction.of(load("zoo-ps"), "sort")     # or .read("smm-bench-ps"), the folder that it ships
    f_ps(x)                                                    # x of shape (16,) or (n, 16): two sources of 8 layers
    f_dfs = SmmDataFlowFunction.of(load("zoo-dfs"), "sort")
    f_dfs(c, x, mode="test_acc")                               # c of shape (n, 8), x of shape (n, 15)

A folder of SMM-Bench holds `train_acc_ja_best_model.json` and `test_acc_ja_best_model.json`, each a `CVBooster` of
LightGBM whose boosters' mean is the score, and `label.json` with the names of the entries. What is missing or wrong
there raises; SMM-Bench itself warns and answers 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Self, get_args

import lightgbm
import numpy as np
from numpy.typing import ArrayLike, NDArray

from automerge.benchmark.benchmark import Benchmark
from automerge.records import Split
from automerge.spaces.smm_dfs import BOTH, LOWER, UPPER, SmmDataFlowSpace
from automerge.spaces.smm_ps import SmmParameterSpace

Values = NDArray[np.float64]

Mode = Literal["train_acc", "test_acc"]
"""Scores on the items that a search sees, or on others."""

SPLITS: Mapping[Mode, Split] = {"train_acc": "search", "test_acc": "test"}

Scores = Callable[[Values, Mode], Values]
"""From rows of entries, shape (n, n_entries), to scores in [0, 1], shape (n,)."""


class SmmParameterFunction:
    """SMM-Bench-PS: the score of models by their weights, one per layer and source. `D` is the number of entries."""

    def __init__(self, scores: Scores, n_entries: int) -> None:
        """Raises ValueError for entries that are not two a layer."""
        if n_entries % 2:
            raise ValueError(f"expected two weights a layer, got {n_entries} entries; is it a data-flow benchmark?")
        self._scores = scores
        self.D = n_entries
        self.L, self.n_source_model = n_entries // 2, 2

    @classmethod
    def of(cls, benchmark: Benchmark, task: str | None = None) -> Self:
        """The expected score of a task of a benchmark of the space `smm_ps`, its only one by default.

        The entries are in the order of the space's genes. Raises ValueError for another space or other than two
        sources, and for no or an unknown name where there are several tasks.
        """
        if not isinstance(benchmark.space, SmmParameterSpace):
            raise ValueError(_other_space(benchmark, "smm_ps"))
        if len(benchmark.space.sources) != 2:
            raise ValueError(
                f"SMM-Bench merges two sources, {benchmark.name} is of {', '.join(benchmark.space.sources)}; ask the "
                "benchmark itself, by its query"
            )
        return cls(_expected(benchmark, task), len(benchmark.space.genes))

    @classmethod
    def read(cls, folder: Path | str) -> Self:
        """The function of a folder of SMM-Bench. Raises FileNotFoundError, or ValueError for damaged files."""
        return cls(*_published(Path(folder)))

    def __call__(self, x: ArrayLike, mode: Mode = "train_acc") -> float | Values:
        """The score of weights of shape (D,), or scores of shape (n,) of (n, D), clipped to [0, 1] as SMM-Bench does.

        Raises ValueError for another shape, numbers that are not finite and unknown modes.
        """
        rows = _rows("x", x, self.D)
        found = self._scores(np.clip(rows, 0.0, 1.0), _checked(mode))
        return float(found[0]) if np.ndim(x) == 1 else found


class SmmDataFlowFunction:
    """SMM-Bench-DFS: the score of stacks by choices of layers and scales. `D` is the number of entries.

    `D_c` of them are choices of `num_categories`, `D_x` are scales.
    """

    def __init__(self, scores: Scores, n_entries: int) -> None:
        """Raises ValueError for entries that are not a choice a layer and a scale between any two."""
        if n_entries % 3 != 2:
            raise ValueError(
                f"expected 3 L - 1 entries for L layers, got {n_entries}; is it a benchmark of the parameter space?"
            )
        self._scores = scores
        self.D = n_entries
        self.D_c, self.D_x = (n_entries + 1) // 3, (2 * n_entries - 1) // 3
        self.num_categories, self.n_source_model = BOTH + 1, 2

    @classmethod
    def of(cls, benchmark: Benchmark, task: str | None = None) -> Self:
        """The expected score of a task of a benchmark of the space `smm_dfs`, its only one by default.

        Raises ValueError for another space, and for no or an unknown name where there are several tasks.
        """
        if not isinstance(benchmark.space, SmmDataFlowSpace):
            raise ValueError(_other_space(benchmark, "smm_dfs"))
        return cls(_expected(benchmark, task), len(benchmark.space.genes))

    @classmethod
    def read(cls, folder: Path | str) -> Self:
        """The function of a folder of SMM-Bench. Raises FileNotFoundError, or ValueError for damaged files."""
        return cls(*_published(Path(folder)))

    def __call__(self, c: ArrayLike, x: ArrayLike, mode: Mode = "train_acc") -> float | Values:
        """The score of choices of shape (D_c,) and scales of shape (D_x,), or scores of shape (n,) of n rows of each.

        Scales are clipped to [0.4, 1.5] as SMM-Bench does. Raises ValueError for another shape, choices other than 0, 1
        and 2, numbers that are not finite and unknown modes.
        """
        choices, scales = _rows("c", c, self.D_c), _rows("x", x, self.D_x)
        if len(choices) != len(scales):
            raise ValueError(f"expected as many rows of c as of x, got {len(choices)} and {len(scales)}")
        if not np.isin(choices, np.arange(self.num_categories)).all():
            raise ValueError(f"choices are 0, 1 or 2, got {np.setdiff1d(choices, np.arange(BOTH + 1))[:3].tolist()}")
        entries = np.concatenate([choices, np.clip(scales, LOWER, UPPER)], axis=1)
        found = self._scores(entries, _checked(mode))
        return float(found[0]) if np.ndim(x) == 1 else found


def _expected(benchmark: Benchmark, task: str | None) -> Scores:
    """The expected scores of a task, with 0 for what is broken."""
    chosen = benchmark.tasks[0] if task is None and len(benchmark.tasks) == 1 else task
    if chosen is None or chosen not in benchmark.tasks:
        raise ValueError(f"SMM-Bench has one task: name one of {', '.join(benchmark.tasks)}, got {task!r}")

    def scores(entries: Values, mode: Mode) -> Values:
        genotypes = benchmark.genotypes(entries)
        return benchmark.mean(genotypes, SPLITS[mode])[chosen] * (1 - benchmark.chance_broken(genotypes))

    return scores


def _published(folder: Path) -> tuple[Scores, int]:
    """What a folder of SMM-Bench scores, and its number of entries."""
    missing = [name for name in [*map(_model_file, SPLITS), "label.json"] if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} is no whole folder of SMM-Bench: it has no {' and no '.join(missing)}")
    try:
        bags: dict[Mode, list[lightgbm.Booster]] = {
            mode: [
                lightgbm.Booster(model_str=text)
                for text in json.loads((folder / _model_file(mode)).read_text(encoding="utf-8"))["boosters"]
            ]
            for mode in SPLITS
        }
        n_entries = len(json.loads((folder / "label.json").read_text(encoding="utf-8"))["x"])
    except (ValueError, KeyError, TypeError, AttributeError, lightgbm.basic.LightGBMError) as fault:
        raise ValueError(
            f"the folder {folder} is not as SMM-Bench writes it ({type(fault).__name__}: {fault}); download it again"
        ) from fault
    sizes = {int(bag.num_feature()) for own in bags.values() for bag in own}
    if not all(bags.values()) or sizes != {n_entries}:
        raise ValueError(
            f"{folder}: expected boosters of the {n_entries} entries that label.json names, got "
            f"{', '.join(map(str, sorted(sizes))) or 'none'}; download it again"
        )

    def scores(entries: Values, mode: Mode) -> Values:
        each = [np.asarray(bag.predict(entries, num_threads=1), dtype=np.float64) for bag in bags[mode]]
        return np.asarray(np.clip(np.mean(each, axis=0), 0.0, 1.0))

    return scores, n_entries


def _model_file(mode: Mode) -> str:
    return f"{mode}_ja_best_model.json"


def _checked(mode: Mode) -> Mode:
    if mode not in SPLITS:
        raise ValueError(f"expected a mode of {', '.join(get_args(Mode))}, got {mode!r}")
    return mode


def _rows(name: str, entries: ArrayLike, width: int) -> Values:
    """Rows of entries, shape (n, width)."""
    found = np.asarray(entries, dtype=np.float64)
    if found.ndim not in (1, 2) or found.shape[-1] != width or not np.isfinite(found).all():
        raise ValueError(
            f"expected {name} as finite numbers of shape ({width},) or (n, {width}), got shape {found.shape}"
        )
    return np.atleast_2d(found)


def _other_space(benchmark: Benchmark, wanted: str) -> str:
    return f"{benchmark.name} is of the space {type(benchmark.space).__name__}; export runs of space={wanted}"
