"""Times the rewriting of a resident candidate beside a float32 triad and, with --mergekit, beside mergekit.

All figures are ratios of times taken in turns in one process; the last line of output is one JSON object.

    python -m experiments.merge_speed --threads 2
    python -m experiments.merge_speed --threads 2 --mergekit
    python -m experiments.merge_speed --device cuda --hidden 4096 --intermediate 11008 --layers 32 --vocabulary 32000
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from automerge.language_model import CausalLM
from automerge.merge import ResidentSources
from automerge.model import ResidentModel
from automerge.recipe import BASE, Fusion, Input, Recipe, uniform
from automerge.resident.placement import gigabytes
from automerge.sources.memory import MemorySource
from experiments.machine import describe
from experiments.merge_speed.peer import mergekit_seconds

METHODS = ("linear", "task_arithmetic", "ties", "dare_ties")


def main() -> None:
    """Measures and prints; the last line is the JSON object."""
    options = arguments()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    config = LlamaConfig(
        hidden_size=options.hidden,
        intermediate_size=options.intermediate,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 64,
        num_key_value_heads=options.hidden // 64,
        vocab_size=options.vocabulary,
        max_position_embeddings=2048,
    )
    live = empty_model(config, device)
    sources = make_sources(live, options.sources, device if options.placement == "device" else torch.device("cpu"))
    n_parameters = sum(parameter.numel() for parameter in live.parameters())
    say(f"{n_parameters / 1e6:.0f} M parameters, a base and {options.sources} sources")
    model, results = prepared(live, sources, options)
    seconds = take_turns(model, options, device)
    results |= ratios(seconds, n_parameters, options)
    results |= memory(model.sources, n_parameters, options)
    if options.mergekit:
        del live, model
        results |= beside_mergekit(config, sources, options, seconds)
    for key, value in results.items():
        if isinstance(value, float):
            say(f"{key:40s} {value:8.3f}")
    setting = {key: value for key, value in vars(options).items() if key != "save"}
    results["setting"] = {**setting, "n_parameters": n_parameters, **describe()}
    if options.save is not None:
        options.save.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results))


def prepared(
    live: LlamaForCausalLM, sources: list[MemorySource], options: argparse.Namespace
) -> tuple[ResidentModel, dict[str, object]]:
    """The resident model, and the seconds that compiling and each method's first write took."""
    resident = ResidentSources(
        sources, device=options.device, placement=options.placement, n_held=2 * n_values(live), methods=METHODS
    )
    start = time.perf_counter()
    resident.compile(options.compile, METHODS)
    found: dict[str, object] = {"compile_seconds": time.perf_counter() - start}
    for note in resident.notes:
        say(note)
    model = ResidentModel(CausalLM(live, tokenizer=None), resident)
    first = {}
    for method in METHODS:
        start = time.perf_counter()
        model.write(recipe(method, options, 0.5))
        settle(torch.device(options.device))
        first[method] = time.perf_counter() - start
    say("first write, preparation included: " + ", ".join(f"{m} {s:.1f} s" for m, s in first.items()))
    return model, found | {"first_write_seconds": first}


def ratios(seconds: dict[str, list[float]], n_parameters: int, options: argparse.Namespace) -> dict[str, object]:
    """Medians over the turns of what was measured within one turn."""
    device = torch.device(options.device)

    def over(one: str, other: str, factor: float = 1.0) -> float:
        return factor * statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))

    n_bytes = {method: 2 * n_parameters * (options.sources + 1 + (method != "linear")) for method in METHODS}
    n_bytes["dare_ties"] += n_parameters * options.sources
    triad = 3 * 4 * triad_length(device)
    found: dict[str, object] = {f"{m}_over_triad": over("triad", m, n_bytes[m] / triad) for m in METHODS}
    found |= {f"{method}_over_linear": over(method, "linear") for method in ("ties", "dare_ties")}
    found |= {"half_groups_over_full": over("half", "linear"), "identical_over_full": over("identical", "linear")}
    if device.type == "cuda":
        found["linear_over_copy"] = over("copy", "linear", n_bytes["linear"] / (2 * 4 * triad_length(device)))
    median = {name: statistics.median(times) for name, times in seconds.items()}
    found["triad_gigabytes_per_second"] = triad / median["triad"] / 1e9
    return found | {"milliseconds": {name: 1e3 * value for name, value in median.items()}}


def memory(resident: ResidentSources, n_parameters: int, options: argparse.Namespace) -> dict[str, object]:
    """Bytes held beside the masks, over those of sources and one candidate."""
    masks = n_parameters * options.sources
    candidate = 2 * n_parameters
    say(f"resident: {gigabytes(resident.n_bytes - masks)} of weights and tables, {gigabytes(masks)} of masks")
    expected = 2 * n_parameters * (options.sources + 1) + candidate
    return {"resident_over_sources_and_candidate": (resident.n_bytes - masks + candidate) / expected}


def n_values(live: LlamaForCausalLM) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in live.parameters())


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser("experiments.merge_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--intermediate", type=int, default=5632)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--sources", type=int, default=4, help="fine-tunes beside the base")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--placement", default="device", choices=["device", "host", "disk"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--compile", default="always", choices=["auto", "always", "never"])
    parser.add_argument("--save", type=Path, help="also write the JSON object into this file")
    parser.add_argument("--mergekit", action="store_true", help="also time mergekit on the same weights (the extra)")
    return parser.parse_args()


def empty_model(config: LlamaConfig, device: torch.device) -> LlamaForCausalLM:
    """A live model in bfloat16 whose weights are not initialised: they are about to be written."""
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config)
    empty: LlamaForCausalLM = model.to(torch.bfloat16).to_empty(device=device)
    return empty


def make_sources(live: LlamaForCausalLM, n: int, device: torch.device) -> list[MemorySource]:
    """A base of normal weights and n fine-tunes of it, made on the device, in bfloat16."""
    generator = torch.Generator(device=device).manual_seed(0)

    def noise(shape: torch.Size, scale: float) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).mul_(scale)

    shapes = {name: parameter.shape for name, parameter in live.named_parameters()}
    base = {name: noise(shape, 0.02).bfloat16() for name, shape in shapes.items()}
    found = [MemorySource(BASE, base)]
    for k in range(n):
        tuned = {name: (noise(tensor.shape, 0.002) + tensor).bfloat16() for name, tensor in base.items()}
        found.append(MemorySource(f"tuned{k}", tuned))
    return found


def recipe(method: str, options: argparse.Namespace, weight: float) -> Recipe:
    """One method for the whole model."""
    inputs = tuple(Input(f"tuned{k}", None, weight + 0.1 * k) for k in range(options.sources))
    parameters = (("density", 0.5),) if method in ("ties", "dare_ties") else ()
    return uniform(Fusion(method, inputs, parameters), options.layers)


def take_turns(model: ResidentModel, options: argparse.Namespace, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each job, round by round; within a round all jobs run one after the other."""
    a, b, c = (torch.ones(triad_length(device), device=device) for _ in range(3))
    weights = iter(0.2 + 0.001 * k for k in range(10**6))

    def write(method: str) -> Callable[[], None]:
        changed = recipe(method, options, next(weights))
        return lambda: void(model.write(changed))

    def write_half() -> Callable[[], None]:
        first = recipe("linear", options, next(weights))
        other = recipe("linear", options, next(weights))
        model.write(first)
        half = options.layers // 2
        mixed = Recipe(layers=other.layers[:half] + first.layers[half:], outer=first.outer)
        return lambda: void(model.write(mixed))

    def write_again() -> Callable[[], None]:
        same = recipe("linear", options, next(weights))
        model.write(same)
        return lambda: void(model.write(same))

    jobs: dict[str, Callable[[], Callable[[], None]]] = {
        "triad": lambda: lambda: void(torch.add(b, c, alpha=1.5, out=a)),
        **{method: (lambda method=method: write(method)) for method in METHODS},  # type: ignore[misc]
        "half": write_half,
        "identical": write_again,
    }
    if device.type == "cuda":
        jobs["copy"] = lambda: lambda: void(a.copy_(b))
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(options.repeats + 1):
        for name, prepare in jobs.items():
            job = prepare()
            settle(device)
            start = time.perf_counter()
            job()
            settle(device)
            if turn > 0:  # the first turn warms up
                seconds[name].append(time.perf_counter() - start)
    return seconds


def beside_mergekit(
    config: LlamaConfig, sources: list[MemorySource], options: argparse.Namespace, seconds: dict[str, list[float]]
) -> dict[str, object]:
    """mergekit's seconds on the same weights, over ours."""
    with tempfile.TemporaryDirectory() as folder:
        theirs = mergekit_seconds(config, sources, Path(folder), METHODS, threads=options.threads)
    ours = {method: statistics.median(seconds[method]) for method in METHODS}
    found: dict[str, object] = {f"mergekit_over_ours_{method}": theirs[method] / ours[method] for method in METHODS}
    return found | {"mergekit_seconds": theirs}


def triad_length(device: torch.device) -> int:
    """Entries of each of the three arrays, far more than any cache holds."""
    return 2**28 if device.type == "cuda" else 2**25


def settle(device: torch.device) -> None:
    """Waits for the device, so that times are those of finished work."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def void(result: object) -> None:
    """Drops a result."""


def say(text: str) -> None:
    """Prints a line at once."""
    print(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
