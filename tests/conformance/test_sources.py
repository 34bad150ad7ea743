"""What every source must do, whatever its weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from automerge.protocols import Source
from automerge.sources.checkpoint import CheckpointSource
from tests.conformance.members import SOURCES


@pytest.fixture(params=SOURCES, ids=list(SOURCES))
def source(request: pytest.FixtureRequest, llama: Mapping[str, Path], tmp_path: Path) -> Source:
    return SOURCES[request.param](llama, tmp_path)


@pytest.fixture
def base(llama: Mapping[str, Path]) -> CheckpointSource:
    return CheckpointSource("base", str(llama["base"]))


def test_a_source_tells_its_name_and_the_base_models_tensors(source: Source, base: CheckpointSource) -> None:
    assert source.name == "left"
    assert dict(source.shapes) == dict(base.shapes)
    assert source.dtypes.keys() == source.shapes.keys()


def test_every_tensor_comes_as_announced_and_the_same_each_time(source: Source) -> None:
    for name, shape in source.shapes.items():
        tensor = source.tensor(name)
        assert tuple(tensor.shape) == shape
        assert tensor.dtype == source.dtypes[name]
        assert tensor.device.type == "cpu"
        assert torch.equal(tensor, source.tensor(name))


def test_low_rank_changes_on_top_of_the_base_are_the_tensor(source: Source, base: CheckpointSource) -> None:
    for name in source.shapes:
        change = source.low_rank(name)
        if change is not None:
            product = (change.scale * change.up @ change.down).reshape(base.shapes[name])
            torch.testing.assert_close(base.tensor(name).float() + product, source.tensor(name).float())


def test_unknown_tensors_raise_key_error(source: Source) -> None:
    for ask in (source.tensor, source.low_rank):
        with pytest.raises(KeyError, match="nothing"):
            ask("nothing")
