"""What an optimizer knows: the trials told, the genotypes seen, and which trial is to be evaluated further.

Every optimizer keeps one, so that none proposes the same model twice without need, all put trials that break a
constraint behind the others, and those that have no rule of their own promote alike::

    ledger = Ledger(objectives=objectives, ladder=ladder)
    ledger.tell(trial)
    ledger.promotion()        # a Proposal to evaluate a known trial further, or None
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from automerge.fidelity import Ladder
from automerge.pareto import Points, best_first
from automerge.records import REFERENCE, Constraint, Objective, Proposal, Trial, genotype_key


class Ledger:
    """Holds the trials by id, the bytes of all genotypes told or proposed, and the ids of trials being promoted.

    With `halving` new genotypes are evaluated up to the first rung and the best go up the ladder; without, every one is
    evaluated on all items at once.
    """

    def __init__(
        self,
        *,
        objectives: Sequence[Objective],
        ladder: Ladder,
        constraints: Sequence[Constraint] = (),
        halving: bool = True,
    ) -> None:
        self.objectives = tuple(objectives)
        self.constraints = tuple(constraints)
        self.ladder = ladder
        self.first_stop = ladder.rungs[0] if halving else ladder.rungs[-1]
        self.trials: dict[int, Trial] = {}
        self.seen: set[bytes] = set()
        self._promoting: set[int] = set()

    @property
    def proposed(self) -> list[Trial]:
        """The trials told that are no references."""
        return [trial for trial in self.trials.values() if trial.origin["operator"] != REFERENCE]

    @property
    def alive(self) -> list[Trial]:
        """The trials told, references included, that are ok."""
        return [trial for trial in self.trials.values() if trial.status == "ok"]

    def tell(self, trial: Trial) -> None:
        """Takes the state of a trial."""
        self.trials[trial.id] = trial
        self.see(trial.genotype)
        self._promoting.discard(trial.id)

    def see(self, genotype: NDArray[np.float64]) -> None:
        """Takes note of a genotype that was proposed."""
        self.seen.add(genotype_key(genotype))

    def is_new(self, genotype: NDArray[np.float64]) -> bool:
        """Whether the genotype was neither told nor proposed."""
        return genotype_key(genotype) not in self.seen

    def promotion(self) -> Proposal | None:
        """The evaluation of a known trial up to its next rung, if one is due by `Ladder.promotion`."""
        if self.first_stop == self.ladder.rungs[-1]:
            return None
        own = [trial for trial in self.proposed if trial.status == "ok"]
        due = self.ladder.promotion(own, self.points(own), self._promoting)
        if due is None:
            return None
        trial, stop = due
        return self.promote(trial, stop)

    def promote(self, trial: Trial, stop: int) -> Proposal:
        """The proposal to evaluate a known trial up to item `stop`; it is in flight until told."""
        self._promoting.add(trial.id)
        return Proposal(trial.genotype, stop, trial.origin, trial=trial.id)

    @property
    def promoting(self) -> frozenset[int]:
        """Ids of the trials whose promotion was proposed and is not told yet."""
        return frozenset(self._promoting)

    def points(self, trials: Sequence[Trial], *, caution: float = 0.0) -> Points:
        """Objective values, shape (n, n_objectives), larger is better.

        A trial that breaks constraints lies below all that keep them, the lower the more it breaks them: its values are
        the least of each objective less its violation. `caution` is that of `Trial.values`.
        """
        if not trials:
            return np.empty((0, len(self.objectives)))
        points = np.array([trial.values(self.objectives, caution=caution) for trial in trials])
        violations = np.array([sum(each.violation(trial) for each in self.constraints) for trial in trials])
        broken = violations > 0
        points[broken] = np.nanmin(points, axis=0) - violations[broken, None]
        return points

    @property
    def unfinished(self) -> list[Trial]:
        """The trials that are ok and not evaluated on all items, without those that break a bound on an exact cost."""
        bounds = [each for each in self.constraints if each.kind == "cost"]
        return [
            trial
            for trial in self.alive
            if trial.n_items < self.ladder.rungs[-1] and all(each.violation(trial) == 0 for each in bounds)
        ]

    def promising(self, n: int) -> list[int]:
        """Ids of at most n trials not yet evaluated on all items that most likely belong on the front, best first.

        One standard error is taken off every mean, so that a lucky short evaluation does not outrank a long one.
        """
        partial = [trial for trial in self.unfinished if trial.n_items > 0]
        return [partial[index].id for index in best_first(self.points(partial, caution=1.0))[:n]]
