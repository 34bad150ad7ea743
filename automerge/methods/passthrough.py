"""Passthrough: one source's tensor as it is."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from automerge.protocols import Parameter


class Passthrough:
    """Returns its only input; the weight is ignored."""

    name = "passthrough"
    needs_base = False
    parameters: tuple[Parameter, ...] = ()

    def prepare(self, tensor: Tensor, base: Tensor | None, *, key: tuple[str, ...]) -> None:  # noqa: ARG002
        """Nothing to prepare."""
        return

    def __call__(
        self,
        tensors: Sequence[Tensor],
        weights: Sequence[float],  # noqa: ARG002
        *,
        base: Tensor | None = None,  # noqa: ARG002
        prepared: Sequence[Tensor | None] = (),  # noqa: ARG002
    ) -> Tensor:
        """The input in float32. Raises ValueError unless there is exactly one."""
        if len(tensors) != 1:
            raise ValueError(f"passthrough takes exactly one input, got {len(tensors)}; fuse several with `linear`")
        return tensors[0].float()


METHOD = Passthrough()
