import pytest
import torch

from automerge.resident import placement
from automerge.resident.placement import Demand, choose, gigabytes

GPU, CPU = torch.device("cuda"), torch.device("cpu")
GB = 10**9


def free(monkeypatch: pytest.MonkeyPatch, device: int, host: int) -> None:
    monkeypatch.setattr(placement, "free_bytes", lambda where: (host if where.type == "cpu" else device) * GB)


@pytest.mark.parametrize(
    ("device", "host", "expected"), [(80, 200, "device"), (40, 200, "host"), (40, 20, "disk"), (64, 200, "host")]
)
def test_the_fastest_place_that_fits_is_chosen(
    device: int, host: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, device, host)
    choice = choose("auto", Demand(sources=56 * GB, candidate=14 * GB, masks=4 * GB), GPU)
    assert choice.placement == expected
    for size in ("56.0 GB", "14.0 GB", "4.0 GB", f"{device}.0 GB", f"{host}.0 GB"):
        assert size in choice.reason


def test_on_a_cpu_what_does_not_fit_stays_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 0, 32)
    assert choose("auto", Demand(20 * GB, 5 * GB, 0), CPU).placement == "device"
    assert choose("auto", Demand(40 * GB, 5 * GB, 0), CPU).placement == "disk"


def test_what_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1, 1)
    assert choose("device", Demand(20 * GB, 5 * GB, 0), GPU).placement == "device"


def test_masks_that_do_not_fit_are_drawn_again_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 8, 64)
    choice = choose("auto", Demand(20 * GB, 5 * GB, 12 * GB), GPU)
    assert choice.placement == "disk"
    assert "without random methods (such as dare_ties) in space.methods they would stay in pinned" in choice.reason
    assert "without random" not in choose("disk", Demand(20 * GB, 5 * GB, 12 * GB), GPU).reason
    assert "without random" not in choose("auto", Demand(20 * GB, 5 * GB, 1 * GB), GPU).reason


def test_pinned_memory_takes_more_than_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 8, 64)
    assert choose("auto", Demand(50 * GB, 5 * GB, 0, rounding=5 * GB), GPU).placement == "host"
    assert choose("auto", Demand(50 * GB, 5 * GB, 0, rounding=15 * GB), GPU).placement == "disk"


def test_sizes_are_told_as_people_read_them() -> None:
    assert gigabytes(1_500_000_000) == "1.5 GB"
    assert gigabytes(2_500_000) == "2.5 MB"
