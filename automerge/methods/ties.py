"""TIES: trim, elect sign, merge (arXiv 2306.01708, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from automerge.protocols import Parameter
from automerge.signs import elect_and_sum

N_QUANTILES = 4097
"""Points of the table of magnitudes; tensors with fewer values are tabled whole, so their thresholds are exact."""


class Ties:
    """Keeps of each task vector the `density` largest magnitudes, elects per parameter the sign with more weighted
    mass, and adds to the base the weighted values that agree with it.

    The weights scale each source on its own, so the agreeing values are summed and not averaged over the sources
    that agree (the paper's mean with one common factor; mergekit's `normalize`): equal to mergekit's `ties` with
    `normalize: false`.
    """

    name = "ties"
    needs_base = True
    parameters: tuple[Parameter, ...] = (Parameter("density", 0.1, 1.0, 0.5),)

    def prepare(self, tensor: Tensor, base: Tensor | None, *, key: tuple[str, ...]) -> Tensor:  # noqa: ARG002
        """Quantiles of the task vector's magnitudes, ascending, float32 of shape (at most N_QUANTILES,)."""
        if base is None:
            raise ValueError("ties measures task vectors from a base; name one")
        magnitudes = (tensor.float() - base.float()).abs().flatten().sort().values
        if len(magnitudes) <= N_QUANTILES:
            return magnitudes
        positions = torch.linspace(0, len(magnitudes) - 1, N_QUANTILES, dtype=torch.float64).round().long()
        return magnitudes[positions.to(magnitudes.device)]

    def __call__(
        self,
        tensors: Sequence[Tensor],
        weights: Sequence[float],
        *,
        base: Tensor | None,
        prepared: Sequence[Tensor | None] = (),
        density: float = 0.5,
    ) -> Tensor:
        """The merged tensor in float32. Raises ValueError without a base or for a density outside (0, 1]."""
        if base is None or not 0 < density <= 1:
            raise ValueError(f"ties needs a base and a density in (0, 1], got density {density} and base {base}")
        origin = base.float()
        kept = []
        for k, tensor in enumerate(tensors):
            table = prepared[k] if k < len(prepared) else None
            table = table if table is not None else self.prepare(tensor, base, key=())
            difference = tensor.float() - origin
            difference[difference.abs() < threshold(table, density)] = 0.0
            kept.append(difference.mul_(weights[k]))
        return elect_and_sum(origin, kept)


def threshold(table: Tensor, density: float) -> Tensor:
    """The magnitude from which on values are kept, a scalar: the `density` share of largest ones."""
    n_kept = max(1, round(density * len(table)))
    return table[len(table) - n_kept]


METHOD = Ties()
