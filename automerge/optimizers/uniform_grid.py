"""A grid over uniform merges, what practitioners do by hand: every layer alike, a few strengths of every method.

Nothing of what was measured steers the grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automerge.fidelity import Ladder
from automerge.ledger import Ledger
from automerge.options import flag_faults, refuse
from automerge.protocols import Space
from automerge.records import Constraint, Objective, Proposal, Trial
from automerge.uniform_points import uniform_points
from automerge.variation import new_sample


class UniformGrid:
    """Proposes the points of grids of `uniform_points`, from coarse to fine, and promotes the best up the ladder.

    `halving: false` evaluates every point at full fidelity. When all grids are used up it goes on with samples of the
    space.
    """

    def __init__(
        self,
        *,
        space: Space,
        objectives: Sequence[Objective],
        ladder: Ladder,
        seed: int,
        constraints: Sequence[Constraint] = (),
        halving: bool = True,
    ) -> None:
        refuse(flag_faults(halving=halving))
        self._space = space
        self._seed = seed
        self._ledger = Ledger(objectives=objectives, ladder=ladder, constraints=constraints, halving=halving)
        self._points = uniform_points(space, seed=seed)
        self._n_asked = 0

    def ask(self) -> Proposal:
        """A promotion if one is due, else the next point of the grid that is new, else a sample."""
        self._n_asked += 1
        promotion = self._ledger.promotion()
        if promotion is not None:
            return promotion
        genotype = next((point for point in self._points if self._ledger.is_new(point)), None)
        operator = "grid"
        if genotype is None:
            operator = "sample"
            genotype = new_sample(self._space, self._ledger.seen, np.random.default_rng([self._seed, self._n_asked]))
        self._ledger.see(genotype)
        return Proposal(genotype, self._ledger.first_stop, {"operator": operator})

    def tell(self, trial: Trial) -> None:
        """Takes the state of a trial."""
        self._ledger.tell(trial)

    def promising(self, n: int) -> list[int]:
        """Ids of at most n partly evaluated trials that most likely belong on the front, best first."""
        return self._ledger.promising(n)
