"""Recipe and sources to tensors: the resident sources, and the tensors of one fusion.

Sources are loaded once and stay resident in their stored dtype; what a method can prepare per source and tensor
is prepared at first use and kept. Merging computes in float32 and rounds to the base's stored dtype, so that the
live model and an exported checkpoint hold the same numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from automerge import methods
from automerge.alignment import Alignment, align
from automerge.protocols import Method, Source
from automerge.recipe import BASE, Fusion, Recipe

SAMPLED = 4096
"""Values per tensor that enter a fingerprint."""


class ResidentSources:
    """All sources in memory, and the merged tensors of any fusion of them.

    Holds the tensors of every source on `device` and what methods prepared of them. Raises ValueError listing every
    reason why the sources cannot be merged, and every tensor that is not finite.
    """

    def __init__(self, sources: Sequence[Source], *, device: str = "cpu") -> None:
        names = [source.name for source in sources]
        if BASE not in names or len(set(names)) != len(names):
            raise ValueError(f"sources need distinct names, one of them {BASE!r}, got {names}")
        base = next(source for source in sources if source.name == BASE)
        others = [source for source in sources if source is not base]
        self.alignment: Alignment = align([base, *others])
        self.names = tuple(source.name for source in others)
        self._tensors: dict[str, dict[str, Tensor]] = {
            source.name: {name: source.tensor(name).to(device) for name in self.alignment.places}
            for source in (base, *others)
        }
        self._prepared: dict[tuple[str, str, str], Tensor | None] = {}
        self._methods: dict[str, Method] = {}
        self._refuse_nonfinite()

    @property
    def n_bytes(self) -> int:
        """Bytes held by sources and prepared tensors."""
        resident = [tensor for group in self._tensors.values() for tensor in group.values()]
        prepared = [tensor for tensor in self._prepared.values() if tensor is not None]
        return sum(tensor.numel() * tensor.element_size() for tensor in resident + prepared)

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """By source the first 16 hex digits of a SHA-256 over a sample of all its tensors.

        At most SAMPLED values of a tensor, evenly spread: any training changes nearly all, and 70 B parameters would
        take minutes to hash whole.
        """
        return {source: _fingerprint(group) for source, group in self._tensors.items()}

    def n_parameters(self, recipe: Recipe) -> int:
        """Number of parameters of the model that the recipe describes."""
        base = self._tensors[BASE]
        slots = self.alignment.slots
        return sum(
            base[name].numel()
            for (_, component), fusion in recipe.fusions()
            for name in slots.get((fusion.inputs[0].layer, component), ())
        )

    def merge(self, fusion: Fusion, component: str) -> Iterator[tuple[str, Tensor]]:
        """Yields (tensor name at the first input's layer, merged tensor in the base's stored dtype).

        Raises KeyError for a source or layer that does not exist, ValueError for weights that the method refuses.
        """
        method = self._method(fusion.method)
        weights = [read.weight for read in fusion.inputs]
        for name in self._slot(fusion, component):
            keys = [(read.source, self.alignment.name_at(name, read.layer)) for read in fusion.inputs]
            tensors = [self._tensors[source][key] for source, key in keys]
            base = self._tensors[BASE][name] if method.needs_base else None
            prepared = [self._prepare(method, source, key) for source, key in keys]
            merged = method(tensors, weights, base=base, prepared=prepared, **dict(fusion.parameters))
            yield name, merged.to(self._tensors[BASE][name].dtype)

    def state_dict(self, recipe: Recipe) -> dict[str, Tensor]:
        """All tensors of the merged model by their names in the output, in the base's stored dtype."""
        state = {}
        for (depth, component), fusion in recipe.fusions():
            for name, tensor in self.merge(fusion, component):
                state[self.alignment.name_at(name, depth)] = tensor
        return state

    def check(self, recipe: Recipe) -> None:
        """Raises ValueError if the recipe names sources, layers or methods that are not there."""
        known = {BASE, *self.names}
        unknown = sorted(set(recipe.sources) - known)
        if unknown:
            raise ValueError(f"the recipe reads unknown sources {unknown}; there are {sorted(known)}")
        for (_, component), fusion in recipe.fusions():
            self._method(fusion.method)
            self._slot(fusion, component)

    def _slot(self, fusion: Fusion, component: str) -> tuple[str, ...]:
        layer = fusion.inputs[0].layer
        if layer is not None and not 0 <= layer < self.alignment.n_layers:
            raise ValueError(
                f"the recipe reads layer {layer}; the sources have layers 0..{self.alignment.n_layers - 1}"
            )
        return self.alignment.slots.get((layer, component), ())

    def _method(self, name: str) -> Method:
        if name not in self._methods:
            self._methods[name] = methods.load(name)
        return self._methods[name]

    def _prepare(self, method: Method, source: str, name: str) -> Tensor | None:
        key = (method.name, source, name)
        if key not in self._prepared:
            base = self._tensors[BASE][name] if method.needs_base else None
            self._prepared[key] = method.prepare(self._tensors[source][name], base, key=(source, name))
        return self._prepared[key]

    def _refuse_nonfinite(self) -> None:
        broken = [
            f"{source}: {name}"
            for source, group in self._tensors.items()
            for name, tensor in group.items()
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
        ]
        if broken:
            listed = "\n".join(f"  - {place}" for place in broken[:20])
            raise ValueError(f"{len(broken)} source tensors hold NaN or infinity; use sound checkpoints:\n{listed}")


def _fingerprint(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].flatten()
        sample = values[:: max(1, len(values) // SAMPLED)][:SAMPLED]
        digest.update(name.encode())
        digest.update(sample.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
