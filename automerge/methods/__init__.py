"""Merging methods, one a file: pure functions from tensors to a tensor.

`load` finds a method by the name that recipes use, which is the name of its module.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from automerge.protocols import Method


@cache
def names() -> tuple[str, ...]:
    """Names of all methods in this folder."""
    return tuple(sorted(module.name for module in iter_modules(__path__)))


@cache
def load(name: str) -> Method:
    """The method of that name. Raises ValueError naming the known ones."""
    if name not in names():
        raise ValueError(f"unknown merging method {name!r}; known are {', '.join(names())}")
    method: Method = import_module(f"{__name__}.{name}").METHOD
    return method
