"""SMM-PS, the parameter space of SMM-Bench: a task-arithmetic weight per layer and source (arXiv 2509.02555).

x lies in [0, 1]^(L K) for L layers and K sources; the benchmark has L = 32 and K = 2, so 64 entries. Its published code
clips x to [0, 1] and says no more, so two things are our reading:

- the order of the entries: layer by layer, the sources of a layer next to each other; `order: source` is the other;
- the part outside the layers, for which there are no entries: a fixed weight, the same for every source.

So the base and the sources, whose outer part is their own, are no models of this space, nor are uniform merges unless
their weight is that of the outer part. They are references outside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import product
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from automerge.blocks import measuring
from automerge.encoding import PASSTHROUGH, FusionReader, Setting
from automerge.fusion_genes import DECIMALS, FusionGenes
from automerge.options import flag_faults, number_faults, strength_faults, whole_faults
from automerge.protocols import Gene, Genotypes, Measures, Reference
from automerge.recipe import COMPONENTS, OUTER, Fusion, OutputLayer, Recipe
from automerge.references import inside, outside
from automerge.tying import tied_layers

METHOD = "task_arithmetic"

Order = Literal["layer", "source"]


class SmmParameterSpace:
    """The space of task-arithmetic weights by layer and source.

    `order` is that of the genes; `outer_weight` is the weight of every source outside the layers, None for one over
    their number; `uniform` draws samples as SMM-Bench's own random data are; `strengths` are the common weights of the
    uniform reference merges.
    """

    def __init__(
        self,
        *,
        sources: Sequence[str],
        n_layers: int,
        order: Order = "layer",
        outer_weight: float | None = None,
        uniform: bool = False,
        strengths: Sequence[float] = (0.3, 0.5, 0.7, 1.0),
    ) -> None:
        """Raises ValueError listing every fault of the options."""
        self.sources = tuple(sources)
        self.n_layers = n_layers
        self.order = order
        self.uniform = uniform
        self._refuse_faults(outer_weight, strengths)
        self.strengths = tuple(strengths)
        n = len(self.sources)
        self.outer_weight = round(1 / n if outer_weight is None else outer_weight, DECIMALS)
        self._part = FusionGenes(sources=self.sources, methods=(METHOD,), max_weight=1.0)
        codes = np.arange(n_layers * n)
        # Which gene is the weight of each source in each layer, shape (n_layers, n_sources).
        self._positions = codes.reshape(n_layers, n) if order == "layer" else codes.reshape(n, n_layers).T
        self.genes = self._layout()
        self._outer = self._fusion(np.full(n, self.outer_weight), None)
        self._measures: Measures | None = None
        self._factors = np.ones(len(self.feature_names))

    @property
    def methods(self) -> tuple[str, ...]:
        """Task arithmetic, and linear for a reference."""
        return (METHOD, "linear")

    @property
    def max_layers(self) -> int:
        """The sources' layers: all models have as many."""
        return self.n_layers

    def sample(self, n: int, rng: np.random.Generator) -> Genotypes:
        """n random canonical genotypes, with the weights of layers tied to a random degree.

        Under `uniform` every weight is drawn on its own from [0, 1]. Of many layers such models all look like the one
        with all weights at a half.
        """
        if self.uniform:
            return self.repair(rng.random((n, len(self.genes))))
        X = np.empty((n, len(self.genes)))
        for row in X:
            row[self._positions] = rng.random(self._positions.shape)[tied_layers(self.n_layers, rng)]
        return self.repair(X)

    def repair(self, X: Genotypes) -> Genotypes:
        """The weights clipped to [0, 1] and rounded, shape (n, n_genes); does not change its argument."""
        X = np.array(X, dtype=np.float64, ndmin=2)
        return np.asarray(np.round(np.clip(X, 0, 1), DECIMALS) + 0.0)  # + 0.0 makes -0.0, of other bytes, 0.0

    def decode(self, x: NDArray[np.float64]) -> Recipe:
        """The recipe of one canonical genotype of shape (n_genes,): all components of a layer have its weights."""
        fusions = [self._fusion(weights, layer) for layer, weights in enumerate(x[self._positions])]
        layers = tuple(OutputLayer(tuple((component, fusion) for component in COMPONENTS)) for fusion in fusions)
        return Recipe(layers=layers, outer=self._outer)

    def encode(self, recipe: Recipe) -> NDArray[np.float64]:
        """The canonical genotype of the recipe's model, with weights rounded to DECIMALS; undoes `decode`.

        Components that the recipe leaves out, because no tensor belongs to them, do not count. Raises ValueError
        listing everything that this space cannot hold, with the remedies.
        """
        reader = replace(self._part.reader(), max_weight=math.inf)
        if len(recipe.layers) != self.n_layers:
            depth_kept = f"it has another depth than the sources' {self.n_layers} layers, which this space keeps"
            reader.note(depth_kept, f"{len(recipe.layers)} layers")
        x = np.array([gene.default for gene in self.genes])
        for depth, layer in enumerate(recipe.layers):
            if layer.scale != 1:
                reader.note("it scales layers, which is not searched: set scale to 1", f"layer {depth}")
            places = [(f"{depth}.{component}", fusion) for component, fusion in layer.components]
            settings = [(place, self._setting(reader, fusion, depth, place)) for place, fusion in places]
            wanted = {setting.weights: place for place, setting in settings if setting is not None}
            if len(wanted) > 1:
                alike = "it has layers whose components differ, which this space merges alike: take space=lfs"
                reader.note(alike, " and ".join(wanted.values()))
            if wanted and depth < self.n_layers:
                x[self._positions[depth]] = next(iter(wanted))
        setting = self._setting(reader, recipe.outer, None, OUTER)
        if setting is not None and setting.weights != (self.outer_weight,) * len(self.sources):
            fixed = f"its part outside the layers is not task arithmetic with weights {self.outer_weight:g}: set "
            own = ", ".join(f"{w:g} of {name}" for name, w in zip(self.sources, setting.weights, strict=True))
            reader.note(fixed + "space.outer_weight, if the weights are equal, or take space=lfs", f"{OUTER}: {own}")
        reader.refuse("SMM parameter")
        return np.asarray(self.repair(x[None])[0])

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The weight of every source by layer, in the order of layers."""
        return tuple(f"{layer}.{source}" for layer in range(self.n_layers) for source in self.sources)

    def features(self, X: Genotypes) -> NDArray[np.float64]:
        """The weights, shape (n, n_layers * n_sources)."""
        return np.asarray(X[:, self._positions.ravel()] * self._factors)

    def active(self, X: Genotypes) -> NDArray[np.bool_]:
        """That all genes act, shape (n, n_genes)."""
        return np.ones(X.shape, dtype=bool)

    def measured(self, measures: Measures) -> Self:
        """A copy told of the sources' weights. A layer's norms are the means over its components."""
        found = copy(self)
        found._measures = measures
        found._factors = self._weigh(measures)
        return found

    def costs(self, X: Genotypes) -> Mapping[str, NDArray[np.float64]]:
        """The layers and parameters of canonical genotypes, of which all have every layer of the sources."""
        return measuring.costs(np.ones((len(X), self.n_layers)), self._measures)

    def references(self) -> Mapping[str, Reference]:
        """Those of `references.outside`, by genotype where the outer part happens to be that of this space."""
        n = len(self.sources)
        weights = [np.zeros(n), *np.eye(n), *(np.full(n, s) for s in self.strengths)]
        candidates = np.empty((len(weights), len(self.genes)))
        candidates[:, self._positions] = np.array(weights)[:, None, :]
        return inside(outside(self.sources, self.n_layers, self.strengths), self, self.repair(candidates))

    def genotype(self, values: Mapping[str, Any]) -> NDArray[np.float64]:
        """The canonical genotype of weights by name, such as a ConfigSpace configuration; others are at their defaults.

        Raises ValueError for a name that is no gene of this space.
        """
        defaults = {gene.name: gene.default for gene in self.genes}
        if unknown := sorted(set(values) - set(defaults)):
            raise ValueError(f"unknown genes {unknown[:5]}; names look like {list(defaults)[:3]}")
        return np.asarray(self.repair(np.array([list((defaults | dict(values)).values())]))[0])

    def to_configspace(self) -> Any:
        """The space as a `ConfigSpace.ConfigurationSpace` of real parameters."""
        from ConfigSpace import ConfigurationSpace, Float  # noqa: PLC0415 (optional consumer)

        space = ConfigurationSpace()
        space.add([Float(gene.name, (gene.lower, gene.upper), default=gene.default) for gene in self.genes])
        return space

    def _refuse_faults(self, outer_weight: float | None, strengths: Sequence[float]) -> None:
        faults = whole_faults(1, n_layers=self.n_layers) + flag_faults(uniform=self.uniform)
        faults += strength_faults(strengths)
        if not self.sources:
            faults.append("it needs a source besides the base")
        if self.order not in get_args(Order):
            faults.append(f"order must be one of {', '.join(get_args(Order))}, got {self.order!r}")
        if outer_weight is not None and number_faults(outer_weight=outer_weight):
            faults.append(f"outer_weight: expected a number or null, got {outer_weight!r}")
        elif outer_weight is not None and not 0 <= outer_weight <= 1:
            faults.append(f"outer_weight must lie in [0, 1], got {outer_weight}")
        if faults:
            raise ValueError("the SMM parameter space cannot be built: " + "; ".join(faults))

    def _layout(self) -> tuple[Gene, ...]:
        n = len(self.sources)
        genes = {
            int(self._positions[layer, k]): Gene(f"{layer}.{name}", layer, "layer", f"weight:{name}", default=1 / n)
            for layer in range(self.n_layers)
            for k, name in enumerate(self.sources)
        }
        return tuple(genes[position] for position in sorted(genes))

    def _weigh(self, measures: Measures) -> NDArray[np.float64]:
        """The factors of features, shape (n_features,)."""
        parts = [product([layer], COMPONENTS) for layer in range(self.n_layers)]
        return measuring.factors(measures, parts, len(self.sources)).ravel()

    def _fusion(self, weights: NDArray[np.float64], layer: int | None) -> Fusion:
        return self._part.fusion(np.r_[0.0, weights], 0, layer)

    def _setting(self, reader: FusionReader, fusion: Fusion, layer: int | None, place: str) -> Setting | None:
        """The weights of a part; None with a note if it has none."""
        if fusion.method not in (METHOD, PASSTHROUGH):
            reader.note(f"it uses methods other than {METHOD}: take space=lfs", f"{place}: {fusion.method}")
            # Read on as task arithmetic, for the faults of its inputs.
            reader.setting(Fusion(METHOD, fusion.inputs), layer, place)
            return None
        setting = reader.setting(fusion, layer, place)
        if setting is not None and max(setting.weights) > 1:
            above = f"{place}: {max(setting.weights):g}"
            reader.note("it has weights above 1, to which SMM-Bench clips: take space=lfs", above)
        return setting
