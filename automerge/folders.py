"""Model folders: where they are, and what the headers of their safetensors tell."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from automerge.weight_files import opened

FILES = ["*.safetensors", "*.json", "tokenizer*", "*.model", "*.tiktoken", "*.txt", "*.jinja", "*.py"]
"""What is fetched from the hub; code runs only under `trust_remote_code`."""

TOKENIZERS = (
    "*.model",
    "*.tiktoken",
    "tekken.json",
    "tokenizer*",
    "special_tokens_map.json",
    "vocab*",
    "merges*",
    "added_tokens.json",
    "chat_template*",
    "additional_chat_templates",
)
"""Files of a tokenizer."""

COMPANIONS = ("config.json", "generation_config.json", "adapter_config.json", "*.py", *TOKENIZERS)
"""Files beside the weights that say how a model computes and reads."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""How safetensors headers name dtypes."""


class Header(NamedTuple):
    """What is known of a stored tensor without loading it."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def headers(path: Path) -> dict[str, Header]:
    """Shape and dtype of every tensor in a safetensors file.

    Raises ValueError for a dtype that torch lacks, OSError for a damaged file.
    """
    found = {}
    with opened(path) as file:
        for name in file.keys():  # noqa: SIM118 (no mapping)
            view = file.get_slice(name)
            if view.get_dtype() not in DTYPES:
                raise ValueError(
                    f"{path}: {name} is stored as {view.get_dtype()}, expected one of {', '.join(DTYPES)}; "
                    "save the model in a floating-point dtype"
                )
            found[name] = Header(tuple(view.get_shape()), DTYPES[view.get_dtype()])
    return found


def companions(folder: Path) -> str:
    """The first 16 hex digits of a SHA-256 over the names and bytes of the files beside a model's weights."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in COMPANIONS for file in folder.glob(pattern) if file.is_file()}):
        digest.update(file.name.encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


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
