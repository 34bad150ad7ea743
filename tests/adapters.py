"""Adapters for tests, made by `peft` itself, and what `peft` makes of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from automerge.sources.adapter import AdapterSource
from automerge.sources.checkpoint import CheckpointSource

TOKENS = torch.arange(2, 22).reshape(2, 10)


def load(folder: Path) -> Any:
    """The model of a folder in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def make_gpt2(folder: Path, *, tied: bool = True, seed: int = 0) -> Path:
    """A random GPT-2, whose layers hold Conv1D weights and whose attention outputs are square."""
    torch.manual_seed(seed)
    ends: dict[str, Any] = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    config = GPT2Config(vocab_size=28, n_embd=16, n_layer=2, n_head=2, n_positions=64, tie_word_embeddings=tied, **ends)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def renamed(file: Path, to: Path, *renamings: Callable[[str], str]) -> None:
    """A copy of a safetensors file with every tensor under each of its new names."""
    tensors = load_file(file)
    to.parent.mkdir(exist_ok=True)
    copies = {rename(name): tensor.clone() for rename in renamings for name, tensor in tensors.items()}
    save_file(copies, to, metadata={"format": "pt"})


def renamed_model(base: Path, folder: Path, *renamings: Callable[[str], str]) -> Path:
    """The weights of a base under each of these names."""
    renamed(base / "model.safetensors", folder / "model.safetensors", *renamings)
    return folder


def make_adapter(base: Path, folder: Path, *, seed: int = 1, resize: int | None = None, **options: Any) -> Path:
    """An adapter with random factors, and noise in all else that it trains, saved by peft."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load(base)
        if resize is not None:
            model.resize_token_embeddings(resize)
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.2 * torch.randn_like(parameter))
        model.save_pretrained(str(folder))
    return folder


def load_adapter(base: Path, folder: Path, *, resize: int | None = None) -> Any:
    """The base with the adapter on it, as peft loads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load(base)
        if resize is not None:
            model.resize_token_embeddings(resize)
        return PeftModel.from_pretrained(model, folder).eval()


def merged(base: Path, folder: Path, *, resize: int | None = None) -> dict[str, Tensor]:
    """All tensors of the base after peft merged the adapter into it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state: dict[str, Tensor] = load_adapter(base, folder, resize=resize).merge_and_unload().state_dict()
    return state


def source(base: Path, folder: Path, name: str = "adapter") -> AdapterSource:
    """The adapter as a source on its base."""
    return AdapterSource(name, str(folder), base=CheckpointSource("base", str(base)))


def logits(model: Any) -> Tensor:
    """What a model answers to TOKENS."""
    with torch.no_grad():
        answer: Tensor = model.eval()(TOKENS).logits
    return answer
