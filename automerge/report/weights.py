"""What the weights of a fusion come to: the effective weight of every input, and its share of the whole."""

from __future__ import annotations

from automerge import methods
from automerge.recipe import Fusion


def effective(fusion: Fusion) -> tuple[float, ...]:
    """The weight with which every input acts: out of 1 where only the ratio counts, equal where weights do not count,
    else as the recipe has it.
    """
    weighting = methods.load(fusion.method).weighting
    if weighting == "equal":
        return (1 / len(fusion.inputs),) * len(fusion.inputs)
    total = sum(read.weight for read in fusion.inputs) if weighting == "ratio" else 1.0
    return tuple(read.weight / (total or 1.0) for read in fusion.inputs)


def shares(fusion: Fusion) -> tuple[float, ...]:
    """The part of every input in the sum of the inputs' absolute weights; they add up to 1."""
    sizes = [abs(weight) for weight in effective(fusion)]
    total = sum(sizes)
    return tuple(size / total if total else 1 / len(sizes) for size in sizes)


def described(fusion: Fusion) -> str:
    """A fusion in words: `ties: math layer 3 0.75, code layer 3 0.5, density 0.4`, with the recipe's own weights."""
    places = [read.source if read.layer is None else f"{read.source} layer {read.layer}" for read in fusion.inputs]
    if fusion.method == "passthrough":
        return ", ".join(places)
    parts = [f"{place} {read.weight:.3g}" for place, read in zip(places, fusion.inputs, strict=True)]
    parts += [f"{name} {value:.3g}" for name, value in fusion.parameters]
    return f"{fusion.method}: {', '.join(parts)}"
