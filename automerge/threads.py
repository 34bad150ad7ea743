"""PyTorch and NumPy on one thread for a while: with other numbers of threads sums are rounded otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """Has PyTorch and the BLAS of NumPy and SciPy compute on one thread in this block, or as a decorator in a function.

    What an optimizer chooses must not depend on `model.threads` or on the number of processors, or a run could not go
    on under others. Its matrices are small besides: with more threads they took longer.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _libraries().limit(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@cache
def _libraries() -> ThreadpoolController:
    """The libraries of this process that have threads of their own; to find them takes milliseconds."""
    return ThreadpoolController()
