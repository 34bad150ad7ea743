"""A recipe to a mergekit configuration in the `slices` form.

Consecutive layers with equal settings become one slice; what lies outside the layers goes with the first and the last
slice, set apart by filters. A stack whose first or last layer is of another source begins or ends with a slice of no
layers, which gives that part. Scales of layers are gains of the tensors in which branches end, by filters again.
`base_model` is always the recipe's base, whose config and tokenizer mergekit copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import yaml

from automerge.alignment import Alignment
from automerge.mergekit.filters import ends_of, filters_of
from automerge.mergekit.forms import FORMS
from automerge.recipe import BASE, COMPONENTS, OUTER, Fusion, Input, Recipe
from automerge.scaling import Branch, Gains, Writer, gains


@dataclass(frozen=True, slots=True)
class Translation:
    """A recipe in mergekit's terms: the YAML `text`, or None and the `faults`, the reasons why there is none.

    `notes` say where mergekit's result is not this recipe's value for value.
    """

    text: str | None
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Setting(NamedTuple):
    """What some tensors set, in mergekit's terms; under passthrough the weight of the one source is its scale."""

    weights: Mapping[str, float]
    parameters: Mapping[str, float | bool]


class Row(NamedTuple):
    """One output layer: the layer that is read of every source, and the settings by place.

    Places are the ends of scaled branches, which mergekit must match first, and components.
    """

    layers: Mapping[str, int]
    settings: Mapping[str, Setting]


class _UnwritableError(Exception):
    """A part of the recipe that mergekit cannot express; the message says which."""


def to_yaml(
    recipe: Recipe,
    paths: Mapping[str, str],
    alignment: Alignment,
    *,
    dtype: str,
    writers: Mapping[str, Writer] | None = None,
) -> Translation:
    """The mergekit configuration of a recipe, if there is one.

    `paths` gives folder or hub id of every source, in the order in which mergekit shall add them up; `dtype` is the
    stored dtype of the base, such as `bfloat16`, to which both round. `writers` tells by name within a layer which
    tensors take the gains of scaled layers, as `scaling.writers` does.
    """
    used = {fusion.method for _, fusion in recipe.fusions()}
    methods = sorted(used - {"passthrough"})
    faults = [f"no path is given for {name!r}" for name in recipe.sources if name not in paths]
    if BASE not in paths:
        faults.append(f"no path is given for {BASE!r}, whose config and tokenizer the merged model takes")
    if len(methods) > 1:
        faults.append(f"mergekit has one merge_method for all tensors; the recipe has {', '.join(methods)}")
    faults += [f"mergekit has no method {method!r}" for method in methods if method not in FORMS]
    if not recipe.layers:
        faults.append("a configuration needs a slice, the recipe has no layers")
    faults += _scale_faults(recipe, methods, writers or {})
    if faults:
        return Translation(None, tuple(faults))
    if methods:
        return _Translator(recipe, paths, alignment, methods[0], writers or {}).translation(dtype)
    passed = _Translator(recipe, paths, alignment, "passthrough", writers or {}).translation(dtype)
    if passed.text:
        return passed
    return _Translator(recipe, paths, alignment, "linear", writers or {}).translation(dtype)


class _Translator:
    """Writes one recipe with one `merge_method`. Holds the faults and notes found so far."""

    def __init__(
        self,
        recipe: Recipe,
        paths: Mapping[str, str],
        alignment: Alignment,
        method: str,
        writers: Mapping[str, Writer],
    ) -> None:
        self.recipe, self.paths, self.alignment, self.method = recipe, paths, alignment, method
        self.form = FORMS[method]
        self.gains = gains(recipe)
        self.scaled = any(gain != Gains() for gain in self.gains)
        self.ends = ends_of(alignment, writers)
        self.filters = filters_of(alignment, self.ends)
        self.faults: dict[str, None] = {}
        self.notes: dict[str, None] = {}

    def translation(self, dtype: str) -> Translation:
        """The configuration, or all faults."""
        rows = [row for depth in range(len(self.recipe.layers)) if (row := self._row(depth)) is not None]
        outer = self._outer()
        slices = []
        if outer is not None and not self.faults:
            runs = list(_runs(self._completed(rows)))
            ends = () if self.method == "passthrough" else (0, len(runs) - 1)
            slices = [self._slice(row, n, outer if k in ends else None) for k, (row, n) in enumerate(runs)]
            if self.method == "passthrough":
                slices = self._between(slices, self.paths[next(iter(outer.weights))])
        if self.faults:
            return Translation(None, tuple(self.faults))
        content = {
            "merge_method": self.method,
            "base_model": self.paths[BASE],
            "dtype": "float32",
            "out_dtype": dtype,
            **_hoisted(slices),
        }
        self._note_differences()
        text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120)
        return Translation(text, notes=tuple(self.notes))

    def _row(self, depth: int) -> Row | None:
        layers: dict[str, int] = {}
        settings = {}
        fusions = dict(self.recipe.layers[depth].components)
        try:
            for component in COMPONENTS:
                if component in fusions and (0, component) in self.alignment.slots:
                    settings[component] = self._setting(fusions[component])
                    self._take(layers, fusions[component])
            self._check_alike(settings)
        except _UnwritableError as fault:
            self.faults[f"output layer {depth}: {fault}"] = None
            return None
        return Row(layers, {**self._scaled(settings, self.gains[depth]), **settings})

    def _scaled(self, settings: Mapping[str, Setting], gain: Gains) -> dict[str, Setting]:
        """The settings of the ends of scaled branches: those of their components, with the gain in the weights."""
        found = {}
        for place, end in self.ends.items():
            factor = getattr(gain, end.branch)
            if factor != 1 and end.component in settings:
                weights, parameters = settings[end.component]
                found[place] = Setting({name: weight * factor for name, weight in weights.items()}, parameters)
        return found

    def _outer(self) -> Setting | None:
        try:
            return self._setting(self.recipe.outer)
        except _UnwritableError as fault:
            self.faults[f"outside the layers: {fault}"] = None
            return None

    def _take(self, layers: dict[str, int], fusion: Fusion) -> None:
        """Enters the layers that a fusion reads. Raises if another component reads another layer of a source."""
        for read in self._reads(fusion):
            if read.layer is not None and layers.setdefault(read.source, read.layer) != read.layer:
                raise _UnwritableError(
                    f"mergekit reads one layer of a model for all components, not {layers[read.source]} and "
                    f"{read.layer} of {read.source!r}"
                )

    def _reads(self, fusion: Fusion) -> tuple[Input, ...]:
        """The inputs, and the base at the layer of the first input if task vectors are measured from it."""
        if not self.form.based or fusion.inputs[0].source == BASE:
            return fusion.inputs
        return (Input(BASE, fusion.inputs[0].layer), *fusion.inputs)

    def _setting(self, fusion: Fusion) -> Setting:
        names = [read.source for read in fusion.inputs]
        if fault := FORMS[fusion.method].count_fault(len(names)):
            raise _UnwritableError(f"{fusion.method} {fault}")
        if fusion.method != self.method:
            return self._passed_through(names[0])
        if len(set(names)) < len(names):
            raise _UnwritableError(f"mergekit reads a model once for a tensor, not {', '.join(names)}")
        if self.form.based and BASE in names:
            raise _UnwritableError(f"{self.method} measures from the base, which then cannot be an input too")
        weights = {read.source: read.weight for read in fusion.inputs}
        if self.form.weights == "equal" and len(set(weights.values())) > 1:
            raise _UnwritableError(f"{self.method} has no weights in mergekit, here it has {list(weights.values())}")
        if self.form.weights == "t" and (min(weights.values()) < 0 or not any(weights.values())):
            raise _UnwritableError(f"{self.method} needs weights >= 0, not both 0, got {list(weights.values())}")
        return Setting(self._shares(weights), self._parameters(fusion))

    def _shares(self, weights: Mapping[str, float]) -> Mapping[str, float]:
        """The weights as mergekit shall multiply by them, where it does not normalize: under passthrough, which has no
        weights, and under a linear that takes in gains.
        """
        if self.method == "passthrough":
            return dict.fromkeys(weights, 1.0)
        if self.method != "linear" or not self.scaled:
            return weights
        total = sum(weights.values())
        if total == 0:
            raise _UnwritableError("weights of linear that sum to 0 cannot be normalized")
        return {name: weight / total for name, weight in weights.items()}

    def _passed_through(self, source: str) -> Setting:
        if self.form.weights not in ("each", "t"):
            raise _UnwritableError(f"mergekit's {self.method} cannot pass {source!r} through")
        if self.form.based and source != BASE:
            self.notes[
                f"sources passed through are their whole task vector under {self.method}; the last place may differ"
            ] = None
        parameters = {number.name: number.default for number in self.form.numbers.values()}
        weights = {} if self.form.based and source == BASE else {source: 1.0}
        return Setting(weights, {**parameters, **self._options({})})

    def _parameters(self, fusion: Fusion) -> dict[str, float | bool]:
        given = dict(fusion.parameters)
        missing = [name for name in self.form.numbers if name not in given]
        if missing:
            raise _UnwritableError(f"{self.method} lacks {', '.join(missing)}")
        found = {number.name: given.pop(name) for name, number in self.form.numbers.items()}
        options = self._options(given)
        if given:
            raise _UnwritableError(f"mergekit's {self.method} has no {', '.join(given)}")
        density, epsilon = found.get("density", 1.0), found.get("epsilon", 0.0)
        if density < 1 and not epsilon < density < 1 - epsilon:
            raise _UnwritableError(f"mergekit's {self.method} needs density +- epsilon in (0, 1), got {found}")
        return {**found, **options}

    def _options(self, given: dict[str, float]) -> dict[str, bool]:
        """mergekit's options, taken out of `given`."""
        if self.method == "linear" and self.scaled:
            return {"normalize": False}
        options = {}
        if self.form.normalize is not None:
            options["normalize"] = self.form.elects and given.pop("normalize", 0.0) != 0
        if self.form.rescale is not None:
            options["rescale"] = given.pop("rescale", 1.0) != 0
        return options

    def _check_alike(self, settings: Mapping[str, Setting]) -> None:
        """Raises unless the slots of a slice read models that mergekit can give to all of them."""
        found = self._listed({name for setting in settings.values() for name in setting.weights})
        if self.form.weights == "t" and len(found) > 2:
            raise _UnwritableError(f"{self.method} has two models in a slice, here are {', '.join(found)}")
        if self.form.weights in ("equal", "pair") and any(set(s.weights) != set(found) for s in settings.values()):
            listed = "; ".join(f"{place} {', '.join(setting.weights)}" for place, setting in settings.items())
            raise _UnwritableError(f"{self.method} reads the same models for all tensors of a slice, here are {listed}")

    def _listed(self, names: set[str]) -> list[str]:
        return [name for name in self.paths if name in names]

    def _completed(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with all models that mergekit has to list, in the order of the paths."""
        outer = {read.source for read in self._reads(self.recipe.outer)}
        everywhere = outer.union(*(row.layers for row in rows))
        completed = []
        for depth, row in enumerate(rows):
            names = set(row.layers)
            if self.form.weights == "each":
                names = everywhere
            elif self.form.weights == "t":
                names |= outer if depth in (0, len(rows) - 1) else set()
                # A slice of one source needs a second one, which has no share then.
                names |= set(self._listed(set(self.paths) - names)[: 2 - len(names)]) if len(names) < 2 else set()
            first = next(iter(row.layers.values()))
            completed.append(Row({name: row.layers.get(name, first) for name in self._listed(names)}, row.settings))
        return completed

    def _slice(self, row: Row, length: int, outer: Setting | None) -> dict[str, Any]:
        settings = {**({OUTER: outer} if outer else {}), **row.settings}
        try:
            self._check_alike(settings)
        except _UnwritableError as fault:
            self.faults[f"what is outside the layers goes with the first and last slice: {fault}"] = None
        sources: list[dict[str, Any]] = []
        for name, layer in row.layers.items():
            source: dict[str, Any] = {"model": self.paths[name], "layer_range": [layer, layer + length]}
            if self.form.weights in ("each", "pair") and not (self.form.based and name == BASE):
                weights = {place: setting.weights.get(name, 0.0) for place, setting in settings.items()}
                source["parameters"] = {"weight": self._filtered(weights)}
            elif self.method == "passthrough":
                scale = self._filtered({place: setting.weights[name] for place, setting in settings.items()})
                if scale != 1:
                    source["parameters"] = {"scale": scale}
            sources.append(source)
        written: dict[str, Any] = {"sources": sources}
        parameters = {
            key: self._filtered({place: setting.parameters[key] for place, setting in settings.items()})
            for key in next(iter(settings.values())).parameters
        }
        if self.form.weights == "t":
            first, second = row.layers
            written["base_model"] = self.paths[first]
            shares = {place: _share(setting.weights, second) for place, setting in settings.items()}
            parameters["t"] = self._filtered(shares)
        return {**written, "parameters": parameters} if parameters else written

    def _between(self, slices: list[dict[str, Any]], model: str) -> list[dict[str, Any]]:
        """The slices of a stack, between slices of no layers where the model outside the layers is another one's."""

        def ending(known: dict[str, Any]) -> list[dict[str, Any]]:
            there = known["sources"][0]["model"] == model
            return [] if there else [{"sources": [{"model": model, "layer_range": [0, 0]}]}]

        return [*ending(slices[0]), *slices, *ending(slices[-1])]

    def _filtered(self, values: Mapping[str, float | bool]) -> Any:
        """One value, or values by tensor name; the last place needs no filter."""
        *others, last = values
        entries = []
        for place in others:
            if values[place] != values[last]:
                if not self.filters[place]:
                    self.faults[f"no part of the tensor names tells {place} from the rest, as a filter must"] = None
                entries += [{"filter": part, "value": values[place]} for part in self.filters[place]]
        return [*entries, {"value": values[last]}] if entries else values[last]

    def _note_differences(self) -> None:
        if self.form.rescale is not None:
            self.notes["mergekit draws random masks of its own, so it makes another draw of the same recipe"] = None
            self.notes["with rescale, mergekit restores the L1 norm; automerge divides by the probability to keep"] = (
                None
            )
        if self.scaled and self.method != "passthrough":
            self.notes["mergekit multiplies weights and scales before it rounds; the last place may differ"] = None
        if len(self.recipe.layers) != self.alignment.n_layers:
            self.notes[
                "mergekit sets the number of layers in config.json, but keeps a list of all layers' kinds there "
                "(layer_types of Qwen and Gemma), which transformers 5 refuses"
            ] = None
        marked = [path for path in self.paths.values() if "+" in path or "@" in path]
        if marked:
            self.notes[f"mergekit reads what follows @ as revision and + as adapter in {', '.join(marked)}"] = None


def _scale_faults(recipe: Recipe, methods: Sequence[str], writers: Mapping[str, Writer]) -> list[str]:
    """Why mergekit cannot scale what the recipe scales; empty if it scales nothing."""
    try:
        found = gains(recipe)
    except ValueError as fault:
        return [str(fault)]
    branches = [branch for branch in get_args(Branch) if any(getattr(gain, branch) != 1 for gain in found)]
    if not branches:
        return []
    faults = [
        f"mergekit cannot scale tensors under {method}, only under passthrough and linear"
        for method in methods
        if method != "linear"
    ]
    if "linear" in methods and any(gain.mlp == 0 for gain in found):
        faults.append("a fused layer whose mlp is scaled by 0 would have weights that sum to 0, which say nothing")
    for branch in branches:
        ends = {name: writer for name, writer in writers.items() if writer.branch == branch}
        if not ends:
            faults.append(f"the recipe scales the {branch}, but no tensor is known in which the {branch} ends")
        shifted = [name for name, writer in ends.items() if writer.offset]
        if shifted:
            faults.append(
                f"mergekit scales what is stored, but {', '.join(shifted)} multiplies by "
                f"{ends[shifted[0]].offset:g} + weight"
            )
    return faults


def _runs(rows: Sequence[Row]) -> Iterator[tuple[Row, int]]:
    """Yields (row, n): n rows from this one on have its settings, each reading one layer further."""
    start = 0
    for depth in range(1, len(rows) + 1):
        further = {name: layer + depth - start for name, layer in rows[start].layers.items()}
        if depth == len(rows) or rows[depth] != Row(further, rows[start].settings):
            yield rows[start], depth - start
            start = depth


def _hoisted(slices: list[dict[str, Any]]) -> dict[str, Any]:
    """The slices, with parameters that all of them share written once above."""
    shared = slices[0].get("parameters")
    if shared is None or any(other.get("parameters") != shared for other in slices):
        return {"slices": slices}
    return {"parameters": shared, "slices": [{k: v for k, v in one.items() if k != "parameters"} for one in slices]}


def _share(weights: Mapping[str, float], second: str) -> float:
    return weights.get(second, 0.0) / sum(weights.values())
