"""TIES: trim, elect sign, merge (arXiv 2306.01708, algorithm 1).

Keeps of each task vector the `density` largest magnitudes of the tensor, elects for each parameter the sign with more
weighted mass, and adds to the base the weighted values that agree with it. The weights scale each source on its own, so
agreeing values are summed: equal to mergekit's `ties` with `normalize: false`. With `normalize = 1` they are averaged
by their weights (the paper's disjoint mean, mergekit's default).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from automerge.protocols import Elementwise, Parameter, Statistics
from automerge.tensors.formulas import Constants, elect_and_average, elect_and_sum, keep, n_kept

DENSITY = Parameter("density", 0.1, 1.0, 0.5)


def constants(weights: Sequence[float], statistics: Statistics, *, density: float = DENSITY.default) -> Constants:
    """Weights of shape (n, 1) and thresholds of shape (n, PATTERN). Raises ValueError for a density outside (0, 1]."""
    thresholds = [table.threshold(n_kept(density, table.size)) for table in statistics.magnitudes()]
    return np.array(weights, dtype=np.float32)[:, None], np.stack(thresholds)


def formula(
    base: Tensor,
    tensors: Sequence[Tensor],
    masks: Sequence[Tensor],  # noqa: ARG001
    constants: Sequence[Tensor],
) -> Tensor:
    """The base plus the agreeing sum of the trimmed task vectors."""
    origin = base.float()
    return origin + elect_and_sum(_trimmed(origin, tensors, constants))


def averaging(
    base: Tensor,
    tensors: Sequence[Tensor],
    masks: Sequence[Tensor],  # noqa: ARG001
    constants: Sequence[Tensor],
) -> Tensor:
    """The base plus the weighted mean of the agreeing trimmed task vectors."""
    origin = base.float()
    return origin + elect_and_average(_trimmed(origin, tensors, constants), constants[0])


def _trimmed(origin: Tensor, tensors: Sequence[Tensor], constants: Sequence[Tensor]) -> list[Tensor]:
    weights, thresholds = constants
    differences = [tensor.float() - origin for tensor in tensors]
    return [
        keep(difference.abs() >= thresholds[k], difference * weights[k]) for k, difference in enumerate(differences)
    ]


METHOD = Elementwise("ties", constants, formula, weighting="strength", parameters=(DENSITY,), averaging=averaging)
