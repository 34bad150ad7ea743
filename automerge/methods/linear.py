"""Linear: sum_k w_k x_k / sum_k w_k, the weighted mean of the sources (model soups, arXiv 2203.05482, section 2).

Equal to mergekit's `linear` with its default `normalize: true`.
"""

from __future__ import annotations

from collections.abc import Sequence

from automerge.protocols import Statistics, WeightedSum


def coefficients(weights: Sequence[float], statistics: Statistics) -> list[float]:  # noqa: ARG001
    """0 for the base, w_k / sum w for the inputs. Raises ValueError if the weights add up to 0."""
    total = sum(weights)
    if total == 0:
        raise ValueError(f"linear weights must not add up to 0, got {list(weights)}; give one of them a value")
    return [0.0, *(weight / total for weight in weights)]


METHOD = WeightedSum("linear", coefficients, weighting="ratio", same=True, vectors=False)
