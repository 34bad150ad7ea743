"""Slerp: interpolation of two sources along the great circle (Shoemake, SIGGRAPH 1985)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from automerge.protocols import Parameter

COLINEAR = 0.9995
"""Above this cosine the formula divides by nearly 0 and the straight line is used (mergekit's threshold)."""


class Slerp:
    """sin((1-t) a) / sin(a) x_0 + sin(t a) / sin(a) x_1, with a the angle between the flattened tensors.

    The share of the second input is t = w_1 / (w_0 + w_1). Equal to mergekit's `slerp` with that t.
    """

    name = "slerp"
    needs_base = False
    parameters: tuple[Parameter, ...] = ()

    def prepare(self, tensor: Tensor, base: Tensor | None, *, key: tuple[str, ...]) -> Tensor:  # noqa: ARG002
        """The norm of the tensor, a scalar in float32."""
        norm: Tensor = torch.linalg.vector_norm(tensor.float())
        return norm

    def __call__(
        self,
        tensors: Sequence[Tensor],
        weights: Sequence[float],
        *,
        base: Tensor | None = None,  # noqa: ARG002
        prepared: Sequence[Tensor | None] = (),
    ) -> Tensor:
        """The interpolated tensor in float32. Raises ValueError unless there are two inputs of positive weight."""
        if len(tensors) != 2 or min(weights) < 0 or sum(weights) == 0:
            raise ValueError(f"slerp takes two inputs with weights >= 0, not both 0, got weights {list(weights)}")
        t = weights[1] / (weights[0] + weights[1])
        first, second = (tensor.float() for tensor in tensors)
        norms = [
            torch.linalg.vector_norm(tensor) if known is None else known
            for tensor, known in zip((first, second), prepared or (None, None), strict=True)
        ]
        cosine = float((first * second).sum() / (norms[0] * norms[1]).clamp_min(1e-30))
        if abs(cosine) > COLINEAR:
            return (1 - t) * first + t * second
        angle = torch.arccos(torch.tensor(cosine, dtype=torch.float64))
        shares = torch.sin(torch.tensor([1 - t, t], dtype=torch.float64) * angle) / torch.sin(angle)
        return float(shares[0]) * first + float(shares[1]) * second


METHOD = Slerp()
