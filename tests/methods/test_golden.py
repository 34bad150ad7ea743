"""Methods against mergekit, value by value.

The goldens were made with mergekit's own kernels by `python -m experiments.mergekit_parity.goldens`; `golden.json`
names its version and the cases. Magnitudes are up to 0.4 and task vectors 0.0002 to 0.3, all in float32.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from automerge import methods
from automerge.merge import merge_tensors

FOLDER = Path(__file__).parent
TENSORS = load_file(FOLDER / "golden.safetensors")
CASES = json.loads((FOLDER / "golden.json").read_text())["cases"]
SOURCES = ("first", "second", "third")

SELECTING = 1e-7
"""Where entries are kept or dropped: sums of a few float32 numbers, rounded in another order than mergekit's."""

ANGULAR = 2e-7
"""Where angles of the whole tensor count: mergekit computes them in float32, automerge in float64."""

TOLERANCE = {
    "passthrough": 0.0,
    "linear": SELECTING,
    "task_arithmetic": SELECTING,
    "ties": SELECTING,
    "dare_linear": SELECTING,
    "dare_ties": SELECTING,
    "della": SELECTING,
    "breadcrumbs": SELECTING,
    "sce": SELECTING,
    "slerp": ANGULAR,
    "nuslerp": ANGULAR,
    "karcher": ANGULAR,
    "model_stock": ANGULAR,
}


@pytest.mark.parametrize("tensor", ["matrix", "vector"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_method_gives_the_values_of_mergekit(case: dict[str, Any], tensor: str) -> None:
    sources = SOURCES[: len(case["weights"])]
    inputs = [TENSORS[f"{case['family']}.{tensor}.{source}"] for source in sources]
    base = TENSORS[f"{case['family']}.{tensor}.base"]
    keys = [(source, tensor) for source in sources]
    merged = merge_tensors(case["method"], inputs, case["weights"], base=base, keys=keys, **case["parameters"])
    expected = TENSORS[f"out.{case['name']}.{tensor}"]
    torch.testing.assert_close(merged, expected, rtol=0.0, atol=TOLERANCE[case["method"]])


def test_every_method_has_goldens_and_none_equals_an_input() -> None:
    assert {case["method"] for case in CASES} == set(methods.names()) == set(TOLERANCE)
    for case in CASES:
        for source in ("base", *SOURCES[: len(case["weights"])]):
            same = torch.equal(TENSORS[f"out.{case['name']}.matrix"], TENSORS[f"{case['family']}.matrix.{source}"])
            assert same == (case["method"] == "passthrough" and source == "first")
