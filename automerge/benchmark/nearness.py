"""How near a model is to those that were measured: trees cannot extrapolate, and do not say where they would have to.

The distance of two models is that of their features, each over its standard deviation. What lies farther from the
measured models than 99 % of them lie from each other is outside.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LIMIT = 1000
"""Most measured models that are kept."""

QUANTILE = 0.99
"""The share of the measured models that are inside, each told from the others."""

ROWS = 2048
"""Models whose distances are taken together, to bound the memory."""


@dataclass(frozen=True)
class Nearness:
    """Some measured models that stand for all: `anchors` are scaled features, float32, shape (m, n_features).

    `scale`, shape (n_features,), is what features were divided by, `reach` the distance at which the outside begins.
    """

    anchors: NDArray[np.float32]
    scale: NDArray[np.float64]
    reach: float

    @staticmethod
    def fit(features: NDArray[np.float64]) -> Nearness:
        """The nearness to models of these features, shape (n, n_features).

        If there are more than LIMIT, those are kept that are farthest apart: each next one is the farthest from those
        before (Gonzalez, Theoretical Computer Science 1985), so that no model is far from all that are kept. Features
        that never changed are not scaled. Raises ValueError for fewer than two different models.
        """
        rows = np.unique(features, axis=0)
        if len(rows) < 2:
            raise ValueError(f"expected two different models at least, got {len(rows)}; measure more")
        spread = features.std(axis=0)
        scale = np.where(spread > 0, spread, 1.0)
        scaled = (rows / scale).astype(np.float32)
        chosen = _far_apart(scaled, LIMIT)
        anchors = scaled[chosen]
        distances = _nearest(scaled, anchors)
        # An anchor is told from the other anchors.
        distances[chosen] = _nearest(anchors, anchors, but_itself=True)
        return Nearness(anchors, scale, float(np.quantile(distances, QUANTILE)))

    def distance(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """The distances of models to the nearest measured one, 1 where the outside begins, shape (n,)."""
        return np.asarray(_nearest((features / self.scale).astype(np.float32), self.anchors) / self.reach)

    def save(self, path: Path) -> None:
        """Writes it as a packed NumPy archive."""
        np.savez_compressed(path, anchors=self.anchors, scale=self.scale, reach=np.array(self.reach))

    @staticmethod
    def load(path: Path) -> Nearness:
        """What `save` wrote. Raises FileNotFoundError if there is none, ValueError if it is damaged."""
        if not path.is_file():
            raise FileNotFoundError(f"no file at {path}; export or copy the benchmark again")
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                return Nearness(content["anchors"], content["scale"], float(content["reach"]))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as fault:
            raise ValueError(f"{path} is damaged ({fault}); export or copy the benchmark again") from fault


def _far_apart(rows: NDArray[np.float32], limit: int) -> NDArray[np.int64]:
    """Positions of at most `limit` rows: the one nearest to the mean, then always the farthest from those before."""
    if len(rows) <= limit:
        return np.arange(len(rows))
    chosen = [int(np.argmin(((rows - rows.mean(axis=0)) ** 2).sum(axis=1)))]
    nearest = ((rows - rows[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < limit:
        chosen.append(int(nearest.argmax()))
        np.minimum(nearest, ((rows - rows[chosen[-1]]) ** 2).sum(axis=1), out=nearest)
    return np.array(chosen)


def _nearest(
    rows: NDArray[np.float32], anchors: NDArray[np.float32], *, but_itself: bool = False
) -> NDArray[np.float64]:
    """The distances of rows to the nearest anchor, shape (n,); with `but_itself` row i is anchor i, and not its own."""
    found = np.empty(len(rows))
    lengths = (anchors.astype(np.float64) ** 2).sum(axis=1)
    for start in range(0, len(rows), ROWS):
        some = rows[start : start + ROWS]
        # |a - b|^2 = |a|^2 + |b|^2 - 2 a b; what cancels is recomputed below.
        rough = lengths - 2 * (some @ anchors.T)
        if but_itself:
            own = np.arange(len(some))
            rough[own, start + own] = np.inf
        found[start : start + ROWS] = np.sqrt(((some - anchors[rough.argmin(axis=1)]) ** 2).sum(axis=1))
    return found
