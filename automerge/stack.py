"""The live model's layers as a stack of modules that any recipe arranges anew: moved, repeated, left out, scaled.

For every source layer there is at least one module of its kind; what a recipe wants is found among the modules that
hold it already, and only the rest is referred to or merged. The model's configuration follows the stack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, ModuleList

from automerge.body import Body, End, Kind, Part, parts_of
from automerge.merge import PASSTHROUGH, ResidentSources, Run
from automerge.recipe import BASE, Fusion, Input, Recipe
from automerge.resident.layout import staggered
from automerge.resident.placement import RESERVE, free_bytes
from automerge.scaling import Gains, gains
from automerge.stacking import in_place, origins, stacked_config


class Stack:
    """The layers of a live model. Holds the modules of every kind, and copies of source layers in its dtype.

    `path` is the name of the list of layers within the model.

    Such copies are made at first use where a stack refers to a layer whose source is kept in another dtype or place,
    as long as memory lasts; beyond that its modules are written. `views` gives by checkpoint name where in the model's
    memory a tensor lies; those of the layers are taken out, since the layers move. Raises ValueError for a model whose
    layers do not stand in one list.
    """

    def __init__(self, model: Any, sources: ResidentSources, views: dict[str, Tensor]) -> None:
        self._sources = sources
        self._n_layers = sources.alignment.n_layers
        self.path = _path(model, sources.alignment.n_layers, sources.alignment.stem)
        parent, _, self._attribute = self.path.rpartition(".")
        self._owner = model.get_submodule(parent)
        modules = list(model.get_submodule(self.path))
        self._stream = 1 + len(sources.names)
        self._kept: dict[tuple[str, int | None, str], list[Tensor]] = {}
        self._room: float | None = None
        self._bodies: dict[int, list[Body]] = {}
        for layer, module in enumerate(modules):
            body = Body(module, self._kind(module, layer, views), self._stream)
            self._bodies[layer] = [body]
            for component in body.kind.parts:
                base = Fusion(PASSTHROUGH, (Input(BASE, layer),))
                shared = self._shared(body, component, base, refer=False)
                if shared is None:
                    body.take(component)
                else:
                    # What was loaded is there twice; a search of stacks may never write it.
                    body.share(component, shared)
                # A view keeps the memory of its whole parameter, which has just been left.
                for name in sources.alignment.slots[layer, component]:
                    del views[name]
        self._configs = list({id(c): c for c in (model.config, model.config.get_text_config())}.values())
        self._config: dict[str, Any] = model.config.get_text_config().to_dict()
        self._installed: list[Body] = [body for (body,) in self._bodies.values()]
        self._changed: dict[str, Any] = {}

    @property
    def layers(self) -> list[Module]:
        """The modules that stand in the model now, in order."""
        return [body.module for body in self._installed]

    def n_bytes_of_copies(self) -> int:
        """Bytes that copies of all layers of all sources would take, but for layers that need none."""
        total = 0
        for layer, (body, *_) in self._bodies.items():
            for component, parts in body.kind.parts.items():
                dtypes = body.dtypes(component)
                if dtypes is None:
                    continue
                size = sum(part.block.size * dtype.itemsize for part, dtype in zip(parts, dtypes, strict=True))
                for source in self._sources.names:
                    if self._sources.same_as(source, layer, component) == BASE:
                        continue
                    fusion = Fusion(PASSTHROUGH, (Input(source, layer),))
                    total += size if self._sources.shared(fusion, component, dtypes) is None else 0
        return total

    def write(self, recipe: Recipe) -> int:
        """Arranges the layers as the recipe does; returns the number of slots whose weights were merged."""
        branch_gains = gains(recipe)
        stacked = not in_place(recipe, self._n_layers)
        layers = origins(recipe)
        chosen = self._chosen(recipe, layers, branch_gains)
        wanted = [
            (body, name, body.holds(name, fusion, gain), gain)
            for body, layer, gain in zip(chosen, recipe.layers, branch_gains, strict=True)
            for name, fusion in layer.components
        ]
        changed = [(body, name, held, gain) for body, name, held, gain in wanted if body.held.get(name) != held]
        for _, name, held, _ in changed:
            self._sources.check_fusion(held.fusion, name)
        # First, so that what no layer needs any more is free before others are filled.
        self._install(chosen, layers)
        self._drop_idle(chosen)
        n_merged = 0
        for body, name, held, gain in changed:
            # An interrupted write leaves the slot marked as unknown, never as the wrong recipe.
            body.held.pop(name, None)
            n_merged += self._fill(body, name, held.fusion, gain, refer=stacked)
            body.held[name] = held
        return n_merged

    def _chosen(self, recipe: Recipe, layers: Sequence[int], branch_gains: Sequence[Gains]) -> list[Body]:
        """A module for every output layer, those first that hold what is wanted."""
        free = {layer: list(bodies) for layer, bodies in self._bodies.items()}
        chosen: dict[int, Body] = {}
        for depth, (layer, output, gain) in enumerate(zip(layers, recipe.layers, branch_gains, strict=True)):
            for body in free[layer]:
                if all(body.held.get(name) == body.holds(name, fusion, gain) for name, fusion in output.components):
                    chosen[depth] = body
                    free[layer].remove(body)
                    break
        for depth, layer in enumerate(layers):
            if depth not in chosen:
                if not free[layer]:
                    free[layer].append(self._bodies[layer][0].twin())
                    self._bodies[layer].append(free[layer][0])
                chosen[depth] = free[layer].pop(0)
        return [chosen[depth] for depth in range(len(layers))]

    def _fill(self, body: Body, component: str, fusion: Fusion, gain: Gains, *, refer: bool) -> int:
        """Gives a component its weights; returns 1 if they were merged, 0 if they are only referred to."""
        shared = self._shared(body, component, fusion, refer=refer)
        if shared is not None:
            body.share(component, shared)
        else:
            self._sources.write(fusion, component, body.own(component))
        parts = body.kind.parts.get(component, ())

        def stored(part: Part, number: int) -> Tensor:
            _, start, stop = part.block.parts()[number]
            out = torch.empty(stop - start, dtype=part.block.dtype, device=self._sources.device)
            self._sources.write(fusion, component, [[Run(start, stop, out)] if p is part else [] for p in parts])
            return out.view(part.block.shapes[number])

        body.fold(component, gain, stored)
        return int(shared is None)

    def _shared(self, body: Body, component: str, fusion: Fusion, *, refer: bool) -> list[Tensor] | None:
        """Buffers that are the component as it is, for modules to refer to; None if there are none.

        With `refer` they are made where they can be.
        """
        dtypes = body.dtypes(component)
        if fusion.method != PASSTHROUGH or dtypes is None:
            return None
        shared = self._sources.shared(fusion, component, dtypes)
        if shared is not None or not refer:
            return shared
        source, layer = fusion.inputs[0].source, fusion.inputs[0].layer
        key = (self._sources.same_as(source, layer, component), layer, component)
        if key not in self._kept:
            blocks = [part.block for part in body.kind.parts.get(component, ())]
            n_bytes = sum(block.size * dtype.itemsize for block, dtype in zip(blocks, dtypes, strict=True))
            device = self._sources.device
            if self._room is None:
                self._room = (1 - RESERVE) * free_bytes(device) - self._sources.demand.masks
            if n_bytes > self._room:
                return None
            self._room -= n_bytes
            flats = [
                staggered(block.size, self._stream, dtype=dtype, device=device)
                for block, dtype in zip(blocks, dtypes, strict=True)
            ]
            self._sources.write(fusion, component, [[Run(0, len(flat), flat)] for flat in flats])
            self._kept[key] = flats
        return self._kept[key]

    def _drop_idle(self, chosen: Sequence[Body]) -> None:
        """Forgets modules beyond the first of each kind that own weights and are not in use: only their memory is."""
        for bodies in self._bodies.values():
            bodies[1:] = [body for body in bodies[1:] if body in chosen or not body.owns_weights]

    def _install(self, bodies: Sequence[Body], layers: Sequence[int]) -> None:
        if len(bodies) == len(self._installed) and all(a is b for a, b in zip(bodies, self._installed, strict=True)):
            return
        for depth, body in enumerate(bodies):
            body.place(depth)
        setattr(self._owner, self._attribute, ModuleList(body.module for body in bodies))
        changed = stacked_config(self._config, layers, self._n_layers)
        for key in changed.keys() | self._changed.keys():
            for config in self._configs:
                if hasattr(config, key):
                    setattr(config, key, changed.get(key, self._config[key]))
        self._installed = list(bodies)
        self._changed = changed

    def _kind(self, module: Module, layer: int, views: Mapping[str, Tensor]) -> Kind:
        parts: dict[str, list[Part]] = {}
        for (depth, component), blocks in self._sources.layout.items():
            if depth == layer:
                found = parts_of(module, blocks, views)
                if found is None:
                    raise ValueError(
                        f"tensors of layer {layer} lie outside the live model's {type(module).__name__}; such an "
                        "architecture is not supported"
                    )
                parts[component] = found
        writers, places = self._sources.writers, self._sources.alignment.places
        ends = {
            component: [
                End(part, number, writers[places[name].local])
                for part in found
                for number, name in enumerate(part.block.names)
                if places[name].local in writers
            ]
            for component, found in parts.items()
        }
        return Kind(layer, parts, ends)


def _path(model: Any, n_layers: int, stem: str) -> str:
    """The name of the model's list of layers."""
    for name, module in model.named_modules():
        if isinstance(module, ModuleList) and len(module) == n_layers and name.endswith(stem.rpartition(".")[2]):
            return str(name)
    raise ValueError(
        f"the live {type(model).__name__} has no list of {n_layers} layers named like {stem}; such an architecture "
        "is not supported"
    )
