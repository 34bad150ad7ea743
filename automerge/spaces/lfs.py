"""LFS, layer-wise fusion: output layer i is fused from layer i of all sources (arXiv 2502.04030, section 3.1).

Each slot, a group of consecutive layers times a component, has one method, one weight per source and the
parameters of its method; the part outside the layers is a slot of its own. Unlike the reference implementation
every method has its own weight for each source, and a genotype is canonical: genes that do not act are at their
defaults, weights that only act by their ratio add up to 1, so equal models have equal genotypes, but for those that two
methods make of the same numbers: linear and task arithmetic with weights that add up to 1, say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from itertools import product
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from automerge.blocks import measuring
from automerge.encoding import FusionReader, Setting
from automerge.fusion_genes import FusionGenes, option_faults
from automerge.options import list_faults, whole_faults
from automerge.protocols import Gene, Genotypes, Measures, Method, Reference, ReferenceKind
from automerge.recipe import BASE, COMPONENTS, OUTER, Fusion, OutputLayer, Recipe


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
        methods: Sequence[str | Method] = ("linear", "slerp", "task_arithmetic", "ties", "dare_ties"),
        granularity: int = 1,
        components: Sequence[str] = COMPONENTS,
        max_weight: float = 1.5,
        strengths: Sequence[float] = (0.3, 0.5, 0.7, 1.0),
    ) -> None:
        """Raises ValueError listing every fault of the options."""
        faults = option_faults(sources=sources, methods=methods, max_weight=max_weight, strengths=strengths)
        faults += whole_faults(1, granularity=granularity, n_layers=n_layers) + _component_faults(components)
        if faults:
            raise ValueError("the LFS space cannot be built: " + "; ".join(faults))
        self.n_layers = n_layers
        self.granularity = granularity
        self.components = tuple(components)
        self.strengths = tuple(strengths)
        self._part = FusionGenes(sources=sources, methods=methods, max_weight=max_weight)
        self.sources, self.methods, self.max_weight = self._part.sources, self._part.methods, max_weight
        slots = [(group, component) for group in range(self._n_groups()) for component in self.components]
        self._firsts = {slot: k * self._part.size for k, slot in enumerate([*slots, (-1, OUTER)])}
        self.genes: tuple[Gene, ...] = tuple(
            gene
            for group, component in self._firsts
            for gene in self._part.genes(_place(group, component), group, component)
        )
        self._measures: Measures | None = None
        self._factors = np.ones(len(self.feature_names))

    @property
    def max_layers(self) -> int:
        """The sources' layers: all models have as many."""
        return self.n_layers

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
            for (group, component), first in self._firsts.items():
                block = int(np.searchsorted(edges, group, side="right"))
                key = ((), (component,), (component, block), (component, group))[level]
                if key not in drawn:
                    drawn[key] = self._part.sample(rng)
                row[first : first + self._part.size] = drawn[key]
        return self.repair(X)

    def repair(self, X: Genotypes) -> Genotypes:
        """The canonical genotypes of the same models, shape (n, n_genes); does not change its argument."""
        X = np.array(X, dtype=np.float64, ndmin=2, order="C")
        self._part.repair(self._by_slot(X), 0)
        return X

    def decode(self, x: NDArray[np.float64]) -> Recipe:
        """The recipe of one canonical genotype of shape (n_genes,)."""

        def fused(depth: int, component: str) -> tuple[str, Fusion]:
            return component, self._part.fusion(x, self._first(depth, component), depth)

        layers = tuple(
            OutputLayer(components=tuple(fused(depth, component) for component in COMPONENTS))
            for depth in range(self.n_layers)
        )
        return Recipe(layers=layers, outer=self._part.fusion(x, self._first(None, OUTER), None))

    def encode(self, recipe: Recipe) -> NDArray[np.float64]:
        """The canonical genotype of the recipe's model, with weights and parameters rounded to `fusion_genes.DECIMALS`.

        What decodes from a canonical genotype comes back as that genotype; of other recipes weights may change that act
        only by their ratio. A component that the recipe leaves out, because no tensor belongs to it, has the defaults.
        Raises ValueError listing everything that this space cannot hold, with the remedies.
        """
        reader = self._part.reader()
        if len(recipe.layers) != self.n_layers:
            depth_kept = f"it has another depth than the sources' {self.n_layers} layers, which this space keeps"
            reader.note(depth_kept, f"{len(recipe.layers)} layers")
        for depth, layer in enumerate(recipe.layers):
            if layer.scale != 1:
                reader.note("it scales the residual stream, which is not searched: set scale to 1", f"layer {depth}")
            if len(dict(layer.components)) < len(layer.components):
                reader.note("it names a component of a layer twice: keep one of them", f"layer {depth}")
        x = np.array([gene.default for gene in self.genes])
        for first, settings in self._settings(recipe, reader).items():
            setting, *others = settings
            if others and self._ties():
                alike = f"parts differ that this space merges alike: set {' and '.join(self._ties())}"
                reader.note(alike, f"{settings[setting]} and {settings[others[0]]}")
            self._part.write(x, first, setting)
        reader.refuse("LFS")
        return np.asarray(self.repair(x[None])[0])

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Per slot: the effective weight of every source, the methods' parameters, a flag for methods that need one."""
        return tuple(name for slot in self._firsts for name in self._part.feature_names(_place(*slot)))

    def features(self, X: Genotypes) -> NDArray[np.float64]:
        """Effective weights instead of codes, shape (n, n_features); a density of 1 means that nothing is dropped."""
        found = self._part.features(self._by_slot(X), 0).reshape(len(X), len(self._factors))
        found *= self._factors
        return found

    def active(self, X: Genotypes) -> NDArray[np.bool_]:
        """Which genes act in canonical genotypes, shape (n, n_genes); others are repaired to what they are."""
        return self._part.active(self._by_slot(X), 0).reshape(X.shape)

    def measured(self, measures: Measures) -> Self:
        """A copy told of the sources' weights. A slot's norms are the means over its layers and components."""
        found = copy(self)
        found._measures = measures
        found._factors = self._weigh(measures)
        return found

    def costs(self, X: Genotypes) -> Mapping[str, NDArray[np.float64]]:
        """The layers and parameters of canonical genotypes, of which all have every layer of the sources."""
        return measuring.costs(np.ones((len(X), self.n_layers)), self._measures)

    def references(self) -> Mapping[str, Reference]:
        """`base`, every source, and the uniform merges `METHOD` or `METHOD STRENGTH`, by name.

        Without a method that starts from the base, the base is no model of this space and has no reference.
        """
        base = self._part.base()
        found = {} if base is None else {BASE: self._tied(base, "source")}
        found |= {source: self._tied(self._part.source(k), "source") for k, source in enumerate(self.sources)}
        merges = self._part.uniform(self.strengths).items()
        return found | {name: self._tied(values, "uniform") for name, values in merges}

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
                x[position] = self._part.codes[value] if gene.n_choices else float(value)
        return np.asarray(self.repair(x[None])[0])

    def to_configspace(self) -> Any:
        """The space as a `ConfigSpace.ConfigurationSpace`: a parameter exists only under methods that have it."""
        from ConfigSpace import ConfigurationSpace  # noqa: PLC0415 (optional consumer)

        space = ConfigurationSpace()
        parts = [self._part.configspace_parts(_place(*slot)) for slot in self._firsts]
        # At once, because it sorts all anew at every call.
        space.add([each for part in parts for each in (*part.free, *part.dependent)])
        return space

    def _n_groups(self) -> int:
        return -(-self.n_layers // self.granularity)

    def _weigh(self, measures: Measures) -> NDArray[np.float64]:
        """The factors of features, shape (n_features,)."""
        found = np.ones((len(self._firsts), len(self._part.feature_names(""))))
        parts = [self._written(*slot) for slot in self._firsts]
        found[:, : len(self.sources)] = measuring.factors(measures, parts, len(self.sources))
        return found.ravel()

    def _written(self, group: int, component: str) -> Iterable[tuple[int | None, str]]:
        """The layers and components that the genes of a slot say how to fuse."""
        if group < 0:
            return [(None, OUTER)]
        layers = range(group * self.granularity, min((group + 1) * self.granularity, self.n_layers))
        return product(layers, COMPONENTS if component == "layer" else (component,))

    def _by_slot(self, X: Genotypes) -> Genotypes:
        """The genes of one slot a row, slots of one genotype in a row; shape (n * n_slots, n_genes / n_slots)."""
        return X.reshape(-1, self._part.size)

    def _tied(self, values: NDArray[np.float64], kind: ReferenceKind) -> Reference:
        """The model whose slots all have these values."""
        return Reference(np.tile(values, len(self._firsts)), kind)

    def _settings(self, recipe: Recipe, reader: FusionReader) -> dict[int, dict[Setting, str]]:
        """By slots' first genes the settings that parts of the recipe want of them, with the first that wants each."""
        found: dict[int, dict[Setting, str]] = {}
        for (depth, component), fusion in recipe.fusions():
            place = component if depth is None else f"{depth}.{component}"
            if depth is not None and component not in COMPONENTS:
                reader.note(f"it has components other than {', '.join(COMPONENTS)}: name them so", place)
                continue
            setting = reader.setting(fusion, depth, place)
            if setting is not None and (depth is None or depth < self.n_layers):
                found.setdefault(self._first(depth, component), {}).setdefault(setting, place)
        return found

    def _ties(self) -> list[str]:
        """What would let parts differ that share their genes, as options of the space."""
        found = ["space.granularity: 1"] if self.granularity > 1 else []
        return found + ([f"space.components: [{', '.join(COMPONENTS)}]"] if self.components == ("layer",) else [])

    def _first(self, depth: int | None, component: str) -> int:
        """The first gene of the slot that says how a part of the model is fused."""
        group = -1 if depth is None else depth // self.granularity
        return self._firsts[(group, component) if (group, component) in self._firsts else (group, "layer")]


def _component_faults(components: Sequence[str]) -> list[str]:
    faults = list_faults(components=components)
    if not faults and sorted(components, key=str) not in (["layer"], sorted(COMPONENTS)):
        faults.append(f"components must be {list(COMPONENTS)} or ['layer'], got {list(components)}")
    return faults


def _place(group: int, component: str) -> str:
    return OUTER if group < 0 else f"{group}.{component}"
