"""LFS, layer-wise fusion: output layer i is fused from layer i of all sources (arXiv 2502.04030, section 3.1).

Each slot, a group of consecutive layers times a component, has one method, one weight per source and the
parameters of its method; the part outside the layers is a slot of its own. Unlike the reference implementation
every method has its own weight for each source, and a genotype is canonical: genes that do not act are at their
defaults, weights that only act by their ratio add up to 1, so equal models have equal genotypes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from automerge import methods as methods_folder
from automerge.encoding import PASSTHROUGH, FusionReader, Setting
from automerge.protocols import Gene, Genotypes, Reference
from automerge.recipe import BASE, COMPONENTS, OUTER, Fusion, Input, OutputLayer, Recipe

DECIMALS = 4
"""Real genes are rounded to this many decimals; finer differences do not change what a model can do."""

JOINS = 0.5
"""Where weights do not count, the sources take part whose weight is at least this share of the largest."""

ABSENT = {"density": 1.0}
"""What features say of a parameter under a method that has none: nothing is dropped. Other parameters are 0 then."""


@dataclass(frozen=True, slots=True, eq=False)
class _Slot:
    group: int
    component: str
    method: int
    weights: slice
    parameters: Mapping[str, int]


class LayerwiseFusion:
    """The space of layer-wise fusions.

    `granularity` is the number of consecutive layers that share their genes; `components` are merged apart, or
    together if it is `[layer]`; `strengths` are the common weights of the uniform reference merges.
    """

    def __init__(
        self,
        *,
        sources: Sequence[str],
        n_layers: int,
        methods: Sequence[str] = ("linear", "slerp", "task_arithmetic", "ties", "dare_ties"),
        granularity: int = 1,
        components: Sequence[str] = COMPONENTS,
        max_weight: float = 1.5,
        strengths: Sequence[float] = (0.3, 0.5, 0.7, 1.0),
    ) -> None:
        self.sources = tuple(sources)
        self.n_layers = n_layers
        self.methods = tuple(methods)
        self.granularity = granularity
        self.components = tuple(components)
        self.max_weight = max_weight
        self.strengths = tuple(strengths)
        self._refuse_faults()
        known = {method: methods_folder.load(method) for method in self.methods}
        if len(self.sources) == 1:
            # Of one source, all that join several by angle or ratio are the source itself.
            known = {
                name: method for name, method in known.items() if method.weighting == "strength" or name == "linear"
            }
            self.methods = tuple(known)
            if not known:
                raise ValueError(
                    f"the methods {', '.join(methods)} join several sources, but there is only {self.sources[0]}; add "
                    "linear or task_arithmetic to space.methods"
                )
        self._known = known
        self._parameters = {parameter.name: parameter for method in known.values() for parameter in method.parameters}
        self._takes = {
            name: [m for m, method in known.items() if name in {p.name for p in method.parameters}]
            for name in self._parameters
        }
        self._ratio = [name for name, method in known.items() if method.weighting != "strength"]
        self._equal = [name for name, method in known.items() if method.weighting == "equal"]
        self._pairs = [name for name, method in known.items() if method.max_inputs == 2]
        self._sparse = self._takes.get("density", [])
        # A source as it is has one form: by a method that drops nothing, if there is one.
        self._plain = next((method for method in self.methods if method not in self._sparse), self.methods[0])
        self._vector = next((method for method in self.methods if method not in self._ratio), None)
        # Weights alone tell what plain sums do; of these methods a landscape model has to know that they are used.
        self._flags = [m for m, method in known.items() if method.parameters or (method.vectors and m in self._ratio)]
        self._codes = {method: code for code, method in enumerate(self.methods)}
        self.genes, self._slots = self._layout()
        self._by_place = {(slot.group, slot.component): slot for slot in self._slots}
        self._lower = np.array([gene.lower for gene in self.genes])
        self._upper = np.array([gene.upper for gene in self.genes])
        self._default = np.array([gene.default for gene in self.genes])
        self._is_code = np.array([gene.n_choices > 0 for gene in self.genes])

    def sample(self, n: int, rng: np.random.Generator) -> Genotypes:
        """n random canonical genotypes, tied to a random degree.

        A quarter each: one setting for the whole model, one per component, one per component and block of depth,
        and every slot on its own. Independent slots alone would all look like the same average model.
        """
        X = np.empty((n, len(self.genes)))
        for row in X:
            level = rng.integers(4)
            n_blocks = int(rng.integers(2, max(3, self._n_groups() // 2 + 1)))
            edges = np.sort(rng.integers(0, self._n_groups(), size=n_blocks))
            drawn: dict[tuple[Any, ...], NDArray[np.float64]] = {}
            for slot in self._slots:
                block = int(np.searchsorted(edges, slot.group, side="right"))
                key = ((), (slot.component,), (slot.component, block), (slot.component, slot.group))[level]
                genes = np.r_[slot.method : slot.weights.stop + len(slot.parameters)]
                if key not in drawn:
                    values = rng.uniform(self._lower[genes], self._upper[genes])
                    values[0] = rng.integers(len(self.methods))
                    drawn[key] = values
                row[genes] = drawn[key]
        return self.repair(X)

    def repair(self, X: Genotypes) -> Genotypes:
        """The canonical genotypes of the same models, shape (n, n_genes); does not change its argument."""
        X = np.clip(np.array(X, dtype=np.float64, ndmin=2), self._lower, self._upper)
        X = np.where(self._is_code, np.round(X), np.round(X, DECIMALS)) + 0.0  # + 0.0 makes -0.0, of other bytes, 0.0
        for slot in self._slots:
            self._repair_slot(X, slot)
        return X

    def decode(self, x: NDArray[np.float64]) -> Recipe:
        """The recipe of one canonical genotype of shape (n_genes,)."""

        def fused(depth: int, component: str) -> tuple[str, Fusion]:
            return component, self._fusion(x, self._slot(depth, component), depth)

        layers = tuple(
            OutputLayer(components=tuple(fused(depth, component) for component in COMPONENTS))
            for depth in range(self.n_layers)
        )
        return Recipe(layers=layers, outer=self._fusion(x, self._slot(None, OUTER), None))

    def encode(self, recipe: Recipe) -> NDArray[np.float64]:
        """The canonical genotype of the recipe's model, with weights and parameters rounded to DECIMALS.

        What decodes from a canonical genotype comes back as that genotype; of other recipes weights may change that act
        only by their ratio. A component that the recipe leaves out, because no tensor belongs to it, has the defaults.
        Raises ValueError listing everything that this space cannot hold, with the remedies.
        """
        reader = FusionReader(
            sources=self.sources,
            methods=self._known,
            bounds={name: (parameter.lower, parameter.upper) for name, parameter in self._parameters.items()},
            max_weight=self.max_weight,
            decimals=DECIMALS,
            has_base=self._vector is not None,
        )
        if len(recipe.layers) != self.n_layers:
            depth_kept = f"it has another depth than the sources' {self.n_layers} layers, which this space keeps"
            reader.note(depth_kept, f"{len(recipe.layers)} layers")
        for depth, layer in enumerate(recipe.layers):
            if layer.scale != 1:
                reader.note("it scales the residual stream, which is not searched: set scale to 1", f"layer {depth}")
            if len(dict(layer.components)) < len(layer.components):
                reader.note("it names a component of a layer twice: keep one of them", f"layer {depth}")
        x = self._default.copy()
        for slot, settings in self._settings(recipe, reader).items():
            first, *others = settings
            if others and self._ties():
                alike = f"parts differ that this space merges alike: set {' and '.join(self._ties())}"
                reader.note(alike, f"{settings[first]} and {settings[others[0]]}")
            self._write(x, slot, first)
        reader.refuse("LFS")
        return np.asarray(self.repair(x[None])[0])

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Per slot: the effective weight of every source, the methods' parameters, a flag for methods that need one."""
        return tuple(
            f"{_place(slot)}.{name}"
            for slot in self._slots
            for name in (*self.sources, *self._parameters, *self._flags)
        )

    def features(self, X: Genotypes) -> NDArray[np.float64]:
        """Effective weights instead of codes, shape (n, n_features); a density of 1 means that nothing is dropped."""
        columns = []
        for slot in self._slots:
            columns.append(X[:, slot.weights])
            for name, position in slot.parameters.items():
                acts = self._uses(X, slot, self._takes[name])
                columns.append(np.where(acts, X[:, position], ABSENT.get(name, 0.0))[:, None])
            columns.extend(self._uses(X, slot, (flag,)).astype(np.float64)[:, None] for flag in self._flags)
        return np.concatenate(columns, axis=1)

    def references(self) -> Mapping[str, Reference]:
        """`base`, every source, and the uniform merges `METHOD` or `METHOD STRENGTH`, by name.

        Without a method that starts from the base, the base is no model of this space and has no reference.
        """
        n = len(self.sources)
        found: dict[str, Reference] = {}
        if self._vector is not None:
            found[BASE] = self._tied(self._vector, np.zeros(n), kind="source")
        for k, source in enumerate(self.sources):
            # Any method gives a source back if nothing else is read and nothing is dropped.
            found[source] = self._tied(self._plain, np.eye(n)[k], density=1.0, kind="source")
        for method in self._ratio:
            if n > 1 and (method not in self._pairs or n == 2):
                found[method] = self._tied(method, np.full(n, 1 / n))
        for method in self.methods:
            if method not in self._ratio:
                for strength in self.strengths:
                    found[f"{method} {strength:g}"] = self._tied(method, np.full(n, strength))
        return found

    def genotype(self, values: Mapping[str, Any]) -> NDArray[np.float64]:
        """The canonical genotype of named values, such as a ConfigSpace configuration; absent genes are inactive.

        Raises ValueError for a name that is no gene of this space.
        """
        unknown = sorted(set(values) - {gene.name for gene in self.genes})
        if unknown:
            raise ValueError(f"unknown genes {unknown[:5]}; names look like {[gene.name for gene in self.genes[:3]]}")
        x = np.array([gene.default for gene in self.genes])
        for position, gene in enumerate(self.genes):
            if gene.name in values:
                value = values[gene.name]
                x[position] = self._codes[value] if gene.n_choices else float(value)
        return np.asarray(self.repair(x[None])[0])

    def to_configspace(self) -> Any:
        """The space as a `ConfigSpace.ConfigurationSpace`: a parameter exists only under methods that have it."""
        from ConfigSpace import Categorical, ConfigurationSpace, Float, InCondition  # noqa: PLC0415 (optional consumer)

        space = ConfigurationSpace()
        for slot in self._slots:
            method = Categorical(self.genes[slot.method].name, self.methods, default=self.methods[0])
            space.add(method)
            for gene in self.genes[slot.weights]:
                space.add(Float(gene.name, (gene.lower, gene.upper), default=gene.default))
            for name, position in slot.parameters.items():
                gene = self.genes[position]
                parameter = Float(gene.name, (gene.lower, gene.upper), default=gene.default)
                space.add(parameter)
                space.add(InCondition(parameter, method, self._takes[name]))
        return space

    def _refuse_faults(self) -> None:
        known = methods_folder.names()
        known = tuple(name for name in known if name != "passthrough")
        faults = [f"unknown method {method!r}, known are {known}" for method in self.methods if method not in known]
        if len(set(self.methods)) < len(self.methods):
            faults.append(f"each method can be named once, got {list(self.methods)}")
        if self.max_weight < 1 or any(not 0 < strength <= self.max_weight for strength in self.strengths):
            faults.append(
                "max_weight must be >= 1, so that every source is a model of the space, and strengths must lie in "
                f"(0, max_weight], got max_weight {self.max_weight} and strengths {list(self.strengths)}"
            )
        if not self.sources or not self.methods:
            faults.append("a space needs at least one source besides the base, and one method")
        if self.granularity < 1 or self.n_layers < 1:
            faults.append(f"granularity and n_layers must be >= 1, got {self.granularity} and {self.n_layers}")
        if self.components != ("layer",) and set(self.components) != set(COMPONENTS):
            faults.append(f"components must be {list(COMPONENTS)} or ['layer'], got {list(self.components)}")
        if faults:
            raise ValueError("the LFS space cannot be built: " + "; ".join(faults))

    def _n_groups(self) -> int:
        return -(-self.n_layers // self.granularity)

    def _layout(self) -> tuple[tuple[Gene, ...], tuple[_Slot, ...]]:
        genes: list[Gene] = []
        slots = []
        places = [(group, component) for group in range(self._n_groups()) for component in self.components]
        n = len(self.sources)
        for group, component in [*places, (-1, OUTER)]:
            first = len(genes) + 1 + n
            slot = _Slot(
                group=group,
                component=component,
                method=len(genes),
                weights=slice(first - n, first),
                parameters={name: first + k for k, name in enumerate(self._parameters)},
            )
            prefix = _place(slot)
            last_code = len(self.methods) - 1
            genes.append(Gene(f"{prefix}.method", group, component, "method", 0, last_code, len(self.methods)))
            for source in self.sources:
                role = f"weight:{source}"
                genes.append(Gene(f"{prefix}.{source}", group, component, role, 0.0, self.max_weight, 0, 1 / n))
            for name, parameter in self._parameters.items():
                bounds = (parameter.lower, parameter.upper)
                genes.append(Gene(f"{prefix}.{name}", group, component, name, *bounds, 0, parameter.default))
            slots.append(slot)
        return tuple(genes), tuple(slots)

    def _uses(self, X: Genotypes, slot: _Slot, names: Sequence[str]) -> NDArray[np.bool_]:
        codes = [self._codes[name] for name in names if name in self._codes]
        return np.isin(X[:, slot.method], codes)

    def _repair_slot(self, X: Genotypes, slot: _Slot) -> None:
        weights = X[:, slot.weights]
        ratio = self._uses(X, slot, self._ratio)
        weights[ratio & (weights.sum(axis=1) == 0)] = round(1 / len(self.sources), DECIMALS)
        equal = self._uses(X, slot, self._equal)[:, None]
        joins = weights >= JOINS * weights.max(axis=1, keepdims=True)
        weights[:] = np.where(equal, joins, weights)
        # Methods that join two sources take those of the largest weights.
        dropped = np.zeros_like(weights, dtype=bool)
        order = np.argsort(-weights, axis=1, kind="stable")
        np.put_along_axis(dropped, order[:, 2:], values=True, axis=1)
        weights[dropped & self._uses(X, slot, self._pairs)[:, None]] = 0.0
        # Weights that add up to 1 but for rounding stay as they are, so that repairing twice changes nothing.
        total = weights.sum(axis=1)
        off = ratio & (np.abs(total - 1) > 0.51 * len(self.sources) * 10.0**-DECIMALS)
        weights[off] = np.round(weights[off] / total[off, None], DECIMALS)
        # One source alone, by ratio or as its whole task vector, is that source whatever the method says.
        alone = (weights > 0).sum(axis=1) == 1
        whole = alone & (weights.max(axis=1) == 1) & (~self._uses(X, slot, self._sparse) | self._is_dense(X, slot))
        source = (alone & ratio) | whole
        weights[source] = weights[source] > 0
        X[source, slot.method] = self._codes[self._plain]
        base = ~ratio & (weights.max(axis=1) == 0)
        X[base, slot.method] = next((code for name, code in self._codes.items() if name not in self._ratio), 0.0)
        for name, position in slot.parameters.items():
            inactive = ~self._uses(X, slot, self._takes[name]) | base | source
            X[inactive, position] = self._default[position]
        if "density" in slot.parameters:
            # Under a method that drops entries, only a density of 1 gives the source whole.
            X[source & self._uses(X, slot, self._sparse), slot.parameters["density"]] = 1.0

    def _is_dense(self, X: Genotypes, slot: _Slot) -> NDArray[np.bool_]:
        position = slot.parameters.get("density")
        return X[:, position] == 1 if position is not None else np.ones(len(X), dtype=bool)

    def _fusion(self, x: NDArray[np.float64], slot: _Slot, layer: int | None) -> Fusion:
        method = self.methods[int(x[slot.method])]
        inputs = tuple(
            Input(source, layer, float(weight))
            for source, weight in zip(self.sources, x[slot.weights], strict=True)
            if weight > 0
        )
        if not inputs:
            return Fusion("passthrough", (Input(BASE, layer),))
        dense = method not in self._sparse or x[slot.parameters["density"]] == 1
        if len(inputs) == 1 and inputs[0].weight == 1 and dense:
            return Fusion("passthrough", (Input(inputs[0].source, layer),))
        taken = [(name, at) for name, at in slot.parameters.items() if method in self._takes[name]]
        return Fusion(method, inputs, tuple((name, float(x[at])) for name, at in taken))

    def _tied(
        self,
        method: str,
        weights: NDArray[np.float64],
        *,
        density: float | None = None,
        kind: Literal["source", "uniform"] = "uniform",
    ) -> Reference:
        x = np.array([gene.default for gene in self.genes])
        for slot in self._slots:
            x[slot.method] = self._codes[method]
            x[slot.weights] = weights
            if density is not None and "density" in slot.parameters:
                x[slot.parameters["density"]] = density
        return Reference(self.repair(x[None])[0], kind)

    def _settings(self, recipe: Recipe, reader: FusionReader) -> dict[_Slot, dict[Setting, str]]:
        """The settings that the parts of the recipe want for each slot, with the first part that wants each."""
        found: dict[_Slot, dict[Setting, str]] = {}
        for (depth, component), fusion in recipe.fusions():
            place = component if depth is None else f"{depth}.{component}"
            if depth is not None and component not in COMPONENTS:
                reader.note(f"it has components other than {', '.join(COMPONENTS)}: name them so", place)
                continue
            setting = reader.setting(fusion, depth, place)
            if setting is not None and (depth is None or depth < self.n_layers):
                found.setdefault(self._slot(depth, component), {}).setdefault(setting, place)
        return found

    def _ties(self) -> list[str]:
        """What would let parts differ that share their genes, as options of the space."""
        found = ["space.granularity: 1"] if self.granularity > 1 else []
        return found + ([f"space.components: [{', '.join(COMPONENTS)}]"] if self.components == ("layer",) else [])

    def _slot(self, depth: int | None, component: str) -> _Slot:
        """The slot whose genes say how a part of the model is fused."""
        group = -1 if depth is None else depth // self.granularity
        return self._by_place.get((group, component)) or self._by_place[group, "layer"]

    def _write(self, x: NDArray[np.float64], slot: _Slot, setting: Setting) -> None:
        """Writes the genes of a slot into a genotype, which is then to be repaired."""
        method, parameters = setting.method, dict(setting.parameters)
        if method == PASSTHROUGH:
            method = self._plain if any(setting.weights) or self._vector is None else self._vector
            parameters = {"density": 1.0} if "density" in slot.parameters else {}
        x[slot.method] = self._codes[method]
        x[slot.weights] = setting.weights
        for name, value in parameters.items():
            x[slot.parameters[name]] = value


def _place(slot: _Slot) -> str:
    return OUTER if slot.group < 0 else f"{slot.group}.{slot.component}"
