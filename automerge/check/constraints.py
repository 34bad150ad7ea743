"""Constraints as users write them, read and looked at before a search::

read_constraints(["layers <= 30", "sums >= 0.8"], tasks=["sums"])
# [Constraint("layers", "<=", 30.0), Constraint("sums", ">=", 0.8, "task")], []
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from typing import Any, Literal, cast

import numpy as np

from automerge.protocols import Space
from automerge.records import Constraint

COSTS = ("layers", "parameters")
"""Costs of a model that can be objectives or be bounded."""

SAMPLED = 256
"""Random models that tell whether a bound on a cost can be kept."""

FORM = re.compile(r"\s*(?P<name>.+?)\s*(?P<sense><=|>=|==|=<|=>|<|>|=)\s*(?P<bound>.*?)\s*")


def read_constraints(texts: Any, tasks: Collection[str]) -> tuple[list[Constraint], list[str]]:
    """The constraints that the list says, on these tasks and on costs, and a message for every text that says none."""
    if texts is None:
        return [], []
    if not isinstance(texts, Sequence) or isinstance(texts, str):
        return [], [f"constraints: expected a list such as ['layers <= 30'], got {texts!r}"]
    found: list[Constraint] = []
    faults: list[str] = []
    for text in texts:
        try:
            found.append(_constraint(str(text), tasks))
        except ValueError as fault:
            faults.append(f"constraints: {text!r}: {fault}")
    return found, faults


def constraint_warnings(space: Space, constraints: Sequence[Constraint]) -> list[str]:
    """A message for every bound on a cost that no reference within the space and no sampled model of it keeps.

    A space that was not measured knows no parameters, so bounds on them are passed over.
    """
    bounds = [constraint for constraint in constraints if constraint.kind == "cost"]
    if not bounds:
        return []
    X = space.sample(SAMPLED, np.random.default_rng(0))
    known = [each.genotype for each in space.references().values() if each.genotype is not None]
    costs = space.costs(np.vstack([X, *known]))
    found = []
    for constraint in bounds:
        values = costs.get(constraint.name)
        if values is not None and all(constraint.excess(float(value)) > 0 for value in values):
            low, high = values.min(), values.max()
            have = f"all have {low:,.10g}" if low == high else f"they have {low:,.10g} to {high:,.10g}"
            found.append(
                f"none of {len(values)} models of the space keeps {constraint.text}: {have} {constraint.name}; "
                "if no model keeps it, the search will recommend none, so change the bound or the space"
            )
    return found


def _constraint(text: str, tasks: Collection[str]) -> Constraint:
    match = FORM.fullmatch(text)
    if match is None:
        raise ValueError("expected a name, <= or >=, and a number, such as 'layers <= 30'")
    name, sense = match["name"], match["sense"]
    if name not in (*tasks, *COSTS):
        raise ValueError(f"there is no task or cost {name!r}; there are {', '.join((*tasks, *COSTS))}")
    if sense not in ("<=", ">="):
        raise ValueError(f"expected <= or >=, got {sense}")
    try:
        bound = float(match["bound"])
    except ValueError as fault:
        raise ValueError(f"expected a number after {sense}, got {match['bound']!r}") from fault
    if not math.isfinite(bound):
        raise ValueError(f"expected a finite number after {sense}, got {match['bound']}")
    kind: Literal["task", "cost"] = "task" if name in tasks else "cost"
    if kind == "task" and not 0 <= bound <= 1:
        raise ValueError(f"scores lie between 0 and 1, got {bound:g}; write 0.8 for 80 %")
    return Constraint(name, cast(Literal["<=", ">="], sense), bound, kind)
