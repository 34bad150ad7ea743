"""A Hugging Face checkpoint (a local folder or a hub id) whose safetensors are read tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import safe_open
from torch import Tensor

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


FILES = ["*.safetensors", "*.json", "tokenizer*", "*.model", "*.txt", "*.jinja", "*.py"]
"""What is fetched from the hub; code runs only under `trust_remote_code`."""


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
        shapes: dict[str, tuple[int, ...]] = {}
        for path in sorted(set(self._files.values())):
            with safe_open(path, framework="pt") as file:
                shapes.update({name: tuple(file.get_slice(name).get_shape()) for name in file.keys()})  # noqa: SIM118 (no mapping)
        return shapes

    def tensor(self, name: str) -> Tensor:
        """The tensor of that name in its stored dtype, on the CPU. Raises KeyError for an unknown name."""
        if name not in self._files:
            raise KeyError(f"source {self.name!r} has no tensor {name!r}; it has {len(self._files)} others")
        with safe_open(self._files[name], framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor


def resolve(path: str, *, revision: str | None = None) -> Path:
    """The local folder of a model: the path itself, or the downloaded snapshot of a hub id.

    Raises FileNotFoundError if it is neither a folder nor to be had from the hub.
    """
    local = Path(path).expanduser()
    if local.is_dir():
        return local.resolve()
    if local.is_absolute() or path.startswith((".", "~")):
        raise FileNotFoundError(f"no model folder at {local}; give an existing folder or a hub id such as org/name")
    try:
        snapshot = snapshot_download(path, revision=revision, allow_patterns=FILES, ignore_patterns=["consolidated*"])
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as fault:
        raise FileNotFoundError(
            f"{path!r} is no local folder, and the hub did not give it ({type(fault).__name__}: {fault}); "
            "check the spelling, the network, or `hf auth login` for a gated model"
        ) from fault
    return Path(snapshot)


def _tensor_files(folder: Path) -> dict[str, Path]:
    if (folder / INDEX).is_file():
        weight_map: dict[str, str] = json.loads((folder / INDEX).read_text())["weight_map"]
        missing = sorted({file for file in weight_map.values() if not (folder / file).is_file()})
        if missing:
            raise FileNotFoundError(f"{folder}: {INDEX} names files that are missing: {', '.join(missing)}; copy them")
        return {name: folder / file for name, file in weight_map.items()}
    if (folder / SINGLE).is_file():
        with safe_open(folder / SINGLE, framework="pt") as file:
            return dict.fromkeys(file.keys(), folder / SINGLE)
    pickled = sorted(path.name for path in folder.glob("*.bin")) + sorted(path.name for path in folder.glob("*.pt"))
    found = f"it has {', '.join(pickled)}, which are pickles and never opened" if pickled else "it has no weights"
    raise FileNotFoundError(
        f"{folder}: expected {SINGLE} or {INDEX}, but {found}; "
        "load the model once with transformers and save_pretrained it as safetensors"
    )
