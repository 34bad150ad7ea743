"""Task arithmetic: the base plus weighted task vectors (arXiv 2212.04089, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from automerge.protocols import Parameter


class TaskArithmetic:
    """x_0 + sum_k w_k (x_k - x_0). Equal to mergekit's `task_arithmetic` with `normalize: false`."""

    name = "task_arithmetic"
    needs_base = True
    parameters: tuple[Parameter, ...] = ()

    def prepare(self, tensor: Tensor, base: Tensor | None, *, key: tuple[str, ...]) -> None:  # noqa: ARG002
        """Nothing to prepare."""
        return

    def __call__(
        self,
        tensors: Sequence[Tensor],
        weights: Sequence[float],
        *,
        base: Tensor | None,
        prepared: Sequence[Tensor | None] = (),  # noqa: ARG002
    ) -> Tensor:
        """The sum in float32. Raises ValueError without a base."""
        if base is None:
            raise ValueError("task_arithmetic measures task vectors from a base; name one")
        merged = base.float() * (1.0 - sum(weights))
        for tensor, weight in zip(tensors, weights, strict=True):
            merged.add_(tensor, alpha=weight)
        return merged


METHOD = TaskArithmetic()
