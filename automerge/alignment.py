"""Which tensors of the sources correspond, by layer and component, and every reason why they cannot be merged.

Layers and components are read off the tensor names alone, so a new architecture needs no table: in
`model.layers.3.self_attn.q_proj.weight` the layer is 3 and the component attention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from automerge.protocols import Source
from automerge.recipe import OUTER

LAYER = re.compile(r"^(?P<stem>(?:.*\.)?(?:layers|h|blocks|layer|block))\.(?P<depth>\d+)\.(?P<rest>.+)$")
ATTENTION = re.compile(r"(^|[._])(self_)?(attn|attention|self_attention)([._]|$)")
MLP = re.compile(r"(^|[._])(mlp|ffn|feed_forward|block_sparse_moe|moe|experts|fc1|fc2)([._]|$)")
NORM = re.compile(r"(norm|ln_\d|layernorm|(^|\.)ln\w*\.)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor belongs: its layer (None outside the layers), its component, and its name within the layer."""

    layer: int | None
    component: str
    local: str


@dataclass(frozen=True, slots=True)
class Alignment:
    """The common layout of all sources.

    `slots` gives for every (layer or None, component) the names of its tensors; `places` is the inverse.
    """

    n_layers: int
    places: Mapping[str, Place]
    slots: Mapping[tuple[int | None, str], tuple[str, ...]]
    stem: str

    def name_at(self, name: str, layer: int | None) -> str:
        """The tensor that plays the role of `name` in another layer of a model with the same layout."""
        place = self.places[name]
        return name if place.layer is None or layer is None else f"{self.stem}.{layer}.{place.local}"


def place(name: str) -> Place:
    """The place of a tensor, from its name."""
    match = LAYER.match(name)
    if match is None:
        return Place(layer=None, component=OUTER, local=name)
    rest = match["rest"]
    return Place(layer=int(match["depth"]), component=_component(rest), local=rest)


def align(sources: Sequence[Source]) -> Alignment:
    """The layout that all sources share.

    Raises ValueError with the list of all differences, if the sources cannot be merged tensor by tensor.
    """
    if not sources:
        raise ValueError("no sources given; name at least a base model and one source")
    faults = differences(sources)
    if faults:
        raise ValueError("the sources cannot be merged:\n" + "\n".join(f"  - {fault}" for fault in faults))
    names = sorted(sources[0].shapes)
    places = {name: place(name) for name in names}
    depths = sorted({found.layer for found in places.values() if found.layer is not None})
    if not depths:
        raise ValueError(f"no layers found in the tensor names of {sources[0].name!r}, such as {names[:3]}")
    slots: dict[tuple[int | None, str], list[str]] = {}
    for name in names:
        slots.setdefault((places[name].layer, places[name].component), []).append(name)
    stems = {match["stem"] for name in names if (match := LAYER.match(name))}
    if len(stems) > 1 or depths != list(range(len(depths))):
        raise ValueError(
            f"expected one stack of layers numbered from 0, got stacks {sorted(stems)} with layers {depths}; "
            "encoder-decoder and multi-tower models are not supported"
        )
    return Alignment(
        n_layers=len(depths),
        places=places,
        slots={slot: tuple(members) for slot, members in slots.items()},
        stem=stems.pop(),
    )


def differences(sources: Sequence[Source]) -> list[str]:
    """Every reason why the sources cannot be merged tensor by tensor, each as one sentence."""
    first = sources[0]
    faults = []
    for other in sources[1:]:
        missing = sorted(first.shapes.keys() - other.shapes.keys())
        extra = sorted(other.shapes.keys() - first.shapes.keys())
        if missing:
            faults.append(f"{other.name!r} lacks {len(missing)} tensors of {first.name!r}: {_some(missing)}")
        if extra:
            faults.append(f"{other.name!r} has {len(extra)} tensors that {first.name!r} lacks: {_some(extra)}")
        unequal = [
            f"{name} {other.shapes[name]} instead of {first.shapes[name]}"
            for name in sorted(first.shapes.keys() & other.shapes.keys())
            if other.shapes[name] != first.shapes[name]
        ]
        if unequal:
            faults.append(f"{other.name!r} differs from {first.name!r} in {len(unequal)} shapes: {_some(unequal)}")
    return faults


def _component(rest: str) -> str:
    if NORM.search(rest) and not re.search(r"(q|k)_norm", rest):
        return "other"
    if ATTENTION.search(rest):
        return "attention"
    return "mlp" if MLP.search(rest) else "other"


def _some(things: Sequence[str], limit: int = 4) -> str:
    rest = f" and {len(things) - limit} more" if len(things) > limit else ""
    return ", ".join(things[:limit]) + rest
