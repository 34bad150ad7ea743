"""One layer module of the live model: its weights lie in buffers of its own, or in a source's, without a copy.

Weights are the parameters of the module and those of its buffers that checkpoints store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from automerge.merge import Run
from automerge.recipe import Fusion
from automerge.resident.layout import Block, staggered
from automerge.scaling import Gains, Writer, folded


class Held(NamedTuple):
    """What a component holds: what it was fused of, and the gain folded into each of its tensors that end a branch."""

    fusion: Fusion
    gains: tuple[float, ...]


class Strides(NamedTuple):
    """Where a checkpoint tensor lies in the weight that holds it."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


@dataclass(frozen=True, eq=False)
class Part:
    """The tensors of one block, and the names of the weights that hold them with the places there.

    `whole` if each tensor is a weight by itself, so that all may lie in one flat buffer.
    """

    block: Block
    owners: tuple[str, ...]
    places: tuple[Strides, ...]
    whole: bool


class End(NamedTuple):
    """A tensor in which a branch ends: its part, its number there, and how it takes a gain."""

    part: Part
    number: int
    writer: Writer


@dataclass(frozen=True)
class Kind:
    """What the modules of one source layer have in common: its number, by which they have sliding attention and the
    like; and by component their parts and the tensors that end a branch.
    """

    layer: int
    parts: Mapping[str, Sequence[Part]]
    ends: Mapping[str, Sequence[End]]


@dataclass(eq=False)
class Body:
    """A layer module and what each of its components holds now. `stream` staggers the buffers that it owns."""

    module: Module
    kind: Kind
    stream: int
    held: dict[str, Held] = field(default_factory=dict)
    _own: dict[Part, list[Run]] = field(default_factory=dict)
    _folded: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Finds the weights, and the modules that know the layer's number in the stack."""
        self._weights = weights_of(self.module)
        self._numbered = [m for m in self.module.modules() if isinstance(getattr(m, "layer_idx", None), int)]

    def take(self, component: str) -> None:
        """Moves the component's weights into a flat buffer where they can be in one, with their present values."""
        for part in self.kind.parts.get(component, ()):
            values = [self._weights[owner].data for owner in part.owners]
            if not part.whole:
                self._own[part] = self._runs(part)
                continue
            self._owned(part)
            for owner, value in zip(part.owners, values, strict=True):
                self._weights[owner].data.copy_(value)

    def twin(self) -> Body:
        """Another module of the same kind, which has the same parameters until it is given others; none is copied."""
        shared: dict[int, Any] = {
            id(parameter): Parameter(parameter.data, requires_grad=False) for parameter in self.module.parameters()
        }
        shared |= {id(module.config): module.config for module in self.module.modules() if hasattr(module, "config")}
        return Body(deepcopy(self.module, shared), self.kind, self.stream)

    def place(self, depth: int) -> None:
        """Tells the module its number in the stack, which is its slot in caches of keys and values."""
        for module in self._numbered:
            setattr(module, "layer_idx", depth)  # noqa: B010 (Module types its attributes as tensors)

    def holds(self, component: str, fusion: Fusion, gains: Gains) -> Held:
        """What the component would hold with this fusion and these gains."""
        ends = self.kind.ends.get(component, ())
        return Held(fusion, tuple(getattr(gains, end.writer.branch) for end in ends))

    def dtypes(self, component: str) -> list[torch.dtype] | None:
        """The dtypes of flat buffers that the component could lie in, one for each part; None if it cannot."""
        parts = self.kind.parts.get(component, ())
        return [self._weights[part.owners[0]].dtype for part in parts] if all(p.whole for p in parts) else None

    @property
    def owns_weights(self) -> bool:
        """Whether weights were ever merged into buffers of this body."""
        return bool(self._own)

    def own(self, component: str) -> list[list[Run]]:
        """Where to write the component's weights: buffers of this body, for each part; the parameters lie there now."""
        return [self._owned(part) for part in self.kind.parts.get(component, ())]

    def share(self, component: str, flats: Sequence[Tensor]) -> None:
        """Makes the component's parameters views of these flat buffers, one for each part; no weight is copied."""
        for part, flat in zip(self.kind.parts.get(component, ()), flats, strict=True):
            self._lay(part, flat)

    def fold(self, component: str, gains: Gains, stored: Callable[[Part, int], Tensor]) -> None:
        """Folds the gains into the component's tensors that end a branch, as an export does.

        `stored` gives a tensor in the dtype in which it would be stored, where the live one has lost something of it.
        What lies in a shared buffer stays as it is there.
        """
        for part, number, writer in self.kind.ends.get(component, ()):
            gain = getattr(gains, writer.branch)
            if gain != 1:
                own = self._weights[part.owners[number]].dtype
                exact = torch.promote_types(part.block.dtype, own) == own
                value = self._view(part, number) if exact else stored(part, number)
                self._put(part, number, folded(value, gain, writer.offset, part.block.dtype))

    def _put(self, part: Part, number: int, tensor: Tensor) -> None:
        """Writes one tensor, into a buffer of its own if the parameter lies in a shared one."""
        owner = part.owners[number]
        weight = self._weights[owner]
        if not any(_share_memory(weight, run.out) for run in self._own.get(part, ())):
            if owner not in self._folded:
                self._folded[owner] = torch.empty_like(weight.data)
            weight.data = self._folded[owner]
        self._view(part, number).copy_(tensor)

    def _owned(self, part: Part) -> list[Run]:
        if part not in self._own:
            if part.whole:
                example = self._weights[part.owners[0]]
                flat = staggered(part.block.size, self.stream, dtype=example.dtype, device=example.device)
                self._own[part] = [Run(0, part.block.size, flat)]
            else:
                # Two parts of a component may lie in one fused weight.
                taken = {owner for other in self._own if not other.whole for owner in other.owners}
                for owner in set(part.owners) - taken:
                    self._weights[owner].data = torch.empty_like(self._weights[owner].data)
                self._own[part] = self._runs(part)
        if part.whole:
            self._lay(part, self._own[part][0].out)
        return self._own[part]

    def _runs(self, part: Part) -> list[Run]:
        return [Run(start, stop, self._view(part, i)) for i, (_, start, stop) in enumerate(part.block.parts())]

    def _lay(self, part: Part, flat: Tensor) -> None:
        for owner, (_, start, stop), shape in zip(part.owners, part.block.parts(), part.block.shapes, strict=True):
            self._weights[owner].data = flat[start:stop].view(shape)

    def _view(self, part: Part, number: int) -> Tensor:
        data = self._weights[part.owners[number]].data
        shape, strides, offset = part.places[number]
        return data.as_strided(shape, strides, data.storage_offset() + offset)


def parts_of(module: Module, blocks: Sequence[Block], views: Mapping[str, Tensor]) -> list[Part] | None:
    """How these blocks lie in the module's weights; None if some tensor does not.

    `views` gives by checkpoint name where in the live model's memory a tensor lies.
    """
    weights = weights_of(module)
    found = []
    for block in blocks:
        owners = [_owner(weights, views[name]) for name in block.names]
        known = [owner for owner in owners if owner is not None]
        if len(known) < len(owners):
            return None
        places = tuple(
            Strides(tuple(view.shape), view.stride(), (view.data_ptr() - weights[owner].data_ptr()) // view.itemsize)
            for owner, view in zip(known, (views[name] for name in block.names), strict=True)
        )
        whole = len({weights[owner].dtype for owner in known}) == 1 and all(
            weights[owner].shape == place.shape and weights[owner].is_contiguous()
            for owner, place in zip(known, places, strict=True)
        )
        found.append(Part(block, tuple(known), places, whole))
    return found


def weights_of(module: Module) -> dict[str, Tensor]:
    """Parameters and buffers of the module by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _owner(weights: Mapping[str, Tensor], view: Tensor) -> str | None:
    """The weight in whose memory the view begins."""
    start = view.data_ptr()
    inside = (n for n, p in weights.items() if p.data_ptr() <= start < p.data_ptr() + p.numel() * p.element_size())
    return next(inside, None)


def _share_memory(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
