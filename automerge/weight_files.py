"""Files of weights (safetensors), read and written; whatever goes wrong names the file and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The open file, memory-mapped. Raises OSError, also from within the block, where the file is no whole one."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as fault:
        raise OSError(
            f"{path} is no whole safetensors file ({fault}); copy or download it again (one of a few hundred bytes "
            "is a pointer of git-lfs: git lfs pull)"
        ) from fault


def save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes the tensors, which share no memory, into a file. Raises OSError if it cannot be written."""
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as fault:
        raise OSError(f"{path} could not be written ({fault}); free space there, or name another place") from fault
