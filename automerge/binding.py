"""Where the tensors of a checkpoint lie in a live `transformers` model, as views that can be written in place.

Names and layouts of a checkpoint and of the live model differ: prefixes come and go, and the experts of a mixture,
one tensor each on disk, are slices of one fused parameter. The way from one to the other is asked of transformers'
own conversion, so a new architecture needs no table here::

    for name, view in bind(model, source.shapes).items():
        view.copy_(source.tensor(name))   # now the model is what `from_pretrained` of that checkpoint gives
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Any

import torch
from torch import Tensor

from automerge.alignment import is_constant

Shape = tuple[int, ...]

PIECE = 2**20
"""Elements of a probe that are looked at at once: few enough for the cache."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Where a checkpoint tensor lies in a live one: strides and offset count the live tensor's elements in order."""

    target: int
    offset: int
    strides: Shape


@dataclass(frozen=True, slots=True)
class Route:
    """The checkpoint tensors that one converter of transformers makes into live ones.

    Without converter it is a single tensor, perhaps under another name.
    """

    target: str
    converter: Any
    members: list[tuple[str, str]]
    """(checkpoint name, source pattern of the converter) in the order in which transformers collects them."""


def bind(model: Any, shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
    """By checkpoint tensor name a view into the live model's memory, to be written with `copy_`.

    `shapes` are those of all tensors of the checkpoint. Names without a view need no writing: constants that the model
    computes itself, tensors that its class ignores, and a head that the live model ties to another bound tensor.
    Raises ValueError naming tensors that the model does not know, that are no view of its memory, or of another
    shape, and parameters that no tensor reaches. Fused parameters are probed one at a time and once a kind; a probe
    takes 12 bytes for each of its elements while it lasts.
    """
    live = {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if isinstance(tensor, Tensor)}
    routes, unknown = _routes(model, shapes, live)
    faults = [f"no parameter of the model takes {name} {shapes[name]}" for name in _foreign(model, shapes, unknown)]
    views: dict[str, Tensor] = {}
    reached: dict[int, str] = {}
    probes: dict[tuple[Any, ...], list[Slice] | None] = {}
    for route in _untied_first(model, routes):
        try:
            targets, slices = _slices(model, route, shapes, live, probes)
        except ValueError as fault:
            faults.append(str(fault))
            reached[id(live[route.target])] = route.target
            continue
        if any(reached.get(id(live[target]), target) != target for target in targets):
            continue  # tied: the parameter is already written through another tensor
        reached.update({id(live[target]): target for target in targets})
        for (name, _), found in zip(route.members, slices, strict=True):
            views[name] = _view(live[targets[found.target]], shapes[name], found)
    faults += [
        f"no tensor of the checkpoint reaches the model's {name} {tuple(parameter.shape)}"
        for name, parameter in live.items()
        if isinstance(parameter, torch.nn.Parameter) and id(parameter) not in reached
    ]
    if faults:
        raise ValueError(
            f"the checkpoint cannot be written into the live {type(model).__name__}; use a checkpoint that "
            "transformers loads without missing or unexpected weights:\n"
            + "\n".join(f"  - {fault}" for fault in faults[:20])
        )
    return views


def _routes(
    model: Any, shapes: Mapping[str, Shape], live: dict[str, Tensor]
) -> tuple[list[Route], list[tuple[str, str]]]:
    """All routes by first target, and the (name, renamed name) of tensors without one.

    Follows `transformers.core_model_loading.convert_and_load_state_dict_in_model`, which does the same with weights.
    """
    # These are slow to import.
    from transformers.conversion_mapping import get_model_conversion_mapping  # noqa: PLC0415
    from transformers.core_model_loading import (  # noqa: PLC0415
        WeightConverter,
        WeightRenaming,
        dot_natural_key,
        rename_source_key,
    )

    transforms = get_model_conversion_mapping(model)
    renamings = [entry for entry in transforms if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in transforms if isinstance(entry, WeightConverter)]
    by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    prefix = model.base_model_prefix
    routes: dict[str, Route] = {}
    unknown = []
    for name in sorted(shapes, key=dot_natural_key):
        renamed, pattern = rename_source_key(name, renamings, converters, prefix, live)
        if renamed not in live and name in live:
            renamed, pattern = rename_source_key(name, [], [], prefix, live)
        if renamed not in live:
            unknown.append((name, renamed))
            continue
        converter = None if pattern is None else by_pattern[pattern]
        routes.setdefault(renamed, Route(renamed, converter, [])).members.append((name, pattern or ""))
    return list(routes.values()), unknown


def _foreign(model: Any, shapes: Mapping[str, Shape], unknown: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yields the names without a route that are neither constants, buffers nor ignored by the model's class."""
    ignored = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_unexpected or ()]
    buffers = {name for name, _ in model.named_buffers()}
    for name, renamed in unknown:
        computed = is_constant(name, shapes[name]) or renamed in buffers
        if not computed and not any(pattern.search(renamed) for pattern in ignored):
            yield name


def _untied_first(model: Any, routes: Sequence[Route]) -> list[Route]:
    """The routes, those into a tied copy of another parameter last."""
    return sorted(routes, key=lambda route: route.target in model.all_tied_weights_keys)


def _slices(
    model: Any,
    route: Route,
    shapes: Mapping[str, Shape],
    live: Mapping[str, Tensor],
    probes: dict[tuple[Any, ...], list[Slice] | None],
) -> tuple[list[str], list[Slice]]:
    """The live tensors that a route fills, and where in them each of its members lies."""
    names = [name for name, _ in route.members]
    if route.converter is None:
        name = names[0]
        if len(names) > 1:
            raise ValueError(f"{', '.join(names)} are all the model's {route.target}")
        if shapes[name] != tuple(live[route.target].shape):
            raise ValueError(
                f"{name} has shape {shapes[name]}, the model's {route.target} {tuple(live[route.target].shape)}"
            )
        return [route.target], [Slice(0, 0, _strides(shapes[name]))]
    described = f"{len(names)} tensors such as {names[0]} {shapes[names[0]]}"
    try:
        # On the meta device a conversion costs nothing and tells names and shapes.
        outcome = _convert(model, route, [torch.empty(shapes[name], device="meta") for name in names])
    except (RuntimeError, ValueError, AttributeError) as fault:
        raise ValueError(f"transformers cannot convert {described}: {fault}") from fault
    got = {target: tuple(tensor.shape) for target, tensor in outcome.items()}
    expected = {target: tuple(live[target].shape) for target in got if target in live}
    if got != expected:
        raise ValueError(f"{described} become {got}, the model has {expected}")
    kind = (
        id(route.converter),
        tuple((pattern, shapes[name]) for name, pattern in route.members),
        tuple(expected.values()),
    )
    if kind not in probes:
        probes[kind] = _probe(model, route, [shapes[name] for name in names])
    slices = probes[kind]
    if slices is None:
        raise ValueError(f"{described} are no views of the model's {', '.join(got)}: transformers rearranges them")
    return list(got), slices


def _convert(model: Any, route: Route, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """What transformers makes of these tensors: live tensors by name."""
    converter = deepcopy(route.converter)
    for (name, pattern), tensor in zip(route.members, tensors, strict=True):
        converter.add_tensor(route.target, name, pattern, tensor)
    made = converter.convert(route.target, model=model, config=model.config)
    return {name: tensor[0] if isinstance(tensor, list) else tensor for name, tensor in made.items()}


def _probe(model: Any, route: Route, shapes: Sequence[Shape]) -> list[Slice] | None:
    """Where each tensor lands, found by converting tensors that hold their own indices; None if one is no slice."""
    ends = list(accumulate(prod(shape) for shape in shapes))
    dtype = torch.int32 if ends[-1] < 2**31 else torch.int64
    numbers = _cut(torch.arange(ends[-1], dtype=dtype), ends)
    made = _convert(model, route, [part.view(shape) for part, shape in zip(numbers, shapes, strict=True)])
    starts = [0, *accumulate(tensor.numel() for tensor in made.values())]
    if starts[-1] != ends[-1]:
        return None
    # landed[i] is the place where number i came to lie; the conversion's own tensors may go first.
    del numbers
    landed = torch.full((ends[-1],), -1, dtype=dtype)
    for start, tensor in zip(starts, made.values(), strict=False):
        flat = tensor.reshape(-1)
        for first in range(0, len(flat), PIECE):
            part = flat[first : first + PIECE].long()
            landed.scatter_(0, part, torch.arange(start + first, start + first + len(part), dtype=dtype))
    slices = []
    for part, shape in zip(_cut(landed, ends), shapes, strict=True):
        found = _slice_of(part.view(shape), starts)
        if found is None:
            return None
        slices.append(found)
    return slices


def _slice_of(landed: Tensor, starts: Sequence[int]) -> Slice | None:
    """The slice whose elements lie at these places, if there is one; `starts` are where targets begin and end."""
    first, last = int(landed.min()), int(landed.max())
    target = next(i for i, end in enumerate(starts[1:]) if first < end)
    if first < starts[target] or last >= starts[target + 1]:
        return None
    strides = tuple(int(landed.diff(dim=axis).flatten()[0]) if n > 1 else 1 for axis, n in enumerate(landed.shape))
    regular = all(
        bool((landed.diff(dim=axis) == stride).all()) for axis, stride in enumerate(strides) if landed.shape[axis] > 1
    )
    return Slice(target, first - starts[target], strides) if regular and min(strides, default=1) > 0 else None


def _view(tensor: Tensor, shape: Shape, found: Slice) -> Tensor:
    if not tensor.is_contiguous():
        raise ValueError(f"expected contiguous parameters, got one of shape {tuple(tensor.shape)}; load the model anew")
    return tensor.detach().as_strided(shape, found.strides, tensor.storage_offset() + found.offset)


def _strides(shape: Shape) -> Shape:
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _cut(numbers: Tensor, ends: Sequence[int]) -> list[Tensor]:
    return [numbers[start:end] for start, end in zip([0, *ends], ends, strict=False)]
