"""Formulas run over flat tensors: in one fused pass where compiling pays, else in pieces that stay in the cache.

Merging is bound by memory bandwidth: every input is read once and the result written once. `torch.compile` makes one
kernel a formula that does just this. On a CPU compiled and eager results are equal bit for bit, since both do the same
float32 arithmetic in the same order (on a GPU they were not compared yet; there products and sums may be rounded
together); a kernel takes a fixed number of inputs, and where a recipe has fewer, one of them is
given again with constants of 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from automerge.tensors.formulas import Constants, Formula
from automerge.tensors.magnitudes import PATTERN

Compile = Literal["auto", "always", "never"]

PAYS_FROM = 150_000_000
"""Parameters of a model from which compiling pays: below, a whole eager rewrite takes a fraction of a second."""

PIECE = {"cpu": 256 * PATTERN}
"""Entries of an eager piece, by type of device: on a CPU the float32 temporaries of a formula fit a core's cache."""

LARGE_PIECE = 128 * 256 * PATTERN
"""Entries of a piece elsewhere: enough that a GPU does not wait for calls, and temporaries of some 100 MB each."""

SMALL = 128 * PATTERN
"""Tensors of fewer entries are not worth a call of a compiled kernel."""


class Kernels:
    """Runs formulas. Holds the compiled ones, and why there are none (`why_eager`; None if there are)."""

    def __init__(self) -> None:
        self.why_eager: str | None = "nothing was compiled"
        self._compiled: dict[tuple[Formula, torch.dtype], dict[int, Any]] = {}

    def make(
        self,
        formula: Formula,
        base: Tensor,
        tensors: Sequence[Tensor],
        masks: Sequence[Tensor],
        constants: Sequence[Tensor],
    ) -> None:
        """Compiles the kernel of a formula by running it on an example: SMALL entries or more, of the usual dtype.

        The first takes some twenty seconds on a CPU, further ones a few; kernels are cached on disk. Where it cannot be
        done, as without a C++ compiler, everything stays eager and `why_eager` says why.
        """
        from torch._dynamo import mark_dynamic  # noqa: PLC0415 (takes seconds, and most runs stay eager)

        n = len(tensors)
        kernel = torch.compile(_writing(formula, f"{formula.__module__}_{n}"), fullgraph=True)
        place, *inputs = [_rows(tensor) for tensor in (torch.empty_like(base), base, *tensors, *masks)]
        for rows in (place, *inputs):
            # Any number of rows, each of the fixed length PATTERN: the inner loop then needs no bounds of its own.
            mark_dynamic(rows, 0)
        try:
            kernel(place, inputs[0], inputs[1 : 1 + n], inputs[1 + n :], list(constants))
        except RuntimeError as fault:
            self._compiled.clear()
            self.why_eager = f"compiling failed ({str(fault).strip().splitlines()[0]})"
        else:
            self._compiled.setdefault((formula, base.dtype), {})[len(tensors)] = kernel
            self.why_eager = None

    def run(
        self,
        formula: Formula,
        base: Tensor,
        tensors: Sequence[Tensor],
        masks: Sequence[Tensor],
        constants: Sequence[Tensor],
        *,
        out: Tensor,
        start: int = 0,
    ) -> None:
        """Writes the merged entries into `out`, rounded to its dtype; all are flat and of equal length.

        `start` is the position of the first entry in its tensor, by which rows of thresholds are laid.
        """
        n = out.numel()
        whole = n - n % PATTERN
        offset = start % PATTERN
        laid = [_laid(constant, offset) for constant in constants] if offset else list(constants)
        kernel = self._kernel(formula, whole, [out, base, *tensors])
        step = whole if kernel else PIECE.get(out.device.type, LARGE_PIECE)
        for first in range(0, whole, max(1, step)):
            last = min(first + step, whole)
            rows = [_rows(t if last - first == n else t[first:last]) for t in (out, base, *tensors, *masks)]
            inputs, bytes_ = rows[2 : 2 + len(tensors)], rows[2 + len(tensors) :]
            if kernel:
                kernel[1](rows[0], rows[1], *_padded(kernel[0], inputs, bytes_, laid))
            else:
                rows[0].copy_(formula(rows[1], inputs, bytes_, laid))
        if whole < n:
            tail = slice(whole, n)
            cut = [constant[..., : n - whole] if constant.shape[-1] == PATTERN else constant for constant in laid]
            rest = formula(base[tail][None], [t[tail][None] for t in tensors], [m[tail][None] for m in masks], cut)
            out[tail].copy_(rest[0])

    def _kernel(self, formula: Formula, n: int, tensors: Sequence[Tensor]) -> tuple[int, Any] | None:
        """The compiled kernel for these tensors and its number of inputs, if there is one and a call of it pays."""
        dtypes = {tensor.dtype for tensor in tensors}
        if n < SMALL or len(dtypes) > 1:
            return None
        made = self._compiled.get((formula, dtypes.pop()), {})
        fitting = [size for size in made if size >= len(tensors) - 2]
        return (min(fitting), made[min(fitting)]) if fitting else None


def _padded(
    n_inputs: int, tensors: list[Tensor], masks: list[Tensor], constants: list[Tensor]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The arguments of a kernel for more inputs than there are: one of them again, with constants of 0."""
    n = len(tensors)
    if n == n_inputs:
        return tensors, masks, constants
    kinds = [masks[first : first + n] for first in range(0, len(masks), n)]
    filled = [_filled(kind, n_inputs - n) for kind in kinds]
    widened = [pad(c, (0, 0, 0, n_inputs - n)) if c.dim() == 2 else c for c in constants]
    return _filled(tensors, n_inputs - n), [mask for kind in filled for mask in kind], widened


def on_device(constants: Constants, device: torch.device) -> list[Tensor]:
    """The constants as tensors with plain strides: a kernel is made for strides, even where they mean nothing."""
    plain = torch.contiguous_format
    return [torch.from_numpy(constant).clone(memory_format=plain).to(device) for constant in constants]


def _writing(formula: Formula, name: str) -> Callable[..., None]:
    """A function that writes the formula's result, of that name and with code of its own."""

    def write(out: Tensor, base: Tensor, tensors: list[Tensor], masks: list[Tensor], constants: list[Tensor]) -> None:
        out.copy_(formula(base, tensors, masks, constants))

    # The compiler keeps its kernels by code object, and gives up on one that has many.
    code = write.__code__.replace(co_name=name)
    return FunctionType(code, write.__globals__, name, None, write.__closure__)


def _rows(flat: Tensor) -> Tensor:
    return flat.view(-1, PATTERN)


def _laid(constant: Tensor, offset: int) -> Tensor:
    """Rows of thresholds as they lie over entries that begin at that offset in the pattern."""
    return constant.roll(-offset, dims=-1) if constant.shape[-1] == PATTERN else constant


def _filled(tensors: list[Tensor], n_missing: int) -> list[Tensor]:
    """The tensors and more of them, up to the number that a kernel takes; what is read twice comes from the cache."""
    # New views: the compiler treats the same object given twice as another program.
    return [*tensors, *(tensors[0].view(tensors[0].shape) for _ in range(n_missing))]
