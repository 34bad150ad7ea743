"""How the tensors of a layer's component lie end to end in one flat buffer, so that they are merged in one pass."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from automerge.alignment import Alignment
from automerge.protocols import Source

GAP = 64
"""Tensors begin at multiples of this many entries: matrix kernels and vector loads want aligned memory."""

STAGGER = 640
"""Bytes by which each buffer that a kernel reads begins further on in its page than the one before: streams at equal
places of their pages share the same few ways of the first cache and evict each other (a TIES then takes 1.5 times as
long)."""

Slot = tuple[int | None, str]
"""A layer, or None for the part outside all layers, and a component."""


@dataclass(frozen=True, eq=False)
class Block:
    """Tensors of one slot with one dtype: names, shapes and first positions in the flat buffer, and its size.

    Every block is itself only, so that it serves as a key.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]
    size: int
    dtype: torch.dtype

    def parts(self) -> list[tuple[str, int, int]]:
        """(name, first position, first position after it) of every tensor."""
        return [
            (name, start, start + math.prod(shape))
            for name, shape, start in zip(self.names, self.shapes, self.starts, strict=True)
        ]


def lay_out(alignment: Alignment, base: Source) -> Mapping[Slot, tuple[Block, ...]]:
    """The blocks of every slot, one for each dtype in which the base stores its tensors."""
    found = {}
    for slot, names in alignment.slots.items():
        by_dtype: dict[torch.dtype, list[str]] = {}
        for name in names:
            by_dtype.setdefault(base.dtypes[name], []).append(name)
        found[slot] = tuple(block_of(members, base, dtype) for dtype, members in by_dtype.items())
    return found


def block_of(names: Sequence[str], base: Source, dtype: torch.dtype) -> Block:
    """The block of these tensors, whose merged entries have that dtype."""
    starts, position = [], 0
    for name in names:
        starts.append(position)
        position += -(-math.prod(base.shapes[name]) // GAP) * GAP
    shapes = tuple(tuple(base.shapes[name]) for name in names)
    return Block(names=tuple(names), shapes=shapes, starts=tuple(starts), size=position, dtype=dtype)


def staggered(size: int, stream: int, *, dtype: torch.dtype, device: torch.device, pin_memory: bool = False) -> Tensor:
    """A flat buffer of zeros for one of the streams that a kernel reads or writes, numbered from 0.

    Pinned memory, which kernels do not read, is not staggered: PyTorch rounds its size up to a power of two.
    """
    ahead = 0 if pin_memory else stream * STAGGER // dtype.itemsize
    return torch.zeros(ahead + size, dtype=dtype, device=device, pin_memory=pin_memory)[ahead:]
