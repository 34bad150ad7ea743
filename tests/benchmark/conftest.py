"""Fixtures: the example runs and their benchmark, made once. Tests that write into a benchmark copy it first."""

from __future__ import annotations

from pathlib import Path

import pytest

from automerge.benchmark.export import export_benchmark
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
