"""LoRA as PEFT stores it: settings, names of tensors, and how their factors lie.

An adapter folder holds `adapter_config.json` and `adapter_model.safetensors`. A module `q_proj` of the live model is
changed by two factors, A of shape (r, n_in) and B of shape (n_out, r), under names such as
`base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What PEFT puts before the names of the live model."""

MERGE_FIRST = "merge it first with peft's merge_and_unload, save_pretrained it, and give that folder as a checkpoint"

Layout = Literal["linear", "conv1d", "embedding"]
"""How the product lies in the weight: B A in `linear`, its transpose in a Conv1D of GPT-2 and in an embedding."""

Role = Literal["A", "B", "embedding_A", "embedding_B", "B_bias", "replaced", "plain", "copy", "original"]
"""What a stored tensor is: a factor, the bias of factor B, the weight under the factors, a tensor stored whole, and
beside that its second copy and its value before training, which PEFT saves with resized embeddings and never uses."""

NAMES: tuple[tuple[Role, str], ...] = (
    ("A", r"(?P<module>.+)\.lora_A\.(?P<parameter>weight)"),
    ("B", r"(?P<module>.+)\.lora_B\.(?P<parameter>weight)"),
    ("B_bias", r"(?P<module>.+)\.lora_B\.(?P<parameter>bias)"),
    ("embedding_A", r"(?P<module>.+)\.lora_embedding_A(?P<parameter>)"),
    ("embedding_B", r"(?P<module>.+)\.lora_embedding_B(?P<parameter>)"),
    ("copy", r"(?P<module>.+)\.modules_to_save\.(?P<parameter>\w+)"),
    ("original", r"(?P<module>.+)\.original_module\.(?P<parameter>\w+)"),
    ("replaced", r"(?P<module>.+)\.base_layer\.(?P<parameter>\w+)"),
    ("plain", r"(?P<module>.+)\.(?P<parameter>\w+)"),
)

UNCHANGED_BASE = (True, False, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` after which the base's weights are those of the checkpoint."""

NEUTRAL = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_bias",
        "lora_dropout",
        "megatron_core",
        "modules_to_save",
        "peft_version",
        "qalora_group_size",
        "revision",
        "target_modules",
        "task_type",
    }
)
"""Options that say how to train or where to attach; what came of them is in the stored tensors."""

READ = frozenset(
    {
        "alpha_pattern",
        "fan_in_fan_out",
        "init_lora_weights",
        "lora_alpha",
        "peft_type",
        "r",
        "rank_pattern",
        "use_rslora",
    }
)
"""Options that `read_settings` takes up."""

REASONS: Mapping[str, str] = {
    "use_dora": f"DoRA (use_dora) rescales weights by learnt norms, so its change is not of low rank; {MERGE_FIRST}",
    "target_parameters": f"target_parameters (such as experts of a mixture) are not read; {MERGE_FIRST}",
    "trainable_token_indices": f"trainable_token_indices (single rows of the embedding) are not read; {MERGE_FIRST}",
    "alora_invocation_tokens": "aLoRA (alora_invocation_tokens) acts only after certain tokens, so it is no change of "
    "weights and cannot be merged; leave it out or train a plain LoRA",
    "layer_replication": "layer_replication makes a model deeper than the base, which cannot be merged with it; "
    "leave it out",
}
"""Why options that change what an adapter means are refused."""


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """What the configuration of an adapter says about its products.

    `base_model` is the `base_model_name_or_path` that it was trained on, None if the file tells none.
    """

    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rslora: bool
    fan_in_fan_out: bool
    base_model: str | None

    def rank_of(self, module: str) -> int:
        """The rank of a module's factors."""
        return int(_matching(self.rank_pattern, module, self.rank))

    def scale_of(self, module: str) -> float:
        """What the product of a module's factors is multiplied by: alpha / r, or alpha / sqrt(r) under rsLoRA."""
        rank = self.rank_of(module)
        return _matching(self.alpha_pattern, module, self.alpha) / (math.sqrt(rank) if self.rslora else rank)


class Part(NamedTuple):
    """Which parameter of the live model a stored tensor is about, and what it is to it."""

    module: str
    parameter: str
    role: Role


def part(key: str) -> Part | None:
    """What the name of a stored tensor says, None if it is no name that PEFT gives."""
    if not key.startswith(PREFIX):
        return None
    for role, pattern in NAMES:
        if match := re.fullmatch(pattern, key.removeprefix(PREFIX)):
            return Part(match["module"], match["parameter"] or "weight", role)
    return None


def factor_names(module: str, layout: Layout) -> tuple[str, str]:
    """The names under which PEFT stores A and B of a module."""
    stem = f"{PREFIX}{module}.lora"
    if layout == "embedding":
        return f"{stem}_embedding_A", f"{stem}_embedding_B"
    return f"{stem}_A.weight", f"{stem}_B.weight"


def swap(one: Tensor, other: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """(up, down) of factors (A, B), or the reverse: up down = B A, or (B A)' = A' B' where it lies transposed."""
    return (other, one) if layout == "linear" else (one.T, other.T)


def read_settings(folder: Path) -> tuple[LoraSettings, list[str]]:
    """The settings of an adapter, and every reason why its configuration cannot be read as products, as sentences.

    Raises FileNotFoundError without a configuration, ValueError if it is no JSON object.
    """
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG}; give a folder that PeftModel.save_pretrained wrote")
    try:
        config = json.loads((folder / CONFIG).read_text())
    except json.JSONDecodeError as fault:
        raise ValueError(f"{folder / CONFIG} is no JSON ({fault}); save the adapter again with peft") from fault
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG} is no JSON object; save the adapter again with peft")
    settings = LoraSettings(
        rank=int(config.get("r") or 0),
        alpha=float(config.get("lora_alpha") or 0.0),
        rank_pattern=config.get("rank_pattern") or {},
        alpha_pattern=config.get("alpha_pattern") or {},
        rslora=bool(config.get("use_rslora")),
        fan_in_fan_out=bool(config.get("fan_in_fan_out")),
        base_model=config.get("base_model_name_or_path") or None,
    )
    return settings, _faults(config)


def _faults(config: Mapping[str, Any]) -> list[str]:
    if config.get("peft_type") != "LORA":
        return [f"its peft_type is {config.get('peft_type')}, expected LORA; if peft can merge its kind, {MERGE_FIRST}"]
    faults = [reason for option, reason in REASONS.items() if config.get(option)]
    if not config.get("r") or not config.get("lora_alpha"):
        faults.append(f"expected r and lora_alpha above 0, got {config.get('r')} and {config.get('lora_alpha')}")
    start = config.get("init_lora_weights", True)
    if start not in UNCHANGED_BASE:
        faults.append(
            f"init_lora_weights={start!r} may have changed the base's weights before training; {MERGE_FIRST}, or save "
            "the adapter again with path_initial_model_for_weight_conversion"
        )
    unknown = sorted(key for key, value in config.items() if value and key not in NEUTRAL | READ | REASONS.keys())
    faults += [f"{key}={config[key]!r} is an option whose meaning is not known here; {MERGE_FIRST}" for key in unknown]
    return faults


def _matching(patterns: Mapping[str, float], module: str, default: float) -> float:
    # The first pattern that matches decides, as in peft.
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default
