"""What the weights of a fusion come to: the effective weight of every input, and its share of the whole."""

from __future__ import annotations

from automerge import methods
from automerge.protocols import Weighting
from automerge.recipe import Fusion

LEAST = 1e-9
"""Less than this of the whole is rounding."""


def effective(fusion: Fusion) -> tuple[float, ...]:
    """The weight with which every input acts: out of 1 where only the ratio counts, equal where weights do not count,
    else as the recipe has it.
    """
    weighting = _weighting(fusion)
    if weighting == "equal":
        return (1 / len(fusion.inputs),) * len(fusion.inputs)
    total = sum(read.weight for read in fusion.inputs) if weighting == "ratio" else 1.0
    return tuple(read.weight / (total or 1.0) for read in fusion.inputs)


def shares(fusion: Fusion) -> tuple[float, ...]:
    """The part of the whole that every input has by its absolute effective weight.

    Weights that count by themselves leave the base what they lack of 1; if they add up to more, they divide the whole.
    """
    sizes = [abs(weight) for weight in effective(fusion)]
    return tuple(size / max(1.0, sum(sizes)) for size in sizes)


def rest(fusion: Fusion) -> float:
    """The part of the whole that the inputs' shares leave to the base."""
    left = 1 - sum(shares(fusion))
    return left if left > LEAST else 0.0


def remarks(fusion: Fusion) -> list[str]:
    """What follows the weights in words: their sum where it counts, and the parameters: `sum 1.25`, `density 0.4`."""
    weights = [read.weight for read in fusion.inputs]
    sums = [f"sum {sum(weights):.6g}"] if len(weights) > 1 and _weighting(fusion) == "strength" else []
    return sums + [f"{name} {value:.3g}" for name, value in fusion.parameters]


def described(fusion: Fusion) -> str:
    """A fusion in words, with the recipe's own weights: `ties: math layer 3 0.75, code layer 3 0.5, sum 1.25`."""
    places = [read.source if read.layer is None else f"{read.source} layer {read.layer}" for read in fusion.inputs]
    if fusion.method == "passthrough":
        return ", ".join(places)
    parts = [f"{place} {read.weight:.3g}" for place, read in zip(places, fusion.inputs, strict=True)]
    return f"{fusion.method}: {', '.join(parts + remarks(fusion))}"


def _weighting(fusion: Fusion) -> Weighting:
    """What the weights do; a method that is told to normalize divides by their sum."""
    return "ratio" if dict(fusion.parameters).get("normalize") else methods.load(fusion.method).weighting
