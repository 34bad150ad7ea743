"""The configurations of sources: in what they may differ, since merged models run with the base's."""

from __future__ import annotations

from collections.abc import Sequence
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
)
"""Keys of a model's configuration in which fine-tunes may differ without being another model."""


def config_faults(sources: Sequence[CheckpointSource], *, trust_remote_code: bool) -> list[str]:
    """A message for every source whose configuration differs from the base's in what its weights were trained for.

    Merged models run with the base's configuration; equal shapes do not show another rope or another number of heads.
    """
    configs: dict[str, dict[str, Any]] = {}
    for source in sources:
        try:
            configs[source.name] = config_of(source.folder, trust_remote_code=trust_remote_code)
        except (ValueError, OSError) as fault:
            return [f"source {source.name!r}: its config.json does not load: {fault}"]
    base = configs[BASE]
    found = []
    for name, config in configs.items():
        unequal = [
            f"{key} {config.get(key)!r} instead of {base.get(key)!r}"
            for key in sorted({*base, *config})
            if config.get(key) != base.get(key) and not _may_differ(key)
        ]
        if unequal:
            found.append(
                f"source {name!r} was trained with another configuration than the base: {'; '.join(unequal)}; "
                "use fine-tunes of this base, or change the source's config.json if you know that it does not matter"
            )
    return found


def config_of(folder: Path, *, trust_remote_code: bool) -> dict[str, Any]:
    """The configuration of a model with every key that its class has.

    Raises ValueError or OSError, as transformers does, for a config.json that is none.
    """
    from transformers import AutoConfig  # noqa: PLC0415 (slow to import)

    loaded: dict[str, Any] = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code).to_dict()
    return loaded


def _may_differ(key: str) -> bool:
    return key in UNLIKE or key.startswith("_") or key.endswith(("dropout", "token_id", "_name", "pdrop"))
