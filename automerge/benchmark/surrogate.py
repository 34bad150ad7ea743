"""The surrogate benchmark of a run, read back: features of a merge to its expected scores.

Reading needs numpy and lightgbm only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import lightgbm
import numpy as np
from numpy.typing import NDArray


class Surrogate:
    """The models of an exported benchmark folder. Raises FileNotFoundError if it is none."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        metadata = self.folder / "metadata.json"
        if not metadata.is_file():
            raise FileNotFoundError(f"{self.folder} is no exported benchmark: it has no metadata.json")
        content = json.loads(metadata.read_text())
        self.tasks: tuple[str, ...] = tuple(content["tasks"])
        self.features: tuple[str, ...] = tuple(content["features"])
        self._ensembles = {task: self._load(task) for task in self.tasks}

    def mean(self, features: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
        """By task the expected scores in [0, 1], shape (n,), of features in the columns of `self.features`.

        Raises ValueError for another number of columns.
        """
        rows = np.atleast_2d(features)
        if rows.shape[1] != len(self.features):
            raise ValueError(f"expected {len(self.features)} features a row, got {rows.shape[1]}; see metadata.json")
        return {
            task: np.mean([np.asarray(model.predict(rows, num_threads=1)) for model in models], axis=0)
            for task, models in self._ensembles.items()
        }

    def _load(self, task: str) -> list[lightgbm.Booster]:
        files = sorted((self.folder / "models").glob(f"{task}.search.*.txt"))
        if not files:
            raise FileNotFoundError(f"{self.folder} has no models of task {task!r}; its run had too few trials")
        return [lightgbm.Booster(model_file=str(file)) for file in files]
