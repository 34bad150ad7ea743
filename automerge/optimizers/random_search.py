"""Random search: genotypes sampled from the space, with or without successive halving. The honest floor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automerge.fidelity import Ladder
from automerge.ledger import Ledger
from automerge.protocols import Space
from automerge.records import Constraint, Objective, Proposal, Trial
from automerge.variation import new_sample


class RandomSearch:
    """Samples new genotypes from the space; promotes the best of them up the ladder.

    `halving: false` evaluates every sample at full fidelity. Holds the trials told and the genotypes asked.
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
        self._space = space
        self._seed = seed
        self._ledger = Ledger(objectives=objectives, ladder=ladder, constraints=constraints, halving=halving)
        self._n_asked = 0

    def ask(self) -> Proposal:
        """A promotion if one is due, else a new genotype at the first rung: a sample.

        It is a known one only if `new_sample` finds no other, as where the space is used up.
        """
        self._n_asked += 1
        promotion = self._ledger.promotion()
        if promotion is not None:
            return promotion
        genotype = new_sample(self._space, self._ledger.seen, np.random.default_rng([self._seed, self._n_asked]))
        self._ledger.see(genotype)
        return Proposal(genotype, self._ledger.first_stop, {"operator": "sample"})

    def tell(self, trial: Trial) -> None:
        """Takes the state of a trial."""
        self._ledger.tell(trial)

    def promising(self, n: int) -> list[int]:
        """Ids of at most n partly evaluated trials that most likely belong on the front, best first."""
        return self._ledger.promising(n)
