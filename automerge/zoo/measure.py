"""Scores models on the zoo's tasks with plain transformers."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, LlamaForCausalLM, PreTrainedTokenizerFast

from automerge.zoo.tokenizer import STOP

Record = dict[str, Any]
Weights = Mapping[str, torch.Tensor]


def records(file: Path) -> list[Record]:
    """The items of a task file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def accuracy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, items: Sequence[Record]) -> float:
    """The share of items the model answers rightly.

    With choices: the likeliest choice is the labelled one. With a solution: the text after the last
    ";" of the greedy continuation is the answer. Otherwise: the greedy continuation is the answer.
    """
    ordered = sorted(items, key=lambda item: len(item["prompt"]))
    right = 0
    for _, same in groupby(ordered, key=lambda item: len(item["prompt"])):
        group = list(same)
        right += (_chosen if "choices" in group[0] else _written)(model, tokenizer, group)
    return right / len(items)


@torch.inference_mode()
def _chosen(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, group: list[Record]) -> int:
    """How many items of one prompt length have the labelled choice, one token each, as the likeliest."""
    prompts = torch.tensor(_numbers(tokenizer, group))
    choices = torch.tensor([tokenizer.convert_tokens_to_ids(item["choices"]) for item in group])
    logits = model(input_ids=prompts, use_cache=False).logits[:, -1]
    labels = torch.tensor([item["label"] for item in group])
    return int((logits.gather(1, choices).argmax(1) == labels).sum())


def _written(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, group: list[Record]) -> int:
    """How many items of one prompt length have the right answer in their greedy continuation."""
    prompts = torch.tensor(_numbers(tokenizer, group))
    longest = max(len(str(item.get("solution") or item["answer"])) for item in group)
    texts = tokenizer.batch_decode(continued(model, prompts, longest + 1).tolist())
    return sum(_right(text, item) for text, item in zip(texts, group, strict=True))


def _numbers(tokenizer: PreTrainedTokenizerFast, group: list[Record]) -> list[list[int]]:
    return [tokenizer.encode(item["prompt"]) for item in group]


@torch.inference_mode()
def continued(model: LlamaForCausalLM, prompts: torch.Tensor, length: int) -> torch.Tensor:
    """The given number of tokens that continue each prompt greedily."""
    cache, last, written = DynamicCache(), prompts, []
    for _ in range(length):
        logits = model(input_ids=last, past_key_values=cache, use_cache=True).logits
        last = logits[:, -1:].argmax(-1)
        written.append(last)
    return torch.cat(written, 1)


def _right(text: str, item: Record) -> bool:
    line, stop, _ = text.partition(STOP)
    _, mark, answer = line.rpartition(";")
    if "solution" in item and not mark:
        return False
    return bool(stop) and (answer if mark and "solution" in item else line) == str(item["answer"])


def arithmetic(base: Weights, experts: Sequence[Weights], scale: float) -> dict[str, torch.Tensor]:
    """The base plus the sum of the experts' differences from it, all at one scale.

    The scale 1 / len(experts) gives the linear average of the experts.
    """
    return {
        name: weight + scale * sum((expert[name] - weight for expert in experts), torch.zeros_like(weight))
        for name, weight in base.items()
    }
