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
    "initializer_range",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "problem_type",
    "id2label",
    "label2id",
)
"""Keys of a model's configuration in which fine-tunes may differ without being another model."""

FOREIGN = ("quantization_config",)
"""Keys that no class of configurations declares and that matter all the same."""


def config_faults(sources: Sequence[CheckpointSource], *, trust_remote_code: bool) -> list[str]:
    """A message for every source whose configuration differs from the base's in what its weights were trained for.

    Merged models run with the base's configuration; equal shapes do not show another rope or another number of heads.
    Keys that the class of the configuration does not declare are notes of the tools that wrote it, which no model of
    `transformers` reads; and what is false is as good as not there.
    """
    configs: dict[str, dict[str, Any]] = {}
    for source in sources:
        try:
            configs[source.name] = config_of(source.folder, trust_remote_code=trust_remote_code)
        except (ValueError, OSError) as fault:
            return [f"source {source.name!r}: its config.json does not load: {fault}"]
    base = configs[BASE]
    declared = _declared(str(base.get("model_type")))
    found = []
    for name, config in configs.items():
        unequal = [
            f"{key} {config.get(key)!r} instead of {base.get(key)!r}"
            for key in sorted({*base, *config})
            if (declared is None or key in declared or key in FOREIGN)
            and not _may_differ(key)
            and _said(config.get(key)) != _said(base.get(key))
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


def _declared(model_type: str) -> frozenset[str] | None:
    """The keys that the configurations of this type have by their class; None for a type with code of its own."""
    from transformers import AutoConfig  # noqa: PLC0415 (slow to import)

    try:
        return frozenset(AutoConfig.for_model(model_type).to_dict())
    except ValueError:
        return None


def _said(value: Any) -> Any:
    return None if value is False else value


def _may_differ(key: str) -> bool:
    return key in UNLIKE or key.startswith("_") or key.endswith(("dropout", "token_id", "_name", "pdrop"))
