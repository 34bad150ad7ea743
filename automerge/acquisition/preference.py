"""Where on the front a user wants to look: above a point, or towards one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from automerge.pareto import Points
from automerge.records import Objective


class Preference:
    """Two points by names of objectives, in their own units: scores between 0 and 1, costs as they are.

    `reference_point` may name some objectives, `aspiration` names all of them. Raises ValueError otherwise.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        *,
        reference_point: Mapping[str, float] | None = None,
        aspiration: Mapping[str, float] | None = None,
    ) -> None:
        names = [objective.name for objective in objectives]
        for option, point in (("reference_point", reference_point), ("aspiration", aspiration)):
            if unknown := sorted(set(point or {}) - set(names)):
                raise ValueError(f"{option}: {', '.join(unknown)} is no objective; there are {', '.join(names)}")
        if aspiration and (missing := sorted(set(names) - set(aspiration))):
            raise ValueError(f"aspiration: name a value for every objective, {', '.join(missing)} is missing")
        self._least = np.array(
            [each.sign * float((reference_point or {}).get(each.name, np.nan)) for each in objectives]
        )
        self.aspiration: NDArray[np.float64] | None = (
            np.array([each.sign * float(aspiration[each.name]) for each in objectives]) if aspiration else None
        )

    def reference(self, sources: Points) -> NDArray[np.float64]:
        """The point above which improvements count, shape (n_objectives,), given objective values of the sources.

        Where the user names none it lies a tenth of the sources' range below the worst of them.
        """
        span = np.ptp(sources, axis=0)
        below = sources.min(axis=0) - 0.1 * np.where(span > 0, span, np.maximum(np.abs(sources[0]), 1e-3))
        return np.where(np.isnan(self._least), below, self._least)


def achievements(
    points: Points, reference: NDArray[np.float64], aspiration: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The least share of the way from the reference point to the aspiration that points come, over the objectives.

    `points` have shape (..., n_objectives); 1 is at the aspiration (Wierzbicki 1980). Raises ValueError for an
    aspiration that is not above the reference point.
    """
    if not (aspiration > reference).all():
        raise ValueError(
            f"an aspiration lies above the reference point in all objectives, got {aspiration} {reference}"
        )
    return np.asarray(((points - reference) / (aspiration - reference)).min(axis=-1))
