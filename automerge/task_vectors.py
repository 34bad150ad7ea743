"""The geometry of the sources: how far each is from the base, and in which direction, part by part.

With x the base's weights of a part (a layer's component, or several), and d_k = x_k - x the task vector of source k::

    relative norm of k    |d_k| / |x|
    cosine of k and l     <d_k, d_l> / (|d_k| |d_l|)

Both follow from the inner products of x, d_1, ..., d_n, which add up over tensors and parts: so a part may be any
set of slots. They tell why a merge works or not: vectors at right angles can be added, alike ones need not be,
opposite ones contradict each other (arXiv 2212.04089, discussion).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from automerge.recipe import COMPONENTS, OUTER

if TYPE_CHECKING:
    from automerge.merge import ResidentSources

Slot = tuple[int | None, str]
"""A layer, or None for the part outside all layers, and a component."""

Products = tuple[tuple[float, ...], ...]
"""Inner products of the base, first, and the n task vectors: n + 1 rows of n + 1."""


class Geometry(NamedTuple):
    """The task vectors in one part of the model.

    `norms`, shape (n,), are relative to the base's; `cosines`, shape (n, n), are NaN where a vector is 0. Norms are NaN
    where the base itself is 0.
    """

    norms: NDArray[np.float64]
    cosines: NDArray[np.float64]


@dataclass(frozen=True)
class TaskVectors:
    """Inner products of the base and the task vectors of `sources`, in their order, by slot."""

    sources: tuple[str, ...]
    slots: Mapping[Slot, Products]

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The numbers of all layers, in order."""
        return tuple(sorted({layer for layer, _ in self.slots if layer is not None}))

    @cached_property
    def components(self) -> tuple[str, ...]:
        """The components that layers have, in the usual order."""
        present = {component for layer, component in self.slots if layer is not None}
        return tuple(component for component in COMPONENTS if component in present)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Positions of every two sources."""
        n = len(self.sources)
        return tuple((k, other) for k in range(n) for other in range(k + 1, n))

    def at(self, *slots: Slot) -> Geometry:
        """The geometry of some slots taken together; slots that the model lacks count nothing."""
        return _geometry(self._sum(slots))

    def layer(self, number: int) -> Geometry:
        """The geometry of a whole layer."""
        return self.at(*((number, component) for component in self.components))

    def component(self, name: str) -> Geometry:
        """The geometry of a component over all layers, or of the part outside them."""
        return self.at((None, OUTER)) if name == OUTER else self.at(*((layer, name) for layer in self.layers))

    def whole(self) -> Geometry:
        """The geometry of the whole model."""
        return self.at(*self.slots)

    def to_settings(self) -> dict[str, Any]:
        """What a log keeps, ready for JSON: of every slot its inner products on and above the diagonal, row by row."""
        return {
            "sources": list(self.sources),
            "slots": [
                [layer, component, [value for row, values in enumerate(products) for value in values[row:]]]
                for (layer, component), products in self.slots.items()
            ],
        }

    @staticmethod
    def from_settings(content: Mapping[str, Any]) -> TaskVectors:
        """The value that `to_settings` wrote."""
        upper = np.triu_indices(len(content["sources"]) + 1)
        slots = {}
        for layer, component, values in content["slots"]:
            products = np.zeros((len(content["sources"]) + 1,) * 2)
            products[upper] = values
            slots[layer, component] = _frozen(products)
        return TaskVectors(tuple(content["sources"]), slots)

    def _sum(self, slots: Iterable[Slot]) -> NDArray[np.float64]:
        total = np.zeros((len(self.sources) + 1,) * 2)
        for slot in slots:
            if slot in self.slots:
                total += np.array(self.slots[slot])
        return total


def task_vectors(sources: ResidentSources) -> TaskVectors:
    """The geometry of the sources in memory. Reads all weights once, the first time."""
    return TaskVectors(
        sources=sources.names,
        slots={
            slot: _frozen(np.sum([sources.inner_products(name) for name in names], axis=0))
            for slot, names in sources.alignment.slots.items()
        },
    )


def _geometry(products: NDArray[np.float64]) -> Geometry:
    lengths = np.sqrt(np.diag(products).clip(min=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        norms = np.where(lengths[0] > 0, lengths[1:] / lengths[0], np.nan)
        cosines = products[1:, 1:] / np.outer(lengths[1:], lengths[1:])
    return Geometry(norms, np.where(np.isfinite(cosines), cosines.clip(-1, 1), np.nan))


def _frozen(products: NDArray[np.float64]) -> Products:
    """The products on and above the diagonal, mirrored: both halves are the same but for rounding."""
    mirrored = np.triu(products) + np.triu(products, 1).T
    return tuple(tuple(row) for row in mirrored.tolist())
