"""What the weights of the sources tell a space: how far each moves the base, slot by slot, and how large slots are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automerge.protocols import Measures
from automerge.task_vectors import Slot, TaskVectors

if TYPE_CHECKING:
    from automerge.merge import ResidentSources


def measure(sources: ResidentSources, vectors: TaskVectors) -> Measures:
    """The norms of the task vectors by slot, relative to the base's, and the numbers of parameters by layer.

    Where the base's weights are all 0 no relative norm exists; a source has the mean of its others there, 1 if it has
    none.
    """
    parameters: Counter[int | None] = Counter()
    for (layer, _), names in sources.alignment.slots.items():
        parameters[layer] += sum(math.prod(sources.shapes[name]) for name in names)
    return Measures(_norms(vectors), dict(parameters))


def to_settings(measures: Measures) -> dict[str, Any]:
    """What a log keeps of the measures, ready for JSON: rows of layer, component, norms, and of layer, parameters."""
    return {
        "norms": [[layer, component, norms.tolist()] for (layer, component), norms in measures.norms.items()],
        "parameters": [[layer, number] for layer, number in measures.parameters.items()],
    }


def from_settings(settings: Mapping[str, Any]) -> Measures:
    """The measures that the settings of a log tell.

    A log that keeps none, as those of earlier versions, tells the norms by its task vectors, and no parameters.
    """
    if "measures" not in settings:
        return Measures(_norms(TaskVectors.from_settings(settings["task_vectors"])), {})
    content = settings["measures"]
    return Measures(
        {(layer, component): np.array(norms) for layer, component, norms in content["norms"]},
        {layer: int(number) for layer, number in content["parameters"]},
    )


def _norms(vectors: TaskVectors) -> dict[Slot, NDArray[np.float64]]:
    """By slot the relative norms, shape (n_sources,), with numbers in place of NaN."""
    slots = list(vectors.slots)
    norms = np.array([vectors.at(slot).norms for slot in slots]).reshape(len(slots), len(vectors.sources))
    return dict(zip(slots, _filled(norms), strict=True))


def _filled(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Norms of shape (n_slots, n_sources) with numbers in place of NaN."""
    known = np.isfinite(norms)
    n_known = known.sum(axis=0)
    sums = np.where(known, norms, 0.0).sum(axis=0)
    means = np.where(n_known > 0, sums / np.maximum(n_known, 1), 1.0)
    return np.where(known, norms, means)
