"""Tiny models, tasks and members for tests: made on the spot, without network, in milliseconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from automerge.family import Family, open_family
from automerge.protocols import Likelihood
from automerge.recipe import BASE, Fusion, Input, uniform
from automerge.records import Result, Status, Trial

ALPHABET = "abcdefgh0123456789:;=+-,?\n"
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
N_LAYERS = 3


def make_tokenizer(extra: str = "") -> Any:
    """A character tokenizer over ALPHABET."""
    vocabulary = {"<pad>": 0, "<eos>": 1, **{c: i + 2 for i, c in enumerate(ALPHABET + extra)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))  # noqa: S106 (no password)
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")  # noqa: S106


def family_of(folders: Mapping[str, Path]) -> Family:
    """The folders of a base and its variants, opened as a run opens them."""
    models = {name: str(folder) for name, folder in folders.items() if name != BASE}
    return open_family({"base": str(folders[BASE]), "models": models}, trust_remote_code=False)


def make_model(folder: Path, *, kind: str = "llama", seed: int = 0, like: Path | None = None) -> Path:
    """A random model with tokenizer saved in bf16; with `like`, that model's weights plus small differences."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        **SIZES,
        "vocab_size": len(ALPHABET) + 2,
        "num_hidden_layers": N_LAYERS,
        "max_position_embeddings": 128,
    }
    ends: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    model: Any
    if kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(**sizes, **ends))
    else:
        model = Qwen2ForCausalLM(Qwen2Config(**sizes, **ends, tie_word_embeddings=True))
    if like is not None:
        base = type(model).from_pretrained(like, dtype=torch.float32)
        with torch.no_grad():
            for own, parent in zip(model.parameters(), base.parameters(), strict=True):
                own.copy_(parent + 0.3 * own)
    model.to(torch.bfloat16).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def with_new_token(
    folder: Path, like: Path, token: str, *, seed: int, kind: str = "llama", template: str | None = None
) -> Path:
    """A fine-tune with one more token and a row of its own for it."""
    make_model(folder, kind=kind, seed=seed, like=like)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([token], special_tokens=True)
    if template is not None:
        tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[-1] = seed
    model.save_pretrained(folder)
    return folder


def make_family(folder: Path, *, kind: str = "llama", names: Sequence[str] = ("left", "right")) -> dict[str, Path]:
    """A base and its variants, by name."""
    base = make_model(folder / BASE, kind=kind)
    others = {name: make_model(folder / name, kind=kind, seed=k + 1, like=base) for k, name in enumerate(names)}
    return {BASE: base, **others}


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """The rows as a JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def copy_rows(n: int, seed: int) -> list[dict[str, Any]]:
    """Items of a toy task: which of two letters comes first in the prompt."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        text = "".join(rng.choice(list("abcdefgh"), size=rng.integers(2, 9)))
        rows.append({"prompt": f"{seed}{text}=", "answer": text[0], "choices": [text[0], text[-1]], "label": 0})
    return rows


def fused(method: str, *weights: tuple[str, float], **parameters: float) -> Fusion:
    """A fusion with these weighted sources."""
    return Fusion(method, tuple(Input(name, None, weight) for name, weight in weights), tuple(parameters.items()))


SOURCE_RECIPE = uniform(fused("passthrough", ("left", 1.0)), N_LAYERS)


class ToyModel:
    """A language model by rule: greedy decoding writes the prompt's letters in order, then a newline."""

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """The continuation that the rule would write is certain, others the likelier the fewer letters differ."""
        answers = []
        for prompt, continuation in pairs:
            truth = self._rule(prompt)
            wrong = sum(a != b for a, b in zip(continuation, truth, strict=False))
            answers.append(Likelihood(-float(wrong), len(continuation), truth.startswith(continuation)))
        return answers

    def generate(self, prompts: Sequence[str], *, stop: Sequence[str], max_new_tokens: int) -> list[str]:
        """The rule's text, cut."""
        texts = [self._rule(prompt)[:max_new_tokens] for prompt in prompts]
        return [text.split(stop[0])[0] if stop else text for text in texts]

    def _rule(self, prompt: str) -> str:
        return "".join(sorted(c for c in prompt if c.isalpha())) + "\n"


def trial(
    number: int,
    genotype: NDArray[np.float64],
    scores: dict[str, tuple[int, float]],
    status: Status = "ok",
    *,
    origin: Mapping[str, Any] | None = None,
    costs: Mapping[str, float] | None = None,
) -> Trial:
    """A trial with these (n, total) by task."""
    return Trial(
        id=number,
        genotype=genotype,
        recipe=SOURCE_RECIPE,
        origin=origin or {"operator": "sample"},
        status=status,
        results={task: Result(n, total) for task, (n, total) in scores.items()},
        costs=costs or {"layers": 3.0},
    )
