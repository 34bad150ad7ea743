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

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from automerge.language_model import CausalLM
from automerge.merge import ResidentSources
from automerge.model import ResidentModel
from automerge.placement import gigabytes
from automerge.recipe import BASE, Fusion, Input, Recipe, uniform
from automerge.sources.memory import MemorySource
from experiments.machine import describe
from experiments.merge_speed.peer import mergekit_seconds

METHODS = ("linear", "task_arithmetic", "ties", "dare_ties")


def main() -> None:
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
    start = time.perf_counter()
    live = empty_model(config, device)
    sources = make_sources(live, options.sources, device if options.placement == "device" else torch.device("cpu"))
    n_parameters = sum(parameter.numel() for parameter in live.parameters())
    say(
        f"{n_parameters / 1e6:.0f} M parameters, base and {options.sources} sources, {time.perf_counter() - start:.1f} s"
    )

    resident = ResidentSources(
        sources, device=options.device, placement=options.placement, n_held=2 * n_parameters, methods=METHODS
    )
    n_loaded = resident.n_bytes
    start = time.perf_counter()
    resident.compile(options.compile, METHODS)
    say(f"compiled in {time.perf_counter() - start:.1f} s" if options.compile != "never" else "eager")
    for note in resident.notes:
        say(note)
    model = ResidentModel(CausalLM(live, tokenizer=None), resident)

    preparation = {}
    for method in METHODS:
        start = time.perf_counter()
        model.write(recipe(method, options, 0.5))
        settle(device)
        preparation[method] = time.perf_counter() - start
    say("first write, preparation included: " + ", ".join(f"{m} {s:.1f} s" for m, s in preparation.items()))

    seconds = take_turns(model, options, device)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    n_bytes = {method: 2 * n_parameters * (options.sources + 1 + (method != "linear")) for method in METHODS}
    n_bytes["dare_ties"] += n_parameters * options.sources
    triad_bytes = 3 * 4 * triad_length(device)
    results: dict[str, object] = {}
    for method in METHODS:
        ratios = [
            (n_bytes[method] / t) / (triad_bytes / triad)
            for t, triad in zip(seconds[method], seconds["triad"], strict=True)
        ]
        results[f"{method}_over_triad"] = statistics.median(ratios)
    for method in ("ties", "dare_ties"):
        ratios = [a / b for a, b in zip(seconds[method], seconds["linear"], strict=True)]
        results[f"{method}_over_linear"] = statistics.median(ratios)
    ratios = [a / b for a, b in zip(seconds["half"], seconds["linear"], strict=True)]
    results["half_groups_over_full"] = statistics.median(ratios)
    results["identical_over_full"] = median["identical"] / median["linear"]
    if device.type == "cuda":
        results["linear_over_copy"] = (n_bytes["linear"] / median["linear"]) / (
            2 * 4 * triad_length(device) / median["copy"]
        )
    results["milliseconds"] = {name: 1e3 * value for name, value in median.items()}
    results["preparation_seconds"] = {method: preparation[method] - median[method] for method in METHODS}
    results["triad_gigabytes_per_second"] = triad_bytes / median["triad"] / 1e9
    masks = n_parameters * options.sources
    candidate = 2 * n_parameters
    results["resident_over_sources_and_candidate"] = (resident.n_bytes - masks + candidate) / (
        2 * n_parameters * (options.sources + 1) + candidate
    )
    say(f"resident: {gigabytes(n_loaded)} of weights, {gigabytes(resident.n_bytes - n_loaded)} of masks and tables")
    if options.mergekit:
        del live, model, resident
        results |= beside_mergekit(config, sources, options, median)
    results["setting"] = {**vars(options), "n_parameters": n_parameters, **describe()}
    for key, value in results.items():
        if isinstance(value, float):
            say(f"{key:42s} {value:8.3f}")
    print(json.dumps(results))


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser("experiments.merge_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--intermediate", type=int, default=2816)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--sources", type=int, default=4, help="fine-tunes beside the base")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--placement", default="device", choices=["device", "host", "disk"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--compile", default="always", choices=["auto", "always", "never"])
    parser.add_argument("--mergekit", action="store_true", help="also time mergekit on the same weights (the extra)")
    return parser.parse_args()


def empty_model(config: LlamaConfig, device: torch.device) -> LlamaForCausalLM:
    """A live model in bfloat16 whose weights are not initialised: they are about to be written."""
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    return model.to_empty(device=device)


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
    config: LlamaConfig, sources: list[MemorySource], options: argparse.Namespace, median: dict[str, float]
) -> dict[str, object]:
    """mergekit's seconds on the same weights, over ours."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = mergekit_seconds(config, sources, Path(folder), METHODS, threads=options.threads)
    found: dict[str, object] = {f"mergekit_over_ours_{method}": seconds[method] / median[method] for method in METHODS}
    return found | {"mergekit_seconds": seconds}


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
