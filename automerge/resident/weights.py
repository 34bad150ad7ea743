"""The weights of all sources, kept where they can be read piece by piece: flat buffers, low-rank factors, or files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor

from automerge.protocols import LowRank, Source
from automerge.recipe import BASE
from automerge.resident.layout import Block, Slot, staggered
from automerge.resident.placement import Placement


class Residence:
    """Gives flat pieces of every source's tensors on the device.

    Holds the weights as `placement` says: of full checkpoints one flat buffer for each block, on the device or in
    (pinned) host memory, or nothing but open files; of adapters their factors, on the device. A source's buffer has the
    dtype that holds all its tensors of the block exactly. Raises ValueError naming every tensor that is not finite.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        layout: Mapping[Slot, tuple[Block, ...]],
        *,
        placement: Placement,
        device: torch.device,
    ) -> None:
        self.device = device
        self.placement = placement
        self._sources = {source.name: source for source in sources}
        self._streams = {source.name: number for number, source in enumerate(sources)}
        self._of_name = {
            name: (block, start) for blocks in layout.values() for block in blocks for name, start, _ in block.parts()
        }
        self._shapes = {name: shape for b in layout.values() for block in b for name, shape in _shapes(block)}
        self._flat: dict[tuple[str, Block], Tensor] = {}
        self._single: dict[tuple[str, str], Tensor] = {}
        self._factors: dict[tuple[str, str], LowRank] = {}
        self._open: dict[str, tuple[str, Tensor]] = {}
        self._broken: list[str] = []
        for source in sources:
            for blocks in layout.values():
                for block in blocks:
                    self._take(source, block)
        if self._broken:
            listed = "\n".join(f"  - {place}" for place in self._broken[:20])
            raise ValueError(
                f"{len(self._broken)} source tensors hold NaN or infinity; use sound checkpoints:\n{listed}"
            )

    @property
    def n_bytes(self) -> int:
        """Bytes held in memory."""
        factors = [tensor for factor in self._factors.values() for tensor in (factor.up, factor.down)]
        held = [*self._flat.values(), *self._single.values(), *factors]
        return sum(tensor.numel() * tensor.element_size() for tensor in held)

    @property
    def n_streams(self) -> int:
        """How many buffers a kernel may read beside masks and its place."""
        return len(self._streams)

    def low_rank(self, source: str, name: str) -> LowRank | None:
        """The tensor's difference from the base in factors on the device; None if it is kept whole."""
        return self._factors.get((source, name))

    def same_as(self, source: str, block: Block) -> str:
        """The name of the source that holds these weights: the base for an adapter that changes none of them."""
        factors = [self._factors.get((source, name)) for name in block.names]
        return BASE if all(factor is not None and factor.is_base for factor in factors) else source

    def is_flat(self, source: str, block: Block) -> bool:
        """Whether pieces of the block can be read across its tensors, without a copy."""
        return self.placement == "device" and (source, block) in self._flat

    def at_hand(self, source: str, name: str) -> bool:
        """Whether entries of the tensor can be read where they lie, on the device and without arithmetic."""
        factor = self._factors.get((source, name))
        if factor is not None:
            return factor.is_base and self.at_hand(BASE, name)
        return self.placement == "device"

    def across(self, source: str, block: Block, start: int, stop: int) -> Tensor:
        """The entries [start, stop) of the source's buffer of that block."""
        return self._flat[source, block][start:stop]

    def entries(self, source: str, name: str, start: int, stop: int) -> Tensor:
        """The entries [start, stop) of one flattened tensor on the device; float32 where factors are multiplied out."""
        factor = self._factors.get((source, name))
        if factor is not None:
            base = self.entries(BASE, name, start, stop)
            return base if factor.is_base else base.float() + product(factor, start, stop)
        if (source, name) in self._single:
            return self._single[source, name][start:stop].to(self.device, non_blocking=True)
        block, first = self._of_name[name]
        flat = self._flat.get((source, block))
        if flat is not None:
            return flat[first + start : first + stop].to(self.device, non_blocking=True)
        # Pieces of one tensor are asked for one after the other, and opening a file costs more than reading a piece.
        if source not in self._open or self._open[source][0] != name:
            self._open[source] = (name, self._sources[source].tensor(name).reshape(-1))
        return self._open[source][1][start:stop].to(self.device)

    def size(self, name: str) -> int:
        """Number of entries of that tensor."""
        return math.prod(self._shapes[name])

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of that tensor."""
        return self._shapes[name]

    def _take(self, source: Source, block: Block) -> None:
        """Loads one block of one source, tensor by tensor."""
        factors = {name: factor for name in block.names if (factor := source.low_rank(name)) is not None}
        for name, factor in factors.items():
            self._factors[source.name, name] = LowRank(
                up=factor.up.to(self.device), down=factor.down.to(self.device), scale=factor.scale
            )
            self._note_faults(source.name, name, factor.up, factor.down)
        whole = [name for name in block.names if name not in factors]
        if not whole or self.placement == "disk":
            for name in whole:
                self._note_faults(source.name, name, source.tensor(name))
            return
        where = torch.device("cpu") if self.placement == "host" else self.device
        pinned = self.placement == "host" and self.device.type == "cuda"
        if factors:
            # What an adapter stores whole stands alone: its other tensors have no place in a buffer.
            for name in whole:
                tensor = source.tensor(name).reshape(-1)
                self._single[source.name, name] = tensor.pin_memory() if pinned else tensor.to(where)
                self._note_faults(source.name, name, tensor)
            return
        dtype = reduce(torch.promote_types, (source.dtypes[name] for name in whole))
        stream = self._streams[source.name]
        flat = staggered(block.size, stream, dtype=dtype, device=where, pin_memory=pinned)
        for name, start, stop in block.parts():
            flat[start:stop].copy_(source.tensor(name).reshape(-1))
            self._note_faults(source.name, name, flat[start:stop])
        self._flat[source.name, block] = flat

    def _note_faults(self, source: str, name: str, *tensors: Tensor) -> None:
        # The sum is finite only if all entries are; it takes no temporary of the tensor's size.
        if not all(bool(torch.isfinite(tensor.sum(dtype=torch.float32))) for tensor in tensors) and not all(
            bool(torch.isfinite(tensor).all()) for tensor in tensors
        ):
            self._broken.append(f"{source}: {name}")


def n_bytes_kept(source: Source, block: Block) -> int:
    """Bytes that one source takes for a block: a buffer, or factors and single tensors."""
    factors = [factor for name in block.names if (factor := source.low_rank(name)) is not None]
    whole = [name for name in block.names if source.low_rank(name) is None]
    if not factors:
        return block.size * reduce(torch.promote_types, (source.dtypes[name] for name in whole)).itemsize
    single = sum(math.prod(source.shapes[name]) * source.dtypes[name].itemsize for name in whole)
    return single + sum((f.up.numel() + f.down.numel()) * f.up.element_size() for f in factors)


def product(factor: LowRank, start: int, stop: int) -> Tensor:
    """The entries [start, stop) of the flattened scale * up @ down, float32."""
    width = factor.down.shape[1]
    first, last = start // width, -(-stop // width)
    rows = (factor.up[first:last] * factor.scale) @ factor.down
    return rows.reshape(-1)[start - first * width : stop - first * width]


def _shapes(block: Block) -> list[tuple[str, tuple[int, ...]]]:
    return list(zip(block.names, block.shapes, strict=True))
