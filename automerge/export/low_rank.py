"""A recipe of adapters as one low-rank change of their base.

A weighted sum of low-rank changes is a low-rank change: w_1 B_1 A_1 + w_2 B_2 A_2 = [w_1 B_1, w_2 B_2] [A_1; A_2]. So
a recipe whose fusions are linear in their sources, all adapters of one base, is an adapter again, whose rank is the
sum of the ranks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor

from automerge import methods
from automerge.alignment import Alignment, align
from automerge.lora.sites import Site
from automerge.protocols import LowRank, Source, WeightedSum
from automerge.recipe import BASE, Fusion, Recipe
from automerge.resident.statistics import NOTHING_KNOWN
from automerge.sources.adapter import AdapterSource
from automerge.vocabulary.aligned_source import AlignedSource

LISTED = 3
"""Places named beside a reason."""


class Product(NamedTuple):
    """A matrix of the merged model as base + up @ down: float32 of shapes (n_out, r) and (r, n_in)."""

    site: Site
    up: Tensor
    down: Tensor


class Whole(NamedTuple):
    """A tensor of the merged model as it is."""

    site: Site
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class Changes:
    """What a merged model changes in its base, by tensor name; tensors in neither are the base's."""

    products: Mapping[str, Product]
    wholes: Mapping[str, Whole]


def merged_changes(recipe: Recipe, sources: Sequence[Source]) -> Changes:
    """What the recipe changes in the source named `base`.

    Raises ValueError listing all that keeps the merged model from being base plus low-rank products.
    """
    base = next(source for source in sources if source.name == BASE)
    adapters = {source.name: source for source in sources if _is_adapter(source)}
    alignment = align([base])
    faults: dict[str, list[str]] = defaultdict(list)
    products: dict[str, Product] = {}
    wholes: dict[str, Whole] = {}
    if isinstance(base, AlignedSource):
        for name in base.moved:
            faults["sources bring tokens that change the base's embeddings; export a checkpoint"].append(name)
    for reason, place in _obstacles(recipe, alignment, adapters):
        faults[reason].append(place)
    for slot, fusion in recipe.fusions():
        try:
            shares = coefficients(fusion)
        except ValueError as fault:
            faults[str(fault)].append(_named(slot))
            continue
        for name in _names(alignment, slot):
            readers = [
                (adapters[s], share) for s, share in shares.items() if s in adapters and name in adapters[s].sites
            ]
            match _change(name, base, readers) if readers else None:
                case str(reason):
                    faults[reason].append(name)
                case Product() as product:
                    products[name] = product
                case Whole() as whole:
                    wholes[name] = whole
    if not products and not faults:
        faults["it changes no matrix by factors; use the base as it is, or export a checkpoint"].append("recipe")
    if faults:
        listed = "\n".join(f"  - {reason} ({_some(places)})" for reason, places in faults.items())
        raise ValueError(f"the recipe cannot be written as an adapter:\n{listed}")
    return Changes(products, wholes)


def _is_adapter(source: Source) -> TypeGuard[AdapterSource]:
    """Whether it is an adapter, also one whose rows are put in the order of a common vocabulary."""
    return isinstance(source.unaligned if isinstance(source, AlignedSource) else source, AdapterSource)


def coefficients(fusion: Fusion) -> dict[str, float]:
    """By source the factor of its difference from the base in what a linear fusion yields, without zeros.

    Base and sources have shares that add up to 1, so those of the sources are the factors. Raises ValueError for a
    fusion that is no such sum.
    """
    method = methods.load(fusion.method)
    if not (isinstance(method, WeightedSum) and method.same) or fusion.parameters:
        told = "".join(f" with {name}={value:g}" for name, value in fusion.parameters)
        raise ValueError(
            f"{fusion.method}{told} is no weighted sum, so its result is of full rank; use linear, task_arithmetic or "
            "passthrough, or export a checkpoint"
        )
    if method.max_inputs is not None and len(fusion.inputs) > method.max_inputs:
        raise ValueError(f"{method.name} takes exactly one input, got {len(fusion.inputs)}; fuse several with `linear`")
    _, *weights = method.coefficients([read.weight for read in fusion.inputs], NOTHING_KNOWN)
    shares: dict[str, float] = defaultdict(float)
    for read, weight in zip(fusion.inputs, weights, strict=True):
        shares[read.source] += weight
    return {source: share for source, share in shares.items() if source != BASE and share != 0}


def _obstacles(
    recipe: Recipe, alignment: Alignment, adapters: Mapping[str, AdapterSource]
) -> Iterator[tuple[str, str]]:
    """Reasons in the recipe's structure, each with the place where it holds."""
    if len(recipe.layers) != alignment.n_layers:
        counts = f"{len(recipe.layers)} instead of {alignment.n_layers}"
        yield "an adapter cannot change the number of layers; export a checkpoint", counts
    for depth, layer in enumerate(recipe.layers):
        if layer.scale != 1.0:
            yield "an adapter cannot scale layers; export a checkpoint", f"layer {depth} by {layer.scale:g}"
    for slot, fusion in recipe.fusions():
        for read in fusion.inputs:
            if read.source not in {BASE, *adapters}:
                yield f"{read.source!r} is neither the base nor an adapter; export a checkpoint", _named(slot)
            if read.layer != slot[0]:
                yield "an adapter cannot write layers from other layers; export a checkpoint", _named(slot)


def _change(name: str, base: Source, readers: Sequence[tuple[AdapterSource, float]]) -> Product | Whole | str:
    """The merged change of one tensor by the adapters that touch it, with their shares; else why there is none."""
    sites = [adapter.sites[name] for adapter, _ in readers]
    if any((site.module, site.tied) != (sites[0].module, sites[0].tied) for site in sites):
        modules = " and ".join(sorted({site.module for site in sites}))
        return (
            f"the adapters name one module as {modules}; train them on one version of the model, or export a checkpoint"
        )
    parts: list[tuple[float, LowRank]] = []
    for adapter, share in readers:
        change = adapter.low_rank(name)
        if change is not None:
            parts.append((share * change.scale, change))
        elif len(readers) > 1 or share != 1.0:
            return (
                f"{adapter.name!r} stores tensors whole, and their weighted sums are of full rank; export a checkpoint"
            )
        elif adapter.shapes[name] != base.shapes[name]:
            return f"{adapter.name!r} resizes tensors, so plain peft cannot put it on the base; export a checkpoint"
        else:
            return Whole(sites[0], adapter.tensor(name))
    up = torch.cat([scale * change.up for scale, change in parts], dim=1)
    down = torch.cat([change.down for _, change in parts], dim=0)
    if len(base.shapes[name]) == 2:
        return Product(sites[0], up, down)
    return Whole(sites[0], base.tensor(name).float() + (up @ down).reshape(base.shapes[name]))


def _names(alignment: Alignment, slot: tuple[int | None, str]) -> list[str]:
    """The tensors of a slot, with the heads that repeat one of them."""
    merged = alignment.slots.get(slot, ())
    return [*merged, *(head for head, embedding in alignment.copies.items() if embedding in merged)]


def _named(slot: tuple[int | None, str]) -> str:
    depth, component = slot
    return component if depth is None else f"layer {depth} {component}"


def _some(places: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(places))
    rest = f" and {len(distinct) - LISTED} more" if len(distinct) > LISTED else ""
    return ", ".join(distinct[:LISTED]) + rest
