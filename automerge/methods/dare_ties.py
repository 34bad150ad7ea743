"""DARE with TIES: drop task-vector entries at random, rescale, elect sign, merge (arXiv 2311.03099)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from automerge.protocols import Parameter
from automerge.signs import elect_and_sum

LEVELS = 256
"""Random numbers are kept as one byte each, so a density acts in steps of 1/256."""


class DareTies:
    """Keeps each task-vector entry with probability `density`, divides by it, then elects signs and sums as TIES.

    Each parameter has one fixed random number, drawn from the name of its source and tensor: masks of different
    densities nest, and a recipe is reproducible from its JSON alone. Weights act as in `ties`.
    """

    name = "dare_ties"
    needs_base = True
    parameters: tuple[Parameter, ...] = (Parameter("density", 0.1, 1.0, 0.5),)

    def prepare(self, tensor: Tensor, base: Tensor | None, *, key: tuple[str, ...]) -> Tensor:  # noqa: ARG002
        """The fixed random numbers, uint8 in [0, 255], of the tensor's shape."""
        digest = hashlib.sha256("\0".join(("dare", *key)).encode()).digest()
        # Drawn on the CPU always, so that every device has the same mask.
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        numbers = torch.randint(0, LEVELS, tensor.shape, generator=generator, dtype=torch.uint8)
        return numbers.to(tensor.device)

    def __call__(
        self,
        tensors: Sequence[Tensor],
        weights: Sequence[float],
        *,
        base: Tensor | None,
        prepared: Sequence[Tensor | None],
        density: float = 0.5,
    ) -> Tensor:
        """The merged tensor in float32. Raises ValueError without a base or for a density outside (0, 1]."""
        if base is None or not 0 < density <= 1:
            raise ValueError(f"dare_ties needs a base and a density in (0, 1], got density {density} and base {base}")
        level = max(1, round(density * LEVELS))
        origin = base.float()
        kept = []
        for tensor, weight, numbers in zip(tensors, weights, prepared, strict=True):
            if numbers is None:
                raise ValueError("dare_ties needs the prepared random numbers of every input")
            difference = (tensor.float() - origin).mul_(weight * LEVELS / level)
            # One less, since 256 does not fit the byte that it is compared with.
            kept.append(torch.where(numbers <= level - 1, difference, 0.0))
        return elect_and_sum(origin, kept)


METHOD = DareTies()
