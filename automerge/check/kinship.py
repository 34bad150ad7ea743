"""Whether the sources are fine-tunes of the base and differ from each other, told from their task vectors.

Layers are judged by attention and mlp alone: the weights of norms begin at 1 in every model, so that models that have
nothing in common look alike there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from automerge.task_vectors import Geometry, TaskVectors

UNRELATED = 0.9
"""Median relative distance to the base from which a source is refused.

Independent weights are at right angles, so their distance is sqrt(1 + r^2) times the base's norm, with r the ratio of
the norms: 1.41 for two initialisations of one model, above 1 for whatever other model. The tenth below 1 is for the
little that independent models share, such as biases of one sign.
"""

FAR = 0.5
"""Median relative distance from which a source is warned of: its task vector is half as long as the base's weights.

Supervised fine-tunes change weights by some percent (arXiv 2311.03099 finds most entries below 0.002), the strongly
trained tiny models of the zoo by 8 to 25; half is continued pre-training for long, or another base after all.
"""

ALIKE = 0.01
"""Distance of two sources, relative to the longer of their task vectors, up to which they count as the same."""


def layer_distances(vectors: TaskVectors) -> NDArray[np.float64]:
    """Relative norms of the task vectors by layer, shape (n_layers, n_sources), of attention and mlp.

    Layers that have neither count whole.
    """
    judged = {"attention", "mlp"}
    rows = []
    for layer in vectors.layers:
        slots = [(layer, component) for component in vectors.components if (layer, component) in vectors.slots]
        rows.append(vectors.at(*([slot for slot in slots if slot[1] in judged] or slots)).norms)
    return np.array(rows)


def kinship_faults(vectors: TaskVectors) -> list[str]:
    """A message for every source that is the base itself, and for every one that is no fine-tune of it."""
    whole = vectors.whole().norms
    distances = layer_distances(vectors)
    found = []
    for k, name in enumerate(vectors.sources):
        if whole[k] == 0:
            found.append(
                f"source {name!r} equals the base in every weight; leave it out, or name the folder of the fine-tune "
                "(an adapter that was never trained changes nothing either)"
            )
        elif np.nanmedian(distances[:, k]) >= UNRELATED:
            found.append(
                f"source {name!r} does not look like a fine-tune of this base: its weights are as far from the base's "
                f"as those of an unrelated model (independent weights: 1.41), by layer {_listed(distances[:, k])}; "
                "merge fine-tunes of one base, and name the base that they were trained from"
            )
    return found


def kinship_warnings(vectors: TaskVectors) -> list[str]:
    """A message for every source that is far from the base, and for every two that are the same."""
    distances = layer_distances(vectors)
    found = [
        f"source {name!r} is far from the base: distances relative to the base's weights by layer "
        f"{_listed(distances[:, k])}; averages of models so far apart often break, see that this is its base"
        for k, name in enumerate(vectors.sources)
        if FAR <= np.nanmedian(distances[:, k]) < UNRELATED
    ]
    whole = vectors.whole()
    for k, other in vectors.pairs:
        if _are_alike(whole, k, other):
            found.append(
                f"sources {vectors.sources[k]!r} and {vectors.sources[other]!r} are the same to within "
                f"{ALIKE:.0%} of what they changed; one of them adds nothing but settings to search"
            )
    return found


def _are_alike(geometry: Geometry, k: int, other: int) -> bool:
    one, two = float(geometry.norms[k]), float(geometry.norms[other])
    if one == 0 or two == 0:
        return False
    squared = one**2 + two**2 - 2 * one * two * float(geometry.cosines[k, other])
    return math.sqrt(max(0.0, squared)) <= ALIKE * max(one, two)


def _listed(distances: Sequence[float] | NDArray[np.float64]) -> str:
    return " ".join(f"{distance:.2f}" for distance in distances)
