"""DARE with TIES: drop task-vector entries at random, rescale, elect sign, merge (arXiv 2311.03099, section 3.2).

Keeps each entry with probability `density`, divides by it, then elects signs and sums as TIES (arXiv 2306.01708). The
random numbers and the option `rescale` are those of `dare_linear`; `normalize = 1` averages the agreeing values by
their weights. With `rescale = 0` this is mergekit's `dare_ties` with `rescale: false` but for the random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from automerge.protocols import Elementwise, Parameter, Statistics
from automerge.tensors.formulas import Constants, drop_constants, elect_and_average, elect_and_sum, keep

DENSITY = Parameter("density", 0.1, 1.0, 0.5)


def constants(
    weights: Sequence[float],
    statistics: Statistics,  # noqa: ARG001
    *,
    density: float = DENSITY.default,
    rescale: float = 1.0,
) -> Constants:
    """Weights over the density, shape (n, 1), the first number that is dropped, (1,), and the weights, (n, 1)."""
    scaled, level = drop_constants(weights, density=density, rescale=rescale)
    plain, _ = drop_constants(weights, density=density, rescale=0.0)
    return scaled, level, plain


def formula(base: Tensor, tensors: Sequence[Tensor], masks: Sequence[Tensor], constants: Sequence[Tensor]) -> Tensor:
    """The base plus the agreeing sum of the kept and rescaled task vectors."""
    origin = base.float()
    return origin + elect_and_sum(_kept(origin, tensors, masks, constants))


def averaging(base: Tensor, tensors: Sequence[Tensor], masks: Sequence[Tensor], constants: Sequence[Tensor]) -> Tensor:
    """The base plus the weighted mean of the agreeing kept and rescaled task vectors."""
    origin = base.float()
    return origin + elect_and_average(_kept(origin, tensors, masks, constants), constants[2])


def _kept(
    origin: Tensor, tensors: Sequence[Tensor], masks: Sequence[Tensor], constants: Sequence[Tensor]
) -> list[Tensor]:
    weights, level, _ = constants
    return [
        keep(mask.float() < level, (tensor.float() - origin) * weights[k])
        for k, (tensor, mask) in enumerate(zip(tensors, masks, strict=True))
    ]


METHOD = Elementwise(
    "dare_ties",
    constants,
    formula,
    weighting="strength",
    parameters=(DENSITY,),
    masks=("numbers",),
    averaging=averaging,
    options=("rescale",),
)
