"""Golden values for `tests/methods/test_golden.py`: what mergekit makes of small tensors, method by method.

    python -m experiments.mergekit_parity.goldens     # needs the extra `mergekit`; takes seconds

Writes `golden.safetensors` (inputs as FAMILY.TENSOR.SOURCE, outputs as out.CASE.TENSOR, float32) and `golden.json` (the
cases). mergekit's own kernels run in memory; random methods get automerge's random numbers in place of their own, so
that masks agree and values can be compared one by one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import torch
from mergekit.merge_methods.api import merge_tensors
from mergekit.merge_methods.karcher import karcher_merge_tensors
from safetensors.torch import save_file
from torch import Tensor

FOLDER = Path(__file__).parents[2] / "tests" / "methods"
SOURCES = ("first", "second", "third")

SHAPES = {"matrix": (24, 52), "vector": (52,)}
"""Rows of 52 values: 51 divides 255, so ranks kept as one byte are exact."""

THREE = (0.5, 0.9, 0.3)
MARGIN = 1e-5
"""Least distance of a random number from the probability that it is compared with; rounding cannot flip it."""


@dataclass(frozen=True)
class Case:
    """One call: automerge's weights and parameters, and how mergekit is asked for the same."""

    name: str
    method: str
    weights: Sequence[float]
    parameters: dict[str, float] = field(default_factory=dict)
    family: str = "normal"
    mergekit: dict[str, object] = field(default_factory=dict)
    strength: float = 1.0

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that are read."""
        return SOURCES[: len(self.weights)]


def cases() -> list[Case]:
    """All cases. `strength` multiplies the weights in mergekit, which does not divide by the density itself."""
    plain: dict[str, object] = {"normalize": False}
    mean: dict[str, object] = {"normalize": True}
    drop: dict[str, object] = {"normalize": False, "rescale": False}
    drop_mean: dict[str, object] = {"normalize": True, "rescale": False}
    return [
        Case("linear", "linear", THREE),
        Case("linear-equal", "linear", (1.0, 1.0)),
        Case("slerp", "slerp", (0.75, 0.25), mergekit={"t": 0.25}),
        Case("slerp-far", "slerp", (0.4, 0.6), family="grid", mergekit={"t": 0.6}),
        Case("slerp-colinear", "slerp", (0.4, 0.6), family="light", mergekit={"t": 0.6}),
        Case("karcher", "karcher", (1.0, 1.0, 1.0)),
        Case("karcher-far", "karcher", (1.0, 1.0), family="grid"),
        Case("karcher-weights", "karcher", THREE),
        Case("nuslerp", "nuslerp", (0.7, 0.3)),
        Case("nuslerp-unequal", "nuslerp", (0.2, 0.9)),
        Case("nuslerp-light", "nuslerp", (0.5, 0.5), family="light"),
        Case("task_arithmetic", "task_arithmetic", THREE, mergekit=plain),
        Case("task_arithmetic-negative", "task_arithmetic", (0.8, -0.4, 0.3), mergekit=plain),
        Case("ties", "ties", THREE, {"density": 0.5}, mergekit=plain),
        Case("ties-sparse", "ties", (1.0, 1.0, 1.0), {"density": 0.15}, mergekit=plain),
        Case("ties-dense-cancelling", "ties", (1.0, 1.0), {"density": 1.0}, family="grid", mergekit=plain),
        Case("ties-mean", "ties", THREE, {"density": 0.5, "normalize": 1.0}, mergekit=mean),
        Case("dare_linear", "dare_linear", THREE, {"density": 0.5}, mergekit=drop, strength=256 / 128),
        Case("dare_linear-sparse", "dare_linear", THREE, {"density": 0.3}, mergekit=drop, strength=256 / 77),
        Case("dare_linear-as-is", "dare_linear", THREE, {"density": 0.7, "rescale": 0.0}, mergekit=drop),
        Case("dare_ties", "dare_ties", THREE, {"density": 0.5}, mergekit=drop, strength=256 / 128),
        Case("dare_ties-as-is", "dare_ties", THREE, {"density": 0.3, "rescale": 0.0}, mergekit=drop),
        Case(
            "dare_ties-mean",
            "dare_ties",
            THREE,
            {"density": 0.5, "normalize": 1.0},
            mergekit={**drop_mean, "lambda": 256 / 128},
        ),
        Case("della", "della", THREE, {"density": 0.5, "epsilon": 0.15, "rescale": 0.0}, mergekit=drop),
        Case("della-wide", "della", (1.0, 1.0, 1.0), {"density": 0.4, "epsilon": 0.21, "rescale": 0.0}, mergekit=drop),
        Case(
            "della-mean",
            "della",
            THREE,
            {"density": 0.6, "epsilon": 0.1, "normalize": 1.0, "rescale": 0.0},
            mergekit=drop_mean,
        ),
        Case("breadcrumbs", "breadcrumbs", THREE, {"density": 0.5, "gamma": 0.01}, mergekit=plain),
        Case("breadcrumbs-sparse", "breadcrumbs", THREE, {"density": 0.3, "gamma": 0.05}, mergekit=plain),
        Case("breadcrumbs-few-small", "breadcrumbs", THREE, {"density": 0.9, "gamma": 0.2}, mergekit=plain),
        Case("sce", "sce", (1.0, 1.0, 1.0), {"density": 0.5}, mergekit={"select_topk": 0.5}),
        Case("sce-sparse", "sce", (1.0, 1.0, 1.0), {"density": 0.15}, mergekit={"select_topk": 0.15}),
        Case("sce-all", "sce", (1.0, 1.0), {"density": 1.0}, family="grid", mergekit={"select_topk": 1.0}),
        Case("sce-light", "sce", (1.0, 1.0, 1.0), {"density": 0.5}, family="light", mergekit={"select_topk": 0.5}),
        Case("model_stock", "model_stock", (1.0, 1.0, 1.0)),
        Case("model_stock-two", "model_stock", (1.0, 1.0)),
        Case("model_stock-light", "model_stock", (1.0, 1.0, 1.0), family="light"),
        Case("passthrough", "passthrough", (1.0,)),
    ]


BASED = {"nuslerp", "model_stock", "sce", "task_arithmetic", "ties", "breadcrumbs", "dare_linear", "dare_ties", "della"}
WEIGHTED = BASED - {"model_stock", "sce"} | {"linear"}
NAMES = {"density", "epsilon", "gamma"}


def main() -> None:
    """Writes both files."""
    tensors = {f"{family}.{key}": tensor for family in FAMILIES for key, tensor in FAMILIES[family].items()}
    for case in cases():
        for name in SHAPES:
            tensors[f"out.{case.name}.{name}"] = merged(case, name)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, FOLDER / "golden.safetensors")
    kept = ("name", "method", "family", "weights", "parameters")
    listed = [{key: asdict(case)[key] for key in kept} for case in cases()]
    rows = ",\n".join(f"  {json.dumps(row)}" for row in listed)
    header = f'"mergekit": {json.dumps(version("mergekit"))}, "torch": {json.dumps(torch.__version__)}'
    (FOLDER / "golden.json").write_text(f'{{{header}, "cases": [\n{rows}\n]}}\n')
    print(f"{len(listed)} cases, {(FOLDER / 'golden.safetensors').stat().st_size / 1000:.0f} kB")


def merged(case: Case, name: str) -> Tensor:
    """What mergekit makes of one tensor."""
    own = FAMILIES[case.family]
    inputs = [own[f"{name}.{source}"] for source in case.sources]
    if case.method == "karcher":
        total = sum(case.weights)
        return torch.as_tensor(karcher_merge_tensors(inputs, [weight / total for weight in case.weights]))
    parameters = dict(case.mergekit)
    if case.method in WEIGHTED:
        parameters["weight"] = [weight * case.strength for weight in case.weights]
        parameters |= {key: value for key, value in case.parameters.items() if key in NAMES}
    base_index = 0 if case.method in BASED or case.method == "slerp" else None
    if case.method in BASED:
        inputs = [own[f"{name}.base"], *inputs]
    with fixed_numbers([(source, name) for source in case.sources]):
        return torch.as_tensor(merge_tensors(inputs, case.method, parameters=parameters, base_index=base_index))


@contextmanager
def fixed_numbers(keys: Sequence[tuple[str, str]]) -> Iterator[None]:
    """Makes `torch.bernoulli` keep what automerge keeps of the tensors with these keys, one call each."""
    left = list(keys)

    def kept(probabilities: Tensor) -> Tensor:
        digest = hashlib.sha256("\0".join(("dare", *left.pop(0))).encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        numbers = torch.randint(0, 256, probabilities.shape, generator=generator, dtype=torch.uint8)
        uniform = (numbers.double() + 0.5) / 256
        if float((uniform - probabilities.double()).abs().min()) < MARGIN:
            raise ValueError("a random number equals its probability but for rounding; choose other parameters")
        return (uniform < probabilities).to(probabilities.dtype)

    with mock.patch("torch.bernoulli", kept):
        yield


def _family(kind: str) -> dict[str, Tensor]:
    """Base and fine-tunes of it: their differences have a common part, an own part, and some rows are untouched.

    `normal` differences are a third as large as the base; `light` ones a hundredth of that; those of `grid` are as
    large as the base, multiples of 2^-10, and cancel exactly in places.
    """
    generator = torch.Generator().manual_seed(2)
    scale = {"normal": 2e-2, "light": 2e-4, "grid": 6e-2}[kind]
    found = {}
    for name, shape in SHAPES.items():

        def draw(shape: tuple[int, ...] = shape) -> Tensor:
            return torch.randn(shape, generator=generator)

        base = 6e-2 * draw()
        common = draw()
        differences = [scale * (0.5 * common + (0.6 + 0.3 * k) * draw()) for k in range(len(SOURCES))]
        differences[1][: shape[0] // 8] = 0.0
        if kind == "grid":
            base, *differences = ((tensor * 2**10).round() / 2**10 for tensor in (base, *differences))
            differences[1][shape[0] // 2 :] = -differences[0][shape[0] // 2 :]
        found[f"{name}.base"] = base
        found |= {f"{name}.{source}": base + d for source, d in zip(SOURCES, differences, strict=True)}
    return found


FAMILIES = {kind: _family(kind) for kind in ("normal", "light", "grid")}

if __name__ == "__main__":
    main()
