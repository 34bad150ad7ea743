"""What methods have to know of a tensor before any candidate: computed at first use from the weights, and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from automerge.recipe import BASE
from automerge.resident.layout import staggered
from automerge.resident.weights import Residence
from automerge.tensors import masks
from automerge.tensors.formulas import variance
from automerge.tensors.geometry import InnerProducts, inner_products
from automerge.tensors.magnitudes import Magnitudes, tabulate
from automerge.tensors.masks import Mask

PIECE = {"cpu": 2**18}
"""Entries looked at together, by type of device: on a CPU they stay in its cache."""

LARGE_PIECE = 2**24


class Read(NamedTuple):
    """A tensor of a source."""

    source: str
    name: str


@dataclass
class Knowledge:
    """Statistics and masks of the tensors of a residence. Holds everything it has computed.

    `names` are all sources in order: their inner products are computed together.
    """

    residence: Residence
    names: Sequence[str]
    _products: dict[object, InnerProducts] = field(default_factory=dict)
    _magnitudes: dict[Read, Magnitudes] = field(default_factory=dict)
    _variances: dict[tuple[Read, ...], Magnitudes] = field(default_factory=dict)
    _masks: dict[tuple[Mask, Read], Tensor] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        """Bytes of all tables and masks."""
        tables = [*self._magnitudes.values(), *self._variances.values()]
        arrays = [array for t in tables for array in (t.lower, t.upper, t.counts, t.sums)]
        return sum(a.nbytes for a in [*arrays, *self._products.values()]) + sum(m.numel() for m in self._masks.values())

    def of(self, reads: Sequence[Read], *, vectors: bool) -> Known:
        """The statistics of these inputs; with `vectors` each is measured from the base at its own layer."""
        return Known(self, tuple(reads), vectors)

    def products(self, reads: tuple[Read, ...], *, vectors: bool) -> InnerProducts:
        """Inner products of the base at the first input's layer and the task vectors."""
        name = reads[0].name
        together = tuple(Read(source, name) for source in self.names)
        if set(reads) <= set(together):
            rows = [0, *(1 + together.index(read) for read in reads)]
            return self._computed(name, together, vectors=True)[np.ix_(rows, rows)]
        return self._computed((reads, vectors), reads, vectors=vectors)

    def magnitudes(self, read: Read) -> Magnitudes:
        """The distribution of the magnitudes of the difference from the base at the same layer."""
        if read not in self._magnitudes:
            pieces: Iterator[tuple[Tensor, list[Tensor]]]
            pieces = ((vectors[0].abs_(), []) for _, vectors in self._differences((read,), read.name, vectors=True))
            self._magnitudes[read] = tabulate(pieces, size=self.residence.size(read.name))
        return self._magnitudes[read]

    def variances(self, reads: tuple[Read, ...]) -> Magnitudes:
        """The distribution of the task vectors' variances by entry, with the sums of their squares."""
        if reads not in self._variances:
            members = torch.ones(len(reads), 1, device=self.residence.device)
            pieces = (
                (variance(vectors, members), [vector.square() for vector in vectors])
                for _, vectors in self._differences(reads, reads[0].name, vectors=True)
            )
            self._variances[reads] = tabulate(pieces, size=self.residence.size(reads[0].name))
        return self._variances[reads]

    def mask(self, kind: Mask, read: Read) -> Tensor:
        """The flat bytes of that kind for one tensor, on the device."""
        if (kind, read) in self._masks:
            return self._masks[kind, read]
        shape = self.residence.shape(read.name)
        if kind == "numbers":
            found = masks.numbers(shape, key=read)
        else:
            whole = self.residence.size(read.name)
            base = self.residence.entries(BASE, read.name, 0, whole).float()
            found = masks.ranks((self.residence.entries(*read, 0, whole).float() - base).abs_().view(shape))
        if self.residence.placement == "disk":
            # Where weights are not kept for lack of memory, or because each is read once, masks are not either.
            return found.flatten().to(self.residence.device)
        # The live model is the stream after the sources.
        stream = self.residence.n_streams + 1 + self.names.index(read.source)
        place = staggered(found.numel(), stream, dtype=torch.uint8, device=self.residence.device)
        self._masks[kind, read] = place.copy_(found.flatten())
        return self._masks[kind, read]

    def moved(self, read: Read, name: str, start: int, stop: int) -> Tensor:
        """Entries of a tensor; from another layer than `name`'s, its task vector on top of the base at `name`'s."""
        entries = self.residence.entries(*read, start, stop)
        if read.name == name:
            return entries
        own, origin = (self.residence.entries(BASE, at, start, stop).float() for at in (read.name, name))
        return entries.float() - own + origin

    def _computed(self, key: object, reads: tuple[Read, ...], *, vectors: bool) -> InnerProducts:
        if key not in self._products:
            self._products[key] = inner_products(self._differences(reads, reads[0].name, vectors=vectors))
        return self._products[key]

    def _differences(
        self, reads: tuple[Read, ...], name: str, *, vectors: bool
    ) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Pieces of the base at `name` and of the differences from it, or from the base at each one's own layer."""
        size = self.residence.size(name)
        step = PIECE.get(self.residence.device.type, LARGE_PIECE)
        for start in range(0, size, step):
            stop = min(start + step, size)
            bases: dict[str, Tensor] = {}
            for at in {name, *(read.name for read in reads)}:
                bases[at] = self.residence.entries(BASE, at, start, stop).float()
            entries = [self.residence.entries(*read, start, stop).float() for read in reads]
            yield (
                bases[name],
                [e - bases[read.name if vectors else name] for read, e in zip(reads, entries, strict=True)],
            )


@dataclass(frozen=True)
class Known:
    """The statistics of one tensor's inputs, as methods ask for them."""

    knowledge: Knowledge
    reads: tuple[Read, ...]
    vectors: bool

    def inner_products(self) -> InnerProducts:
        """Inner products of the base and the task vectors, shape (1 + n, 1 + n)."""
        return self.knowledge.products(self.reads, vectors=self.vectors)

    def magnitudes(self) -> list[Magnitudes]:
        """For every input the distribution of its task vector's magnitudes."""
        return [self.knowledge.magnitudes(read) for read in self.reads]

    def variances(self) -> Magnitudes:
        """The distribution of the entries' variances over the task vectors, with sums of each vector's squares."""
        return self.knowledge.variances(self.reads)


class NothingKnown:
    """The statistics that a method gets whose coefficients depend on no tensor: there are none."""

    def inner_products(self) -> NDArray[np.float64]:
        """Raises RuntimeError."""
        raise RuntimeError(MISPLACED)

    def magnitudes(self) -> list[Magnitudes]:
        """Raises RuntimeError."""
        raise RuntimeError(MISPLACED)

    def variances(self) -> Magnitudes:
        """Raises RuntimeError."""
        raise RuntimeError(MISPLACED)


MISPLACED = "a method that says its coefficients are the `same` for all tensors asked for the statistics of one"
NOTHING_KNOWN = NothingKnown()
