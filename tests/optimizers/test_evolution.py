"""What evolution makes of its trials; what every optimizer must do is tested in conformance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from automerge.fidelity import Ladder
from automerge.optimizers.evolution import Evolution
from automerge.protocols import Space
from automerge.records import Objective, Result, Trial
from tests.conformance.members import SPACES, lfs


def searched(space: Space, objectives: Sequence[Objective], n: int) -> list[Trial]:
    """Trials of an evolution in which every layer of a source beyond the first two is worth a little."""
    evolution = Evolution(space=space, objectives=objectives, ladder=Ladder(minimum=90, maximum=90), seed=0)
    trials = []
    for number in range(n):
        proposal = evolution.ask()
        recipe = space.decode(proposal.genotype)
        n_layers = len(recipe.layers)
        results = {"a": Result(90, 60 + 2.0 * n_layers)}
        costs = {"layers": float(n_layers)}
        trials.append(Trial(number, proposal.genotype, recipe, proposal.origin, "ok", results, costs))
        evolution.tell(trials[-1])
    return trials


@pytest.mark.parametrize("name", ["dis", "dis, prune", "smm_dfs"])
def test_children_are_shallower_where_the_depth_is_a_cost(name: str) -> None:
    """Scores rise with the depth, so every depth lies on the front if depth is a cost, else the largest alone."""
    rising = [Objective("a")]
    kept = [len(trial.recipe.layers) for trial in searched(SPACES[name](), rising, 60)[-25:]]
    costed = searched(SPACES[name](), [*rising, Objective("layers", "cost")], 60)
    assert np.mean([len(trial.recipe.layers) for trial in costed[-25:]]) < np.mean(kept) - 0.3


def test_what_was_told_is_not_proposed() -> None:
    """Another evolution of the same seed is told first what it would propose."""
    space, objectives = lfs(), [Objective("a")]
    trials = searched(space, objectives, 60)
    evolution = Evolution(space=space, objectives=objectives, ladder=Ladder(minimum=90, maximum=90), seed=0)
    for trial in trials:
        evolution.tell(trial)
    known = {trial.genotype.tobytes() for trial in trials}
    assert all(evolution.ask().genotype.tobytes() not in known for _ in range(30))
