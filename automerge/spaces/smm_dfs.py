"""SMM-DFS, the data-flow space of SMM-Bench: two models' layers in one stack, with scales between (arXiv 2509.02555).

A genotype is c_0 .. c_(L-1), x_0 .. x_(2L-2) for sources of L layers: codes in {0, 1, 2} and scales in [0.4, 1.5]. The
benchmark has L = 32, so 95 entries. Its published code clips x and says no more; this is our reading:

- the longest stack is A_0 B_0 A_1 B_1 .. A_(L-1) B_(L-1), with A and B the first and the second source: 2L layers and
  2L - 1 transitions. c_l tells whether depth l has A's layer (0), B's (1) or both, A's first (2);
- x_i scales the residual stream after layer i of the longest stack. Where that layer is absent, or the last of the
  model, x_i does nothing; in canonical form it is 1;
- the part outside the layers has no entries: it is the mean of both sources, or one of them.

The product of the scales up to any layer stays within the bounds that exports keep, 1 / MAX_GAIN to MAX_GAIN: `repair`
clips the scale that would leave them. 0.4 twice a layer, which the benchmark allows, is beyond any number format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import pairwise, product
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from automerge.blocks import measuring
from automerge.encoding import PASSTHROUGH, FusionReader
from automerge.fusion_genes import DECIMALS, FusionGenes
from automerge.options import flag_faults, strength_faults, whole_faults
from automerge.protocols import Gene, Genotypes, Measures, Reference
from automerge.recipe import COMPONENTS, OUTER, Fusion, Input, OutputLayer, Recipe
from automerge.references import inside, outside
from automerge.scaling import MAX_GAIN
from automerge.tying import tied_layers

LOWER, UPPER = 0.4, 1.5
"""Bounds of a scale."""

BOTH = 2
"""The code of both sources; those of one are its position."""

MEAN = "mean"
"""The outer part that is the mean of both sources."""

LEAST = (1 + 1e-9) / MAX_GAIN
"""The smallest product of scales, a hair above what exports take, so that rounding cannot fall below it."""

UNSCALED = 0.25
"""Share of samples without any scale."""

MAX_EDITS = 4
"""Most runs of layers that a sample with tied layers chooses anew; fewer are as likely."""


class SmmDataFlowSpace:
    """The space of stacks of two sources, A and B in order, with scales between their layers.

    `outer` is the name of the source whose part outside the layers a model has, or `mean`; `uniform` draws samples as
    SMM-Bench's own random data are; `strengths` are the common weights of the uniform reference merges.
    """

    def __init__(
        self,
        *,
        sources: Sequence[str],
        n_layers: int,
        outer: str = MEAN,
        uniform: bool = False,
        strengths: Sequence[float] = (0.3, 0.5, 0.7, 1.0),
    ) -> None:
        """Raises ValueError listing every fault of the options."""
        self.sources = tuple(sources)
        self.n_layers = n_layers
        self.uniform = uniform
        self._refuse_faults(outer, strengths)
        self.strengths = tuple(strengths)
        self._part = FusionGenes(sources=self.sources, methods=("linear",), max_weight=1.0)
        mean = self._part.fusion(self._part.uniform(())["linear"], 0, None)
        self._outer = mean if outer == MEAN else Fusion(PASSTHROUGH, (Input(outer, None),))
        self._choices = (*self.sources, "+".join(self.sources))
        # The layers of the longest stack in order.
        self._stack: list[tuple[str, int | None]] = [(name, at) for at in range(n_layers) for name in self.sources]
        layers = range(n_layers)
        choices = [Gene(f"{at}.layers", at, "layer", "choice", 0, BOTH, BOTH + 1) for at in layers]
        scales = [
            Gene(f"{at}.{name}.scale", at, "layer", "transition", LOWER, UPPER, 0, 1.0)
            for at in layers
            for name in self.sources
        ]
        # Nothing follows the last layer of the longest stack.
        self.genes = (*choices, *scales[:-1])
        self._measures: Measures | None = None
        self._factors = np.ones(len(self.feature_names))

    @property
    def methods(self) -> tuple[str, ...]:
        """Linear outside the layers, and task arithmetic for references."""
        return ("linear", "task_arithmetic")

    @property
    def max_layers(self) -> int:
        """Twice the sources' layers: those of the longest stack."""
        return 2 * self.n_layers

    def sample(self, n: int, rng: np.random.Generator) -> Genotypes:
        """n random canonical genotypes, with the choices of layers tied, and the scales near 1, to a random degree.

        Up to MAX_EDITS short runs of layers choose anew: with one choice all through, and without scales, as a quarter
        is, there are only three models. Under `uniform` every gene is drawn on its own within its bounds. Such models
        all have about 4/3 L layers that change their source all the time, and hardly any can speak.
        """
        X = np.empty((n, len(self.genes)))
        for row in X:
            choices = rng.integers(BOTH + 1, size=self.n_layers)
            scales = rng.uniform(LOWER, UPPER, size=len(self.genes) - self.n_layers)
            if not self.uniform:
                choices = choices[tied_layers(self.n_layers, rng)]
                for _ in range(rng.integers(MAX_EDITS + 1)):
                    start = int(rng.integers(self.n_layers))
                    choices[start : start + int(rng.geometric(0.5))] = rng.integers(BOTH + 1)
                spread = 0.0 if rng.random() < UNSCALED else rng.random()
                scales = 1 + spread * (scales - 1)
            row[:] = np.r_[choices, scales]
        return self.repair(X)

    def repair(self, X: Genotypes) -> Genotypes:
        """The canonical genotypes, shape (n, n_genes); does not change its argument.

        Numbers are clipped and rounded, scales that do nothing are 1, and from the first layer on a scale is clipped
        where the product of the scales would leave [1 / MAX_GAIN, MAX_GAIN].
        """
        X = np.array(X, dtype=np.float64, ndmin=2)
        choices, scales = X[:, : self.n_layers], X[:, self.n_layers :]  # views: what follows changes X
        choices[:] = np.round(np.clip(choices, 0, BOTH)) + 0.0  # + 0.0 makes -0.0, of other bytes, 0.0
        scales[:] = np.round(np.clip(scales, LOWER, UPPER), DECIMALS)
        acts = self._acting(X)
        scales[~acts] = 1.0
        unit = 10.0**DECIMALS
        product = np.ones(len(X))
        for scale, act in zip(scales.T, acts.T, strict=True):
            least, most = np.ceil(unit * LEAST / product) / unit, np.floor(unit / LEAST / product) / unit
            scale[act] = np.clip(scale, least, most)[act]
            product *= scale
        return X

    def decode(self, x: NDArray[np.float64]) -> Recipe:
        """The recipe of one canonical genotype of shape (n_genes,), of L to 2L layers."""
        scales = np.r_[x[self.n_layers :], 1.0]
        layers = tuple(
            OutputLayer(
                tuple((component, Fusion(PASSTHROUGH, (Input(*self._stack[k]),))) for component in COMPONENTS),
                float(scales[k]),
            )
            for k in np.flatnonzero(self._present(x[None])[0])
        )
        return Recipe(layers=layers, outer=self._outer)

    def encode(self, recipe: Recipe) -> NDArray[np.float64]:
        """The canonical genotype of the recipe's model, with scales rounded to DECIMALS; undoes `decode`.

        The scale of the last layer, which does nothing, does not count. Raises ValueError listing everything that this
        space cannot hold, with the remedies.
        """
        reader = replace(self._part.reader(), has_base=True)
        places = list(self._places(recipe, reader))
        # Faults of single layers would make those of the order a riddle.
        if not reader.faults:
            self._note_disorder(places, reader)
        scales = [round(layer.scale, DECIMALS) for layer in recipe.layers]
        self._note_scales(recipe, scales[:-1], reader)
        self._note_outer(recipe.outer, reader)
        reader.refuse("SMM data-flow")
        present = np.zeros(2 * self.n_layers, dtype=bool)
        present[places] = True
        transitions = np.ones(2 * self.n_layers)
        transitions[places] = scales
        first, second = present.reshape(self.n_layers, 2).T
        return np.asarray(self.repair(np.r_[np.where(first & second, BOTH, second), transitions[:-1]][None])[0])

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Per layer of the longest stack whether it is there and its gain; the depth; the switches of source."""
        own = [f"{at}.{name}.{what}" for name, at in self._stack for what in ("present", "gain")]
        return (*own, "depth", "switches")

    def features(self, X: Genotypes) -> NDArray[np.float64]:
        """What the layers do instead of codes, all in [0, 1], shape (n, n_features).

        The gain with which a layer is added to the residual stream is one over the product of the scales before it, on
        a logarithmic scale with 1 at 0.5; that of an absent layer is 0. The depth is a share of the longest stack's,
        the switches are the share of a model's transitions that go from one source to the other.
        """
        present = self._present(X)
        logs = np.cumsum(np.log(np.c_[np.ones(len(X)), X[:, self.n_layers :]]), axis=1)
        gains = np.where(present, 0.5 - logs / (2 * np.log(MAX_GAIN)), 0.0)
        choices = X[:, : self.n_layers]
        both = np.count_nonzero(choices == BOTH, axis=1)
        # Of both sources A comes first and B last.
        turns = both + np.count_nonzero((choices[:, :-1] != 0) != (choices[:, 1:] == 1), axis=1)
        switches = turns / np.maximum(1, self.n_layers + both - 1)
        own = np.stack([present, gains], axis=2).reshape(len(X), 2 * len(self._stack))
        return np.asarray(np.c_[own, present.mean(axis=1), switches] * self._factors)

    def active(self, X: Genotypes) -> NDArray[np.bool_]:
        """Which genes act in canonical genotypes, shape (n, n_genes); others are repaired to what they are.

        All choices of layers do, and scales after layers that are there and not the last.
        """
        return np.concatenate([np.ones((len(X), self.n_layers), dtype=bool), self._acting(X)], axis=1)

    def measured(self, measures: Measures) -> Self:
        """A copy told of the sources' weights.

        Whether a source's layer is there counts as its weight, which is 1 or 0: its norm is the mean over components.
        """
        found = copy(self)
        found._measures = measures
        found._factors = self._weigh(measures)
        return found

    def costs(self, X: Genotypes) -> Mapping[str, NDArray[np.float64]]:
        """The layers and parameters of canonical genotypes."""
        counts = self._present(X).reshape(len(X), self.n_layers, len(self.sources)).sum(axis=2, dtype=np.float64)
        return measuring.costs(counts, self._measures)

    def references(self) -> Mapping[str, Reference]:
        """Those of `references.outside`, by genotype a source whose part outside the layers all models have."""
        candidates = np.ones((len(self.sources), len(self.genes)))
        candidates[:, : self.n_layers] = np.arange(len(self.sources))[:, None]
        return inside(outside(self.sources, self.n_layers, self.strengths), self, candidates)

    def genotype(self, values: Mapping[str, Any]) -> NDArray[np.float64]:
        """The canonical genotype of named values, such as a ConfigSpace configuration; absent genes are inactive.

        Choices of layers are A, B or A+B by the sources' names. Raises ValueError for a name that is no gene of this
        space.
        """
        defaults = {gene.name: gene.default for gene in self.genes}
        if unknown := sorted(set(values) - set(defaults)):
            raise ValueError(f"unknown genes {unknown[:5]}; names look like {[*defaults][-2:]}")
        codes = {choice: float(code) for code, choice in enumerate(self._choices)}
        named = defaults | {name: codes[value] if value in codes else float(value) for name, value in values.items()}
        return np.asarray(self.repair(np.array([list(named.values())]))[0])

    def to_configspace(self) -> Any:
        """The space as a `ConfigSpace.ConfigurationSpace`: a scale exists only after layers that are there, and before
        others. The bounds of the product of the scales are left to `genotype`.
        """
        from ConfigSpace import Categorical, ConfigurationSpace, Float, InCondition  # noqa: PLC0415 (optional consumer)

        choices = [
            Categorical(gene.name, self._choices, default=self._choices[0]) for gene in self.genes[: self.n_layers]
        ]
        parts: list[Any] = [*choices]
        for k, gene in enumerate(self.genes[self.n_layers :]):
            scale = Float(gene.name, (gene.lower, gene.upper), default=gene.default)
            is_end = k == len(self._stack) - 2
            choosing = [self._choices[BOTH]] if is_end else [self._choices[k % 2], self._choices[BOTH]]
            parts += [scale, InCondition(scale, choices[k // 2], choosing)]
        space = ConfigurationSpace()
        space.add(parts)  # at once: it sorts all anew at every call
        return space

    def _refuse_faults(self, outer: str, strengths: Sequence[float]) -> None:
        faults = whole_faults(1, n_layers=self.n_layers) + flag_faults(uniform=self.uniform)
        faults += strength_faults(strengths)
        if len(self.sources) != 2:
            faults.append(
                f"it stacks exactly two sources, got {len(self.sources)} ({', '.join(self.sources)}); keep two in "
                "source.models or take space=dis"
            )
        if MEAN in self.sources:
            faults.append(f"a source called {MEAN} cannot be told from the mean of both; rename it in source.models")
        if outer not in (MEAN, *self.sources):
            faults.append(f"outer must be one of {', '.join((MEAN, *self.sources))}, got {outer!r}")
        if faults:
            raise ValueError("the SMM data-flow space cannot be built: " + "; ".join(faults))

    def _present(self, X: Genotypes) -> NDArray[np.bool_]:
        """Which layers of the longest stack are there, shape (n, 2 L)."""
        choices = X[:, : self.n_layers, None]
        return np.asarray(((choices == [0, 1]) | (choices == BOTH)).reshape(len(X), 2 * self.n_layers))

    def _acting(self, X: Genotypes) -> NDArray[np.bool_]:
        """Which scales do something, shape (n, 2 L - 1)."""
        found = self._present(X)[:, :-1]
        found[:, -1] &= X[:, self.n_layers - 1] == BOTH
        return found

    def _weigh(self, measures: Measures) -> NDArray[np.float64]:
        """The factors of features, shape (n_features,)."""
        found = np.ones(len(self.feature_names))
        parts = [product([layer], COMPONENTS) for layer in range(self.n_layers)]
        found[: 2 * len(self._stack) : 2] = measuring.factors(measures, parts, len(self.sources)).ravel()
        return found

    def _places(self, recipe: Recipe, reader: FusionReader) -> Iterator[int]:
        """Where the recipe's layers stand in the longest stack; what is no layer of it is noted."""
        for depth, layer in enumerate(recipe.layers):
            fusions = dict.fromkeys(fusion for _, fusion in layer.components)
            if len(fusions) != 1:
                whole = "it has layers whose components differ: take all of a layer from one source"
                reader.note(whole, f"layer {depth}")
            for fusion in fusions:
                read = fusion.inputs[0]
                if fusion.method != PASSTHROUGH:
                    reader.note("it fuses layers: take space=dis", f"layer {depth}: {fusion.method}")
                elif reader.setting(fusion, read.layer, f"layer {depth}") is None:
                    continue
                elif (read.source, read.layer) in self._stack:
                    yield self._stack.index((read.source, read.layer))
                else:
                    known = f"it stacks others than layers 0 to {self.n_layers - 1} of {' and '.join(self.sources)}"
                    reader.note(f"{known}: leave them out", f"layer {depth}: layer {read.layer} of {read.source}")

    def _note_disorder(self, places: Sequence[int], reader: FusionReader) -> None:
        """Notes layers that are not in the order of the longest stack, and depths without any."""
        for depth, (before, after) in enumerate(pairwise(places), start=1):
            if after <= before:
                order = f"it has layers in another order than {self.sources[0]}'s and {self.sources[1]}'s by turns: "
                reader.note(order + "bring them into it, each once at most", f"layer {depth}")
        for layer in sorted({*range(self.n_layers)} - {place // 2 for place in places}):
            either = f"it has neither {self.sources[0]}'s nor {self.sources[1]}'s layer of some depth: add one of them"
            reader.note(either, f"depth {layer}")

    def _note_scales(self, recipe: Recipe, scales: Sequence[float], reader: FusionReader) -> None:
        """Notes scales of all layers but the last that this space does not have."""
        if recipe.scaling != "residual" and any(layer.scale != 1 for layer in recipe.layers):
            reader.note("it scales what mlps add, which is not searched: set scale to 1", recipe.scaling)
        product = 1.0
        for depth, scale in enumerate(scales):
            product *= scale
            if not LOWER <= scale <= UPPER:
                bounds = f"it has scales outside [{LOWER:g}, {UPPER:g}]: choose one inside"
                reader.note(bounds, f"layer {depth}: {scale:g}")
            elif not 1 / MAX_GAIN <= product <= MAX_GAIN:
                bounds = f"its scales have a product outside [{1 / MAX_GAIN:g}, {MAX_GAIN:g}]: choose them nearer to 1"
                reader.note(bounds, f"up to layer {depth}: {product:g}")

    def _note_outer(self, outer: Fusion, reader: FusionReader) -> None:
        """Notes an outer part that is not the one of this space."""
        fixed = "it has another part outside the layers than this space, which fixes it: set space.outer"
        if outer.method not in ("linear", PASSTHROUGH):
            reader.note(fixed, f"{OUTER}: {outer.method}")
            return
        setting, own = reader.setting(outer, None, OUTER), reader.setting(self._outer, None, OUTER)
        if setting is not None and own is not None and setting.weights != own.weights:
            weights = zip(self.sources, setting.weights, strict=True)
            reader.note(fixed, f"{OUTER}: " + ", ".join(f"{weight:g} of {name}" for name, weight in weights))
