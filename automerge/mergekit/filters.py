"""Filters: parts of the names of tensors that tell some tensors from all others.

mergekit matches filters in their order with its own names, which are mostly those of the checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple, get_args

from automerge.alignment import Alignment
from automerge.recipe import OUTER
from automerge.scaling import Branch, Writer

EXPERT = re.compile(
    r"(?:block_sparse_moe|mlp)\.experts\.\d+\.(?:(?P<last>w2|down_proj)|w1|w3|gate_proj|up_proj)\.weight$"
)
ROUTER = re.compile(r"block_sparse_moe\.gate\.")


def spelled(name: str) -> str:
    """The name that mergekit gives to a tensor of a checkpoint: experts are one tensor, as in transformers 5."""
    found = EXPERT.search(name)
    if found is None:
        return ROUTER.sub("mlp.gate.", name)
    return name[: found.start()] + ("mlp.experts.down_proj" if found["last"] else "mlp.experts.gate_up_proj")


class End(NamedTuple):
    """Tensors of one component in which a branch ends, by their names within a layer."""

    branch: Branch
    component: str
    locals: tuple[str, ...]


def ends_of(alignment: Alignment, writers: Mapping[str, Writer]) -> dict[str, End]:
    """The tensors in which branches end, by place."""
    components = {place.local: place.component for place in alignment.places.values() if place.layer is not None}
    found: dict[str, End] = {}
    order = get_args(Branch)
    for local in sorted(writers.keys() & components.keys(), key=lambda name: (order.index(writers[name].branch), name)):
        branch, component = writers[local].branch, components[local]
        place = f"the end of the {branch}" + ("" if component == branch else f" in {component}")
        known = found.get(place, End(branch, component, ()))
        found[place] = known._replace(locals=(*known.locals, local))
    return found


def filters_of(alignment: Alignment, ends: Mapping[str, End]) -> dict[str, list[str]]:
    """By place the parts that only its tensors' names have; an empty list if there are none.

    An end of a branch is told from all other tensors, a component from other components: ends are matched before.
    """
    names: dict[str, list[str]] = {OUTER: list(alignment.copies)}
    local: dict[str, dict[str, None]] = {OUTER: dict.fromkeys(alignment.copies)}
    for name, place in alignment.places.items():
        names.setdefault(place.component, []).append(spelled(name))
        local.setdefault(place.component, {})[spelled(place.local)] = None
    found: dict[str, list[str]] = {}
    for component, locals_ in local.items():
        foreign = [name for other, listed in names.items() if other != component for name in listed]
        found[component] = _telling(list(locals_), foreign, shorten=component != OUTER)
    for key, end in ends.items():
        foreign = [spelled(name) for name, place in alignment.places.items() if place.local not in end.locals]
        members = list(dict.fromkeys(map(spelled, end.locals)))
        found[key] = _telling(members, [*foreign, *alignment.copies], shorten=True)
    return found


def _telling(members: list[str], foreign: Collection[str], *, shorten: bool) -> list[str]:
    """The first part that all these names have and no foreign one, else the names; empty if foreign ones have them."""
    parts = [member.split(".") for member in members]
    runs = [".".join(parts[0][k : k + n]) for n in (1, 2) for k in range(len(parts[0]) - n + 1)] if shorten else []
    common = [[run] for run in runs if all(f".{run}." in f".{member}." for member in members)]
    return next(
        (found for found in (*common, members) if not any(part in name for part in found for name in foreign)), []
    )
