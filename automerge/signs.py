"""Sign election: the step that TIES and its descendants share (arXiv 2306.01708, section 3, steps 2 and 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def elect_and_sum(base: Tensor, differences: Sequence[Tensor]) -> Tensor:
    """The base plus, for each parameter, the differences that have the sign of their sum; float32, of base's shape.

    Adds up one tensor at a time: a stack of all would double the memory.
    """
    elected = torch.zeros_like(base, dtype=torch.float32)
    for difference in differences:
        elected.add_(difference)
    elected.sign_()
    merged = base.to(torch.float32, copy=True)
    for difference in differences:
        merged.add_(torch.where(torch.sign(difference) == elected, difference, 0.0))
    return merged
