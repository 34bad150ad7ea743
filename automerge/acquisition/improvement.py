"""Expected hypervolume improvement of many candidates at once, exactly, for independent normal beliefs.

The region above the reference point that the front does not dominate is a union of boxes. A point adds the volume that
it dominates of each, a product over the objectives, and with independent beliefs the expectation of a product is the
product of expectations (Emmerich et al. 2011). Larger is better.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from botorch.utils.multi_objective.box_decompositions.non_dominated import FastNondominatedPartitioning
from numpy.typing import NDArray
from scipy.special import ndtr

from automerge.pareto import Points, is_non_dominated, widest

MOST_POINTS = {4: 48, 5: 24, 6: 8}
"""Points of a front of so many objectives that the space above is divided for at most: those that dominate most.

The number of boxes grows fast with both: 60 points of five objectives take seconds, as 8 points of seven do. A smaller
front leaves more to gain than there is, where points were left out.
"""

MOST_POINTS_BEYOND = 3
"""The same for more objectives."""

CHUNK = 2**22
"""Bound on the numbers held at once: candidates times boxes times objectives."""


def boxes(front: Points, reference: Points) -> NDArray[np.float64]:
    """The region above the reference point that the front does not dominate: lower and upper corners of boxes.

    Shape (2, n_boxes, n_objectives); upper corners may be infinite. Of four objectives and more at most
    MOST_POINTS count.
    """
    above = front[(front > reference).all(axis=1)] if len(front) else front
    if len(reference) == 1:
        return np.array([[[above.max() if len(above) else reference[0]]], [[np.inf]]])
    kept = above[is_non_dominated(above)] if len(above) else above.reshape(0, len(reference))
    if len(reference) == 3:
        return boxes_of_three(kept, reference)
    most = MOST_POINTS.get(len(reference), MOST_POINTS_BEYOND) if len(reference) > 3 else len(kept)
    if len(kept) > most:
        kept = kept[widest(kept, reference, most)]
    partition = FastNondominatedPartitioning(torch.as_tensor(reference), torch.as_tensor(kept))
    return np.asarray(partition.get_hypercell_bounds().numpy())


def boxes_of_three(front: Points, reference: Points) -> NDArray[np.float64]:
    """`boxes` of three objectives, for points above the reference point: BoTorch takes 100 times as long (24 points).

    From the best third value down, the plane of the other two is kept as strips that lie beside each other along the
    first, each free from some second value on. A point ends the strips that it reaches into, as boxes down to its third
    value, and puts its own in their place.
    """
    first, second, third = reference.tolist()
    # Where a strip begins and ends, from where it is free, and from which third value down.
    strips = [(first, math.inf, second, math.inf)]
    found: list[tuple[float, ...]] = []
    for x, y, z in sorted(front.tolist(), key=lambda point: -point[2]):
        reached = [strip for strip in strips if strip[0] < x and strip[2] < y]
        if not reached:
            continue
        found += [(low, free, z, high, math.inf, top) for low, high, free, top in reached if top > z]
        before = [strip for strip in strips if strip[0] < x and strip[2] >= y]
        after = [strip for strip in strips if strip[0] >= x]
        _, end, free, _ = reached[-1]
        rest = [(x, end, free, z)] if end > x else []
        strips = [*before, (reached[0][0], x, y, z), *rest, *after]
    found += [(low, free, third, high, math.inf, top) for low, high, free, top in strips]
    return np.array(found).reshape(-1, 2, 3).transpose(1, 0, 2)


def expected_improvement(
    means: NDArray[np.float64], deviations: NDArray[np.float64], boxes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The expected growth of the hypervolume by each of n candidates, shape (n,).

    `means` and `deviations` have shape (n, n_objectives); a deviation of 0 is an exact value. `boxes` are those of the
    front so far.
    """
    lower, upper = boxes
    found = np.empty(len(means))
    step = max(1, CHUNK // max(1, lower.size))
    for first in range(0, len(means), step):
        part = slice(first, first + step)
        mean, deviation = means[part, None, :], deviations[part, None, :]
        gain = _excess(mean - lower, deviation)
        finite = np.isfinite(upper)
        beyond = _excess(mean - np.where(finite, upper, 0.0), deviation)
        found[part] = np.prod(gain - np.where(finite, beyond, 0.0), axis=2).sum(axis=1)
    return found


def probability_of_improvement(
    means: NDArray[np.float64], deviations: NDArray[np.float64], boxes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The probability that each of n candidates adds any volume: that it lies in one of the boxes, shape (n,).

    An exact value on the edge of two boxes, such as a depth that all models have, lies in the one below.
    """
    lower, upper = boxes
    mean, deviation = means[:, None, :], deviations[:, None, :]
    safe = np.where(deviation > 0, deviation, 1.0)
    uncertain = ndtr((upper - mean) / safe) - ndtr((lower - mean) / safe)
    exact = (lower < mean) & (mean <= upper)
    return np.asarray(np.prod(np.where(deviation > 0, uncertain, exact), axis=2).sum(axis=1))


def _excess(gap: NDArray[np.float64], deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """E[max(0, gap + deviation * z)] for a standard normal z."""
    safe = np.where(deviation > 0, deviation, 1.0)
    z = gap / safe
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    uncertain = gap * ndtr(z) + safe * density
    return np.where(deviation > 0, np.maximum(uncertain, 0.0), np.maximum(gap, 0.0))
