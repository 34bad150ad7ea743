"""A mergekit configuration to a recipe: gradients and filters are evaluated tensor by tensor, as mergekit does.

All tensors of a slot must come out with the same fusion, since a recipe has one for a layer's component.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import yaml

from automerge.alignment import Alignment
from automerge.mergekit.filters import spelled
from automerge.mergekit.forms import FORMS, Form
from automerge.mergekit.parameters import value_of
from automerge.mergekit.scales import CLOSE, rounded, scaled
from automerge.recipe import BASE, COMPONENTS, OUTER, Fusion, Input, OutputLayer, Recipe
from automerge.scaling import Gains, Writer

KEYS = (
    "merge_method",
    "base_model",
    "parameters",
    "models",
    "slices",
    "dtype",
    "out_dtype",
    "tokenizer_source",
    "tokenizer",
    "pad_to_multiple_of",
    "chat_template",
)
"""The keys of a configuration that are understood. Dtypes, the chat template and what is said of vocabularies, which
automerge unites by their tokens, do not change a recipe."""

FIRST = ("embed", "wte", "wpe")
"""Parts of the names of tensors before the layers, which the first slice sets; what comes after is set by the last."""


def from_yaml(
    text: str, names: Mapping[str, str], alignment: Alignment, writers: Mapping[str, Writer] | None = None
) -> Recipe:
    """The recipe of a mergekit configuration, in its `models` or its `slices` form.

    `names` gives the source name of every model as the configuration spells it. Weights take in `lambda`, and
    `normalize` where it divides all entries alike; inputs of weight 0 are left out; `int8_mask` and dtypes make no
    difference here. `rescale: true` is read as the division by the probability, which for DARE has the same mean.
    `scale` of passthrough, and weights of linear that are not normalized, are read as scales of layers where they hit
    all tensors in which a branch ends and nothing else; `writers` tells these by name within a layer, as
    `scaling.writers` does.
    Raises ValueError listing everything that a recipe cannot express.
    """
    content = _loaded(text)
    method = content.get("merge_method")
    if method not in FORMS:
        raise ValueError(f"expected a merge_method that automerge knows, {', '.join(FORMS)}; got {method!r}")
    try:
        return _Reader(content, names, alignment, writers or {}).recipe()
    except (KeyError, TypeError, AttributeError) as fault:
        raise ValueError(
            f"this is not a configuration as mergekit documents it: {type(fault).__name__} {fault}"
        ) from fault


def models(text: str) -> tuple[str, ...]:
    """The models that a mergekit configuration names, as it spells them, each once.

    Raises ValueError for what is no YAML.
    """
    content = _loaded(text)
    slices = _entries(content, "slices")
    listed = [*_entries(content, "models"), *(source for part in slices for source in _entries(part, "sources"))]
    named = [part.get("base_model") for part in (content, *slices)] + [entry.get("model") for entry in listed]
    return tuple(dict.fromkeys(name for name in named if isinstance(name, str)))


class Read(NamedTuple):
    """One input of a tensor in a configuration."""

    model: str
    layer: int | None
    tensor: str


class Made(NamedTuple):
    """What makes a tensor: a fusion, and the factor of its result."""

    fusion: Fusion
    gain: float = 1.0


class _UnreadableError(Exception):
    """A part of the configuration that no recipe expresses; the message says which."""


@dataclass
class _Reader:
    """Reads one configuration. Holds the faults found so far."""

    content: dict[str, Any]
    names: Mapping[str, str]
    alignment: Alignment
    writers: Mapping[str, Writer]
    faults: dict[str, None] = field(default_factory=dict)

    def recipe(self) -> Recipe:
        """The recipe. Raises ValueError with all faults."""
        slices = self._slices()
        self._check(slices)
        layers: list[OutputLayer] = []
        gains: list[Gains] = []
        outer: list[Fusion] = []
        if not self.faults:
            for part in slices:
                for offset in range(_length(part)):
                    layer, gain = self._layer(part, offset, len(layers))
                    layers.append(layer)
                    gains.append(gain)
            outer = self._outer(slices[0], slices[-1])
        if not self.faults:
            try:
                return scaled(Recipe(layers=tuple(layers), outer=outer[0]), gains)
            except ValueError as fault:
                self.faults[str(fault)] = None
        listed = "\n".join(f"  - {fault}" for fault in self.faults)
        raise ValueError(f"this mergekit configuration cannot be read as a recipe:\n{listed}")

    def _slices(self) -> list[dict[str, Any]]:
        """The slices; `models` are one slice of all layers, to which mergekit adds the base if it is not there."""
        if ("models" in self.content) == ("slices" in self.content):
            self.faults["exactly one of models and slices must be there (modules are not read)"] = None
            return []
        if "slices" in self.content:
            return list(self.content["slices"])
        whole = [0, self.alignment.n_layers]
        models = list(self.content["models"])
        base = self.content.get("base_model")
        if base and base not in [model["model"] for model in models]:
            models.append({"model": base})
        return [{"sources": [{**model, "layer_range": whole} for model in models]}]

    def _check(self, slices: Sequence[dict[str, Any]]) -> None:
        unknown = [key for key in self.content if key not in KEYS]
        if unknown:
            self.faults[f"{', '.join(unknown)} cannot be read"] = None
        n_layers = self.alignment.n_layers
        for number, part in enumerate(slices):
            models = [source["model"] for source in part["sources"]]
            ranges = [source["layer_range"] for source in part["sources"]]
            strange = [
                str(model) for model in [*models, _base(self.content, part)] if model and model not in self.names
            ]
            if strange:
                self.faults[f"no source name is given for {', '.join(dict.fromkeys(strange))}"] = None
            if len({end - start for start, end in ranges}) != 1 or len(set(models)) < len(models):
                self.faults[f"slice {number} must read equally many layers of models that are not repeated"] = None
            if any(not 0 <= start <= end <= n_layers for start, end in ranges):
                self.faults[f"slice {number} must read some of layers 0..{n_layers - 1}, got {ranges}"] = None
            if part.get("residual_weight") is not None:
                self.faults[f"slice {number} has a residual_weight, which is not read"] = None

        if not any(_length(part) for part in slices):
            self.faults["no slice reads a layer"] = None

    def _layer(self, part: dict[str, Any], offset: int, depth: int) -> tuple[OutputLayer, Gains]:
        n = _length(part)
        position = offset / (n - 1) if n > 1 else 1.0
        starts = {source["model"]: source["layer_range"][0] + offset for source in part["sources"]}
        components: list[tuple[str, Fusion]] = []
        gains: dict[str, float] = {}
        for component in COMPONENTS:
            found: dict[str, Fusion] = {}
            for name in self.alignment.slots.get((next(iter(starts.values())), component), ()):
                tensors = {model: spelled(self.alignment.name_at(name, start)) for model, start in starts.items()}
                reads = [Read(model, start, tensors[model]) for model, start in starts.items()]
                made = self._made(part, reads, spelled(self.alignment.name_at(name, depth)), position)
                if made is not None:
                    found[name] = made.fusion
                    gains[self.alignment.places[name].local] = made.gain
            components += [(component, fusion) for fusion in self._one(found, f"{component} of output layer {depth}")]
        return OutputLayer(tuple(components)), self._gains(gains, depth)

    def _gains(self, found: Mapping[str, float], depth: int) -> Gains:
        """The gains of a layer's branches, from those of its tensors by their names within the layer."""
        branches: dict[str, dict[str, float]] = {}
        for local, gain in found.items():
            writer = self.writers.get(local)
            if writer is not None:
                branches.setdefault(writer.branch, {})[local] = gain
            if gain != 1 and (writer is None or writer.offset):
                why = f"multiplies by {writer.offset:g} + weight" if writer else "is not known to end a branch"
                self.faults[f"{local} is scaled by {gain:g}, but {why}"] = None
        for branch, gains in branches.items():
            (first, one), *others = gains.items()
            for local, gain in others:
                if not math.isclose(gain, one, rel_tol=CLOSE):
                    self.faults[
                        f"output layer {depth} scales {first} by {one:g} and {local} by {gain:g}, but both end the "
                        f"{branch}"
                    ] = None
        return Gains(**{branch: next(iter(gains.values())) for branch, gains in branches.items()})

    def _outer(self, first: dict[str, Any], last: dict[str, Any]) -> list[Fusion]:
        found: dict[str, Fusion] = {}
        for name in [*self.alignment.slots.get((None, OUTER), ()), *self.alignment.copies]:
            part = first if any(sign in name for sign in FIRST) else last
            reads = [Read(source["model"], None, name) for source in part["sources"]]
            made = self._made(part, reads, name, 0.0)
            if made is not None:
                found[name] = made.fusion
                if made.gain != 1:
                    self.faults[f"{name}, which is outside the layers, is scaled by {made.gain:g}"] = None
        ends = [part["sources"][0]["model"] for part in (first, last)]
        remedy = (
            f"; to take all of it from {ends[0]}, end with the slice {{sources: [{{model: {ends[0]}, "
            "layer_range: [0, 0]}]}"
        )
        return self._one(found, "the part outside the layers", remedy if ends[0] != ends[1] else "")

    def _made(self, part: dict[str, Any], reads: list[Read], name: str, where: float) -> Made | None:
        try:
            return _Tensor(self.content, self.names, part, reads, name, where).made()
        except _UnreadableError as fault:
            self.faults[str(fault)] = None
            return None

    def _one(self, found: Mapping[str, Fusion], place: str, remedy: str = "") -> list[Fusion]:
        """The one fusion of these tensors; none if there are none, with a fault if there are several."""
        names = list(found)
        for name in names[1:]:
            if not _alike(found[names[0]], found[name]):
                self.faults[
                    f"{place} has one setting in a recipe, but those of {names[0]} and {name} differ{remedy}"
                ] = None
                break
        return list(found.values())[:1]


@dataclass(frozen=True)
class _Tensor:
    """One output tensor of a configuration: its slice, what it reads, its name, and its position in the slice."""

    content: Mapping[str, Any]
    names: Mapping[str, str]
    part: Mapping[str, Any]
    reads: list[Read]
    name: str
    position: float

    @property
    def method(self) -> str:
        """The one method of the configuration."""
        return str(self.content["merge_method"])

    @property
    def form(self) -> Form:
        """How mergekit writes that method."""
        return FORMS[self.method]

    def made(self) -> Made:
        """What makes this tensor. Raises _UnreadableError if no fusion does."""
        for option, value in self.form.fixed.items():
            if (got := self._shared(option, value)) != value:
                raise _UnreadableError(f"{self.method} is read with {option}: {value} only, got {got}")
        base = self._base_read() if self.form.based else None
        reads = [read for read in self.reads if read is not base]
        if fault := self.form.count_fault(len(reads)):
            raise _UnreadableError(f"{self.method} {fault}")
        if base and base.layer != reads[0].layer:
            raise _UnreadableError(f"the base is read at layer {base.layer}, the first model at {reads[0].layer}")
        if self.form.weights == "t":
            return Made(self._mixed())
        if self.method == "passthrough":
            scale = self._of(reads[0], "scale", None)
            return Made(self._alike(reads), 1.0 if scale is None else _number(scale, f"scale of {self.name}"))
        if self.form.weights == "equal":
            return Made(self._alike(reads))
        if self.method == "linear" and not _flag(self._shared("normalize", True), "normalize"):
            return self._summed(reads)
        return Made(self._weighted(reads, self._weights(reads), base))

    def _mixed(self) -> Fusion:
        base = _base(self.content, self.part)
        first, second = sorted(self.reads, key=lambda read: read.model != base)
        if first.model != base:
            raise _UnreadableError(f"{self.method} counts t from base_model, which must be one of its two models")
        t = _number(self._shared("t", None), f"t of {self.name}")
        if not 0 <= t <= 1:
            raise _UnreadableError(f"{self.method} needs a t in [0, 1], got {t}")
        if t in (0, 1):
            return Fusion("passthrough", (self._input(second if t else first),))
        return Fusion(self.method, (self._input(first, 1 - t), self._input(second, t)))

    def _alike(self, reads: list[Read]) -> Fusion:
        numbers = {
            name: _number(self._shared(number.name, number.default), number.name)
            for name, number in self.form.numbers.items()
        }
        return Fusion(self.method, tuple(map(self._input, reads)), tuple(numbers.items()))

    def _weights(self, reads: list[Read]) -> list[float]:
        return [_number(self._of(read, "weight", None), f"weight of {read.model}") for read in reads]

    def _summed(self, reads: list[Read]) -> Made:
        """A weighted mean times the sum of its weights."""
        weights = self._weights(reads)
        total = sum(weights)
        if total == 0:
            raise _UnreadableError(f"the weights at {self.name} sum to 0; set normalize: true, or leave the layer out")
        shares = [rounded(weight / total) for weight in weights]
        return Made(self._weighted(reads, shares, None), 1.0 if math.isclose(total, 1, rel_tol=CLOSE) else total)

    def _weighted(self, reads: list[Read], weights: list[float], base: Read | None) -> Fusion:
        options: dict[str, float] = {}
        if self.form.normalize is not None:
            weights = self._folded(weights, options)
        if self.form.rescale is not None and not _flag(self._shared("rescale", self.form.rescale), "rescale"):
            options["rescale"] = 0.0
        kept = [(read, weight) for read, weight in zip(reads, weights, strict=True) if weight != 0]
        if self.form.weights == "pair":
            kept = list(zip(reads, weights, strict=True))
        if not kept and base is None:
            raise _UnreadableError(f"all weights of {self.method} are 0 at {self.name}")
        if not kept or (self.method == "linear" and len(kept) == 1):
            return Fusion("passthrough", (self._input(base or kept[0][0]),))
        numbers = {}
        for name, number in self.form.numbers.items():
            values = {_number(self._of(read, number.name, number.default), number.name) for read, _ in kept}
            if len(values) > 1:
                raise _UnreadableError(f"the models of a fusion have one {number.name}, got {sorted(values)}")
            numbers[name] = min(values.pop(), 1.0)
        inputs = tuple(self._input(read, weight) for read, weight in kept)
        return Fusion(self.method, inputs, (*numbers.items(), *options.items()))

    def _folded(self, weights: list[float], options: dict[str, float]) -> list[float]:
        """Weights that take in `lambda` and `normalize`; where signs are elected, `normalize` becomes an option."""
        scale = _number(self._shared("lambda", 1.0), "lambda")
        if _flag(self._shared("normalize", self.form.normalize), "normalize"):
            if self.form.elects:
                options["normalize"] = 1.0
            elif abs(sum(weights)) >= 1e-8:
                scale /= sum(weights)
        if "normalize" in options and scale != 1:
            raise _UnreadableError(
                f"{self.method} with normalize: true divides by the weights that agree, so lambda {scale} cannot be "
                "folded into the weights; set normalize: false"
            )
        return [weight * scale for weight in weights] if scale != 1 else weights

    def _base_read(self) -> Read:
        model = _base(self.content, self.part)
        if model is None or self.names[model] != BASE:
            named = "is not set" if model is None else f"is {self.names[model]!r}"
            raise _UnreadableError(f"{self.method} measures from the source named {BASE!r}, but base_model {named}")
        found = [read for read in self.reads if read.model == model]
        if not found:
            raise _UnreadableError(f"mergekit's {self.method} needs {model} among the models of every slice")
        return found[0]

    def _input(self, read: Read, weight: float = 1.0) -> Input:
        return Input(self.names[read.model], read.layer, weight)

    def _shared(self, key: str, default: Any) -> Any:
        scopes = (self.part.get("parameters"), self.content.get("parameters"))
        return value_of(scopes, key, self.name, self.position, default)

    def _of(self, read: Read, key: str, default: Any) -> Any:
        own = next(source.get("parameters") for source in self.part["sources"] if source["model"] == read.model)
        scopes = (own, self.part.get("parameters"), self.content.get("parameters"))
        return value_of(scopes, key, read.tensor, self.position, default)


def _alike(one: Fusion, other: Fusion) -> bool:
    """Whether two fusions are equal but for the rounding of weights."""
    weights = [[read.weight for read in fusion.inputs] for fusion in (one, other)]
    return len(weights[0]) == len(weights[1]) and (
        other == replace(one, inputs=other.inputs)
        and all(a == replace(b, weight=a.weight) for a, b in zip(one.inputs, other.inputs, strict=True))
        and all(math.isclose(a, b, rel_tol=CLOSE) for a, b in zip(*weights, strict=True))
    )


def _loaded(text: str) -> dict[str, Any]:
    """The configuration; empty for YAML that is no mapping, which then lacks its merge_method."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as fault:
        raise ValueError(f"this is no YAML: {fault}") from fault
    return content if isinstance(content, dict) else {}


def _entries(content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The mappings listed under a key; none if there is no such list."""
    listed = content.get(key)
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def _base(content: Mapping[str, Any], part: Mapping[str, Any]) -> str | None:
    return part.get("base_model") or content.get("base_model")


def _length(part: Mapping[str, Any]) -> int:
    start, end = part["sources"][0]["layer_range"]
    return int(end - start)


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _UnreadableError(f"expected a number for {what}, got {value!r}")
    return float(value)


def _flag(value: Any, what: str) -> bool:
    if value not in (True, False):
        raise _UnreadableError(f"expected true or false for {what}, got {value!r}")
    return bool(value)
