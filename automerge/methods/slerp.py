"""Slerp: interpolation of two sources along the great circle (Shoemake, SIGGRAPH 1985, section 3.3).

sin((1-t) a) / sin(a) x_1 + sin(t a) / sin(a) x_2, with a the angle between the flattened tensors and the share of the
second input t = w_2 / (w_1 + w_2). Equal to mergekit's `slerp` with that t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from automerge.protocols import Statistics, WeightedSum
from automerge.tensors.geometry import cosines, of_weights

COLINEAR = 0.9995
"""Above this cosine the formula divides by nearly 0 and the straight line is used (mergekit's threshold)."""


def coefficients(weights: Sequence[float], statistics: Statistics) -> list[float]:
    """0 for the base and the two shares. Raises ValueError unless there are two inputs of weight >= 0, not both 0."""
    if len(weights) != 2 or min(weights) < 0 or sum(weights) == 0:
        raise ValueError(f"slerp takes two inputs with weights >= 0, not both 0, got weights {list(weights)}")
    t = weights[1] / (weights[0] + weights[1])
    cosine = float(cosines(of_weights(statistics.inner_products()))[0, 1])
    if abs(cosine) > COLINEAR:
        return [0.0, 1 - t, t]
    angle = math.acos(cosine)
    return [0.0, math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)]


METHOD = WeightedSum("slerp", coefficients, weighting="ratio", same=False, vectors=False, max_inputs=2)
