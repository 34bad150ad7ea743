"""Model stock: the base and the mean of the sources, mixed by the angle between the task vectors (arXiv 2403.19522).

t mean_k x_k + (1 - t) x_0 with t = n cos / (1 + (n - 1) cos), cos the mean cosine over all pairs of the tensor's task
vectors (section 4, equation 5). Weights do not count. Equal to mergekit's `model_stock` with its default
`filter_wise: false`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automerge.protocols import Statistics, WeightedSum
from automerge.tensors.geometry import cosines


def coefficients(weights: Sequence[float], statistics: Statistics) -> list[float]:
    """1 - t for the base, t / n for the inputs; the base alone where t has no finite value.

    Raises ValueError for fewer than two inputs, which have no angle.
    """
    n = len(weights)
    if n < 2:
        raise ValueError("model_stock needs two inputs at least: it mixes by the angle between their task vectors")
    between = cosines(statistics.inner_products()[1:, 1:])
    cosine = float(between[np.triu_indices(n, k=1)].mean())
    denominator = 1 + (n - 1) * cosine
    t = 0.0 if abs(denominator) < 1e-6 else n * cosine / denominator
    return [1 - t, *(t / n for _ in weights)]


METHOD = WeightedSum("model_stock", coefficients, weighting="equal", same=False, vectors=True)
