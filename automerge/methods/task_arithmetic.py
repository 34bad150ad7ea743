"""Task arithmetic: x_0 + sum_k w_k (x_k - x_0), the base plus weighted task vectors (arXiv 2212.04089, section 3).

Equal to mergekit's `task_arithmetic` with `normalize: false`.
"""

from __future__ import annotations

from collections.abc import Sequence

from automerge.protocols import Statistics, WeightedSum


def coefficients(weights: Sequence[float], statistics: Statistics) -> list[float]:  # noqa: ARG001
    """1 - sum w for the base, w_k for the inputs."""
    return [1.0 - sum(weights), *weights]


METHOD = WeightedSum("task_arithmetic", coefficients, weighting="strength", same=True, vectors=True)
