"""DELLA: drop task-vector entries at random, small ones more often, rescale, elect sign, merge (arXiv 2406.11617).

MAGPRUNE (section 3): within each row of a matrix the entry of relative rank r (0 the smallest, 1 the largest) is kept
with probability p = density + epsilon (2 r - 1) and divided by it; then signs are elected and agreeing values summed as
in TIES. Ranks and random numbers are kept as one byte each (`automerge.tensors.masks`). Where density +- epsilon leaves
(0, 1), epsilon is cut. With the option `rescale = 0` this is mergekit's `della` with `rescale: false` but for the
random numbers and the rounding of ranks; `normalize = 1` averages the agreeing values by their weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from automerge.protocols import Elementwise, Parameter, Statistics
from automerge.tensors.formulas import Constants, elect_and_average, elect_and_sum, keep
from automerge.tensors.masks import LEVELS

DENSITY = Parameter("density", 0.1, 1.0, 0.5)
EPSILON = Parameter("epsilon", 0.0, 0.3, 0.15)


def constants(
    weights: Sequence[float],
    statistics: Statistics,  # noqa: ARG001
    *,
    density: float = DENSITY.default,
    epsilon: float = EPSILON.default,
    rescale: float = 1.0,
) -> Constants:
    """Weights, (n, 1); the smallest probability, its rise from the lowest to the highest rank, and whether to rescale,
    each (1,). Raises ValueError for a density outside (0, 1] or a negative epsilon.
    """
    if not 0 < density <= 1 or epsilon < 0:
        raise ValueError(f"della needs a density in (0, 1] and an epsilon >= 0, got {density} and {epsilon}")
    smallest = 1 / LEVELS
    spread = max(0.0, min(epsilon, 1 - density, density - smallest))
    numbers = (max(density - spread, smallest), 2 * spread, rescale)
    return np.array(weights, dtype=np.float32)[:, None], *(np.full(1, n, dtype=np.float32) for n in numbers)


def formula(base: Tensor, tensors: Sequence[Tensor], masks: Sequence[Tensor], constants: Sequence[Tensor]) -> Tensor:
    """The base plus the agreeing sum of the kept and rescaled task vectors."""
    origin = base.float()
    return origin + elect_and_sum(_kept(origin, tensors, masks, constants))


def averaging(base: Tensor, tensors: Sequence[Tensor], masks: Sequence[Tensor], constants: Sequence[Tensor]) -> Tensor:
    """The base plus the weighted mean of the agreeing kept and rescaled task vectors."""
    origin = base.float()
    return origin + elect_and_average(_kept(origin, tensors, masks, constants), constants[0])


def _kept(
    origin: Tensor, tensors: Sequence[Tensor], masks: Sequence[Tensor], constants: Sequence[Tensor]
) -> list[Tensor]:
    weights, lowest, rise, rescale = constants
    numbers, ranks = masks[: len(tensors)], masks[len(tensors) :]
    kept = []
    for k, tensor in enumerate(tensors):
        probability = lowest + rise * (ranks[k].float() / (LEVELS - 1))
        difference = (tensor.float() - origin) * weights[k] / (1 + rescale * (probability - 1))
        kept.append(keep(numbers[k].float() + 0.5 < LEVELS * probability, difference))
    return kept


METHOD = Elementwise(
    "della",
    constants,
    formula,
    weighting="strength",
    parameters=(DENSITY, EPSILON),
    masks=("numbers", "ranks"),
    averaging=averaging,
    options=("rescale",),
)
