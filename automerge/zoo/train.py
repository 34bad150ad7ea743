"""Trains the zoo from its seed, writes it, measures it: python -m automerge.zoo.train."""

import argparse
import json
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from automerge.zoo import curriculum, shape, skills, tokenizer
from automerge.zoo.fit import Stream, fit

Trainable = LlamaForCausalLM | PeftModel


def fresh(vocabulary: int, seed: int) -> LlamaForCausalLM:
    """An untrained model, initialised from the seed without touching the global generator's state."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=8,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.08,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


class Zoo:
    """A folder of models, adapters and tasks in the making."""

    def __init__(self, out: Path, seed: int, size: int, progress: Progress) -> None:
        self._out, self._seed, self._size, self._progress = out, seed, size, progress
        self._tokenizer: PreTrainedTokenizerFast = tokenizer.build()
        self._held_out: set[str] = set()

    def write_tasks(self) -> None:
        """Writes the task files and holds their prompts out of all training."""
        for number, (name, skill) in enumerate(skills.SKILLS.items()):
            halves = skills.split(skill, np.random.default_rng([self._seed + 1, number]), self._size)
            for items, kind in zip(halves, ("search", "test"), strict=True):
                skills.write(items, self._out / "tasks" / name / f"{kind}.jsonl")
                self._held_out.update(item.prompt.partition("=")[0] for item in items)

    def train(self, only: Collection[str]) -> None:
        """Trains and writes the named models and adapters, all where none is named."""
        for number, (name, made) in enumerate(curriculum.CURRICULA.items()):
            if only and name not in only:
                continue
            kind, _, short = name.rpartition("/")
            model = self._start(name)
            task = self._progress.add_task(name, total=made.steps, loss=float("nan"))
            stream = Stream(made, self._tokenizer, self._held_out, self._seed + 1 + number)
            fit(model, stream, made, partial(self._report, task))
            _round(model)
            self._save(model, self._out / kind / short)

    def _report(self, task: TaskID, step: int, loss: float) -> None:
        self._progress.update(task, completed=step + 1, loss=loss)

    def _start(self, name: str) -> Trainable:
        if name == "models/base":
            return fresh(len(self._tokenizer), self._seed)
        base = shape.load(self._out / "models" / "base")
        if name.startswith("models/"):
            return base
        config = LoraConfig(
            r=curriculum.RANK, lora_alpha=2 * curriculum.RANK, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with torch.random.fork_rng():
            torch.manual_seed(self._seed)
            return get_peft_model(base, config)

    def _save(self, model: Trainable, folder: Path) -> None:
        if isinstance(model, PeftModel):
            config = model.peft_config["default"]
            config.base_model_name_or_path = "base"
            if isinstance(config, LoraConfig):
                config.target_modules = sorted(config.target_modules or [])
            model.save_pretrained(str(folder), save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)
            return
        model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)


def _round(model: torch.nn.Module) -> None:
    """Rounds the weights to bfloat16, in which the zoo is kept."""
    model.to(torch.bfloat16)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, trains unless told not to, prints and writes the shape table."""
    parser = argparse.ArgumentParser(prog="python -m automerge.zoo.train", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="seed of tasks and training (default 0)")
    parser.add_argument("--size", type=int, default=1000, help="items in each task file (default 1000)")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (default 1)")
    parser.add_argument("--only", nargs="*", default=(), choices=curriculum.CURRICULA, help="train only these")
    parser.add_argument("--skip", choices=("training", "measuring"), help="do only the other of the two")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    # Bars of saving and loading would tear the bars of training.
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    console = Console()
    columns = (TextColumn("{task.description:18}"), BarColumn(), TextColumn("loss {task.fields[loss]:.4f}"))
    if options.skip != "training":
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            zoo = Zoo(options.out, options.seed, options.size, progress)
            zoo.write_tasks()
            zoo.train(options.only)
    if options.skip != "measuring":
        measured = shape.measure(options.out, console)
        (options.out / "SHAPE.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
