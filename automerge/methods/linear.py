"""Linear: the weighted mean of the sources (model soups, arXiv 2203.05482)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from automerge.protocols import Parameter


class Linear:
    """sum_k w_k x_k / sum_k w_k. Equal to mergekit's `linear` with its default `normalize: true`."""

    name = "linear"
    needs_base = False
    parameters: tuple[Parameter, ...] = ()

    def prepare(self, tensor: Tensor, base: Tensor | None, *, key: tuple[str, ...]) -> None:  # noqa: ARG002
        """Nothing to prepare."""
        return

    def __call__(
        self,
        tensors: Sequence[Tensor],
        weights: Sequence[float],
        *,
        base: Tensor | None = None,  # noqa: ARG002
        prepared: Sequence[Tensor | None] = (),  # noqa: ARG002
    ) -> Tensor:
        """The weighted mean in float32. Raises ValueError if the weights add up to 0."""
        total = sum(weights)
        if total == 0:
            raise ValueError(f"linear weights must not add up to 0, got {list(weights)}; give one of them a value")
        merged = torch.zeros_like(tensors[0], dtype=torch.float32)
        for tensor, weight in zip(tensors, weights, strict=True):
            merged.add_(tensor, alpha=weight / total)
        return merged


METHOD = Linear()
