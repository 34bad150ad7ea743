"""Random search: genotypes sampled from the space, with or without successive halving. The honest floor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automerge.fidelity import Ladder
from automerge.protocols import Space
from automerge.records import REFERENCE, Objective, Proposal, Trial
from automerge.variation import new_sample


class RandomSearch:
    """Samples new genotypes from the space; promotes the best of them up the ladder.

    `halving: false` evaluates every sample at full fidelity. Holds the trials told and the genotypes asked.
    """

    def __init__(
        self, *, space: Space, objectives: Sequence[Objective], ladder: Ladder, seed: int, halving: bool = True
    ) -> None:
        self._space = space
        self._objectives = tuple(objectives)
        self._ladder = ladder
        self._seed = seed
        self._first_stop = ladder.rungs[0] if halving else ladder.rungs[-1]
        self._halving = halving
        self._trials: dict[int, Trial] = {}
        self._seen: set[bytes] = set()
        self._promoting: set[int] = set()
        self._n_asked = 0

    def ask(self) -> Proposal:
        """A promotion if one is due, else a new genotype at the first rung: a sample.

        It is a known one only if `new_sample` finds no other, as where the space is used up.
        """
        self._n_asked += 1
        if self._halving:
            own = [trial for trial in self._trials.values() if trial.origin["operator"] != REFERENCE]
            due = self._ladder.promotion(own, self._objectives, self._promoting)
            if due is not None:
                trial, stop = due
                self._promoting.add(trial.id)
                return Proposal(trial.genotype, stop, trial.origin, trial=trial.id)
        genotype = new_sample(self._space, self._seen, np.random.default_rng([self._seed, self._n_asked]))
        self._seen.add(genotype.tobytes())
        return Proposal(genotype, self._first_stop, {"operator": "sample"})

    def tell(self, trial: Trial) -> None:
        """Takes the state of a trial."""
        self._trials[trial.id] = trial
        self._seen.add(np.ascontiguousarray(trial.genotype).tobytes())
        self._promoting.discard(trial.id)
