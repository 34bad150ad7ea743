"""mergekit on the same weights: in this process, warm, its files in the page cache."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from automerge.recipe import BASE
from automerge.sources.memory import MemorySource

PARAMETERS = {"ties": {"density": 0.5}, "dare_ties": {"density": 0.5}}


def mergekit_seconds(
    config: LlamaConfig, sources: Sequence[MemorySource], folder: Path, methods: Sequence[str], *, threads: int
) -> dict[str, float]:
    """Median seconds of three merges by each method after one to warm up, mergekit's own writing included.

    Raises ImportError naming the extra if mergekit is not installed.
    """
    try:
        from mergekit.config import MergeConfiguration  # noqa: PLC0415 (an extra)
        from mergekit.merge import run_merge  # noqa: PLC0415
        from mergekit.options import MergeOptions  # noqa: PLC0415
    except ImportError as fault:
        raise ImportError(f"mergekit is not installed ({fault}): pip install -e '.[mergekit]'") from fault
    for source in sources:
        save(config, source, folder / source.name)
    torch.set_num_threads(threads)
    seconds = {}
    for method in methods:
        chosen = MergeConfiguration.model_validate(configuration(method, sources, folder))
        options = MergeOptions(copy_tokenizer=False, lazy_unpickle=True, quiet=True, write_model_card=False)
        times = []
        for turn in range(3 if method in ("linear", "task_arithmetic") else 2):
            start = time.perf_counter()
            run_merge(chosen, out_path=str(folder / "merged"), options=options)
            if turn > 0:
                times.append(time.perf_counter() - start)
            shutil.rmtree(folder / "merged")
        seconds[method] = statistics.median(times)
        print(f"mergekit {method}: {seconds[method]:.1f} s")
    return seconds


def configuration(method: str, sources: Sequence[MemorySource], folder: Path) -> dict[str, Any]:
    """mergekit's settings for the merge that is timed."""
    models = [
        {"model": str(folder / source.name), "parameters": {"weight": 0.2 + 0.1 * k, **PARAMETERS.get(method, {})}}
        for k, source in enumerate(s for s in sources if s.name != BASE)
    ]
    found: dict[str, Any] = {"merge_method": method, "models": models, "dtype": "bfloat16"}
    if method != "linear":
        found["base_model"] = str(folder / BASE)
        found["parameters"] = {"normalize": False}
    return found


def save(config: LlamaConfig, source: MemorySource, folder: Path) -> None:
    """The source as a checkpoint folder."""
    folder.mkdir()
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    tensors = {name: source.tensor(name).cpu() for name in source.shapes}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
