"""Fixtures: families of toy models made once, one CPU thread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import pytest
import torch

from automerge.alignment import Alignment
from automerge.merge import ResidentSources
from automerge.model import ResidentModel, load_causal_lm
from automerge.sources.checkpoint import CheckpointSource
from tests import toy

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _datasets_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps what `datasets` caches out of the user's home."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")
    datasets.disable_progress_bars()


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a toy Llama base and two variants."""
    return toy.make_family(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a toy Qwen2 with tied embeddings and two variants."""
    return toy.make_family(tmp_path_factory.mktemp("qwen2"), kind="qwen2")


@pytest.fixture
def sources(llama: dict[str, Path]) -> list[CheckpointSource]:
    """The toy Llamas as sources."""
    return [CheckpointSource(name, str(folder)) for name, folder in llama.items()]


@pytest.fixture
def resident(llama: dict[str, Path], sources: list[CheckpointSource]) -> ResidentModel:
    """A live toy Llama with its sources."""
    return ResidentModel(load_causal_lm(llama["base"]), ResidentSources(sources))


@pytest.fixture
def alignment(resident: ResidentModel) -> Alignment:
    """The layout of the toy Llamas."""
    return resident.sources.alignment


@pytest.fixture
def two_threads() -> Iterator[None]:
    """PyTorch with two threads, whatever the machine and the tests before have."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
