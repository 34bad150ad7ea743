"""Models all layers of which share one setting, made of samples of a space: random searches draw from them too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from automerge.protocols import Space
from automerge.variation import Layout


def tied(x: NDArray[np.float64], space: Space, rng: np.random.Generator) -> NDArray[np.float64]:
    """The canonical genotype, shape (n_genes,), that repeats one layer of a genotype over the whole depth.

    The layer is drawn for every component anew or, half of the time, with one component for all components and the part
    outside the layers. Blocks of stacks and their scales stay as they are.
    """
    movable = Layout.of(space.genes).movable
    slots: dict[tuple[int, str], list[int]] = {}
    for column in np.flatnonzero(movable):
        gene = space.genes[column]
        slots.setdefault((gene.depth, gene.component), []).append(int(column))
    # Where nothing is fused, the genes of a fusion are at their defaults and say nothing.
    acts = x != [gene.default for gene in space.genes]
    inner = [slot for slot, columns in slots.items() if slot[0] >= 0 and acts[columns].any()]
    child = x.copy()
    if inner:
        whole = inner[rng.integers(len(inner))] if rng.random() < 0.5 else None
        components = sorted({component for _, component in inner})
        own = {name: [slot for slot in inner if slot[1] == name] for name in components}
        donors = {name: own[name][rng.integers(len(own[name]))] for name in components}
        for slot, columns in slots.items():
            donor = whole or donors.get(slot[1])
            if donor is not None:
                _copy(x, child, slots[donor], columns, space)
    return np.asarray(space.repair(child[None])[0])


def _copy(
    x: NDArray[np.float64], child: NDArray[np.float64], source: list[int], target: list[int], space: Space
) -> None:
    """Writes the genes of one slot of x into another of the child, role by role in order; in place."""
    values: dict[str, list[float]] = {}
    for column in source:
        values.setdefault(space.genes[column].role, []).append(x[column])
    for column in target:
        given = values.get(space.genes[column].role)
        if given:
            child[column] = given.pop(0)
