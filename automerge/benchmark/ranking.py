"""Who is better, by how much and how surely: paired differences over seeds, ranks over blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare, rankdata, studentized_range, t


@dataclass(frozen=True, slots=True)
class Paired:
    """Mean of paired differences with its 95 % interval; `n` pairs, of which `wins` are above 0."""

    mean: float
    low: float
    high: float
    n: int
    wins: int


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Paired | None:
    """First minus second over the seeds that both have, with Student's interval; None if there is no such seed.

    With one seed the interval is without bounds.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    differences = np.array([first[seed] - second[seed] for seed in seeds])
    n, mean = len(seeds), float(differences.mean())
    half = float(t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n)) if n > 1 else np.inf
    return Paired(mean, mean - half, mean + half, n, int((differences > 0).sum()))


@dataclass(frozen=True, slots=True)
class Ranking:
    """Mean ranks by name, 1 is best, over `n_blocks` blocks.

    `p_value` is Friedman's that all are alike, `distance` Nemenyi's critical distance at 5 %: mean ranks that differ
    by less are not told apart.
    """

    ranks: Mapping[str, float]
    n_blocks: int
    p_value: float
    distance: float


def ranking(names: Sequence[str], blocks: NDArray[np.float64]) -> Ranking:
    """The ranking of contestants by their values in blocks, shape (n_blocks, n_names), larger is better; ties share.

    Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 2006, section 3.2.2. Raises ValueError
    for fewer than three names or two blocks, for which the test does not exist.
    """
    n_blocks, k = blocks.shape
    if k < 3 or n_blocks < 2 or k != len(names):
        raise ValueError(
            f"a ranking needs three contestants and two blocks at least, got {len(names)} names and values of shape "
            f"{blocks.shape}; run more optimizers or seeds"
        )
    ranks = rankdata(-blocks, axis=1).mean(axis=0)
    # Where all are equal in every block the statistic is 0/0: nothing speaks against their being alike.
    p_value = 1.0 if (blocks == blocks[:, :1]).all() else float(friedmanchisquare(*blocks.T).pvalue)
    distance = float(studentized_range.ppf(0.95, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n_blocks)))
    return Ranking(dict(zip(names, ranks.tolist(), strict=True)), n_blocks, p_value, distance)


def alike(ranking: Ranking) -> list[tuple[float, float]]:
    """The longest spans of mean ranks that are not told apart, each as (best, worst), best first."""
    ranks = sorted(ranking.ranks.values())
    spans: list[tuple[float, float]] = []
    for start in ranks:
        end = max(rank for rank in ranks if rank - start <= ranking.distance)
        if end > start and (not spans or end > spans[-1][1]):
            spans.append((start, end))
    return spans
