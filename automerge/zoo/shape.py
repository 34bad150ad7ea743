"""The shape of a zoo: every model, adapter and uniform merge on every task's test items."""

from collections.abc import Iterator
from pathlib import Path

import torch
from peft import PeftModel
from rich.console import Console
from rich.table import Table
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from automerge.zoo.measure import accuracy, arithmetic, records

SCALES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MERGE_ITEMS = 250
Shape = dict[str, dict[str, float]]


def load(folder: Path) -> LlamaForCausalLM:
    """The saved model, its weights in float32."""
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.train(False)
    return model


def measure(out: Path, console: Console) -> Shape:
    """The accuracy of every model, adapter and uniform merge on every task, which it also prints.

    Models and adapters are measured on all test items, merges on the first MERGE_ITEMS of each task.
    """
    items = {file.parent.name: records(file) for file in sorted((out / "tasks").glob("*/test.jsonl"))}
    tokenizer = PreTrainedTokenizerFast.from_pretrained(out / "models" / "base")

    def scores(model: LlamaForCausalLM, most: int | None) -> dict[str, float]:
        return {task: round(accuracy(model, tokenizer, test[:most]), 4) for task, test in items.items()}

    shape = {name: scores(model, None) for name, model in _parents(out)}
    shape |= {name: scores(model, MERGE_ITEMS) for name, model in _merges(out)}
    table = Table("", *items, title="accuracy on the test items")
    for name, row in shape.items():
        table.add_row(name, *(f"{value:.3f}" for value in row.values()))
    console.print(table)
    return shape


def _parents(out: Path) -> Iterator[tuple[str, LlamaForCausalLM]]:
    for folder in sorted((out / "models").glob("*")):
        yield f"models/{folder.name}", load(folder)
    for folder in sorted((out / "adapters").glob("*")):
        adapted = PeftModel.from_pretrained(load(out / "models" / "base"), folder)
        yield f"adapters/{folder.name}", adapted.merge_and_unload()


def _merges(out: Path) -> Iterator[tuple[str, LlamaForCausalLM]]:
    base = load(out / "models" / "base")
    experts = {name: load(out / "models" / name) for name in ("sort", "reverse", "calc")}
    yield from _uniform(base, {name: experts[name] for name in ("sort", "reverse")})
    yield from _uniform(base, experts)


def _uniform(base: LlamaForCausalLM, experts: dict[str, LlamaForCausalLM]) -> Iterator[tuple[str, LlamaForCausalLM]]:
    origin = {name: weight.clone() for name, weight in base.state_dict().items()}
    others = [expert.state_dict() for expert in experts.values()]
    title = "+".join(experts)
    for name, scale in [("average", 1 / len(others)), *((f"{scale:.1f}", scale) for scale in SCALES)]:
        base.load_state_dict(arithmetic(origin, others, scale))
        yield f"{title} {name}", base
    base.load_state_dict(origin)
