"""Random search: genotypes sampled from the space, with or without successive halving. The honest floor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from automerge.fidelity import Ladder
from automerge.ledger import Ledger
from automerge.options import flag_faults, refuse
from automerge.protocols import Space
from automerge.records import Constraint, Objective, Proposal, Trial
from automerge.tied_samples import tied
from automerge.variation import N_TRIES, new_sample


class RandomSearch:
    """Samples new genotypes from the space; promotes the best of them up the ladder.

    `halving: false` evaluates every sample at full fidelity. `tied` takes only models all layers of which share one
    setting: a sample's layer, drawn at random for every component or, half of the time, for all of them and the part
    outside the layers. Stacks keep the blocks and scales of the sample, which all alike would be the same few models.
    Holds the trials told and the genotypes asked.
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
        tied: bool = False,
    ) -> None:
        refuse(flag_faults(halving=halving, tied=tied))
        self._space = space
        self._tied = tied
        self._seed = seed
        self._ledger = Ledger(objectives=objectives, ladder=ladder, constraints=constraints, halving=halving)
        self._n_asked = 0

    def ask(self) -> Proposal:
        """A promotion if one is due, else a new genotype at the first rung: a sample.

        With `tied` it is not tied only if none of N_TRIES tied ones is new. It is a known one only if `new_sample`
        finds no other, as where the space is used up.
        """
        self._n_asked += 1
        promotion = self._ledger.promotion()
        if promotion is not None:
            return promotion
        rng = np.random.default_rng([self._seed, self._n_asked])
        genotype = self._tied_sample(rng) if self._tied else None
        if genotype is None:
            genotype = new_sample(self._space, self._ledger.seen, rng)
        self._ledger.see(genotype)
        return Proposal(genotype, self._ledger.first_stop, {"operator": "sample"})

    def tell(self, trial: Trial) -> None:
        """Takes the state of a trial."""
        self._ledger.tell(trial)

    def promising(self, n: int) -> list[int]:
        """Ids of at most n partly evaluated trials that most likely belong on the front, best first."""
        return self._ledger.promising(n)

    def _tied_sample(self, rng: np.random.Generator) -> NDArray[np.float64] | None:
        """A new tied sample of shape (n_genes,), None if N_TRIES are all known."""
        for _ in range(N_TRIES):
            sample = tied(self._space.sample(1, rng)[0], self._space, rng)
            if self._ledger.is_new(sample):
                return sample
        return None
