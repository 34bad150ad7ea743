"""Recipe and sources to tensors: what a fusion reads, what its method has to know, and the merged entries.

Merging computes in float32 and rounds to the base's stored dtype, so that the live model and an exported checkpoint
hold the same numbers. What does not depend on the candidate (quantiles, angles, random numbers) is computed at first
use and kept.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from automerge import methods
from automerge.alignment import Alignment, align
from automerge.protocols import Elementwise, Source
from automerge.recipe import BASE, COMPONENTS, Fusion, Input, Recipe
from automerge.resident.layout import Block, Slot, block_of, lay_out
from automerge.resident.placement import Choice, Demand, Placement, choose
from automerge.resident.plans import Planner, deliver
from automerge.resident.statistics import Knowledge, Read
from automerge.resident.weights import Residence, n_bytes_kept
from automerge.scaling import Gains, Writer, folded, gains, writers
from automerge.sources.memory import MemorySource
from automerge.stacking import origins
from automerge.tensors.formulas import Constants, Formula, weighted_sum
from automerge.tensors.geometry import InnerProducts
from automerge.tensors.kernels import PAYS_FROM, SMALL, Compile, Kernels, on_device

PASSTHROUGH = "passthrough"

SAMPLED = 4096
"""Values per tensor that enter a fingerprint."""


class Run(NamedTuple):
    """Entries [start, stop) of a block and their place: a flat tensor, or a view of any shape for one whole tensor."""

    start: int
    stop: int
    out: Tensor


class Header(NamedTuple):
    """Shape and dtype of a merged tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def n_bytes(self) -> int:
        """Bytes of its entries."""
        return math.prod(self.shape) * self.dtype.itemsize


class ResidentSources:
    """All sources, and the merged tensors of any fusion of them. Holds weights and what methods prepared of them.

    `placement` is where the weights stay (see `placement.choose`), `n_held` the bytes of the live model that is on the
    device already, `methods` names the methods that will be used, which may need masks beside the weights,
    `model_type` is the configuration's, without which scales cannot be folded. `notes` tells in sentences what was
    decided. Raises ValueError listing every reason why the sources cannot be merged, and every tensor that is not
    finite.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        device: str = "cpu",
        placement: Placement | Literal["auto"] = "auto",
        n_held: int = 0,
        methods: Sequence[str] = (),
        model_type: str | None = None,
    ) -> None:
        names = [source.name for source in sources]
        if BASE not in names or len(set(names)) != len(names):
            raise ValueError(f"sources need distinct names, one of them {BASE!r}, got {names}")
        base = next(source for source in sources if source.name == BASE)
        ordered = [base, *(source for source in sources if source is not base)]
        self.alignment: Alignment = align(ordered)
        self.names = tuple(source.name for source in ordered[1:])
        self.layout: Mapping[Slot, tuple[Block, ...]] = lay_out(self.alignment, base)
        self._shapes = base.shapes
        self.device = torch.device(device)
        self.demand = demand(ordered, self.layout, n_held, methods)
        self.choice: Choice = choose(placement, self.demand, self.device)
        self.notes = [self.choice.reason]
        self._shapes_of_slot = {
            slot: {self.alignment.places[name].local: base.shapes[name] for name in names}
            for slot, names in self.alignment.slots.items()
        }
        self.writers: Mapping[str, Writer] = {} if model_type is None else writers(self.alignment.locals, model_type)
        self._residence = Residence(ordered, self.layout, placement=self.choice.placement, device=self.device)
        self._kernels = Kernels()
        self._knowledge = Knowledge(self._residence, self.names)
        self._planner = Planner(self._residence, self._knowledge, self._kernels)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of all tensors that the base stores, those that are not merged included."""
        return self._shapes

    @property
    def n_bytes(self) -> int:
        """Bytes held by weights and by what methods prepared."""
        return self._residence.n_bytes + self._knowledge.n_bytes

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """By source the first 16 hex digits of a SHA-256 over a sample of all its tensors.

        At most SAMPLED values of a tensor, or of an adapter's factors, evenly spread: any training changes nearly all,
        and 70 B parameters would take minutes to hash whole.
        """
        return {source: self._fingerprint(source) for source in (BASE, *self.names)}

    def n_parameters(self, recipe: Recipe) -> int:
        """Number of parameters of the model that the recipe describes."""
        return sum(
            self._residence.size(name)
            for (_, component), fusion in recipe.fusions()
            for name in self.alignment.slots.get((fusion.inputs[0].layer, component), ())
        )

    def inner_products(self, name: str) -> InnerProducts:
        """Inner products of the base's tensor of that name and the task vectors of all sources, in their order."""
        return self._knowledge.of([Read(source, name) for source in self.names], vectors=True).inner_products()

    def compile(self, when: Compile, names: Sequence[str]) -> None:
        """Compiles the kernels of these methods where `when` says so, or leaves them eager; `notes` says which.

        `auto` compiles for models of PAYS_FROM parameters and more.
        """
        total = sum(block.size for blocks in self.layout.values() for block in blocks)
        example = self._example()
        if when == "never" or (when == "auto" and total < PAYS_FROM) or example is None:
            return
        name, dtype = example
        reads = [Read(source, name) for source in self.names]
        n = len(reads)
        known = self._knowledge.of(reads, vectors=True)

        def make(formula: Formula, n_inputs: int, n_masks: int, constants: Constants) -> None:
            tensors = [torch.zeros(SMALL, dtype=dtype, device=self.device) for _ in range(1 + n_inputs)]
            bytes_ = [torch.zeros(SMALL, dtype=torch.uint8, device=self.device) for _ in range(n_inputs * n_masks)]
            self._kernels.make(formula, tensors[0], tensors[1:], bytes_, on_device(constants, self.device))

        for method in (methods.load(each) for each in names):
            if isinstance(method, Elementwise):
                parameters = {parameter.name: parameter.default for parameter in method.parameters}
                make(method.formula, n, len(method.masks), method.constants([1.0] * n, known, **parameters))
        # A sum may read the base as one more input; of many sources, most sums read few or all.
        for size in sorted({2, min(3, n + 1), max(2, n), n + 1}):
            make(weighted_sum, size, 0, (np.ones((size, 1), dtype=np.float32),))
        if self._kernels.why_eager:
            self.notes.append(f"merging runs in eager PyTorch, five to ten times as long: {self._kernels.why_eager}")

    def shared(self, fusion: Fusion, component: str, dtypes: Sequence[torch.dtype]) -> list[Tensor] | None:
        """The flat buffers, one for each block, that are what a passthrough gives, without a copy.

        None if some do not lie on the device in these dtypes, which must be those in which merged tensors are stored
        too. The buffers are a source's own: they must not be written.
        """
        found = []
        for block, dtype in zip(self._blocks(fusion, component), dtypes, strict=True):
            source = self._residence.same_as(fusion.inputs[0].source, block)
            is_flat = self._residence.is_flat(source, block)
            flat = self._residence.across(source, block, 0, block.size) if is_flat else None
            if flat is None or not block.dtype == flat.dtype == dtype:
                return None
            found.append(flat)
        return found

    def same_as(self, source: str, layer: int | None, component: str) -> str:
        """The name of the source whose weights these are: the base for an adapter that changes none of them."""
        names = {self._residence.same_as(source, block) for block in self.layout.get((layer, component), ())}
        return BASE if names == {BASE} else source

    def write(self, fusion: Fusion, component: str, runs: Sequence[Sequence[Run]]) -> None:
        """Writes the merged entries of a component: for each block of it, in the order of `layout`, into its runs.

        Raises ValueError for weights that the method refuses.
        """
        for block, parts in zip(self._blocks(fusion, component), runs, strict=True):
            self._write_block(fusion, block, parts)

    def merge(self, fusion: Fusion, component: str) -> Iterator[tuple[str, Tensor]]:
        """Yields (tensor name at the first input's layer, merged tensor in the base's stored dtype).

        Raises ValueError for a source, layer or method that does not exist, and for weights that the method refuses.
        """
        self.check_fusion(fusion, component)
        for block in self._blocks(fusion, component):
            for (name, start, stop), shape in zip(block.parts(), block.shapes, strict=True):
                out = torch.empty(stop - start, dtype=block.dtype, device=self.device)
                self._write_block(fusion, block, [Run(start, stop, out)])
                yield name, out.view(shape)

    def tensors(self, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
        """Yields all tensors of the merged model by their names in the output, in the base's stored dtype.

        Scales are folded into the tensors in which branches end. Raises ValueError for scales that cannot be.
        """
        self.check_scales(recipe)
        branch_gains = gains(recipe)
        for (depth, component), fusion in recipe.fusions():
            for name, merged in self.merge(fusion, component):
                output = self.alignment.name_at(name, depth)
                writer = self.writers.get(self.alignment.places[name].local)
                tensor = merged
                if depth is not None and writer is not None:
                    gain = getattr(branch_gains[depth], writer.branch)
                    tensor = merged if gain == 1 else folded(merged, gain, writer.offset, merged.dtype)
                yield output, tensor
                for copy, original in self.alignment.copies.items():
                    if original == output:
                        yield copy, tensor.clone()

    def headers(self, recipe: Recipe) -> dict[str, Header]:
        """Shape and dtype of all of `tensors` by their names, in the same order, without merging anything."""
        found = {}
        for (depth, component), fusion in recipe.fusions():
            for block in self._blocks(fusion, component):
                for name, shape in zip(block.names, block.shapes, strict=True):
                    output = self.alignment.name_at(name, depth)
                    names = [output, *(copy for copy, original in self.alignment.copies.items() if original == output)]
                    found.update(dict.fromkeys(names, Header(shape, block.dtype)))
        return found

    @property
    def stored_dtype(self) -> torch.dtype:
        """The dtype in which the base stores most of its weights."""
        sizes: dict[torch.dtype, int] = {}
        for block in (block for blocks in self.layout.values() for block in blocks):
            sizes[block.dtype] = sizes.get(block.dtype, 0) + block.size
        return max(sizes, key=lambda dtype: sizes[dtype])

    def state_dict(self, recipe: Recipe) -> dict[str, Tensor]:
        """All of `tensors` at once."""
        return dict(self.tensors(recipe))

    def check(self, recipe: Recipe) -> None:
        """Raises ValueError if the recipe names sources, layers, methods or parameters that are not there, or if its
        scales cannot be folded into weights.
        """
        self.check_scales(recipe)
        self.check_layers(recipe)
        for (_, component), fusion in recipe.fusions():
            self.check_fusion(fusion, component)

    def check_layers(self, recipe: Recipe) -> None:
        """Raises ValueError for a layer that lacks a component, or whose components are of unlike source layers."""
        for depth, (layer, origin) in enumerate(zip(recipe.layers, origins(recipe), strict=True)):
            given = {name: fusion.inputs[0].layer for name, fusion in layer.components}
            if len(given) < len(layer.components):
                raise ValueError(f"layer {depth} of the recipe names a component twice; keep one of them")
            for component in COMPONENTS:
                expected = self._locals(origin, component)
                if expected and component not in given:
                    raise ValueError(f"layer {depth} of the recipe does not say what its {component} is made of")
                if component in given and self._locals(given[component], component) != expected:
                    raise ValueError(
                        f"layer {depth} of the recipe has the {component} of layer {given[component]}, whose tensors "
                        f"are unlike those of layer {origin}, where its attention comes from"
                    )

    def check_scales(self, recipe: Recipe) -> None:
        """Raises ValueError if scales are out of bounds, or if no tensors are known that can take them."""
        if not self.writers and any(gain != Gains() for gain in gains(recipe)):
            raise ValueError(
                "the recipe scales layers, but no tensor of these sources is known to end a branch, such as "
                "self_attn.o_proj and mlp.down_proj; leave all scales at 1 (space.scaling: null), or "
                "give the model_type if the sources have none"
            )

    def check_fusion(self, fusion: Fusion, component: str) -> None:
        """Raises ValueError if a fusion of that component cannot be made of these sources."""
        known = {BASE, *self.names}
        if unknown := sorted({read.source for read in fusion.inputs} - known):
            raise ValueError(f"the recipe reads unknown sources {unknown}; there are {sorted(known)}")
        check_options(fusion)
        if getattr(methods.load(fusion.method), "masks", ()) and BASE in {read.source for read in fusion.inputs}:
            raise ValueError(f"{fusion.method} drops parts of task vectors at random; the base has none, leave it out")
        layers = sorted({read.layer for read in fusion.inputs}, key=str)
        own = [self._locals(layer, component) for layer in layers]
        if any(shapes != own[0] for shapes in own):
            raise ValueError(f"the {component} of layers {layers} differ in their tensors, so they cannot be fused")

    def _locals(self, layer: int | None, component: str) -> dict[str, tuple[int, ...]]:
        if layer is not None and not 0 <= layer < self.alignment.n_layers:
            raise ValueError(
                f"the recipe reads layer {layer}; the sources have layers 0..{self.alignment.n_layers - 1}"
            )
        return self._shapes_of_slot.get((layer, component), {})

    def _blocks(self, fusion: Fusion, component: str) -> tuple[Block, ...]:
        return self.layout.get((fusion.inputs[0].layer, component), ())

    def _write_block(self, fusion: Fusion, block: Block, runs: Sequence[Run]) -> None:
        sources = [read.source for read in fusion.inputs]
        weights = [read.weight for read in fusion.inputs]
        if len({read.layer for read in fusion.inputs}) == 1:
            made = [
                self._planner.across(fusion.method, sources, weights, block, start=r.start, stop=r.stop) for r in runs
            ]
            plans = [plan for plan in made if plan is not None]
            if len(plans) == len(runs):
                for plan, run in zip(plans, runs, strict=True):
                    deliver(plan, run.out)
                return
        for name, start, stop in block.parts():
            reads = [Read(read.source, self.alignment.name_at(name, read.layer)) for read in fusion.inputs]
            plan = self._planner.tensor(fusion.method, reads, weights, dict(fusion.parameters), block.dtype)
            for run in runs:
                if run.start <= start < run.stop:
                    whole = run.start == start and run.out.numel() == stop - start
                    deliver(plan, run.out if whole else run.out[start - run.start : stop - run.start])

    def _example(self) -> tuple[str, torch.dtype] | None:
        """A tensor large enough for a compiled kernel, of the dtype that most weights have."""
        usual = self.stored_dtype
        parts = (part for blocks in self.layout.values() for b in blocks if b.dtype == usual for part in b.parts())
        return next(((name, usual) for name, start, stop in parts if stop - start >= SMALL), None)

    def _fingerprint(self, source: str) -> str:
        digest = hashlib.sha256()
        for name in sorted(self.alignment.places):
            digest.update(name.encode())
            factor = self._residence.low_rank(source, name)
            if factor is None or factor.is_base:
                stored = [self._residence.entries(source, name, 0, self._residence.size(name))]
            else:
                # Their product is rounded otherwise on another processor.
                stored = [factor.up.reshape(-1), factor.down.reshape(-1), torch.tensor([factor.scale])]
            for values in stored:
                sample = values[:: max(1, len(values) // SAMPLED)][:SAMPLED]
                digest.update(sample.float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def check_options(fusion: Fusion) -> None:
    """Raises ValueError if the method does not exist or takes neither so many inputs nor these parameters."""
    method = methods.load(fusion.method)
    if method.max_inputs is not None and len(fusion.inputs) > method.max_inputs:
        raise ValueError(f"{method.name} takes at most {method.max_inputs} inputs, got {len(fusion.inputs)}")
    taken = {parameter.name for parameter in method.parameters}
    if isinstance(method, Elementwise):
        taken |= {*method.options, *(("normalize",) if method.averaging else ())}
    if unknown := sorted(name for name, _ in fusion.parameters if name not in taken):
        raise ValueError(f"{method.name} has no parameters {unknown}; it takes {sorted(taken)}")


def demand(
    sources: Sequence[Source], layout: Mapping[Slot, tuple[Block, ...]], n_held: int, names: Sequence[str]
) -> Demand:
    """The bytes that a search of these sources with these methods needs, read off the headers."""
    every = [block for blocks in layout.values() for block in blocks]
    kept = [n_bytes_kept(source, block) for source in sources for block in every]
    # PyTorch pins memory in powers of two.
    rounding = sum((1 << (n_bytes - 1).bit_length()) - n_bytes for n_bytes in kept if n_bytes)
    size = sum(block.size for block in every)
    kinds = {kind for name in names for kind in getattr(methods.load(name), "masks", ())}
    masks = size * len(kinds) * (len(sources) - 1)
    return Demand(sources=sum(kept), candidate=n_held, masks=masks, rounding=rounding)


def merge_tensors(
    method: str,
    tensors: Sequence[Tensor],
    weights: Sequence[float],
    *,
    base: Tensor | None = None,
    keys: Sequence[tuple[str, str]] | None = None,
    **parameters: float,
) -> Tensor:
    """The merged tensor in float32, of the inputs' common shape: one method on one tensor, without a model.

    `base` is 0 if not given. `keys`, the (source, tensor name) of every input, seed the masks of random methods.
    Raises ValueError for inputs, weights and parameters that the method cannot take.
    """
    reads = [Read(*key) for key in keys or [(str(k), "tensor") for k in range(len(tensors))]]
    origin = torch.zeros_like(tensors[0]) if base is None and len(tensors) else base
    if origin is None or not len(tensors) == len(weights) == len(reads):
        raise ValueError(
            f"expected as many tensors as weights and keys, one at least, got {len(tensors)}, {len(weights)} and "
            f"{len(reads)}"
        )
    if any(tensor.shape != origin.shape for tensor in tensors):
        raise ValueError(f"all tensors must have one shape, got {[tuple(t.shape) for t in (origin, *tensors)]}")
    if len({read.source for read in reads}) < len(reads) or len({read.name for read in reads}) > 1:
        raise ValueError(
            f"expected keys of different sources for one tensor name, got {[tuple(read) for read in reads]}"
        )
    inputs = tuple(Input(read.source, None, float(weight)) for read, weight in zip(reads, weights, strict=True))
    check_options(Fusion(method, inputs, tuple(parameters.items())))
    given = [MemorySource(BASE, {reads[0].name: origin})]
    given += [MemorySource(read.source, {read.name: tensor}) for read, tensor in zip(reads, tensors, strict=True)]
    block = block_of([reads[0].name], given[0], torch.float32)
    residence = Residence(given, {(None, "tensor"): (block,)}, placement="device", device=origin.device)
    planner = Planner(residence, Knowledge(residence, [read.source for read in reads]), Kernels())
    merged = torch.empty_like(origin, dtype=torch.float32)
    deliver(planner.tensor(method, reads, weights, parameters, torch.float32), merged)
    return merged
