"""Recipe: the complete description of one merged model, as a frozen value.

A recipe says for every output layer and component which method reads which layers of which sources. It names
sources but holds no weights, so it can be logged, hashed, sent to a worker and read back years later::

    fuse = Fusion("linear", (Input("math", 0, 0.7), Input("code", 0, 0.3)))
    recipe = Recipe(layers=(OutputLayer(components=(("attention", fuse), ("mlp", fuse), ("other", fuse))),),
                    outer=Fusion("passthrough", (Input("math", None, 1.0),)))
    assert Recipe.from_json(recipe.to_json()) == recipe
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal, cast, get_args

Scaling = Literal["residual", "branch_mlp"]
"""What the scale of an output layer multiplies: the residual stream after it, or what its mlp adds to the stream."""

COMPONENTS = ("attention", "mlp", "other")
"""The parts of a layer that can be merged apart; `other` holds the norms and whatever has no better place."""

OUTER = "outer"
"""The part outside all layers: embeddings, final norm and head."""

BASE = "base"
"""The reserved name of the base model, from which task vectors are measured."""


@dataclass(frozen=True, slots=True)
class Input:
    """One read of a method: a source, the layer read from it (None outside the layers) and its weight."""

    source: str
    layer: int | None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Fusion:
    """One method with its inputs and its parameters, which yields the tensors of one component."""

    method: str
    inputs: tuple[Input, ...]
    parameters: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        """Refuses a fusion that reads nothing or carries a number that is not finite."""
        if not self.inputs:
            raise ValueError(f"a {self.method!r} fusion reads no source; give it at least one Input")
        numbers = [i.weight for i in self.inputs] + [value for _, value in self.parameters]
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"weights and parameters must be finite, got {numbers} in a {self.method!r} fusion")


@dataclass(frozen=True, slots=True)
class OutputLayer:
    """One layer of the merged model: a fusion per component, and its scale, whose meaning the recipe tells."""

    components: tuple[tuple[str, Fusion], ...]
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuses a scale that is not finite."""
        if not math.isfinite(self.scale):
            raise ValueError(f"the scale of a layer must be finite, got {self.scale}")


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a merged model: its output layers in order, the part outside them, and what the
    layers' scales multiply.
    """

    layers: tuple[OutputLayer, ...]
    outer: Fusion
    scaling: Scaling = "residual"

    def __post_init__(self) -> None:
        """Refuses an unknown meaning of the scales."""
        if self.scaling not in get_args(Scaling):
            raise ValueError(f"scaling must be one of {', '.join(get_args(Scaling))}, got {self.scaling!r}")

    @cached_property
    def id(self) -> str:
        """The first 16 hex digits of the SHA-256 of the canonical JSON: equal recipes have equal ids."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of all sources that the recipe reads, sorted."""
        return tuple(sorted({read.source for _, fusion in self.fusions() for read in fusion.inputs}))

    def fusions(self) -> Iterator[tuple[tuple[int | None, str], Fusion]]:
        """Yields ((output layer or None, component), fusion) in order of depth, the outer part last."""
        for depth, layer in enumerate(self.layers):
            for component, fusion in layer.components:
                yield (depth, component), fusion
        yield (None, OUTER), self.outer

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no blanks, shortest exact form of every number, `scaling` only if not usual."""
        content = asdict(self)
        if self.scaling == "residual":
            del content["scaling"]
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Recipe:
        """The recipe that `to_json` wrote. Raises ValueError naming the faulty part otherwise."""
        try:
            content = json.loads(text)
            layers = tuple(
                OutputLayer(
                    components=tuple((name, _fusion(fusion)) for name, fusion in layer["components"]),
                    scale=float(layer["scale"]),
                )
                for layer in content["layers"]
            )
            scaling = cast("Scaling", content.get("scaling", "residual"))
            return Recipe(layers=layers, outer=_fusion(content["outer"]), scaling=scaling)
        except (KeyError, TypeError, json.JSONDecodeError) as fault:
            raise ValueError(
                f"this is not a recipe as Recipe.to_json writes it: {type(fault).__name__} {fault}"
            ) from fault


def uniform(fusion: Fusion, n_layers: int) -> Recipe:
    """The recipe that applies one fusion everywhere, layer by layer; input layers are filled in here."""

    def at(layer: int | None) -> Fusion:
        return replace(fusion, inputs=tuple(replace(read, layer=layer) for read in fusion.inputs))

    layers = tuple(
        OutputLayer(components=tuple((component, at(depth)) for component in COMPONENTS)) for depth in range(n_layers)
    )
    return Recipe(layers=layers, outer=at(None))


def _fusion(content: dict[str, Any]) -> Fusion:
    return Fusion(
        method=content["method"],
        inputs=tuple(
            Input(str(read["source"]), None if read["layer"] is None else int(read["layer"]), float(read["weight"]))
            for read in content["inputs"]
        ),
        parameters=tuple((str(name), float(value)) for name, value in content["parameters"]),
    )
