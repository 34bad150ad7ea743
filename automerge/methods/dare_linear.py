"""DARE: drop task-vector entries at random, rescale the rest, add up (arXiv 2311.03099, section 3.1).

x_0 + sum_k w_k m_k (x_k - x_0) / p, with each entry of m_k 1 with probability p = `density`. Each parameter has one
fixed random number (`automerge.tensors.masks`), so masks of different densities nest, in steps of 1/256. The option
`rescale = 0` leaves out the division; then this is mergekit's `dare_linear` with `rescale: false, normalize: false` but
for the random numbers (mergekit's `rescale: true` restores the L1 norm instead of dividing by p).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from automerge.protocols import Elementwise, Parameter, Statistics
from automerge.tensors.formulas import Constants, drop_constants, keep

DENSITY = Parameter("density", 0.1, 1.0, 0.5)


def constants(
    weights: Sequence[float],
    statistics: Statistics,  # noqa: ARG001
    *,
    density: float = DENSITY.default,
    rescale: float = 1.0,
) -> Constants:
    """Weights over the density, shape (n, 1), and the first number that is dropped, shape (1,)."""
    return drop_constants(weights, density=density, rescale=rescale)


def formula(base: Tensor, tensors: Sequence[Tensor], masks: Sequence[Tensor], constants: Sequence[Tensor]) -> Tensor:
    """The base plus the sum of the kept and rescaled task vectors."""
    origin = base.float()
    weights, level = constants
    merged = origin
    for k, tensor in enumerate(tensors):
        merged = merged + keep(masks[k].float() < level, (tensor.float() - origin) * weights[k])
    return merged


METHOD = Elementwise(
    "dare_linear",
    constants,
    formula,
    weighting="strength",
    parameters=(DENSITY,),
    masks=("numbers",),
    options=("rescale",),
)
