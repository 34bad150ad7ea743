"""Where source weights are kept: on the device, in the host's memory, or on disk, memory-mapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch

from automerge.resident.host_memory import free_host_bytes

Placement = Literal["device", "host", "disk"]

RESERVE = 0.1
"""Share of the memory that stays free for activations and temporaries."""


@dataclass(frozen=True)
class Demand:
    """Bytes that a search needs: the sources' weights, the live candidate, which is loaded already, and the masks of
    random methods.

    In pinned memory the weights take `rounding` bytes more.
    """

    sources: int
    candidate: int
    masks: int
    rounding: int = 0


@dataclass(frozen=True)
class Choice:
    """A placement, and a sentence that says why, with the sizes."""

    placement: Placement
    reason: str


def choose(wanted: Placement | Literal["auto"], demand: Demand, device: torch.device) -> Choice:
    """The placement that is wanted, or for `auto` the fastest into which everything fits.

    On disk nothing is kept: masks are drawn again for every candidate.
    """
    free = {"device": free_bytes(device), "host": free_bytes(torch.device("cpu"))}
    usable = {place: int(size * (1 - RESERVE)) for place, size in free.items()}
    place: Placement = "device" if wanted == "auto" else wanted
    if wanted == "auto":
        place = next(kept for kept, enough in _fits(demand, usable, device).items() if enough)
    spared = next((kept for kept, enough in _fits(replace(demand, masks=0), usable, device).items() if enough), place)
    where = {
        "device": f"on {device}",
        "host": "in pinned host memory",
        "disk": "on disk, memory-mapped, so that merging waits for it",
    }
    return Choice(
        placement=place,
        reason=f"sources ({gigabytes(demand.sources)}) stay {where[place]}; the candidate takes "
        f"{gigabytes(demand.candidate)}, masks {gigabytes(demand.masks)}; free: {gigabytes(free['device'])} on {device}"
        + (f", {gigabytes(free['host'])} in the host" if device.type != "cpu" else "")
        + (
            f"; without random methods (such as dare_ties) in space.methods they would stay {where[spared]}"
            if wanted == "auto" and spared != place
            else ""
        ),
    )


def _fits(demand: Demand, usable: Mapping[str, int], device: torch.device) -> Mapping[Placement, bool]:
    """Whether everything fits by where the sources are kept, the fastest place first."""
    return {
        "device": demand.sources + demand.masks <= usable["device"],
        "host": device.type != "cpu"
        and demand.masks <= usable["device"]
        and demand.sources + demand.rounding <= usable["host"],
        "disk": True,
    }


def free_bytes(device: torch.device) -> int:
    """Free memory of the device, or of the host for a CPU; on a GPU also what PyTorch holds without use."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + int(idle)
    return free_host_bytes()


def gigabytes(n_bytes: int) -> str:
    """The number of bytes as people read it, such as `1.5 GB`."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"
