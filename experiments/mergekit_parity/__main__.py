"""Exports recipes by automerge and by mergekit from their YAML, and compares the weights value by value."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import numpy as np
import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from automerge.alignment import Alignment, align
from automerge.export.model import export_recipe
from automerge.family import open_family
from automerge.mergekit import from_yaml, to_yaml
from automerge.recipe import BASE, COMPONENTS, Fusion, Input, OutputLayer, Recipe, Scaling
from automerge.scaling import writers
from experiments.machine import describe

ZOO = Path(__file__).parents[2] / "automerge" / "zoo" / "models"
RESULTS = Path(__file__).parent / "results.json"

SCALES = (0.9, 1.3, 0.55, 1.0, 0.7, 2.25, 1.1)
"""Scales of the layers of a stack, in turns."""


@dataclass(frozen=True)
class Agreement:
    """How two models agree: compared tensors and values, and differences in absolute terms and in last places.

    `beyond` counts the differences that rounding does not explain.
    """

    models: str
    dtype: str
    recipe: str
    tensors: int
    values: int
    largest: float
    last_places: int
    unequal: int
    beyond: int


ROUNDING = 16 * torch.finfo(torch.float32).eps
"""Relative error of sums in float32, to the value or its tensor's root mean square, whichever is larger."""

Draw = Callable[[int | None], Fusion]
"""A fusion of random settings that reads this layer (None: outside the layers)."""


def main() -> None:
    """Prints the table and writes results.json."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    found = []
    print("| models | dtype | recipe | tensors | values | max difference | in last places | equal | beyond rounding |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for models, paths in families(Path(folder)):
            for agreement in compared(models, paths, Path(folder)):
                found.append(agreement)
                print(row(agreement), flush=True)
    result = {"machine": describe(), "mergekit": version("mergekit"), "rows": [asdict(a) for a in found]}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


def row(found: Agreement) -> str:
    """One line of the table."""
    equal, beyond = (100 * (1 - found.unequal / found.values), 100 * found.beyond / found.values)
    return (
        f"| {found.models} | {found.dtype} | {found.recipe} | {found.tensors} | {found.values} | {found.largest:.2e} "
        f"| {found.last_places} | {equal:.3f} % | {f'{beyond:.3f} %' if found.beyond else '0'} |"
    )


def families(folder: Path) -> Iterator[tuple[str, dict[str, Path]]]:
    """Yields models by name: the zoo in bfloat16, and tiny Llamas with an untied head in both dtypes."""
    yield "zoo", {name: ZOO / name for name in (BASE, "calc", "reverse", "sort")}
    for dtype in (torch.float32, torch.bfloat16):
        yield "tiny Llama", tiny_llamas(folder / str(dtype), dtype)


def tiny_llamas(folder: Path, dtype: torch.dtype) -> dict[str, Path]:
    """A random model and three variants of it."""
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=160,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=6,
        vocab_size=128,
        tie_word_embeddings=False,
    )
    paths = {}
    base: dict[str, Tensor] = {}
    for seed, name in enumerate((BASE, "one", "two", "three")):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        with torch.no_grad():
            for key, tensor in model.state_dict().items():
                # Norms start as ones, so every variant needs noise of its own.
                tensor.add_(0.02 * torch.randn_like(tensor))
                if base:
                    tensor.mul_(0.2).add_(0.8 * base[key])
        base = base or {key: tensor.clone() for key, tensor in model.state_dict().items()}
        model.to(dtype).save_pretrained(folder / name)  # type: ignore[arg-type]  # hidden by overloads of transformers
        for file in (ZOO / BASE).glob("tokenizer*"):
            shutil.copy(file, folder / name)
        paths[name] = folder / name
    return paths


def compared(models: str, paths: Mapping[str, Path], folder: Path) -> Iterator[Agreement]:
    """Yields the agreement of both exports for every recipe of these models."""
    models_of = {name: str(path) for name, path in paths.items() if name != BASE}
    family = open_family({"base": str(paths[BASE]), "models": models_of}, trust_remote_code=False)
    alignment = align(family.sources)
    ends = writers(alignment.locals, family.model_type)
    dtype = next(iter(load_file(paths[BASE] / "model.safetensors").values())).dtype
    short = str(dtype).removeprefix("torch.")
    places = {name: str(path) for name, path in paths.items()}
    names = {path: name for name, path in places.items()}
    pairs: dict[str, tuple[Recipe, str]] = {}
    for name, recipe in recipes(tuple(paths)[1:], alignment).items():
        written = to_yaml(recipe, places, alignment, dtype=short, writers=ends)
        if written.text is None:
            raise ValueError(f"{name}: {'; '.join(written.faults)}")
        pairs[name] = (recipe, written.text)
    for name, text in configurations(*places.values(), dtype=short).items():
        pairs[f"read: {name}"] = (from_yaml(text, names, alignment, ends), text)
    for name, (recipe, text) in pairs.items():
        place = folder / f"{models}-{short}-{name}"
        export_recipe(recipe, family, place / "automerge", card="")
        config = MergeConfiguration.model_validate(yaml.safe_load(text))
        options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
        run_merge(config, str(place / "mergekit"), options)
        ours, theirs = (load_file(place / tool / "model.safetensors") for tool in ("automerge", "mergekit"))
        yield agreement(models, short, name, ours, theirs)


def configurations(base: str, one: str, two: str, three: str, *, dtype: str) -> dict[str, str]:
    """Configurations in the form in which people write them: gradients, filters, options."""
    dtypes = f"dtype: float32\nout_dtype: {dtype}\nbase_model: {base}\n"
    return {
        "slerp with gradients": f"""{dtypes}merge_method: slerp
slices: [{{sources: [{{model: {one}, layer_range: [0, 6]}}, {{model: {base}, layer_range: [0, 6]}}]}}]
parameters:
  t:
  - {{filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}}
  - {{filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}}
  - value: 0.5
""",
        "task_arithmetic with lambda": f"""{dtypes}merge_method: task_arithmetic
models:
- {{model: {one}, parameters: {{weight: [0.2, 1.1]}}}}
- {{model: {two}, parameters: {{weight: [{{filter: mlp, value: 0.4}}, {{value: 0.1}}]}}}}
- {{model: {three}, parameters: {{weight: 0.5}}}}
parameters: {{normalize: true, lambda: 0.7, int8_mask: true}}
""",
        "linear with the base": f"""{dtypes}merge_method: linear
models:
- {{model: {base}, parameters: {{weight: [1.0, 0.0, 0.5]}}}}
- {{model: {two}, parameters: {{weight: 1.0}}}}
""",
    }


def agreement(
    models: str, dtype: str, recipe: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]
) -> Agreement:
    """The agreement of two models. Raises ValueError if their tensors differ in name, shape or dtype."""
    layouts = [{name: (tensor.shape, tensor.dtype) for name, tensor in model.items()} for model in (ours, theirs)]
    if layouts[0] != layouts[1]:
        raise ValueError(f"{recipe}: the models differ in tensors, {set(layouts[0].items()) ^ set(layouts[1].items())}")
    pairs = [(ours[name], theirs[name]) for name in ours]
    return Agreement(
        models,
        dtype,
        recipe,
        tensors=len(pairs),
        values=sum(one.numel() for one, _ in pairs),
        largest=max(float((one.double() - other.double()).abs().max()) for one, other in pairs),
        last_places=max(int((ordered(one) - ordered(other)).abs().max()) for one, other in pairs),
        unequal=sum(int((one != other).sum()) for one, other in pairs),
        beyond=sum(int(unexplained(one, other).sum()) for one, other in pairs),
    )


def unexplained(one: Tensor, other: Tensor) -> Tensor:
    """Where two tensors differ by more than sums in float32 and one last place of their dtype."""
    size = torch.maximum(one.abs(), other.abs()).double()
    usual = float(size.square().mean().sqrt())
    allowed = torch.finfo(one.dtype).eps * size + ROUNDING * size.clamp_min(usual)
    return (one.double() - other.double()).abs() > allowed


def ordered(tensor: Tensor) -> Tensor:
    """Integers that count the tensor's floating-point numbers in order; neighbours differ by 1, both zeros are 0."""
    integer = {torch.float32: torch.int32, torch.bfloat16: torch.int16}[tensor.dtype]
    bits = tensor.contiguous().view(integer).long()
    return torch.where(bits >= 0, bits, torch.iinfo(integer).min - bits)


def recipes(names: tuple[str, ...], alignment: Alignment) -> dict[str, Recipe]:
    """Recipes by name, with random settings for every layer and component and the part outside."""
    rng = np.random.default_rng(0)
    n_layers = alignment.n_layers

    def weight() -> float:
        return round(float(rng.uniform(0.1, 1.2)), 3)

    def weighted(method: str, *, passing: float = 0.0, **parameters: tuple[float, float]) -> Draw:
        """Random weights of all sources; with probability `passing` one source as it is."""

        def draw(layer: int | None) -> Fusion:
            if rng.random() < passing:
                return Fusion("passthrough", (Input(str(rng.choice([BASE, *names])), layer),))
            numbers = tuple((key, round(float(rng.uniform(*bounds)), 3)) for key, bounds in parameters.items())
            return Fusion(method, tuple(Input(name, layer, weight()) for name in names), numbers)

        return draw

    def pair(method: str) -> Draw:
        return lambda layer: Fusion(method, tuple(Input(name, layer, weight()) for name in names[:2]))

    def alike(method: str, **parameters: tuple[float, float]) -> Draw:
        def draw(layer: int | None) -> Fusion:
            numbers = tuple((key, round(float(rng.uniform(*bounds)), 3)) for key, bounds in parameters.items())
            return Fusion(method, tuple(Input(name, layer) for name in names), numbers)

        return draw

    def with_mean(draw: Draw) -> Draw:
        def averaging(layer: int | None) -> Fusion:
            fusion = draw(layer)
            return Fusion(fusion.method, fusion.inputs, (*fusion.parameters, ("normalize", 1.0)))

        return averaging

    sparse = (0.2, 0.9)
    draws = {
        "linear": weighted("linear"),
        "linear and passthrough": weighted("linear", passing=0.4),
        "slerp": pair("slerp"),
        "karcher": alike("karcher"),
        "nuslerp": pair("nuslerp"),
        "task_arithmetic": weighted("task_arithmetic"),
        "task_arithmetic and passthrough": weighted("task_arithmetic", passing=0.4),
        "ties": weighted("ties", density=sparse),
        "ties, normalized": with_mean(weighted("ties", density=sparse)),
        "breadcrumbs": weighted("breadcrumbs", density=sparse, gamma=(0.0, 0.1)),
        "sce": alike("sce", density=sparse),
        "model_stock": alike("model_stock"),
    }
    found = {}
    for name, draw in draws.items():
        layers = tuple(
            OutputLayer(tuple((component, draw(depth)) for component in COMPONENTS)) for depth in range(n_layers)
        )
        found[name] = Recipe(layers, draw(None))
    # A stack of layers of several sources, two of them twice, deeper than the sources.
    order = [*range(n_layers), n_layers - 2, n_layers - 1]
    stacked = [Fusion("passthrough", (Input(names[k % len(names)], depth),)) for k, depth in enumerate(order)]
    layers = tuple(OutputLayer(tuple((component, fusion) for component in COMPONENTS)) for fusion in stacked)
    found["passthrough stack"] = Recipe(layers, Fusion("passthrough", (Input(BASE, None),)))
    for scaling in get_args(Scaling):
        scaled = tuple(replace(layer, scale=SCALES[k % len(SCALES)]) for k, layer in enumerate(layers))
        found[f"passthrough stack, scaled: {scaling}"] = Recipe(scaled, found["passthrough stack"].outer, scaling)
    return found


if __name__ == "__main__":
    main()
