"""Pareto fronts: non-dominated sets, hypervolume, crowding, and intervals of measured means. Larger is better."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import moocore
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""Objective values, shape (n, n_objectives), larger is better."""


def is_non_dominated(points: Points) -> NDArray[np.bool_]:
    """Mask of shape (n,) of the points that no other point dominates; copies of a front point all count."""
    if len(points) == 0:
        return np.zeros(0, dtype=bool)
    return np.asarray(moocore.is_nondominated(points, maximise=True, keep_weakly=True), dtype=bool)


def ranks(points: Points) -> NDArray[np.int64]:
    """Index of the front of every point, 0 for the non-dominated ones, shape (n,)."""
    if len(points) == 0:
        return np.zeros(0, dtype=np.int64)
    return np.asarray(moocore.pareto_rank(points, maximise=True), dtype=np.int64)


def crowding(points: Points) -> NDArray[np.float64]:
    """Crowding distance of every point within its own front (Deb et al. 2002), infinite at the ends, shape (n,)."""
    distance = np.zeros(len(points))
    fronts = ranks(points)
    for front in np.unique(fronts):
        members = np.flatnonzero(fronts == front)
        for column in points[members].T:
            order = np.argsort(column, kind="stable")
            gaps = np.full(len(members), np.inf)
            span = column[order[-1]] - column[order[0]]
            if len(members) > 2:
                inner = (column[order[2:]] - column[order[:-2]]) / (span if span > 0 else 1.0)
                gaps[1:-1] = inner
            distance[members[order]] += gaps
    return distance


def best_first(points: Points) -> NDArray[np.int64]:
    """Indices of all points, by front and within a front by falling crowding distance, shape (n,)."""
    return np.lexsort((-crowding(points), ranks(points)))


def hypervolume(points: Points, reference: Points) -> float:
    """Volume that the points dominate above the reference point; points not above it add nothing."""
    above = points[(points > reference).all(axis=1)] if len(points) else points
    return float(moocore.hypervolume(above, ref=reference, maximise=True)) if len(above) else 0.0


def widest(points: Points, reference: Points, limit: int) -> NDArray[np.int64]:
    """The first `limit` indices of `widest_first`, or all if they are fewer, shape (at most limit,)."""
    return np.fromiter(islice(widest_first(points, reference), limit), dtype=np.int64)


def widest_first(points: Points, reference: Points) -> Iterator[int]:
    """Indices of points that together dominate much volume above the reference point, the most useful first.

    `points` have shape (n, n_objectives), `reference` (n_objectives,). Greedy: each next point adds the most
    hypervolume to those before it, which is within 1 - 1/e of the best choice of as many (Nemhauser et al. 1978);
    points that add nothing are left out.
    """
    chosen: list[int] = []
    volume = 0.0
    while len(chosen) < len(points):
        volumes = [hypervolume(points[[*chosen, index]], reference) for index in range(len(points))]
        best = int(np.argmax(volumes))
        if volumes[best] <= volume:
            return
        chosen.append(best)
        volume = volumes[best]
        yield best


def interval(total: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson interval of a mean of n item scores in [0, 1] that add up to `total` (95 % for z = 1.96).

    Wilson, JASA 1927, eq. for the binomial; exact in spirit for 0/1 scores and conservative for scores between.
    Raises ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"an interval needs at least one item, got n = {n}")
    share = total / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_interval(differences: NDArray[np.float64], z: float = 1.96) -> tuple[float, float]:
    """The interval of the mean of paired differences of item scores, each in [-1, 1] (95 % for z = 1.96).

    Agresti and Min, Statistics in Medicine 2005 (Wald + 2): half an item is added to each way in which two right or
    wrong answers can differ or agree, so that few or equal differences are not taken for certain.
    Raises ValueError if there are none.
    """
    if len(differences) == 0:
        raise ValueError("an interval needs at least one difference, got none")
    n = len(differences) + 2
    centre = differences.sum() / n
    half = z * math.sqrt((differences @ differences + 1) / n - centre**2) / math.sqrt(n)
    return max(-1.0, float(centre - half)), min(1.0, float(centre + half))
