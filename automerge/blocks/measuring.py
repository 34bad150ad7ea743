"""What the sources' weights tell a space: how far each of them moves a part of the model, and what models cost.

Features hold the weights of sources by parts of the model. Where training changed little of a source, so does its
weight; multiplied by the size of the change, equal steps of features are about equal steps of the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from automerge.protocols import Measures

FACTORS = (0.3, 3.0)
"""Bounds of a factor: no part is forgotten, and none drowns all others."""


def factors(
    measures: Measures, parts: Sequence[Iterable[tuple[int | None, str]]], n_sources: int
) -> NDArray[np.float64]:
    """How far a weight of 1 moves the model, shape (n_parts, n_sources), for parts by the slots they are made of.

    It is the mean of the source's norms in these slots, over the mean of all slots and sources, within FACTORS: the
    mean and not the length of the whole, as norms are relative already, each to its own base. Slots without a norm do
    not count, because they have no tensors, or NaN because the base is 0 there; a part without others has factor 1.
    Raises ValueError for norms of more or fewer sources.
    """
    shapes = {norms.shape for norms in measures.norms.values()}
    if shapes - {(n_sources,)}:
        raise ValueError(
            f"expected for every slot the norms of {n_sources} sources, shape ({n_sources},), got {sorted(shapes)}; "
            "measure the sources of the space, in its order"
        )
    usual = _means(measures.norms.values(), 1)[0]
    found = np.ones((len(parts), n_sources))
    if usual > 0:
        for row, slots in zip(found, parts, strict=True):
            means = _means((measures.norms[slot] for slot in slots if slot in measures.norms), n_sources)
            np.clip(means / usual, *FACTORS, out=row, where=np.isfinite(means))
    return found


def costs(counts: NDArray[np.float64], measures: Measures | None) -> dict[str, NDArray[np.float64]]:
    """Layers, and parameters once measured, of models by how often each has every layer of the sources; (n,) each.

    `counts` has shape (n, n_layers). Measures may tell no parameters.
    """
    found = {"layers": counts.sum(axis=1, dtype=np.float64)}
    if measures is not None and measures.parameters:
        sizes = np.array([measures.parameters[layer] for layer in range(counts.shape[1])], dtype=np.float64)
        found["parameters"] = measures.parameters[None] + counts @ sizes
    return found


def _means(norms: Iterable[NDArray[np.float64]], n_columns: int) -> NDArray[np.float64]:
    """The means of what is finite by column, shape (n_columns,); NaN where nothing is."""
    given = np.array(list(norms), dtype=np.float64).reshape(-1, n_columns)
    there = np.isfinite(given)
    n_there = there.sum(axis=0)
    return np.where(n_there > 0, given.sum(axis=0, where=there) / np.maximum(n_there, 1), np.nan)
