"""The base and its fine-tunes as a run names them: opened, compared with each other, their vocabularies aligned."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automerge.alignment import differences, is_constant, place
from automerge.configurations import config_faults, config_of
from automerge.folders import resolve
from automerge.protocols import Source
from automerge.recipe import BASE
from automerge.sources.adapter import AdapterSource, is_adapter
from automerge.sources.checkpoint import CheckpointSource
from automerge.vocabulary.aligned_source import aligned, embedding_rows
from automerge.vocabulary.union import Vocabulary, unite

FLOATS = frozenset({"torch.float32", "torch.float64", "torch.bfloat16", "torch.float16"})
"""What weights can be stored in; integers are masks and tables, which are not merged."""


@dataclass(frozen=True)
class Family:
    """Sources with equal layouts, the base first; their folders by name; the vocabulary of merged models; the base's
    configuration with every key that its class has; whether code of their folders may run; and what may spoil a search,
    as messages.
    """

    sources: tuple[Source, ...]
    folders: Mapping[str, Path]
    vocabulary: Vocabulary
    config: Mapping[str, Any]
    trust_remote_code: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def base(self) -> Path:
        """The folder of the base."""
        return self.folders[BASE]

    @property
    def model_type(self) -> str:
        """The name of the base's architecture in `transformers`."""
        return str(self.config.get("model_type", ""))


def open_family(options: Mapping[str, Any], *, trust_remote_code: bool) -> Family:
    """The family that the `source` section of the settings names. Headers and tokenizers are read, not the weights.

    Raises ValueError with all faults of all sources, one a line after a dash.
    """
    revisions = options.get("revisions") or {}
    found: list[str] = []
    sources: dict[str, CheckpointSource | AdapterSource] = {}
    for name, path in {BASE: options["base"], **options["models"]}.items():
        try:
            sources[name] = _open(name, str(path), sources.get(BASE), revisions.get(name))
        except (ValueError, OSError) as fault:
            found.append(f"source {name!r}: {fault}")
            if name == BASE:
                break
    if found:
        raise ValueError(_listed(found))
    opened = list(sources.values())
    folders = {source.name: source.folder for source in opened}
    checkpoints = [source for source in opened if isinstance(source, CheckpointSource)]
    found += config_faults(checkpoints, trust_remote_code=trust_remote_code)
    try:
        vocabulary = unite(
            folders,
            {source.name: embedding_rows(source.shapes) for source in opened},
            chat_template=options.get("chat_template"),
            trust_remote_code=trust_remote_code,
        )
    except (ValueError, OSError) as fault:
        raise ValueError(_listed([*found, *differences(opened), str(fault)])) from fault
    found += [fault for source in opened for fault in _dtype_faults(source)]
    alike = aligned(opened, vocabulary)
    config = config_of(folders[BASE], trust_remote_code=trust_remote_code)
    found += [fault for source in checkpoints for fault in _depth_faults(source, config)]
    found += differences(alike)
    if found:
        raise ValueError(_listed(found))
    adapters = [source for source in opened if isinstance(source, AdapterSource)]
    warnings = (*_base_warnings(adapters, str(options["base"])), *vocabulary.warnings)
    return Family(tuple(alike), folders, vocabulary, config, trust_remote_code, warnings)


def _depth_faults(source: CheckpointSource, config: Mapping[str, Any]) -> list[str]:
    """A message if a checkpoint stores layers that the configuration does not count."""
    depth = config.get("num_hidden_layers")
    stored = {layer for name in source.shapes if (layer := place(name).layer) is not None}
    beyond = sorted(layer for layer in stored if isinstance(depth, int) and layer >= depth)
    if not beyond:
        return []
    return [
        f"source {source.name!r}: it stores layer {', '.join(map(str, beyond))} beyond the {depth} layers "
        "of its configuration, such as a predictor of further tokens, which transformers leaves out; load it once with "
        "transformers and save_pretrained it"
    ]


def _open(name: str, path: str, base: Source | None, revision: str | None) -> CheckpointSource | AdapterSource:
    folder = resolve(path, revision=revision)
    if not is_adapter(folder):
        return CheckpointSource(name, str(folder))
    if base is None:
        raise ValueError(f"{path} is a LoRA adapter; the base must be the checkpoint that it was trained on")
    return AdapterSource(name, str(folder), base=base)


def _base_warnings(adapters: Sequence[AdapterSource], base: str) -> list[str]:
    """A message for every adapter that was trained on a model of another name than the base's."""
    return [
        f"adapter {adapter.name!r} says that it was trained on {adapter.base_model}, and source.base is {base}; see "
        "that these are the same model, for on another its changes mean something else"
        for adapter in adapters
        if adapter.base_model and _last_part(adapter.base_model) != _last_part(base)
    ]


def _last_part(path: str) -> str:
    """The name of a model, whoever has quantised it for training."""
    name = path.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1].lower()
    return re.sub(r"(-unsloth)?-bnb-4bit$", "", name)


def _dtype_faults(source: Source) -> list[str]:
    merged = {name: str(source.dtypes[name]) for name, shape in source.shapes.items() if not is_constant(name, shape)}
    odd = [f"{name} is stored as {dtype}" for name, dtype in merged.items() if dtype not in FLOATS]
    if not odd:
        return []
    rest = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
    return [
        f"source {source.name!r}: {odd[0]}{rest}, expected one of {', '.join(sorted(FLOATS))}; dequantise the model "
        "first and save it in one of these"
    ]


def _listed(found: list[str]) -> str:
    return "\n".join(f"  - {fault}" for fault in found)
