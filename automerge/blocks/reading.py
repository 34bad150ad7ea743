"""Recipes read back as blocks of a grid, with every reason why the space cannot hold them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from automerge.blocks.grid import Blocks, Grid
from automerge.encoding import FusionReader, Setting
from automerge.fusion_genes import DECIMALS, FusionGenes
from automerge.recipe import COMPONENTS, OUTER, Fusion, OutputLayer, Recipe, Scaling
from automerge.scaling import gains

Values = NDArray[np.float64]
"""Canonical values of the fusion genes of one part, shape (size,)."""


class Layer(NamedTuple):
    """A layer of the recipe: its number, the sources' layer it reads, and the values of fusion genes that write it.

    What cannot be read is None, and noted.
    """

    number: int
    read: int | None
    values: Values | None


class StackReader:
    """Reads a recipe. Holds what was found, which is of use only if `faults` has none.

    `blocks` has shape (n_free, max_blocks), `scales` (n_free,); `settings` holds the values of fusion genes, by place
    among the free positions, where a block is fused, `outer` those of the part outside the layers.
    """

    def __init__(
        self, *, grid: Grid, genes: FusionGenes, scaling: Scaling | None, min_scale: float, max_scale: float
    ) -> None:
        self.faults: FusionReader = genes.reader()
        self.blocks: Blocks = np.zeros((len(grid.free), grid.max_blocks), dtype=np.int64)
        self.scales: NDArray[np.float64] = np.ones(len(grid.free))
        self.settings: dict[int, Values] = {}
        self.outer: Values | None = None
        self._grid = grid
        self._genes = genes
        self._sources = [genes.source(k) for k in range(grid.n_sources)]
        self._default = np.array([gene.default for gene in genes.genes("", 0, "")])
        self._written: dict[Setting, Values] = {}
        self._scaling = scaling
        self._bounds = (min_scale, max_scale)

    def read(self, recipe: Recipe) -> None:
        """Takes in the recipe."""
        grid = self._grid
        if not grid.min_layers <= len(recipe.layers) <= grid.max_layers:
            bounds = f"its depth is outside {grid.min_layers} to {grid.max_layers} layers"
            self.faults.note(f"{bounds}: set space.min_layers or space.max_layers", f"{len(recipe.layers)} layers")
        self.outer = self._values(recipe.outer, None, OUTER)
        layers = [self._layer(number, layer) for number, layer in enumerate(recipe.layers)]
        ends: dict[int, int] = {}
        if all(layer.read is not None for layer in layers) and self._in_order(layers):
            ends = self._positions(layers)
        self._scales(recipe, ends)

    def _layer(self, number: int, layer: OutputLayer) -> Layer:
        place = f"layer {number}"
        if not layer.components:
            self.faults.note("a layer has no components, so nothing says what it reads: leave the layer out", place)
        if len(dict(layer.components)) < len(layer.components):
            self.faults.note("it names a component of a layer twice: keep one of them", place)
        reads = {read.layer for _, fusion in layer.components for read in fusion.inputs}
        there = {read for read in reads if read is not None and 0 <= read < self._grid.n_layers}
        if reads - there:
            self.faults.note(f"it reads layers that the sources lack: choose 0 to {self._grid.n_layers - 1}", place)
        if len(reads) > 1:
            self.faults.note("it fuses layers of different depth: read the same one in all parts of a layer", place)
        if len(reads) != 1 or not there:
            return Layer(number, None, None)
        read = there.pop()
        found = []
        for component, fusion in layer.components:
            if component in COMPONENTS:
                found.append(self._values(fusion, read, f"{number}.{component}"))
            else:
                known = ", ".join(COMPONENTS)
                self.faults.note(f"it has components other than {known}: name them so", f"{number}.{component}")
        values = _first(found)
        if _differ(found):
            self.faults.note(
                "the parts of a layer differ, but blocks are layers as a whole: fuse all parts alike, or search "
                "another space",
                place,
            )
        return Layer(number, read, values)

    def _values(self, fusion: Fusion, layer: int | None, place: str) -> Values | None:
        """The canonical values of the genes that write this fusion, shape (size,); None if there are none."""
        setting = self.faults.setting(fusion, layer, place)
        if setting is None:
            return None
        if setting not in self._written:
            values = self._default.copy()
            self._genes.write(values, 0, setting)
            self._genes.repair(values[None], 0)
            self._written[setting] = values
        return self._written[setting]

    def _in_order(self, layers: Sequence[Layer]) -> bool:
        found = [self._position(layer) for layer in layers]
        breaks = [k for k in range(1, len(found)) if found[k] < found[k - 1]]
        for k in breaks:
            self.faults.note(
                "it goes back to an earlier layer of the sources, but stacks keep their order: repeat layers where "
                "they stand, each one or each group of space.granularity by itself",
                f"{layers[k].read} after {layers[k - 1].read} in layer {layers[k].number}",
            )
        return not breaks

    def _positions(self, layers: Sequence[Layer]) -> dict[int, int]:
        """Reads the blocks of every position; returns for free ones that hold blocks their last output layer."""
        found = {position: list(group) for position, group in groupby(layers, key=self._position)}
        places = {position: place for place, position in enumerate(self._grid.free.tolist())}
        for position in np.flatnonzero(~self._grid.is_free).tolist():
            self._fixed(position, found.get(position, []))
        for position, place in places.items():
            self._free(position, place, found.get(position, []))
        return {place: found[position][-1].number for position, place in places.items() if position in found}

    def _position(self, layer: Layer) -> int:
        return (layer.read or 0) // self._grid.granularity

    def _free(self, position: int, place: int, layers: Sequence[Layer]) -> None:
        grid = self._grid
        at = f"layer {grid.positions[position].start} of the sources"
        blocks = list(self._whole(position, layers))
        fused = [values for values in blocks if values is not None and self._code(values) == grid.fused]
        if fused and not grid.fuses:
            self.faults.note("it fuses sources within a layer: add the method to space.methods", at)
        elif fused:
            self.settings[place] = fused[0]
        if _differ(fused):
            self.faults.note("it fuses one layer in several ways: keep one of them", at)
        if len(blocks) > grid.max_blocks:
            self.faults.note(f"it stacks more than {grid.max_blocks} blocks of a layer: raise space.max_blocks", at)
        codes = [self._code(values) for values in blocks if values is not None]
        if any(codes.count(code) > grid.max_repeats for code in codes):
            fault = f"it holds a block more than {grid.max_repeats} times: raise space.max_repeats"
            self.faults.note(fault, at)
        codes = codes[: grid.max_blocks]
        self.blocks[place, : len(codes)] = codes

    def _fixed(self, position: int, layers: Sequence[Layer]) -> None:
        blocks = list(self._whole(position, layers))
        if len(blocks) != 1 or _differ([*blocks, self.outer]):
            self.faults.note(
                "a fixed layer of the sources must be there once, fused like the part outside the layers: make it so, "
                "or lower space.fixed_first and space.fixed_last",
                f"layer {self._grid.positions[position].start} of the sources",
            )

    def _whole(self, position: int, layers: Sequence[Layer]) -> Iterator[Values | None]:
        """The values of every block of the position."""
        expected = self._grid.positions[position]
        for first in range(0, len(layers), len(expected)):
            block = layers[first : first + len(expected)]
            found = [layer.values for layer in block]
            if [layer.read for layer in block] != list(expected) or _differ(found):
                self.faults.note(
                    f"it parts layers {expected.start} to {expected.stop - 1} of the sources, which move together: set "
                    "space.granularity: 1",
                    f"layer {block[0].number}",
                )
            yield _first(found)

    def _code(self, values: Values) -> int:
        alike = (k + 1 for k, source in enumerate(self._sources) if (values == source).all())
        return next(alike, self._grid.fused)

    def _scales(self, recipe: Recipe, ends: dict[int, int]) -> None:
        scaled = {
            number: round(layer.scale, DECIMALS) + 0.0
            for number, layer in enumerate(recipe.layers)
            if round(layer.scale, DECIMALS) != 1
        }
        if recipe.scaling == "residual":
            # Behind the last layer only the final norm reads the stream, and no norm sees a factor.
            scaled.pop(len(recipe.layers) - 1, None)
        if scaled and recipe.scaling != self._scaling:
            self.faults.note(
                f"it scales layers in a way that is not searched: set space.scaling: {recipe.scaling}, or all scales "
                "to 1",
                f"layer {min(scaled)}",
            )
            return
        lower, upper = self._bounds
        by_layer = {number: place for place, number in ends.items()}
        for number, scale in scaled.items():
            if not lower <= scale <= upper:
                self.faults.note(
                    f"it has scales outside [{lower:g}, {upper:g}]: choose one inside, or raise space.max_scale",
                    f"layer {number}: {scale:g}",
                )
            elif number in by_layer:
                self.scales[by_layer[number]] = scale
            elif ends:
                self.faults.note(
                    "it scales a fixed layer, or one behind which others stand from the same place in the sources: "
                    "set its scale to 1",
                    f"layer {number}",
                )
        if scaled and not self.faults.faults:
            rounded = tuple(replace(layer, scale=scaled.get(number, 1.0)) for number, layer in enumerate(recipe.layers))
            try:
                gains(replace(recipe, layers=rounded))
            except ValueError as fault:
                self.faults.note(str(fault), "its scales")


def _first(values: Sequence[Values | None]) -> Values | None:
    """The first that could be read."""
    return next((each for each in values if each is not None), None)


def _differ(values: Sequence[Values | None]) -> bool:
    """Whether those that could be read are not all the same."""
    first = _first(values)
    return any(each is not None and first is not None and bool((each != first).any()) for each in values)
