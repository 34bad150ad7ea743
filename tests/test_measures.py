"""Measures of the sources against whole tensors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from automerge.measures import from_settings, measure, to_settings
from automerge.merge import ResidentSources
from automerge.recipe import Fusion, Input, uniform
from automerge.sources.checkpoint import CheckpointSource
from automerge.sources.memory import MemorySource
from automerge.task_vectors import task_vectors
from tests import toy


def test_norms_and_parameters_are_those_of_the_checkpoints(llama: dict[str, Path]) -> None:
    sources = ResidentSources([CheckpointSource(name, str(folder)) for name, folder in llama.items()])
    found = measure(sources, task_vectors(sources))
    base, left, right = (load_file(llama[name] / "model.safetensors") for name in ("base", "left", "right"))

    def length(wanted: str, *tensors: dict[str, torch.Tensor]) -> float:
        parts = [
            tensors[0][name].double() - sum(t[name].double() for t in tensors[1:]) for name in base if wanted in name
        ]
        return float(torch.cat([part.ravel() for part in parts]).norm())

    mlp = ".layers.1.mlp."
    expected = [length(mlp, own, base) / length(mlp, base) for own in (left, right)]
    assert found.norms[1, "mlp"] == pytest.approx(expected, rel=1e-5)
    for layer in range(toy.N_LAYERS):
        inside = [tensor for name, tensor in base.items() if f".layers.{layer}." in name]
        assert found.parameters[layer] == sum(tensor.numel() for tensor in inside)
    whole = sources.n_parameters(uniform(Fusion("passthrough", (Input("left", None),)), toy.N_LAYERS))
    assert sum(found.parameters.values()) == whole == sum(tensor.numel() for tensor in base.values())


def test_a_source_has_its_mean_where_the_base_is_nothing() -> None:
    def source(name: str, *values: float) -> MemorySource:
        names = [f"model.layers.{layer}.self_attn.q_proj.weight" for layer in range(3)]
        return MemorySource(name, {key: torch.full((2, 2), value) for key, value in zip(names, values, strict=True)})

    sources = ResidentSources([source("base", 0.0, 1.0, 2.0), source("a", 1.0, 1.5, 5.0), source("b", 2.0, 1.0, 3.0)])
    found = measure(sources, task_vectors(sources))
    assert found.norms[1, "attention"] == pytest.approx([0.5, 0.0])
    assert found.norms[2, "attention"] == pytest.approx([1.5, 0.5])
    assert found.norms[0, "attention"] == pytest.approx([1.0, 0.25])
    nothing = ResidentSources([source("base", 0.0, 0.0, 0.0), source("a", 1.0, 1.5, 5.0)])
    found = measure(nothing, task_vectors(nothing))
    assert np.array([*found.norms.values()]).tolist() == [[1.0]] * 3


def test_a_log_gives_the_measures_back(llama: dict[str, Path]) -> None:
    sources = ResidentSources([CheckpointSource(name, str(folder)) for name, folder in llama.items()])
    vectors = task_vectors(sources)
    known = measure(sources, vectors)
    kept = json.loads(json.dumps({"measures": to_settings(known), "task_vectors": vectors.to_settings()}))
    found = from_settings(kept)
    assert found.parameters == known.parameters
    assert found.norms.keys() == known.norms.keys()
    assert all(np.array_equal(found.norms[slot], known.norms[slot]) for slot in known.norms)
    del kept["measures"]
    earlier = from_settings(kept)
    assert earlier.parameters == {}
    assert all(np.array_equal(earlier.norms[slot], known.norms[slot]) for slot in known.norms)
