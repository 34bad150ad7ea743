"""What random methods keep of one tensor: a fixed random number, and a rank, for every entry, one byte each.

Both depend on the tensor alone and not on the candidate, so masks of different densities nest and a recipe is
reproducible from its JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Mask = Literal["numbers", "ranks"]

LEVELS = 256
"""Random numbers are kept as one byte each, so a probability acts in steps of 1/256."""


def numbers(shape: Sequence[int], *, key: tuple[str, ...]) -> Tensor:
    """Independent random numbers, uint8 in [0, 255], of that shape, on the CPU; `key` seeds them.

    A number m stands for (m + 1/2) / 256: an entry of probability p is kept if its number lies below 256 p.
    """
    digest = hashlib.sha256("\0".join(("dare", *key)).encode()).digest()
    # Drawn on the CPU always, so that every device has the same mask.
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randint(0, LEVELS, tuple(shape), generator=generator, dtype=torch.uint8)


def ranks(magnitudes: Tensor) -> Tensor:
    """Rank of every entry among the entries of its row, uint8 from 0 (smallest) to 255 (largest), of equal shape.

    A tensor of one dimension is one row; of more than two, all but the first dimension make up a row.
    """
    rows = magnitudes.reshape(1, -1) if magnitudes.dim() < 2 else magnitudes.reshape(magnitudes.shape[0], -1)
    width = rows.shape[1]
    found = torch.empty(rows.shape, dtype=torch.uint8, device=rows.device)
    # Row by row in blocks: ranks take eight bytes an entry while they are made.
    step = max(1, 2**22 // max(1, width))
    for start in range(0, rows.shape[0], step):
        order = rows[start : start + step].argsort(dim=1, stable=True)
        levels = (torch.arange(width, device=rows.device) * (LEVELS - 1) / max(1, width - 1)).round()
        found[start : start + step].scatter_(1, order, levels.to(torch.uint8).expand_as(order))
    return found.reshape(magnitudes.shape)
