"""NuSLERP: spherical interpolation of two task vectors, added to the base (mergekit's `nuslerp` with a base model).

x_0 + sin((1-t) a) / sin(a) d_1 + sin(t a) / sin(a) d_2 with d_k = x_k - x_0, a the angle between the flattened task
vectors and t = w_2 / (w_1 + w_2): slerp (Shoemake, SIGGRAPH 1985) where fine-tunes really differ, since the tensors
themselves are nearly parallel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from automerge.protocols import Statistics, WeightedSum
from automerge.tensors.geometry import cosines

SMALLEST_SINE = 1e-8
"""Below this sine the formula divides by nearly 0 and the straight line is used (mergekit's threshold)."""


def coefficients(weights: Sequence[float], statistics: Statistics) -> list[float]:
    """The base's and the two shares. Raises ValueError unless there are two inputs of weight >= 0, not both 0."""
    if len(weights) != 2 or min(weights) < 0 or sum(weights) == 0:
        raise ValueError(f"nuslerp takes two inputs with weights >= 0, not both 0, got weights {list(weights)}")
    t = weights[1] / (weights[0] + weights[1])
    angle = math.acos(float(cosines(statistics.inner_products()[1:, 1:])[0, 1]))
    sine = math.sin(angle)
    first, second = (1 - t, t)
    if sine >= SMALLEST_SINE:
        first, second = math.sin((1 - t) * angle) / sine, math.sin(t * angle) / sine
    return [1 - first - second, first, second]


METHOD = WeightedSum("nuslerp", coefficients, weighting="ratio", same=False, vectors=True, max_inputs=2)
