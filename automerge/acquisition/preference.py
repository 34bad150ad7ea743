"""Where on the front a user wants to look: above a point, or towards one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from automerge.options import is_number
from automerge.pareto import Points
from automerge.records import Objective


class Preference:
    """Two points by names of objectives, in their own units: scores between 0 and 1, costs as they are.

    `reference_point` may name some objectives, `aspiration` names all of them. Raises ValueError otherwise, and for
    values that no model can have.
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
            given: object = {} if point is None else point
            faulty = [each for each in given.values() if not is_number(each)] if isinstance(given, Mapping) else [given]
            if faulty:
                example = ", ".join(f"{each.name}: {0.5 if each.kind != 'cost' else 20}" for each in objectives)
                raise ValueError(f"{option}: expected numbers by objective, such as {{{example}}}, got {faulty[0]!r}")
            if unknown := sorted(set(point or {}) - set(names)):
                raise ValueError(
                    f"{option}: {', '.join(unknown)} {'is no objective' if len(unknown) == 1 else 'are no objectives'} "
                    f"of this search; {'the only one is' if len(names) == 1 else 'they are'} {', '.join(names)}"
                )
            for each in objectives:
                value = float((point or {}).get(each.name, 0.0))
                if each.kind != "cost" and not 0 <= value <= 1:
                    raise ValueError(
                        f"{option}: scores lie between 0 and 1, got {value:g} for {each.name}; write 0.8 for 80 %"
                    )
                if option == "reference_point" and each.kind != "cost" and value == 1:
                    raise ValueError(f"{option}: no score lies above 1, which is given for {each.name}; take less")
        if aspiration and (missing := sorted(set(names) - set(aspiration))):
            raise ValueError(f"aspiration: name a value for every objective, {', '.join(missing)} is missing")
        self._least = np.array(
            [each.sign * float((reference_point or {}).get(each.name, np.nan)) for each in objectives]
        )
        self.aspiration: NDArray[np.float64] | None = (
            np.array([each.sign * float(aspiration[each.name]) for each in objectives]) if aspiration else None
        )

    def reference(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """The point above which improvements count, shape (n_objectives,): the user's, elsewhere `point`."""
        return np.where(np.isnan(self._least), point, self._least)


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
