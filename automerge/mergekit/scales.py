"""From the gains of branches, as a configuration sets them, to scales of a recipe's layers: undoes `scaling.gains`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from automerge.recipe import Recipe, Scaling
from automerge.scaling import Gains, gains

CLOSE = 1e-12
"""Numbers that differ by less, relatively, are equal but for rounding."""


def scaled(recipe: Recipe, found: Sequence[Gains]) -> Recipe:
    """The recipe with the scales of its layers that give these gains, one pair for each layer.

    If only mlps have gains they are scales "branch_mlp", else "residual", of which the last does nothing and is 1.
    Raises ValueError for gains that are neither, or out of bounds.
    """
    scaling, scales = _scales(found)
    layers = tuple(replace(layer, scale=scale) for layer, scale in zip(recipe.layers, scales, strict=True))
    result = replace(recipe, layers=layers, scaling=scaling)
    gains(result)
    return result


def rounded(number: float) -> float:
    """The number without the digits that rounding has spoilt."""
    return float(f"{number:.12g}")


def _scales(found: Sequence[Gains]) -> tuple[Scaling, list[float]]:
    if all(gain.attention == 1 for gain in found):
        scales = [rounded(gain.mlp) for gain in found]
        return ("residual" if set(scales) <= {1.0} else "branch_mlp"), scales
    for depth, (attention, mlp) in enumerate(found):
        if not math.isclose(attention, mlp, rel_tol=CLOSE):
            raise ValueError(
                f"output layer {depth} scales what its attention adds by {attention:g} and what its mlp adds by "
                f"{mlp:g}; scale both alike, or mlps only"
            )
        if attention <= 0:
            raise ValueError(
                f"output layer {depth} scales what it adds by {attention:g}, expected more than 0; leave out a layer "
                "that adds nothing"
            )
    if found[0].attention != 1:
        raise ValueError(
            f"output layer 0 scales what it adds by {found[0].attention:g}, but scales are relative to the first "
            "layer's; leave that unscaled"
        )
    ratios = [rounded(one.attention / other.attention) for one, other in pairwise(found)]
    return "residual", [*ratios, 1.0]
