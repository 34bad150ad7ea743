"""Weights that are tensors in memory already: another library's state dict, or one tensor to try a method on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class MemorySource:
    """Gives tensors by name. Holds them as they are given, without a copy."""

    def __init__(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        self.name = name
        self._tensors = tensors

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor by name."""
        return {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """Dtype of every tensor by name."""
        return {name: tensor.dtype for name, tensor in self._tensors.items()}

    def tensor(self, name: str) -> Tensor:
        """The tensor of that name. Raises KeyError for an unknown name."""
        self._refuse_unknown(name)
        return self._tensors[name]

    def low_rank(self, name: str) -> None:
        """None: every tensor is whole. Raises KeyError for an unknown name."""
        self._refuse_unknown(name)

    def _refuse_unknown(self, name: str) -> None:
        if name not in self._tensors:
            raise KeyError(f"source {self.name!r} has no tensor {name!r}; it has {len(self._tensors)} others")
