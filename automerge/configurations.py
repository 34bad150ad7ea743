"""The configurations of sources: in what they may differ, since merged models run with the base's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from automerge.recipe import BASE
from automerge.sources.checkpoint import CheckpointSource

UNLIKE = (
    "vocab_size",
    "max_position_embeddings",
    "max_window_layers",
    "transformers_version",
    "use_cache",
    "dtype",
    "torch_dtype",
    "initializer_range",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "problem_type",
    "id2label",
    "label2id",
)
"""Keys of a model's configuration in which fine-tunes may differ without being another model."""

UNDECLARED = {"quantization_config": None, "is_causal": True}
"""Keys that matter although few classes of configurations declare them, and what it means that they are not there."""


def config_faults(sources: Sequence[CheckpointSource], *, trust_remote_code: bool) -> list[str]:
    """A message for every source whose configuration differs from the base's in what its weights were trained for.

    Merged models run with the base's configuration; equal shapes do not show another rope or another number of heads.
    Keys that the class of the configuration does not declare are notes of the tools that wrote it, but for UNDECLARED.
    """
    configs: dict[str, dict[str, Any]] = {}
    for source in sources:
        try:
            configs[source.name] = config_of(source.folder, trust_remote_code=trust_remote_code)
        except (ValueError, OSError) as fault:
            return [f"source {source.name!r}: its config.json does not load: {fault}"]
    base = configs[BASE]
    declared = _declared(base)
    found = []
    for name, config in configs.items():
        unequal = [
            f"{key} {config.get(key)!r} instead of {base.get(key)!r}"
            for key in sorted({*base, *config})
            if (declared is None or key in declared or key in UNDECLARED)
            and not _may_differ(key)
            and config.get(key, UNDECLARED.get(key)) != base.get(key, UNDECLARED.get(key))
        ]
        if unequal:
            found.append(
                f"source {name!r} was trained with another configuration than the base: {'; '.join(unequal)}; "
                "use fine-tunes of this base, or change the source's config.json if you know that it does not matter"
            )
    return found


def config_of(folder: Path, *, trust_remote_code: bool) -> dict[str, Any]:
    """The configuration of a model with every key that its class has.

    Raises ValueError or OSError for a config.json that is none, or that holds what its class does not take.
    """
    from huggingface_hub.errors import StrictDataclassError  # noqa: PLC0415
    from transformers import AutoConfig  # noqa: PLC0415 (slow to import)

    try:
        loaded: dict[str, Any] = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code).to_dict()
    except StrictDataclassError as fault:
        raise ValueError(str(fault)) from fault
    return loaded


def _declared(config: Mapping[str, Any]) -> frozenset[str] | None:
    """The keys that configurations of this type have by their class; None for one with code of its own."""
    from transformers import AutoConfig  # noqa: PLC0415 (slow to import)

    if "auto_map" in config:
        return None
    try:
        return frozenset(AutoConfig.for_model(str(config.get("model_type"))).to_dict())
    except ValueError:
        return None


def _may_differ(key: str) -> bool:
    return key in UNLIKE or key.startswith("_") or key.endswith(("dropout", "token_id", "_name", "pdrop"))
