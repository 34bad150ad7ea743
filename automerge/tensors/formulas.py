"""Formulas that merging methods share: sums, and the sign election of TIES (arXiv 2306.01708, section 3).

They are traced by `torch.compile`, so they hold nothing but arithmetic on whole tensors. All sums run in the order of
the inputs, and an input whose constants are 0 adds 0: compiled kernels may take more inputs than a recipe has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from automerge.tensors.masks import LEVELS

Constants = tuple[NDArray[np.float32], ...]
"""The numbers a formula needs of one tensor: a row for every input, shape (n, 1) or, for thresholds, (n, PATTERN); or
one row for all, of shape (1,) or (PATTERN,)."""


class Formula(Protocol):
    """Arithmetic on whole pieces, which `torch.compile` traces."""

    def __call__(
        self, base: Tensor, tensors: Sequence[Tensor], masks: Sequence[Tensor], constants: Sequence[Tensor]
    ) -> Tensor:
        """The merged entries in float32."""


def weighted_sum(
    base: Tensor,  # noqa: ARG001 (every formula has the same arguments)
    tensors: Sequence[Tensor],
    masks: Sequence[Tensor],  # noqa: ARG001
    constants: Sequence[Tensor],
) -> Tensor:
    """sum_k c_k x_k in float32, with c of shape (n, 1)."""
    merged = tensors[0].float() * constants[0][0]
    for k in range(1, len(tensors)):
        merged = merged + tensors[k].float() * constants[0][k]
    return merged


def keep(condition: Tensor, values: Tensor) -> Tensor:
    """The finite values where the condition holds, else 0."""
    # Fused, a selection is the cheaper of the two; alone, it is several times slower on a CPU than the product.
    return torch.where(condition, values, 0.0) if torch.compiler.is_compiling() else values * condition.float()


def elect_and_sum(values: Sequence[Tensor]) -> Tensor:
    """For each entry the sum of those values that have the sign of the sum of all; a sum of 0 counts as positive.

    With s the sum and p the sum of sizes, the positive values add up to (s + p) / 2 and the negative ones to
    (s - p) / 2, so no value has to be looked at twice.
    """
    total, size = values[0], values[0].abs()
    for value in values[1:]:
        total, size = total + value, size + value.abs()
    if torch.compiler.is_compiling():  # as in `keep`
        return 0.5 * (total + torch.where(total >= 0, size, -size))
    return 0.5 * (total + size * ((total >= 0).float() * 2 - 1))


def elect_and_average(values: Sequence[Tensor], weights: Tensor) -> Tensor:
    """The same sum over the sum of the agreeing values' weights, shape (n, 1): mergekit's `normalize: true`."""
    elected = torch.where(sum(values[1:], values[0]) >= 0, 1.0, -1.0)
    agrees = [(value.sign() == elected).float() for value in values]
    total = sum((value * agree for value, agree in zip(values[1:], agrees[1:], strict=True)), values[0] * agrees[0])
    divisor = sum((weights[k] * agree for k, agree in enumerate(agrees[1:], start=1)), weights[0] * agrees[0])
    return total / torch.where(divisor == 0, 1.0, divisor)


def drop_constants(weights: Sequence[float], *, density: float, rescale: float) -> Constants:
    """What DARE needs: weights of shape (n, 1), over the density if `rescale`, and the first number dropped, (1,).

    Raises ValueError for a density outside (0, 1].
    """
    if not 0 < density <= 1:
        raise ValueError(f"expected a density in (0, 1], got {density}; it is the share of entries that is kept")
    level = max(1, round(density * LEVELS))
    scaled = np.array(weights, dtype=np.float64)[:, None] * (LEVELS / level if rescale else 1.0)
    return scaled.astype(np.float32), np.full(1, level, dtype=np.float32)


def n_kept(density: float, size: int) -> int:
    """How many of `size` entries a density keeps, one at least. Raises ValueError for a density outside (0, 1]."""
    if not 0 < density <= 1:
        raise ValueError(f"expected a density in (0, 1], got {density}; it is the share of entries that is kept")
    return max(1, int(density * size))


def variance(differences: Sequence[Tensor], member: Tensor) -> Tensor:
    """Variance of each entry over those task vectors whose `member`, of shape (n, 1), is 1 and not 0."""
    n = member.sum()
    mean = sum(differences[1:], differences[0]) / n
    squares = [(difference - mean).square() * member[k] for k, difference in enumerate(differences)]
    return sum(squares[1:], squares[0]) / n
