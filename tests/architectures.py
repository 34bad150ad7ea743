"""Tiny random models of many decoder families, as the hub would hold them, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    Glm4MoeConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OPTConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from tests.toy import ALPHABET, make_tokenizer

N_LAYERS = 2
N_EXPERTS = 4
POSITIONS = 64
WINDOW = 8
"""Shorter than most texts of the tests, so that sliding attention differs from full attention."""

FAMILIES = [
    (name, tied)
    for name in (
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "gemma2",
        "gemma3",
        "phi3",
        "gpt2",
        "opt",
        "mixtral",
        "qwen3_moe",
        "glm4_moe",
    )
    for tied in (False, True)
]


def make(
    folder: Path, family: str, *, tied: bool = False, seed: int = 0, like: Path | None = None, **changes: Any
) -> Path:
    """A random model with the toy tokenizer saved in bf16; with `like`, that model's weights plus small differences.

    `changes` are keys of the family's configuration.
    """
    torch.manual_seed(seed)
    model = build(configuration(family, tied=tied, **changes))
    with torch.no_grad():
        stored = model.state_dict()
        for parameter in (*model.parameters(), *(b for name, b in model.named_buffers() if name in stored)):
            # Norms and biases start as constants; no two tensors shall be equal.
            parameter.add_(0.2 * torch.randn_like(parameter))
        if like is not None:
            base = load(like)
            seen: set[int] = set()
            for name, parent in base.state_dict().items():
                if parent.data_ptr() not in seen:
                    seen.add(parent.data_ptr())
                    stored[name].copy_(parent + 0.3 * stored[name])
    model.to(torch.bfloat16).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def build(configuration: PretrainedConfig) -> Any:
    """A random model of that configuration, ready to be asked."""
    auto: Any = AutoModelForCausalLM
    return auto.from_config(configuration, dtype=torch.float32).eval()


def load(folder: Path) -> Any:
    """The model of a folder as plain transformers loads it, in float32."""
    auto: Any = AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=torch.float32).eval()


def configuration(family: str, *, tied: bool = False, **changes: Any) -> PretrainedConfig:
    """The configuration of a tiny model of that family."""
    common: dict[str, Any] = {
        "vocab_size": len(ALPHABET) + 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": None,
        "tie_word_embeddings": tied,
    }
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": POSITIONS,
    }
    experts: dict[str, Any] = {"num_experts_per_tok": 2}
    mixed: dict[str, Any] = {
        "head_dim": 8,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention"],
    }
    known: dict[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
        "llama": (LlamaConfig, sizes),
        "mistral": (MistralConfig, {**sizes, "sliding_window": WINDOW}),
        "qwen2": (Qwen2Config, sizes),
        "qwen3": (Qwen3Config, {**sizes, "head_dim": 8}),
        "gemma2": (Gemma2Config, {**sizes, **mixed, "query_pre_attn_scalar": 8}),
        "gemma3": (Gemma3TextConfig, {**sizes, **mixed, "query_pre_attn_scalar": 8}),
        "phi3": (Phi3Config, {**sizes, "original_max_position_embeddings": POSITIONS}),
        "gpt2": (GPT2Config, {"n_embd": 16, "n_layer": N_LAYERS, "n_head": 2, "n_positions": POSITIONS}),
        "opt": (
            OPTConfig,
            {
                "hidden_size": 16,
                "word_embed_proj_dim": 16,
                "ffn_dim": 24,
                "num_hidden_layers": N_LAYERS,
                "num_attention_heads": 2,
                "max_position_embeddings": POSITIONS,
            },
        ),
        "mixtral": (MixtralConfig, {**sizes, **experts, "num_local_experts": N_EXPERTS}),
        "qwen3_moe": (
            Qwen3MoeConfig,
            {**sizes, **experts, "num_experts": N_EXPERTS, "moe_intermediate_size": 12, "head_dim": 8},
        ),
        "glm4_moe": (
            Glm4MoeConfig,
            {
                **sizes,
                **experts,
                "n_routed_experts": N_EXPERTS,
                "moe_intermediate_size": 12,
                "head_dim": 8,
                "first_k_dense_replace": 0,
            },
        ),
    }
    kind, specific = known[family]
    return kind(**{**common, **specific, **changes})
