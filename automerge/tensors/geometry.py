"""Inner products of the base and the task vectors of one tensor: their norms, their angles, and what follows.

Spherical methods and model stock are weighted sums whose weights depend on these few numbers alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

InnerProducts = NDArray[np.float64]
"""Shape (1 + n, 1 + n): of the base, first, and n task vectors."""


def inner_products(pieces: Iterable[tuple[Tensor, list[Tensor]]]) -> InnerProducts:
    """Inner products of a base and task vectors that come in flat float32 pieces, accumulated in float64."""
    total: Tensor | None = None
    for base, vectors in pieces:
        rows = torch.stack([base, *vectors])
        found = (rows @ rows.T).double()
        total = found if total is None else total.add_(found)
    if total is None:
        raise ValueError("there is nothing to multiply")
    return np.asarray(total.cpu().numpy())


def of_weights(products: InnerProducts) -> NDArray[np.float64]:
    """Inner products of the source tensors themselves, base + task vector, shape (n, n)."""
    rows = np.hstack([np.ones((len(products) - 1, 1)), np.eye(len(products) - 1)])
    return np.asarray(rows @ products @ rows.T)


def cosines(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosines of the vectors with these inner products, of the same shape; 0 where a vector is 0."""
    norms = np.sqrt(np.diag(gram).clip(min=0))
    scale = np.outer(norms, norms)
    return np.asarray(np.divide(gram, scale, out=np.zeros_like(gram), where=scale > 0).clip(-1, 1))
