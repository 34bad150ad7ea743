"""Which of a pool are chosen, by beliefs that are simply given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from automerge.acquisition.selection import select
from automerge.landscape.model import Belief


class Given:
    """Beliefs about genotypes of two entries: means, a deviation, and the chance to keep the constraints by table."""

    def __init__(self, table: dict[float, tuple[list[float], float, float]]) -> None:
        self.table = table

    def _of(self, X: np.ndarray, k: int) -> Any:
        return [self.table[float(x[0])][k] for x in X]

    def believe(self, X: np.ndarray) -> Belief:
        means = np.array(self._of(X, 0)).reshape(len(X), -1)
        return Belief(means, np.repeat(np.array(self._of(X, 1))[:, None], means.shape[1], axis=1))

    def joint(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        belief = self.believe(X)
        n, m = belief.means.shape
        return belief.means, np.diag((belief.deviations**2).ravel()).reshape(n, m, n, m)

    def keeps(self, X: np.ndarray) -> np.ndarray:
        return np.array(self._of(X, 2))

    chance = keeps

    def distinct(self, X: np.ndarray, known: np.ndarray) -> np.ndarray:
        return np.arange(len(X))


def rows(*numbers: float) -> np.ndarray:
    return np.array([[number, 0.0] for number in numbers]).reshape(-1, 2)


def chosen(table: dict[float, tuple[list[float], float, float]], known: Any, pool: Any, n: int) -> list[float]:
    m = len(next(iter(table.values()))[0])
    found = select(
        Given(table),  # type: ignore[arg-type]
        rows(*pool),
        known=rows(*known),
        pending=rows(),
        reference=np.zeros(m),
        n=n,
        seed=0,
    )
    return [float(x[0]) for x in found]


@pytest.mark.parametrize("m", [1, 2])
def test_models_that_break_a_bound_are_neither_chosen_nor_compared_with(m: int) -> None:
    table = {k: ([0.9] * m, 0.01, 0.0) for k in range(5)}
    table |= {
        5: ([0.5] * m, 0.01, 1.0),
        6: ([0.6] * m, 0.01, 1.0),
        7: ([0.45] * m, 0.12, 1.0),
        8: ([0.93] * m, 0.01, 0.0),
    }
    assert chosen(table, known=range(6), pool=[6, 7, 8], n=3) == [6, 7]  # type: ignore[arg-type]


def test_where_nothing_keeps_the_bounds_something_is_chosen_all_the_same() -> None:
    table = {0: ([0.5, 0.5], 0.01, 0.0), 1: ([0.6, 0.6], 0.01, 0.0), 2: ([0.4, 0.4], 0.01, 0.0)}
    assert len(chosen(table, known=[0], pool=[1, 2], n=2)) == 2  # type: ignore[arg-type]


def test_an_empty_pool_gives_nothing() -> None:
    assert chosen({0: ([0.5], 0.1, 1.0)}, known=[0], pool=[], n=2) == []
