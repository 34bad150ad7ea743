"""A Hugging Face checkpoint (a local folder or a hub id) whose safetensors are read tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from automerge.folders import Header, headers, resolve
from automerge.protocols import LowRank
from automerge.weight_files import opened

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


class CheckpointSource:
    """Reads the weights of one model folder; nothing is kept in memory.

    `path` is a local folder or a hub id (`revision` pins it). Pickled weights are refused.
    """

    def __init__(self, name: str, path: str, *, revision: str | None = None) -> None:
        self.name = name
        self.folder = resolve(path, revision=revision)
        self._files = _tensor_files(self.folder)

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor by name, read from the headers alone."""
        return {name: header.shape for name, header in self._headers.items()}

    @cached_property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """Stored dtype of every tensor by name, read from the headers alone."""
        return {name: header.dtype for name, header in self._headers.items()}

    def tensor(self, name: str) -> Tensor:
        """The tensor of that name in its stored dtype, on the CPU. Raises KeyError for an unknown name."""
        self._refuse_unknown(name)
        with opened(self._files[name]) as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor

    def low_rank(self, name: str) -> LowRank | None:
        """None: every tensor is stored whole. Raises KeyError for an unknown name."""
        self._refuse_unknown(name)
        return None

    @cached_property
    def _headers(self) -> dict[str, Header]:
        found: dict[str, Header] = {}
        for path in sorted(set(self._files.values())):
            found.update({name: header for name, header in headers(path).items() if self._files.get(name) == path})
        if absent := sorted(self._files.keys() - found.keys()):
            raise ValueError(
                f"{self.folder}: {INDEX} names tensors that its files do not hold: {', '.join(absent[:4])}; copy or "
                "download the folder again"
            )
        return found

    def _refuse_unknown(self, name: str) -> None:
        if name not in self._files:
            raise KeyError(f"source {self.name!r} has no tensor {name!r}; it has {len(self._files)} others")


def _tensor_files(folder: Path) -> dict[str, Path]:
    """The file of every tensor by name: one file comes before an index, as in `transformers`.

    Weights that were saved again as one file leave the old index behind.
    """
    if (folder / SINGLE).is_file():
        with opened(folder / SINGLE) as file:
            return dict.fromkeys(file.keys(), folder / SINGLE)
    if (folder / INDEX).is_file():
        weight_map: dict[str, str] = json.loads((folder / INDEX).read_text())["weight_map"]
        missing = sorted({file for file in weight_map.values() if not (folder / file).is_file()})
        if missing:
            raise FileNotFoundError(f"{folder}: {INDEX} names files that are missing: {', '.join(missing)}; copy them")
        return {name: folder / file for name, file in weight_map.items()}
    pickled = sorted(path.name for path in folder.glob("*.bin")) + sorted(path.name for path in folder.glob("*.pt"))
    found = f"it has {', '.join(pickled)}, which are pickles and never opened" if pickled else "it has no weights"
    raise FileNotFoundError(
        f"{folder}: expected {SINGLE} or {INDEX}, but {found}; "
        "load the model once with transformers and save_pretrained it as safetensors"
    )
