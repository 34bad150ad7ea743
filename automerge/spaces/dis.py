"""DIS, depth-wise integration: layers of several sources stacked in their order (arXiv 2502.04030), and
pruning: layers left out, the others taken from one source or fused (GPTailor, arXiv 2506.20480).

Every position, a group of consecutive layers, holds a few blocks: the group as it is in one source, or fused from all
of them. None leaves the layers out, several are stacked. What a position adds may be scaled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import chain, pairwise, product
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from automerge.blocks import canonical, measuring
from automerge.blocks.features import FUSED, StackFeatures
from automerge.blocks.grid import Blocks, Grid
from automerge.blocks.reading import StackReader
from automerge.blocks.samples import sample_scales, sample_stack
from automerge.fusion_genes import DECIMALS, FusionGenes, option_faults
from automerge.options import number_faults
from automerge.protocols import Gene, Genotypes, Measures, Method, Reference
from automerge.recipe import COMPONENTS, OUTER, Fusion, Input, OutputLayer, Recipe, Scaling
from automerge.references import outside
from automerge.scaling import MAX_GAIN, MIN_SCALE
from automerge.variation import BLOCK, SCALE

NOTHING = "nothing"
"""The name of the choice of no block."""

ROWS = 1024
"""Stacks that are described together: what is made of them stays in the processor's cache."""

NONE: tuple[Sequence[str | Method], ...] = ([], ())
"""The lists without any method; what is no list is a fault."""


class DepthIntegration:
    """The space of stacks of the sources' layers.

    `granularity` layers in a row form a group, of which the last may be shorter; every group is a position that holds
    up to `max_blocks` blocks, the same one at most `max_repeats` times. A block is a source's layers of that group, in
    their order and kept together. (The reference implementation treats the layers of a group one by one, and takes
    wrong ones.) With `methods` a block may also be fused, by the genes of its position, from the layers of all sources.

    The scale of a position acts on its last layer, as `scaling` says: `residual` multiplies the residual stream after
    it, by MIN_SCALE to `max_scale`, `branch_mlp` what its mlp adds, by 0 to `max_scale`; None leaves scales out.
    The product of the residual scales stays within [1 / MAX_GAIN, MAX_GAIN].

    The part outside the layers is fused by `methods`, or linearly without any. Positions that hold some of the first
    `fixed_first` or last `fixed_last` layers have one unscaled block, fused like the part outside, so that each source
    is a stack. There are `min_layers` to `max_layers` layers, by default from half to 3/2 of the sources'.
    `strengths` are the common weights of the uniform reference merges.
    """

    def __init__(
        self,
        *,
        sources: Sequence[str],
        n_layers: int,
        methods: Sequence[str | Method] = (),
        max_weight: float = 1.5,
        strengths: Sequence[float] = (0.5, 0.7, 0.9),
        granularity: int = 1,
        max_blocks: int = 2,
        max_repeats: int = 2,
        fixed_first: int = 0,
        fixed_last: int = 0,
        min_layers: int | None = None,
        max_layers: int | None = None,
        scaling: Scaling | None = "residual",
        max_scale: float = 2.0,
    ) -> None:
        """Raises ValueError listing every fault of the options."""
        self.sources = tuple(sources)
        self.scaling = scaling
        self.min_scale = MIN_SCALE if scaling == "residual" else 0.0
        self.max_scale = max_scale
        self.grid = Grid(
            n_layers=n_layers,
            n_sources=len(self.sources),
            fuses=methods not in NONE,
            granularity=granularity,
            max_blocks=max_blocks,
            max_repeats=max_repeats,
            fixed_first=fixed_first,
            fixed_last=fixed_last,
            min_layers=-(-n_layers // 2) if min_layers is None else min_layers,
            max_layers=3 * n_layers // 2 if max_layers is None else max_layers,
        )
        methods = methods if self.grid.fuses else ("linear",)
        self._refuse_faults(methods, max_weight, strengths)
        self.strengths = tuple(strengths)
        self._part = FusionGenes(sources=self.sources, methods=methods, max_weight=max_weight)
        self._kinds = [self._part.source(k) for k in range(len(self.sources))]
        self.genes = self._genes()
        self._outer = len(self.genes) - self._part.size
        self._lower = np.array([gene.lower for gene in self.genes])
        self._upper = np.array([gene.upper for gene in self.genes])
        self._default = np.array([gene.default for gene in self.genes])
        self._is_code = np.array([gene.n_choices > 0 for gene in self.genes])
        self._seen = StackFeatures(self.grid, self.sources, max_weight, scaling, max_scale)
        self._measures: Measures | None = None
        self._factors = np.ones(len(self.feature_names))

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the merging methods of fused blocks and of the part outside the layers."""
        return self._part.methods

    @property
    def max_layers(self) -> int:
        """The most layers that a stack has: the option, or what the positions hold."""
        return self.grid.most_layers

    def sample(self, n: int, rng: np.random.Generator) -> Genotypes:
        """n random canonical genotypes: sources and segments of sources with a few edits, shape (n, n_genes).

        Half of the time the part outside the layers is that of the source with most layers, else mixed at random.
        """
        X = np.tile(self._default, (n, 1))
        for row in X:
            places = self._places(row[None])[0]
            blocks, segments = sample_stack(self.grid, rng)
            places[:, : self.grid.max_blocks] = blocks
            if self.scaling is not None:
                places[:, self.grid.max_blocks] = sample_scales(len(places), rng)
            if self.grid.fuses:
                settings = np.array([self._part.sample(rng) for _ in range(segments.max() + 1)])
                places[:, -self._part.size :] = settings[segments]
            counts = np.bincount(blocks.ravel(), minlength=self.grid.fused + 1)[1 : self.grid.fused]
            mixed = rng.random() < 0.5
            row[self._outer :] = self._part.sample(rng) if mixed else self._kinds[int(counts.argmax())]
        return self.repair(X)

    def repair(self, X: Genotypes) -> Genotypes:
        """The canonical genotypes of the same stacks, shape (n, n_genes); does not change its argument.

        Stacks that are too deep or too shallow are brought within bounds as `canonical.drop` and `canonical.fill` say,
        with blocks of the source that weighs most in the part outside the layers; a scale that takes the product out
        of its bounds is set to 1.
        """
        X = np.clip(np.array(X, dtype=np.float64, ndmin=2), self._lower, self._upper)
        X = np.where(self._is_code, np.round(X), np.round(X, DECIMALS)) + 0.0  # + 0.0 makes -0.0, of other bytes, 0.0
        self._part.repair(X, self._outer)
        places = self._places(X)
        blocks = self._blocks(X)
        if self.grid.fuses:
            self._name_sources(places, blocks)
        blocks = canonical.drop(canonical.compact(blocks, self.grid), self.grid)
        emptied = blocks[:, :, 0] == 0
        blocks = canonical.fill(blocks, self.grid, 1 + self._outer_weights(X).argmax(axis=1))
        places[:, :, : self.grid.max_blocks] = blocks
        if self.scaling is not None:
            scales = places[:, :, self.grid.max_blocks]
            scales[emptied] = 1.0
            if self.scaling == "residual":
                last = canonical.last_free(blocks, self.grid)
                scales[last >= 0, last[last >= 0]] = 1.0
                scales[:] = canonical.bounded(scales)
        if self.grid.fuses:
            places[~self._has_fused(blocks), -self._part.size :] = self._default[self._outer :]
        return X

    def decode(self, x: NDArray[np.float64]) -> Recipe:
        """The recipe of one canonical genotype of shape (n_genes,)."""
        places = iter(range(len(self.grid.free)))
        layers: list[OutputLayer] = []
        for position, is_free in zip(self.grid.positions, self.grid.is_free, strict=True):
            if not is_free:
                layers += [_layer(self._part.fusion(x, self._outer, read)) for read in position]
                continue
            place = next(places)
            codes = [int(code) for code in self._places(x[None])[0, place, : self.grid.max_blocks] if code]
            stacked = [_layer(self._fusion(x, place, code, read)) for code in codes for read in position]
            if stacked and self.scaling is not None:
                scale = float(x[place * self._stride + self.grid.max_blocks])
                stacked[-1] = OutputLayer(stacked[-1].components, scale)
            layers += stacked
        return Recipe(tuple(layers), self._part.fusion(x, self._outer, None), self.scaling or "residual")

    def encode(self, recipe: Recipe) -> NDArray[np.float64]:
        """The canonical genotype of the recipe's model, with numbers rounded to DECIMALS.

        What decodes from a canonical genotype comes back as that genotype. Raises ValueError listing everything that
        this space cannot hold, with the remedies.
        """
        x, reader = self._read(recipe)
        reader.faults.refuse("DIS")
        return x

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of what `blocks.features` describes, then those of the part outside the layers."""
        inner = [f"{position}.{FUSED}.{name}" for position in self.grid.free for name in self._parameter_names()]
        return (*self._seen.names(), *inner, *self._part.feature_names(OUTER))

    def features(self, X: Genotypes) -> NDArray[np.float64]:
        """How often and how strongly every source's block acts at every position, shape (n, n_features)."""
        found = np.empty((len(X), len(self._factors)))
        for start in range(0, len(X), ROWS):
            rows = slice(start, start + ROWS)
            np.multiply(self._describe(X[rows]), self._factors, out=found[rows])
        return found

    def active(self, X: Genotypes) -> NDArray[np.bool_]:
        """Which genes act in canonical genotypes, shape (n, n_genes); others are repaired to what they are.

        All slots count as acting, also where the bounds of depth leave them no other block.
        """
        n, blocks = len(X), self._blocks(X)
        found = np.ones(X.shape, dtype=bool)
        acting = found[:, : self._outer].reshape(n, len(self.grid.free), self._stride)
        if self.scaling is not None:
            acting[:, :, self.grid.max_blocks] = blocks[:, :, 0] > 0
        if self.scaling == "residual":
            last = canonical.last_free(blocks, self.grid)
            acting[last >= 0, last[last >= 0], self.grid.max_blocks] = False
        if self.grid.fuses:
            settings = self._places(X)[:, :, -self._part.size :].reshape(-1, self._part.size)
            fusing = self._part.active(settings, 0).reshape(n, len(self.grid.free), self._part.size)
            acting[:, :, -self._part.size :] = fusing & self._has_fused(blocks)[:, :, None]
        found[:, self._outer :] = self._part.active(X, self._outer)
        return found

    def measured(self, measures: Measures) -> Self:
        """A copy told of the sources' weights.

        Blocks count with the weights of sources in them, 1 for a source's own, so the counts of a source's blocks are
        multiplied as its weights are. Norms of a position are the means over its layers and components, those of the
        part outside the layers over fixed layers too, which are fused like it.
        """
        found = copy(self)
        found._measures = measures
        found._factors = self._weigh(measures)
        return found

    def costs(self, X: Genotypes) -> Mapping[str, NDArray[np.float64]]:
        """The layers and parameters of canonical genotypes."""
        counts = np.ones((len(X), len(self.grid.positions)))
        counts[:, self.grid.free] = np.count_nonzero(self._blocks(X), axis=2)
        return measuring.costs(np.repeat(counts, self.grid.widths, axis=1), self._measures)

    def references(self) -> Mapping[str, Reference]:
        """`base`, every source and uniform merges, by the names of LFS: as genotypes where the space holds them.

        They have as many layers as the sources; where that is more than `max_layers` they are not eligible.
        """
        methods: dict[str, str | Method] = {name: name for name in ("linear", "task_arithmetic")}
        methods |= self._part.known
        found = {}
        for name, known in outside(self.sources, self.grid.n_layers, self.strengths, tuple(methods.values())).items():
            assert known.recipe is not None  # noqa: S101 (what `outside` promises)
            x, reader = self._read(known.recipe)
            held = known if reader.faults.faults else Reference(x, known.kind)
            found[name] = replace(held, eligible=self.grid.holds_sources)
        return found

    def genotype(self, values: Mapping[str, Any]) -> NDArray[np.float64]:
        """The canonical genotype of named values, such as a ConfigSpace configuration; absent genes are inactive.

        Raises ValueError for a name that is no gene of this space.
        """
        unknown = sorted(set(values) - {gene.name for gene in self.genes})
        if unknown:
            raise ValueError(f"unknown genes {unknown[:5]}; names look like {[gene.name for gene in self.genes[:3]]}")
        x = self._default.copy()
        for position, gene in enumerate(self.genes):
            if gene.name in values:
                value = values[gene.name]
                if gene.role.startswith(BLOCK):
                    x[position] = self._choices().index(value)
                else:
                    x[position] = self._part.codes[value] if gene.n_choices else float(value)
        return np.asarray(self.repair(x[None])[0])

    def to_configspace(self) -> Any:
        """The space as a `ConfigSpace.ConfigurationSpace`: a slot exists behind a block, fusion genes if one is fused.

        Its samples are not within the bounds of depth; `genotype` brings them there.
        """
        from ConfigSpace import (  # noqa: PLC0415 (optional consumer)
            Categorical,
            ConfigurationSpace,
            EqualsCondition,
            Float,
            InCondition,
            OrConjunction,
        )

        parts: list[Any] = []
        choices = self._choices()
        for place, position in enumerate(self.grid.free):
            genes = self.genes[place * self._stride : (place + 1) * self._stride]
            slots = [
                Categorical(gene.name, choices, default=choices[int(gene.default)])
                for gene in genes[: self.grid.max_blocks]
            ]
            parts += [*slots, *(InCondition(slot, before, choices[1:]) for before, slot in pairwise(slots))]
            if self.scaling is not None:
                gene = genes[self.grid.max_blocks]
                scale = Float(gene.name, (gene.lower, gene.upper), default=gene.default)
                parts += [scale, InCondition(scale, slots[0], choices[1:])]
            if self.grid.fuses:
                fusing = self._part.configspace_parts(f"{position}.{FUSED}")
                parts += [*fusing.free, *fusing.dependent]
                for each in fusing.free:
                    uses = [EqualsCondition(each, slot, FUSED) for slot in slots]
                    parts.append(OrConjunction(*uses) if len(uses) > 1 else uses[0])
        outer = self._part.configspace_parts(OUTER)
        space = ConfigurationSpace()
        space.add([*parts, *outer.free, *outer.dependent])  # at once: it sorts all anew at every call
        return space

    def _refuse_faults(self, methods: Sequence[str | Method], max_weight: float, strengths: Sequence[float]) -> None:
        faults = self.grid.faults()
        faults += option_faults(sources=self.sources, methods=methods, max_weight=max_weight, strengths=strengths)
        if self.scaling not in (None, "residual", "branch_mlp"):
            faults.append(f"scaling must be residual, branch_mlp or null, got {self.scaling!r}")
        if wrong := number_faults(max_scale=self.max_scale):
            faults += wrong
        elif not 1 <= self.max_scale <= MAX_GAIN:
            faults.append(f"max_scale must lie between 1, no scaling, and {MAX_GAIN:g}, got {self.max_scale}")
        taken = sorted({NOTHING, FUSED} & set(self.sources))
        if taken:
            faults.append(f"sources cannot be called {' or '.join(taken)}, which names a choice of block; rename them")
        if faults:
            raise ValueError("the DIS space cannot be built: " + "; ".join(faults))

    def _genes(self) -> tuple[Gene, ...]:
        """For every free position its slots, its scale and its fusion, then the part outside the layers."""
        genes: list[Gene] = []
        n_codes = self.grid.n_codes
        for position in self.grid.free.tolist():
            for slot in range(self.grid.max_blocks):
                name, default = f"{position}.block{slot}", float(slot == 0)
                genes.append(Gene(name, position, "layer", f"{BLOCK}{slot}", 0, n_codes - 1, n_codes, default))
            if self.scaling is not None:
                bounds = (self.min_scale, self.max_scale)
                genes.append(Gene(f"{position}.scale", position, "layer", SCALE, *bounds, 0, 1.0))
            if self.grid.fuses:
                genes += self._part.genes(f"{position}.{FUSED}", position, "layer")
        return (*genes, *self._part.genes(OUTER, -1, OUTER))

    @property
    def _stride(self) -> int:
        return self._outer // len(self.grid.free)

    def _places(self, X: Genotypes) -> NDArray[np.float64]:
        """The genes of the free positions, a view of shape (n, n_free, stride)."""
        return X[:, : self._outer].reshape(len(X), len(self.grid.free), self._stride)

    def _blocks(self, X: Genotypes) -> Blocks:
        return self._places(X)[:, :, : self.grid.max_blocks].astype(np.int64)

    def _has_fused(self, blocks: Blocks) -> NDArray[np.bool_]:
        """Whether positions hold a fused block, shape (n, n_free)."""
        return np.asarray(np.logical_or.reduce([here == self.grid.fused for here in np.moveaxis(blocks, 2, 0)]))

    def _codes(self, settings: NDArray[np.float64]) -> NDArray[np.int64]:
        """The codes of blocks that canonical values of fusion genes write, shape (m,)."""
        codes = np.full(len(settings), self.grid.fused)
        for k, source in enumerate(self._kinds):
            codes[np.logical_and.reduce([own == value for own, value in zip(settings.T, source, strict=True)])] = k + 1
        return codes

    def _name_sources(self, places: NDArray[np.float64], blocks: Blocks) -> None:
        """Makes the fusions of fused blocks canonical, and a fused block that is one source that source's; in place."""
        used = self._has_fused(blocks)
        settings = places[used, -self._part.size :]
        self._part.repair(settings, 0)
        places[used, -self._part.size :] = settings
        codes = np.zeros(used.shape, dtype=np.int64)
        codes[used] = self._codes(settings)
        blocks[:] = np.where(blocks == self.grid.fused, codes[:, :, None], blocks)

    def _weigh(self, measures: Measures) -> NDArray[np.float64]:
        """The factors of features, shape (n_features,)."""
        slots = [list(product(layers, COMPONENTS)) for layers in self.grid.positions]
        fixed = chain.from_iterable(slots[k] for k in np.flatnonzero(~self.grid.is_free))
        parts = [*(slots[k] for k in self.grid.free), [(None, OUTER), *fixed]]
        *inner, outer = measuring.factors(measures, parts, len(self.sources))
        found = np.ones(len(self.feature_names))
        found[self._seen.weight_columns()] = inner
        first = len(found) - len(self._part.feature_names(""))
        found[first : first + len(self.sources)] = outer
        return found

    def _outer_weights(self, X: Genotypes) -> NDArray[np.float64]:
        return self._part.features(X, self._outer)[:, : len(self.sources)]

    def _fusion(self, x: NDArray[np.float64], place: int, code: int, read: int) -> Fusion:
        if code == self.grid.fused:
            return self._part.fusion(x, (place + 1) * self._stride - self._part.size, read)
        return Fusion("passthrough", (Input(self.sources[code - 1], read),))

    def _describe(self, X: Genotypes) -> NDArray[np.float64]:
        """The features before the factors, shape (n, n_features)."""
        n, blocks, places = len(X), self._blocks(X), self._places(X)
        scales = None if self.scaling is None else places[:, :, self.grid.max_blocks]
        weights, parameters = None, np.empty((n, 0))
        if self.grid.fuses:
            settings = places[:, :, -self._part.size :].reshape(-1, self._part.size)
            found = self._part.features(settings, 0).reshape(n, len(self.grid.free), -1)
            weights = found[:, :, : len(self.sources)]
            parameters = (found[:, :, len(self.sources) :] * self._has_fused(blocks)[:, :, None]).reshape(n, -1)
        fixed = self._codes(X[:, self._outer :])
        stack = self._seen.columns(blocks, scales, weights, fixed)
        return np.concatenate([stack, parameters, self._part.features(X, self._outer)], axis=1)

    def _read(self, recipe: Recipe) -> tuple[NDArray[np.float64], StackReader]:
        """The canonical genotype of the recipe's model, if the reader has no faults."""
        reader = StackReader(
            grid=self.grid,
            genes=self._part,
            scaling=self.scaling,
            min_scale=self.min_scale,
            max_scale=self.max_scale,
        )
        reader.read(recipe)
        x = self._default.copy()
        places = self._places(x[None])[0]
        places[:, : self.grid.max_blocks] = reader.blocks
        if self.scaling is not None:
            places[:, self.grid.max_blocks] = reader.scales
        for place, setting in reader.settings.items():
            places[place, -self._part.size :] = setting
        if reader.outer is not None:
            x[self._outer :] = reader.outer
        return np.asarray(self.repair(x[None])[0]), reader

    def _choices(self) -> list[str]:
        """The names of the codes of blocks."""
        return [NOTHING, *self.sources, FUSED][: self.grid.n_codes]

    def _parameter_names(self) -> tuple[str, ...]:
        """What features say of a fusion beside the weights."""
        return tuple(name[1:] for name in self._part.feature_names("")[len(self.sources) :])


def _layer(fusion: Fusion) -> OutputLayer:
    return OutputLayer(tuple((component, fusion) for component in COMPONENTS))
