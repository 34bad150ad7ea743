"""Compares live stacks with their exports, loaded by plain transformers, per logit and per item.

For every architecture random stacks of two fine-tunes are made (layers moved, repeated, left out, fused, scaled by
either meaning), asked in the live model, exported, loaded afresh and asked again. The last line of output is one JSON
object.

    python -m experiments.stack_export
    python -m experiments.stack_export --device cuda --hidden 1024 --layers 24
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from automerge.check.stacks import scaled_hidden_states
from automerge.components import build
from automerge.export.model import export_recipe
from automerge.family import open_family
from automerge.language_model import CausalLM
from automerge.merge import ResidentSources
from automerge.model import ResidentModel, load_causal_lm
from automerge.protocols import Task
from automerge.recipe import COMPONENTS, Fusion, Input, OutputLayer, Recipe, Scaling
from automerge.scaling import MIN_SCALE
from automerge.zoo import path as zoo
from experiments.machine import describe

ARCHITECTURES = ("llama", "qwen2", "gemma2", "gpt2")
SOURCES = ("left", "right")
MEANINGS: tuple[Scaling, ...] = ("residual", "branch_mlp")
LENGTH = 48
"""Tokens of the rows on which logits are compared; longer than the sliding windows of the models."""

N_ITEMS = 300
"""Test items of each of the zoo's tasks."""


def main() -> None:
    """Compares and prints; the last line is the JSON object."""
    options = _arguments()
    silence: Any = logging.disable_progress_bar
    silence()
    torch.set_num_threads(options.threads)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for architecture in ARCHITECTURES:
            folder = Path(scratch) / architecture
            models = _random_family(folder, architecture, options)
            found[architecture] = _compared(models, folder, options)
        trained = {"base": zoo("models/base"), "left": zoo("models/sort"), "right": zoo("models/reverse")}
        found["llama, the trained zoo"] = _compared(trained, Path(scratch) / "zoo", options)
    for name, figures in found.items():
        print(name, ", ".join(f"{key} {value:.3g}" for key, value in figures.items()))
    result = {
        "largest_logit_difference": {name: figures["largest logit difference"] for name, figures in found.items()},
        "differing_items": {name: int(figures["differing items"]) for name, figures in found.items()},
        "items": {name: int(figures["items"]) for name, figures in found.items()},
        "differing_from_scaled_hidden_states": {name: figures["share of effect"] for name, figures in found.items()},
        "device": options.device,
        "machine": describe(),
    }
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--stacks", type=int, default=8, help="random stacks for each architecture")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=96)
    parser.add_argument("--out", type=Path, help="file for the JSON object")
    return parser.parse_args()


def _compared(models: dict[str, str], scratch: Path, options: argparse.Namespace) -> dict[str, float]:
    """The largest differences between live stacks and their exports, over random stacks."""
    family = open_family(
        {"base": models["base"], "models": {name: models[name] for name in SOURCES}}, trust_remote_code=False
    )
    live = ResidentModel(
        load_causal_lm(family.base, device=options.device),
        ResidentSources(family.sources, device=options.device, model_type=family.model_type),
    )
    n_layers = live.sources.alignment.n_layers
    rng = np.random.default_rng(0)
    largest, n_differing, n_items = 0.0, 0, 0
    shares = []
    for number in range(options.stacks):
        recipe = _random_stack(rng, n_layers, MEANINGS[number % 2])
        live.write(recipe)
        here, scores = _logits(live.lm), _scores(live.lm)
        folder = scratch / f"export{number}"
        export_recipe(recipe, family, folder, card="")
        largest = max(largest, float((here - _logits(_loaded(folder, live.lm))).abs().max()))
        again = _scores(_loaded(folder, live.lm))
        n_differing += sum(one != other for one, other in zip(scores, again, strict=True))
        n_items += len(scores)
        if recipe.scaling == "residual":
            shares.append(_share_of_effect(live, recipe, here))
    return {
        "largest logit difference": largest,
        "differing items": float(n_differing),
        "items": float(n_items),
        "share of effect": max(shares),
    }


def _share_of_effect(live: ResidentModel, recipe: Recipe, folded: Tensor) -> float:
    """How far folded scales are from scaled hidden states, as a share of what the scales change in the logits."""
    live.write(Recipe(tuple(OutputLayer(layer.components) for layer in recipe.layers), recipe.outer))
    unscaled = _logits(live.lm)
    with scaled_hidden_states(live.layers, [layer.scale for layer in recipe.layers]):
        true = _logits(live.lm)
    return float((folded - true).norm() / (true - unscaled).norm())


def _random_stack(rng: np.random.Generator, n_layers: int, scaling: Scaling) -> Recipe:
    """Layers mostly in order, some left out, repeated, swapped or fused, with scales around 1."""
    layers = [layer for layer in range(n_layers) for _ in range(rng.choice([0, 1, 1, 1, 2]))] or [0]
    first, second = rng.integers(len(layers), size=2)
    layers[first], layers[second] = layers[second], layers[first]
    made = []
    for layer in layers:
        scale = float(np.round(np.exp(rng.normal(0, 0.3)), 4))
        fusion = _pass(SOURCES[rng.integers(2)], layer) if rng.random() < 0.8 else _mean(layer)
        made.append(OutputLayer(tuple((component, fusion) for component in COMPONENTS), max(scale, MIN_SCALE)))
    return Recipe(tuple(made), _mean(None), scaling)


def _pass(source: str, layer: int) -> Fusion:
    return Fusion("passthrough", (Input(source, layer),))


def _mean(layer: int | None) -> Fusion:
    return Fusion("linear", tuple(Input(source, layer, 0.5) for source in SOURCES))


def _logits(lm: CausalLM) -> Tensor:
    """Logits of rows of random tokens, on the CPU in float32."""
    n_tokens = int(lm.model.config.get_text_config().vocab_size)
    ids = torch.randint(n_tokens, (4, LENGTH), generator=torch.Generator().manual_seed(0)).to(lm.model.device)
    with torch.inference_mode():
        found: Tensor = lm.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return found.float().cpu()


def _scores(lm: CausalLM) -> list[float]:
    """The scores of all items: exact continuations, chosen options, and generated answers."""
    return [score for task in _tasks() for score in task.score(lm, "test", range(N_ITEMS))]


def _tasks() -> list[Task]:
    def data(task: str) -> dict[str, Any]:
        return {split: {"path": zoo(f"tasks/{task}/{split}.jsonl")} for split in ("search", "test")}

    written = {"prompt": "{{ prompt }}", "answer": "{{ answer }}", "stop": "\n"}
    choices = {"prompt": "{{ prompt }}", "choices": "choices", "label": "label"}
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("exact_continuation.ExactContinuation", "sort", written),
        ("multiple_choice.MultipleChoice", "recall", choices),
        ("generation.Generation", "reverse", {**written, "max_new_tokens": 12}),
    ]
    return [
        build({"_target_": f"automerge.tasks.{target}", **data(task), **keys}, name=task)
        for target, task, keys in kinds
    ]


def _loaded(folder: Path, like: CausalLM) -> CausalLM:
    """The exported model as anybody loads it, in the live model's dtype."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=like.model.dtype).to(like.model.device)
    return CausalLM(model, AutoTokenizer.from_pretrained(folder))


def _random_family(folder: Path, architecture: str, options: argparse.Namespace) -> dict[str, str]:
    """Folders of a random base in bfloat16 and of two variants, with the zoo's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(zoo("models/base"))
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    config = AutoConfig.for_model(architecture, **_sizes(architecture, options), vocab_size=len(tokenizer), **ends)
    from_config: Any = AutoModelForCausalLM.from_config
    folders = {}
    torch.manual_seed(0)
    base = from_config(config).state_dict()
    for seed, name in enumerate(("base", *SOURCES)):
        torch.manual_seed(seed)
        model: Any = from_config(config)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                # Spread as wide as training spreads weights: initial ones make models that nothing changes.
                parameter.copy_(base[key] + (0.05 if seed else 0.0) * torch.randn_like(parameter))
        folders[name] = str(folder / name)
        model.to(torch.bfloat16).save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders


def _sizes(architecture: str, options: argparse.Namespace) -> dict[str, Any]:
    if architecture == "gpt2":
        return {"n_embd": options.hidden, "n_layer": options.layers, "n_head": 4, "n_positions": 128}
    sizes: dict[str, Any] = {
        "hidden_size": options.hidden,
        "intermediate_size": 3 * options.hidden,
        "num_hidden_layers": options.layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
    }
    return sizes | ({"head_dim": options.hidden // 4, "sliding_window": 16} if architecture == "gemma2" else {})


if __name__ == "__main__":
    main()
