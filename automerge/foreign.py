"""Optimizers of other libraries behind `ask` and `tell`, with our log, fidelities and accounting.

A library suggests points of its own kind and is told their values once, when their first evaluation ends; promotions
up the ladder are ours. What it suggests a second time is not evaluated a second time: it is told what is known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge.fidelity import Ladder
from automerge.ledger import Ledger
from automerge.options import flag_faults, refuse
from automerge.protocols import Space
from automerge.records import REFERENCE, Constraint, Objective, Proposal, Result, Trial, genotype_key
from automerge.variation import N_TRIES, new_sample

SAMPLED = 64
"""Random models that tell how large costs are."""


def worst_values(objectives: Sequence[Objective], space: Space) -> NDArray[np.float64]:
    """The least that models of a space may reach, larger is better, shape (n_objectives,).

    It is 0 for scores, and for costs about the largest: exactly for layers, the most of a sample for others.
    """
    costs = space.costs(space.sample(SAMPLED, np.random.default_rng(0)))
    found = []
    for objective in objectives:
        most = 0.0
        if objective.kind == "cost":
            most = max([space.max_layers if objective.name == "layers" else 0.0, *costs.get(objective.name, ())])
        found.append(-most)
    return np.array(found, dtype=np.float64)


class Foreign(ABC):
    """The part that all have in common. Holds a ledger, and by genotype what the library waits to be told.

    With `halving` suggestions are evaluated up to the first rung and the best promoted; without, on all items at once.
    A member names itself in `operator`, and suggests and informs in its library's terms.
    """

    operator: str
    """What origins say of its suggestions."""

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
        self._known: dict[bytes, Trial] = {}
        self._waiting: dict[bytes, list[Any]] = {}
        self._n_asked = 0

    def ask(self) -> Proposal:
        """A promotion if one is due, else what the library suggests; a sample if it suggests nothing new.

        It is a known genotype only if `new_sample` finds no other, as where the space is used up.
        """
        self._n_asked += 1
        promotion = self._ledger.promotion()
        if promotion is not None:
            return promotion
        for _ in range(N_TRIES):
            handle, genotype = self._suggest()
            key = genotype_key(genotype)
            self._waiting.setdefault(key, []).append(handle)
            if self._ledger.is_new(genotype):
                self._ledger.see(genotype)
                return Proposal(genotype, self._ledger.first_stop, {"operator": self.operator})
            if key in self._known:
                self._answer(self._known[key])
        genotype = new_sample(self._space, self._ledger.seen, np.random.default_rng([self._seed, self._n_asked]))
        self._ledger.see(genotype)
        return Proposal(genotype, self._ledger.first_stop, {"operator": "sample"})

    def tell(self, trial: Trial) -> None:
        """Takes the state of a trial."""
        is_first = trial.id not in self._ledger.trials
        self._ledger.tell(trial)
        self._known[genotype_key(trial.genotype)] = trial
        if is_first and trial.origin["operator"] == REFERENCE:
            self._begin_from(trial)
        self._answer(trial)

    def promising(self, n: int) -> list[int]:
        """Ids of at most n partly evaluated trials that most likely belong on the front, best first."""
        return self._ledger.promising(n)

    def _answer(self, trial: Trial) -> None:
        for handle in self._waiting.pop(genotype_key(trial.genotype), ()):
            self._inform(handle, self._values(trial))

    def _values(self, trial: Trial) -> NDArray[np.float64] | None:
        """Objective values of shape (n_objectives,), larger is better, None for a trial that is not ok.

        Of references they are those of the items with which suggestions begin, where these are known: the first items
        may be easier than the rest. A trial that breaks constraints has values below those of all trials so far.
        """
        if trial.status != "ok":
            return None
        alive = [self._as_begun(trial) if trial.origin["operator"] == REFERENCE else trial]
        alive += [each for each in self._ledger.alive if each.id != trial.id]
        return np.asarray(self._ledger.points(alive)[0])

    def _as_begun(self, trial: Trial) -> Trial:
        """The trial as it was evaluated on the items with which suggestions begin, where these are known."""
        stop = self._ledger.first_stop
        begun = {task: Result(min(stop, len(items)), float(sum(items[:stop]))) for task, items in trial.items.items()}
        return replace(trial, results=begun) if begun else trial

    @abstractmethod
    def _suggest(self) -> tuple[Any, NDArray[np.float64]]:
        """What the library calls its next suggestion, and the suggestion as a canonical genotype, shape (n_genes,)."""

    @abstractmethod
    def _inform(self, handle: Any, values: NDArray[np.float64] | None) -> None:
        """Tells the library the values of a suggestion, larger is better; None if its model broke or failed.

        Libraries wait for an answer to everything they suggest, and most know no other bad news than a bad value: so
        what was lost is told like what broke, where it stands behind all that works.
        """

    def _begin_from(self, trial: Trial) -> None:  # noqa: B027 (not every library takes points that it did not suggest)
        """Tells the library a reference: the base, a source, a uniform merge or a given recipe. By default nothing."""
