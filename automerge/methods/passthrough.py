"""Passthrough: one source's tensor as it is. The weight does not count."""

from __future__ import annotations

from collections.abc import Sequence

from automerge.protocols import Statistics, WeightedSum


def coefficients(weights: Sequence[float], statistics: Statistics) -> list[float]:  # noqa: ARG001
    """0 for the base, 1 for the only input."""
    return [0.0, *(1.0 for _ in weights)]


METHOD = WeightedSum("passthrough", coefficients, weighting="equal", same=True, vectors=False, max_inputs=1)
