"""How the entries of a merged tensor are made: what is read, which formula runs over it, in which steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from automerge import methods
from automerge.protocols import Elementwise, LowRank, WeightedSum
from automerge.recipe import BASE
from automerge.resident.layout import Block
from automerge.resident.statistics import NOTHING_KNOWN, Knowledge, Read
from automerge.resident.weights import Residence
from automerge.tensors.formulas import weighted_sum
from automerge.tensors.kernels import Kernels, on_device

CHUNK = 2**22
"""Entries in work at once where inputs must be copied to the device, multiplied out, or rounded on their way into a
live model of another dtype. One number for all: a matrix product may round otherwise for another number of rows, and
what is exported must be what was searched."""

Key = TypeVar("Key")


class Plan(NamedTuple):
    """How entries of `stored` dtype are made: how many, in steps of how many, and `fill(start, stop, out)`.

    Every step begins at a multiple of `row`.
    """

    size: int
    step: int
    stored: torch.dtype
    fill: Callable[[int, int, Tensor], None]
    row: int = 1


class Planner:
    """Makes plans from what is resident, known and compiled; `across` and `tensor` are its two kinds."""

    def __init__(self, residence: Residence, knowledge: Knowledge, kernels: Kernels) -> None:
        self._residence = residence
        self._knowledge = knowledge
        self._kernels = kernels

    def across(
        self, method: str, sources: Sequence[str], weights: Sequence[float], block: Block, *, start: int, stop: int
    ) -> Plan | None:
        """The entries [start, stop) of a block across its tensors, from the sources' blocks of the same layer.

        None if the method needs to know each tensor, or if the weights do not lie in flat buffers on the device.
        """
        chosen = methods.load(method)
        if not (isinstance(chosen, WeightedSum) and chosen.same):
            return None
        terms = _summed(zip([BASE, *sources], chosen.coefficients(weights, NOTHING_KNOWN), strict=True))
        if not terms or not all(self._residence.is_flat(source, block) for source in terms):
            return None
        constants = self._coefficients(terms.values())

        def fill(first: int, last: int, out: Tensor) -> None:
            pieces = [self._residence.across(s, block, start + first, start + last) for s in terms]
            self._add_up(terms.values(), constants, pieces, out)

        return Plan(stop - start, stop - start, block.dtype, fill)

    def tensor(
        self,
        method: str,
        reads: Sequence[Read],
        weights: Sequence[float],
        parameters: Mapping[str, float],
        stored: torch.dtype,
    ) -> Plan:
        """One tensor, at the first input's layer. Raises ValueError for weights or parameters the method refuses."""
        chosen = methods.load(method)
        if isinstance(chosen, Elementwise):
            return self._elementwise(chosen, reads, weights, dict(parameters), stored)
        coefficients = chosen.coefficients(weights, self._knowledge.of(reads, vectors=chosen.vectors))
        origin = Read(BASE, reads[0].name)
        terms = [(origin, coefficients[0]), *zip(reads, coefficients[1:], strict=True)]
        if chosen.vectors:
            # A task vector is measured from the base at its own layer, and added to the base at the first input's.
            for read, coefficient in zip(reads, coefficients[1:], strict=True):
                if read.name != origin.name:
                    terms += [(Read(BASE, read.name), -coefficient), (origin, coefficient)]
        return self._sum(terms, stored)

    def _sum(self, terms: Sequence[tuple[Read, float]], stored: torch.dtype) -> Plan:
        """A weighted sum of tensors, in which all low-rank differences are multiplied out together."""
        factors = [(c, self._residence.low_rank(*read)) for read, c in terms if c != 0]
        stack = _stacked([(c, factor) for c, factor in factors if factor is not None and not factor.is_base])
        whole = _summed(
            (read if self._residence.low_rank(*read) is None else Read(BASE, read.name), c) for read, c in terms
        )
        whole = whole or {terms[0][0]: 0.0}
        constants = self._coefficients(whole.values())
        size = self._residence.size(terms[0][0].name)

        def fill(start: int, stop: int, out: Tensor) -> None:
            pieces = [self._residence.entries(*read, start, stop) for read in whole]
            if stack is None:
                self._add_up(whole.values(), constants, pieces, out)
                return
            total = torch.empty(stop - start, dtype=torch.float32, device=out.device)
            self._add_up(whole.values(), constants, pieces, total)
            width = stack.down.shape[1]
            total.view(-1, width).addmm_(stack.up[start // width : stop // width], stack.down)
            out.copy_(total)

        if stack is not None:
            width = stack.down.shape[1]
            return Plan(size, max(1, CHUNK // width) * width, stored, fill, row=width)
        return Plan(size, size if self._at_hand(whole) else CHUNK, stored, fill)

    def _elementwise(
        self,
        method: Elementwise,
        reads: Sequence[Read],
        weights: Sequence[float],
        parameters: dict[str, float],
        stored: torch.dtype,
    ) -> Plan:
        normalize = parameters.pop("normalize", 0.0)
        formula = method.averaging if normalize and method.averaging else method.formula
        known = self._knowledge.of(reads, vectors=True)
        constants = on_device(method.constants(weights, known, **parameters), self._residence.device)
        bytes_ = [self._knowledge.mask(kind, read) for kind in method.masks for read in reads]
        name = reads[0].name
        size = self._residence.size(name)

        def fill(start: int, stop: int, out: Tensor) -> None:
            base = self._residence.entries(BASE, name, start, stop)
            inputs = [self._knowledge.moved(read, name, start, stop) for read in reads]
            parts = [mask[start:stop] for mask in bytes_]
            self._kernels.run(formula, base, inputs, parts, constants, out=out, start=start)

        flat = self._at_hand([Read(BASE, name), *reads]) and all(read.name == name for read in reads)
        return Plan(size, size if flat else CHUNK, stored, fill)

    def _add_up(
        self, coefficients: Iterable[float], constants: Sequence[Tensor], pieces: Sequence[Tensor], out: Tensor
    ) -> None:
        """Writes sum_k c_k x_k of flat pieces."""
        if list(coefficients) == [1.0]:
            out.copy_(pieces[0])
        else:
            self._kernels.run(weighted_sum, pieces[0], pieces, [], constants, out=out)

    def _at_hand(self, reads: Iterable[Read]) -> bool:
        """Whether pieces of these tensors can be read where they lie."""
        return all(self._residence.at_hand(*read) for read in reads)

    def _coefficients(self, values: Iterable[float]) -> list[Tensor]:
        return [torch.tensor(list(values), dtype=torch.float32, device=self._residence.device)[:, None]]


def deliver(plan: Plan, out: Tensor) -> None:
    """Has a plan made, straight into its place if that is flat and of the stored dtype, else by way of a scratch."""
    if out.dim() != 1 or not out.is_contiguous():
        scratch = torch.empty(plan.size, dtype=plan.stored, device=out.device)
        deliver(plan, scratch)
        out.copy_(scratch.view(out.shape))
        return
    rounded = out.dtype == plan.stored
    step = plan.step if rounded else min(plan.step, max(1, CHUNK // plan.row) * plan.row)
    for start in range(0, plan.size, max(1, step)):
        stop = min(start + step, plan.size)
        place = out[start:stop] if rounded else torch.empty(stop - start, dtype=plan.stored, device=out.device)
        plan.fill(start, stop, place)
        if not rounded:
            out[start:stop].copy_(place)


def _summed(terms: Iterable[tuple[Key, float]]) -> dict[Key, float]:
    """The terms with equal keys added up, without those of coefficient 0."""
    found: dict[Key, float] = {}
    for key, coefficient in terms:
        found[key] = found.get(key, 0.0) + coefficient
    return {key: coefficient for key, coefficient in found.items() if coefficient != 0}


def _stacked(factors: Sequence[tuple[float, LowRank]]) -> LowRank | None:
    """The weighted sum of low-rank differences as one pair of factors; None if there are none."""
    if not factors:
        return None
    up = torch.cat([factor.up * (c * factor.scale) for c, factor in factors], dim=1)
    return LowRank(up=up, down=torch.cat([factor.down for _, factor in factors]), scale=1.0)
