"""Fixtures: example runs, their benchmark and one made by hand, made once. Tests that write into one copy it first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from automerge.benchmark import Benchmark, load
from automerge.benchmark.export import export_benchmark
from tests.benchmark import handmade as made
from tests.benchmark.example import example_runs


@pytest.fixture(scope="session")
def example_folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of the example runs."""
    return example_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def example_exported(example_folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the benchmark of the example runs."""
    folder = tmp_path_factory.mktemp("exported") / "example"
    export_benchmark(example_folders, folder)
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the benchmark made by hand."""
    return made.handmade(tmp_path_factory.mktemp("benchmark") / "handmade")


@pytest.fixture(scope="session")
def b(folder: Path) -> Benchmark:
    """The benchmark made by hand."""
    return load(folder, verify=True)


@pytest.fixture(scope="session", name="X")
def sampled(b: Benchmark) -> np.ndarray:
    """Genotypes of its space."""
    return b.space.sample(400, np.random.default_rng(5))
