"""Model breadcrumbs: drop the smallest and the very largest entries of each task vector, add up (arXiv 2312.06795).

x_0 + sum_k w_k m_k (x_k - x_0), where m_k (section 3) leaves out the share `gamma` of largest magnitudes of the tensor
and keeps the share `density` below them. Where both together exceed 1, fewer outliers are dropped. Equal to mergekit's
`breadcrumbs` with `normalize: false`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from automerge.protocols import Elementwise, Parameter, Statistics
from automerge.tensors.formulas import Constants, keep, n_kept

DENSITY = Parameter("density", 0.1, 1.0, 0.5)
GAMMA = Parameter("gamma", 0.0, 0.1, 0.01)


def constants(
    weights: Sequence[float],
    statistics: Statistics,
    *,
    density: float = DENSITY.default,
    gamma: float = GAMMA.default,
) -> Constants:
    """Weights, (n, 1), and the thresholds from which on and up to which values are kept, (n, PATTERN) each.

    Raises ValueError for a density outside (0, 1] or a gamma outside [0, 1).
    """
    if not 0 <= gamma < 1:
        raise ValueError(f"breadcrumbs needs a gamma in [0, 1), the share of outliers to drop, got {gamma}")
    lower, upper = [], []
    for table in statistics.magnitudes():
        kept = n_kept(density, table.size)
        n_top = min(int(gamma * table.size), table.size - kept)
        lower.append(table.threshold(kept + n_top))
        upper.append(table.threshold(n_top))
    return np.array(weights, dtype=np.float32)[:, None], np.stack(lower), np.stack(upper)


def formula(
    base: Tensor,
    tensors: Sequence[Tensor],
    masks: Sequence[Tensor],  # noqa: ARG001
    constants: Sequence[Tensor],
) -> Tensor:
    """The base plus the sum of the kept task-vector entries."""
    origin = base.float()
    weights, lower, upper = constants
    merged = origin
    for k, tensor in enumerate(tensors):
        difference = tensor.float() - origin
        magnitude = difference.abs()
        kept = (magnitude >= lower[k]) & (magnitude < upper[k])
        merged = merged + keep(kept, difference * weights[k])
    return merged


METHOD = Elementwise("breadcrumbs", constants, formula, weighting="strength", parameters=(DENSITY, GAMMA))
