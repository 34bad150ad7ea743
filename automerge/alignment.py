"""Which tensors of the sources correspond, by layer and component, and every reason why they cannot be merged.

Layers and components are read off the tensor names alone, so a new architecture needs no table. Within a layer the
first part of the name that says what it is decides, so a norm inside the attention belongs to the attention::

    place("model.layers.3.self_attn.q_norm.weight")          # layer 3, attention
    place("model.layers.3.post_attention_layernorm.weight")  # layer 3, other
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from automerge.protocols import Source
from automerge.recipe import OUTER

LAYER = re.compile(r"^(?P<stem>(?:.*\.)?(?:layers|h|blocks|layer|block))\.(?P<depth>\d+)\.(?P<rest>.+)$")
NORM = re.compile(r"norm|(^|_)ln(_|\d|$)")
ATTENTION = re.compile(r"(^|_)(attn|attention)\d*(_|$)|^([qkvo]|qkv)_proj$|^query_key_value$")
MLP = re.compile(
    r"(^|_)(mlp|ffn|moe|experts?|router)\d*(_|$)|^feed_?forward$|^fc(\d|_in|_out)$|^(gate|up|down|gate_up)_proj$"
)
COMPUTED = re.compile(r"(^|\.)(masked_bias|causal_mask|position_ids|inv_freq|cos_cached|sin_cached)$")
MASK = re.compile(r"(^|\.)(attn|attention|self_attn|self_attention|crossattention)\.bias$")
HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output|output_layer|head)\.weight$")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor belongs: its layer (None outside the layers), its component, and its name within the layer."""

    layer: int | None
    component: str
    local: str


@dataclass(frozen=True, slots=True)
class Alignment:
    """The common layout of all sources.

    `slots` gives for every (layer or None, component) the names of its tensors; `places` is the inverse. Constants
    such as attention masks are in neither. `copies` gives for every head of the base that only repeats the embedding
    the name of that embedding: it is not merged, it holds the same tensor. `unknown` lists the tensors inside layers
    that are in `other` because their names say neither attention, mlp nor norm.
    """

    n_layers: int
    places: Mapping[str, Place]
    slots: Mapping[tuple[int | None, str], tuple[str, ...]]
    stem: str
    copies: Mapping[str, str]
    unknown: tuple[str, ...]

    @property
    def locals(self) -> frozenset[str]:
        """The names that tensors have within their layers, of all layers together."""
        return frozenset(place.local for place in self.places.values() if place.layer is not None)

    def name_at(self, name: str, layer: int | None) -> str:
        """The tensor that plays the role of `name` in another layer of a model with the same layout."""
        place = self.places[name]
        return name if place.layer is None or layer is None else f"{self.stem}.{layer}.{place.local}"


def place(name: str) -> Place:
    """The place of a tensor, from its name."""
    match = LAYER.match(name)
    if match is None:
        return Place(layer=None, component=OUTER, local=name)
    return Place(layer=int(match["depth"]), component=_component(match["rest"]) or "other", local=match["rest"])


def is_constant(name: str, shape: Sequence[int]) -> bool:
    """Whether a tensor is no weight but a mask or table that the model computes itself, as old checkpoints store it.

    A true bias of the attention has one dimension; the mask of GPT-2 and GPT-NeoX with the same name has four.
    """
    return COMPUTED.search(name) is not None or (MASK.search(name) is not None and len(shape) > 1)


def align(sources: Sequence[Source]) -> Alignment:
    """The layout that all sources share.

    The first source is the base: what only repeats a tensor of it, or is a constant, may be absent elsewhere. Reads
    the weights of heads and embeddings. Raises ValueError with the list of all differences, if the sources cannot be
    merged tensor by tensor.
    """
    if not sources:
        raise ValueError("no sources given; name at least a base model and one source")
    copies = _copies(sources)
    faults = _differences(sources, copies)
    if faults:
        raise ValueError("the sources cannot be merged:\n" + "\n".join(f"  - {fault}" for fault in faults))
    names = sorted(_merged_shapes(sources[0], copies))
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
            "encoder-decoder models and those with further towers (images, speech, several tokens at once) are not "
            "supported; save the text model of every source alone, as its ...ForCausalLM does"
        )
    return Alignment(
        n_layers=len(depths),
        places=places,
        slots={slot: tuple(members) for slot, members in slots.items()},
        stem=stems.pop(),
        copies={head: embedding for head, embedding in copies.items() if head in sources[0].shapes},
        unknown=tuple(
            name for name in names if places[name].layer is not None and _component(places[name].local) is None
        ),
    )


def differences(sources: Sequence[Source]) -> list[str]:
    """Every reason why the sources cannot be merged tensor by tensor, each as one sentence.

    Constants and heads that only repeat the embedding make no difference.
    """
    return _differences(sources, _copies(sources))


def _differences(sources: Sequence[Source], copies: Mapping[str, str]) -> list[str]:
    first = sources[0]
    expected = _merged_shapes(first, copies)
    faults = []
    for other in sources[1:]:
        shapes = _merged_shapes(other, copies)
        missing = sorted(expected.keys() - shapes.keys())
        extra = sorted(shapes.keys() - expected.keys())
        prefix = _prefix(missing, extra)
        if prefix is not None:
            faults.append(
                f"the tensor names of {other.name!r} and {first.name!r} differ by the prefix {prefix!r}; load "
                "both once with transformers and save_pretrained them, which writes one layout"
            )
            continue
        if missing:
            faults.append(f"{other.name!r} lacks {len(missing)} tensors of {first.name!r}: {_some(missing)}")
        if extra:
            faults.append(f"{other.name!r} has {len(extra)} tensors that {first.name!r} lacks: {_some(extra)}")
        unequal = [
            f"{name} {shapes[name]} instead of {expected[name]}"
            for name in sorted(expected.keys() & shapes.keys())
            if shapes[name] != expected[name]
        ]
        if unequal:
            faults.append(f"{other.name!r} differs from {first.name!r} in {len(unequal)} shapes: {_some(unequal)}")
    return faults


def _prefix(some: Sequence[str], others: Sequence[str]) -> str | None:
    """What all names of one side have before those of the other, None if that is not the difference."""
    for longer, shorter in ((some, others), (others, some)):
        if shorter and len(longer) == len(shorter):
            prefix = longer[0].removesuffix(shorter[0])
            if prefix and all(one == prefix + other for one, other in zip(longer, shorter, strict=True)):
                return prefix
    return None


def _merged_shapes(source: Source, copies: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in source.shapes.items() if name not in copies and not is_constant(name, shape)}


def _copies(sources: Sequence[Source]) -> dict[str, str]:
    """By head the embedding that it repeats in every source that stores it; such a head is tied."""
    heads = {name for source in sources for name in source.shapes if HEAD.search(name) and place(name).layer is None}
    copies = {}
    for head in sorted(heads):
        holders = [source for source in sources if head in source.shapes]
        shape = holders[0].shapes[head]
        for name in sorted(holders[0].shapes):
            alike = len(shape) > 1 and holders[0].shapes[name] == shape and place(name).layer is None
            if name not in heads and alike and all(_equal(source, head, name) for source in holders):
                copies[head] = name
    return copies


def _equal(source: Source, one: str, other: str) -> bool:
    if one not in source.shapes or source.shapes[one] != source.shapes.get(other):
        return False
    first, second = source.tensor(one), source.tensor(other)
    return first.dtype == second.dtype and first.equal(second)


def _component(local: str) -> str | None:
    """The component that a name within a layer tells, None if it tells nothing."""
    for part in local.split("."):
        if NORM.search(part):
            return "other"
        if ATTENTION.search(part):
            return "attention"
        if MLP.search(part):
            return "mlp"
    return None


def _some(things: Sequence[str], limit: int = 4) -> str:
    rest = f" and {len(things) - limit} more" if len(things) > limit else ""
    return ", ".join(things[:limit]) + rest
