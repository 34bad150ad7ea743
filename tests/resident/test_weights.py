from __future__ import annotations

import weakref
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from automerge.alignment import align
from automerge.protocols import LowRank
from automerge.resident.layout import STAGGER, lay_out, staggered
from automerge.resident.weights import Residence, product
from automerge.sources.memory import MemorySource

CPU = torch.device("cpu")


def tensors(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    names = [f"layers.{layer}.{part}.weight" for layer in range(3) for part in ("mlp.up", "mlp.down", "attn.q")]
    return {name: torch.randn(6, 5, generator=generator).bfloat16() for name in (*names, "embed.weight")}


class Watched(MemorySource):
    """Gives copies and knows how many of them are alive when the next is asked for."""

    def __init__(self, name: str, given: Mapping[str, Tensor]) -> None:
        super().__init__(name, given)
        self.alive: list[weakref.ref[Tensor]] = []
        self.most = 0

    def tensor(self, name: str) -> Tensor:
        self.most = max(self.most, sum(reference() is not None for reference in self.alive))
        copy = super().tensor(name).clone()
        self.alive.append(weakref.ref(copy))
        return copy


def test_loading_holds_one_tensor_at_a_time_beside_the_buffers() -> None:
    sources = [Watched("base", tensors(0)), Watched("one", tensors(1))]
    residence = Residence(sources, lay_out(align(sources), sources[0]), placement="device", device=CPU)
    assert [len(source.alive) for source in sources] == [10, 10]
    # The one before is let go only when its name is bound anew.
    assert max(source.most for source in sources) <= 1
    assert torch.equal(residence.entries("one", "embed.weight", 3, 9), tensors(1)["embed.weight"].flatten()[3:9])


def test_sources_of_another_dtype_are_held_exactly() -> None:
    full = {name: tensor.float() + 1e-6 for name, tensor in tensors(1).items()}
    sources = [MemorySource("base", tensors(0)), MemorySource("full", full)]
    residence = Residence(sources, lay_out(align(sources), sources[0]), placement="device", device=CPU)
    assert torch.equal(residence.entries("full", "embed.weight", 0, 30), full["embed.weight"].flatten())


def test_nan_and_infinity_are_named() -> None:
    broken = tensors(1)
    broken["layers.1.mlp.up.weight"][2, 3] = float("inf")
    broken["embed.weight"][0, 0] = float("nan")
    sources = [MemorySource("base", tensors(0)), MemorySource("broken", broken)]
    for placement in ("device", "disk"):
        with pytest.raises(ValueError, match="2 source tensors hold NaN or infinity") as caught:
            Residence(sources, lay_out(align(sources), sources[0]), placement=placement, device=CPU)
        assert "broken: layers.1.mlp.up.weight" in str(caught.value)


def test_any_stretch_of_a_low_rank_product_is_that_of_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    factor = LowRank(torch.randn(7, 2, generator=generator), torch.randn(2, 5, generator=generator), 0.5)
    whole = (0.5 * factor.up @ factor.down).flatten()
    for start, stop in ((0, 35), (3, 4), (4, 11), (10, 15), (33, 35)):
        torch.testing.assert_close(product(factor, start, stop), whole[start:stop])


def test_streams_begin_at_different_places_of_a_page() -> None:
    buffers = [staggered(1000, stream, dtype=torch.bfloat16, device=CPU) for stream in range(6)]
    assert [buffer.storage_offset() * 2 for buffer in buffers] == [stream * STAGGER for stream in range(6)]
    assert all(buffer.data_ptr() % 64 == 0 for buffer in buffers)
