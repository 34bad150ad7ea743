"""Fusions read back as the settings of a space's slots, with every reason why the space cannot hold them.

A setting names no layer, so those of slots that share their genes can be compared::

    reader = FusionReader(sources=("math", "code"), methods=..., bounds={"density": (0.1, 1.0)}, max_weight=1.5, ...)
    reader.setting(fusion, layer=3, place="3.mlp")   # Setting("ties", (0.7, 0.3), (("density", 0.5),))
    reader.refuse("LFS")                             # ValueError with all faults so far, if there are any
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from automerge.protocols import Elementwise, Method
from automerge.recipe import BASE, Fusion

PASSTHROUGH = "passthrough"

NEUTRAL = {"normalize": 0.0, "rescale": 1.0}
"""Options of methods at which they do what spaces search."""

LISTED = 4
"""Places named beside a fault."""


class Setting(NamedTuple):
    """What a slot does: a method, a weight for every source, parameters by name.

    `passthrough` has a weight of 1 for the source that is passed through, none for the base.
    """

    method: str
    weights: tuple[float, ...]
    parameters: tuple[tuple[str, float], ...] = ()


class Fault(NamedTuple):
    """What a space lacks with the remedy, and what of it a fusion wants."""

    text: str
    wanted: str


@dataclass
class FusionReader:
    """Reads fusions as settings of slots. Holds the faults found so far.

    `bounds` are those of parameters by name; numbers are rounded to `decimals`; `has_base` says whether the base as it
    is can be a setting.
    """

    sources: Sequence[str]
    methods: Mapping[str, Method]
    bounds: Mapping[str, tuple[float, float]]
    max_weight: float
    decimals: int
    has_base: bool
    faults: dict[str, list[str]] = field(default_factory=dict)

    def setting(self, fusion: Fusion, layer: int | None, place: str) -> Setting | None:
        """The setting of a slot that writes this layer; None if the space has none, which is noted with the place."""
        found = list(self._faults(fusion, layer))
        for fault in found:
            self.note(fault.text, f"{place}: {fault.wanted}")
        if found:
            return None
        if fusion.method == PASSTHROUGH:
            return Setting(PASSTHROUGH, tuple(float(name == fusion.inputs[0].source) for name in self.sources))
        method = self.methods[fusion.method]
        given = {read.source: 1.0 if method.weighting == "equal" else read.weight for read in fusion.inputs}
        weights = [given.get(name, 0.0) for name in self.sources]
        # Weights that add up to 1 but for rounding stay as they are, so that what a space wrote comes back unchanged.
        off = abs(sum(weights) - 1) > 0.51 * len(weights) * 10.0**-self.decimals
        total = sum(weights) if method.weighting != "strength" and off else 1.0
        parameters = {parameter.name: parameter.default for parameter in method.parameters}
        parameters |= {name: value for name, value in fusion.parameters if name in parameters}
        return Setting(
            fusion.method,
            tuple(self._rounded(weight / total) for weight in weights),
            tuple((name, self._rounded(value)) for name, value in parameters.items()),
        )

    def note(self, fault: str, wanted: str) -> None:
        """Adds a fault, or one more case of it."""
        self.faults.setdefault(fault, []).append(wanted)

    def refuse(self, space: str) -> None:
        """Raises ValueError with all faults, if there are any."""
        if self.faults:
            listed = [f"  - {fault} ({_some(wanted)})" for fault, wanted in self.faults.items()]
            raise ValueError("\n".join([f"the {space} space cannot hold this recipe:", *listed]))

    def _faults(self, fusion: Fusion, layer: int | None) -> Iterator[Fault]:
        names = [read.source for read in fusion.inputs]
        for read in fusion.inputs:
            if read.source not in (BASE, *self.sources):
                known = ", ".join((BASE, *self.sources))
                yield Fault(f"it reads others than {known}: add them to source.models, by these names", read.source)
            if read.layer != layer:
                where = "no layer" if read.layer is None else f"layer {read.layer}"
                yield Fault("it moves layers, but every layer is fused from those of its own depth", where)
        if fusion.method == PASSTHROUGH:
            if len(names) > 1:
                yield Fault("passthrough takes one input: fuse several with `linear`", ", ".join(names))
            if BASE in names and not self.has_base:
                yield Fault("it takes the base as it is: add task_arithmetic to space.methods", BASE)
        elif fusion.method not in self.methods:
            yield Fault("it uses methods that the space lacks: add them to space.methods", fusion.method)
        else:
            yield from self._input_faults(fusion, names)
            yield from self._number_faults(fusion)

    def _input_faults(self, fusion: Fusion, names: Sequence[str]) -> Iterator[Fault]:
        method = self.methods[fusion.method]
        if BASE in names:
            yield Fault(
                "it fuses the base like a source: where the method is linear, write task_arithmetic with the shares of "
                "the others as weights",
                fusion.method,
            )
        if len(set(names)) < len(names):
            yield Fault("it reads a source twice in one fusion: add the weights up", ", ".join(names))
        if method.max_inputs is not None and len(names) > method.max_inputs:
            yield Fault("its method takes fewer inputs: leave some out", f"{fusion.method} of {', '.join(names)}")
        joins = method.weighting == "equal" or method.max_inputs == 2 or _selects(method)
        if len(names) == 1 and method.weighting != "strength" and joins:
            yield Fault("its method joins several inputs: use passthrough for one", f"{fusion.method} of {names[0]}")

    def _number_faults(self, fusion: Fusion) -> Iterator[Fault]:
        method = self.methods[fusion.method]
        weights = [] if method.weighting == "equal" else [read.weight for read in fusion.inputs]
        for weight in weights:
            if weight < 0:
                yield Fault("it has negative weights, which are not searched: choose weights from 0", f"{weight:g}")
            if method.weighting == "strength" and self._rounded(weight) > self.max_weight:
                yield Fault(f"it has weights above {self.max_weight:g}: raise space.max_weight", f"{weight:g}")
            if weight == 0 and _selects(method):
                yield Fault("an input of weight 0 takes part in its method: leave it out", fusion.method)
        if weights and method.weighting == "ratio" and sum(weights) == 0:
            yield Fault("its weights add up to 0: give one of them a value", fusion.method)
        searched = {parameter.name for parameter in method.parameters}
        for name, value in fusion.parameters:
            if name not in searched and value != NEUTRAL.get(name):
                remedy = f"set {name}: {str(NEUTRAL[name] != 0).lower()}" if name in NEUTRAL else f"leave {name} out"
                yield Fault(f"it sets {name}, which is not searched: {remedy}", f"{value:g}")
            elif name in searched:
                lower, upper = self.bounds[name]
                if not lower <= self._rounded(value) <= upper:
                    yield Fault(f"it has a {name} outside [{lower:g}, {upper:g}]: choose one inside", f"{value:g}")

    def _rounded(self, number: float) -> float:
        return round(number, self.decimals) + 0.0


def _selects(method: Method) -> bool:
    """Whether inputs act by being there, whatever their weight."""
    return isinstance(method, Elementwise) and method.weighting == "ratio"


def _some(wanted: Sequence[str]) -> str:
    rest = f" and {len(wanted) - LISTED} more" if len(wanted) > LISTED else ""
    return ", ".join(wanted[:LISTED]) + rest
