"""Known models, such as sources and uniform merges, with what was measured of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge.recipe import Recipe
from automerge.records import Status

Values = NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredReference:
    """A known model with what was measured of it, not predicted.

    `measured` has by task and split the sum and the number of item scores, None where nothing was measured. `config`
    and `genotype` are None for a recipe outside the space; one that is not `eligible` breaks the space's bounds. Its
    `status` is `ok` unless it broke or could not be evaluated.
    """

    name: str
    kind: str
    eligible: bool
    status: Status
    recipe: Recipe
    genotype: Values | None
    config: Mapping[str, Any] | None
    measured: Mapping[str, Mapping[str, tuple[float, int] | None]]
    costs: Mapping[str, float]

    @staticmethod
    def of(told: Mapping[str, Any], named: Callable[[Values], Mapping[str, Any]]) -> MeasuredReference:
        """The reference that the metadata of a benchmark tell of; `named` gives the configuration of a genotype."""
        genotype = None if told["genotype"] is None else np.array(told["genotype"], dtype=np.float64)
        measured = {
            task: {split: None if sums is None else (float(sums[0]), int(sums[1])) for split, sums in splits.items()}
            for task, splits in told["results"].items()
        }
        return MeasuredReference(
            name=told["name"],
            kind=told["kind"],
            eligible=told["eligible"],
            status=told["status"],
            recipe=Recipe.from_json(json.dumps(told["recipe"])),
            genotype=genotype,
            config=None if genotype is None else named(genotype),
            measured=measured,
            costs=told["costs"],
        )
