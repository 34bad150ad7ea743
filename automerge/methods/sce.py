"""SCE: select, calculate, erase (FuseChat, arXiv 2408.07990, section 3.2).

Selects the share `density` of entries whose variance over the task vectors is largest (of those where they differ at
all), weighs each source by the mean square of its selected entries, erases entries against the elected sign and adds
the weighted mean of the rest to the base. Weights act by their ratio, on top of SCE's own; with equal weights it is
mergekit's `sce` with `select_topk: density`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from automerge.protocols import Elementwise, Parameter, Statistics
from automerge.tensors.formulas import Constants, variance

DENSITY = Parameter("density", 0.1, 1.0, 0.5)

SMALLEST = 1e-6
"""Sums of mean squares below it tell nothing about the sources, so they count alike (mergekit's threshold)."""


def constants(weights: Sequence[float], statistics: Statistics, *, density: float = DENSITY.default) -> Constants:
    """Each source's weight and membership, (n, 1) each, and the least variance selected, (PATTERN,).

    Raises ValueError for a density outside (0, 1] or weights of which none is positive.
    """
    if not 0 < density <= 1 or min(weights) < 0 or sum(weights) == 0:
        raise ValueError(f"sce needs a density in (0, 1] and weights >= 0, not all 0, got {density}, {list(weights)}")
    table = statistics.variances()
    differing = table.counts[table.lower > 0].sum()
    selected = int(density * differing) if density < 1 else table.size
    mean_squares = table.sums_above(selected) / table.size
    total = mean_squares.sum()
    own = mean_squares / total if total >= SMALLEST else np.full(len(weights), 1 / len(weights))
    ratio = own * np.array(weights) * len(weights) / sum(weights)
    column = ratio.astype(np.float32)[:, None]
    return column, np.ones_like(column), table.threshold(selected)


def formula(
    base: Tensor,
    tensors: Sequence[Tensor],
    masks: Sequence[Tensor],  # noqa: ARG001
    constants: Sequence[Tensor],
) -> Tensor:
    """The base plus the weighted mean of the selected and agreeing task-vector entries."""
    origin = base.float()
    weights, member, threshold = constants
    differences = [(tensor.float() - origin) * member[k] for k, tensor in enumerate(tensors)]
    total = sum(differences[1:], differences[0])
    selected = variance(differences, member) >= threshold
    elected = torch.where(total >= 0, 1.0, -1.0)
    agreeing = [((difference.sign() == elected) & selected).float() for difference in differences]
    shares = [agree * weights[k] for k, agree in enumerate(agreeing)]
    merged = sum((d * s for d, s in zip(differences[1:], shares[1:], strict=True)), differences[0] * shares[0])
    return origin + merged / sum(shares[1:], shares[0]).clamp_min(SMALLEST)


METHOD = Elementwise("sce", constants, formula, weighting="ratio", parameters=(DENSITY,))
