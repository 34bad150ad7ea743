"""Whether a budget goes beyond the models with which an optimizer begins before it looks at any score."""

from __future__ import annotations

from automerge.protocols import BlindStart, Optimizer


def beginning_warnings(optimizer: Optimizer, candidates: int) -> list[str]:
    """A message if the candidates that a budget allows are all first models, which no score has a say in."""
    if not isinstance(optimizer, BlindStart) or candidates > optimizer.n_initial:
        return []
    return [
        f"the budget allows about {candidates} candidates, but the first {optimizer.n_initial} of this optimizer are "
        "drawn without looking at scores, so nothing is searched; raise the budget, or lower optimizer.n_initial"
    ]
