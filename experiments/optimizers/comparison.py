"""Where on its way a search has what another has at the end."""

from __future__ import annotations

from collections.abc import Sequence


def reached(shares: Sequence[float], values: Sequence[float], target: float, *, steps: bool = False) -> float | None:
    """The share of the budget at which a curve first reaches a value, None if it does not.

    Between two points the curve is a straight line; with `steps` it holds a value until the next point.
    """
    for index, (share, value) in enumerate(zip(shares, values, strict=True)):
        if value >= target:
            if index == 0 or steps:
                return share
            before, below = shares[index - 1], values[index - 1]
            return before + (share - before) * (target - below) / (value - below)
    return None
