"""Successive halving over nested fidelities, asynchronously (ASHA, arXiv 1810.05934, algorithm 2), and its start."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from automerge.pareto import Points, best_first
from automerge.records import Trial


class Ladder:
    """The rungs: numbers of items from the smallest that is not below `minimum` up to `maximum`, by factors of `eta`.

    With minimum equal to maximum there is one rung and nothing is promoted.
    """

    def __init__(self, *, minimum: int, maximum: int, eta: float = 3.0) -> None:
        if not 1 <= minimum <= maximum or eta <= 1:
            raise ValueError(f"fidelity needs 1 <= min <= max and eta > 1, got min {minimum}, max {maximum}, eta {eta}")
        rungs = [maximum]
        while (below := int(rungs[-1] / eta)) >= minimum:
            rungs.append(below)
        self.rungs = tuple(reversed(rungs))
        self.eta = eta

    def promotion(
        self, trials: Sequence[Trial], points: Points, pending: Collection[int] = ()
    ) -> tuple[Trial, int] | None:
        """The trial to evaluate further and up to which item, or None: the highest rung goes first.

        At most 1/eta of the trials that reached a rung go beyond it; the next to go is the best of those that have
        not, by non-dominated sorting and crowding, if it is among the best 1/eta of all. (Plain ASHA promotes whatever
        is among the best at the moment; with several objectives the best change so often that it promotes most.)
        `points` are the trials' values, shape (n, n_objectives), larger is better; all trials are ok. Those with ids in
        `pending` are being promoted already.
        """
        n_items = np.array([trial.n_items for trial in trials])
        for rung, above in reversed(list(zip(self.rungs, self.rungs[1:], strict=False))):
            reached = np.flatnonzero(n_items >= rung).tolist()
            n_promotable = int(len(reached) / self.eta)
            beyond = {k for k in reached if n_items[k] >= above or trials[k].id in pending}
            if len(beyond) >= n_promotable:
                continue
            for index in best_first(points[reached])[:n_promotable]:
                if reached[index] not in beyond:
                    return trials[reached[index]], above
        return None


SPREAD = 0.05
"""How much good candidates differ in their true scores: what a first evaluation has to tell apart."""


def first_rung(ladder: Ladder, trials: Sequence[Trial]) -> int:
    """The rung at which new models should begin, from the measured costs of these trials, each evaluated once.

    To merge costs c0 seconds whatever follows, an item of every task c1. A budget tells most of candidates whose scores
    differ by SPREAD if each is seen on n items with n^2 = (c0 / c1) p (1 - p) / SPREAD^2 (two-stage sampling, Cochran
    1977, section 10.6, with p = 1/2). It is the highest rung not above that, within half of all items; the lowest rung
    where merging is cheap or nothing was measured.
    """
    rungs = ladder.rungs
    known = [trial for trial in trials if trial.n_items > 0 and "merge" in trial.seconds]
    if not known:
        return rungs[0]
    merge = float(np.median([trial.seconds["merge"] for trial in known]))
    items = [(sum(trial.seconds.values()) - trial.seconds["merge"]) / trial.n_items for trial in known]
    item = float(np.median(items))
    if item <= 0:
        return rungs[0]
    best = math.sqrt(merge / item * 0.25) / SPREAD
    return max(rung for rung in rungs if rung == rungs[0] or rung <= min(best, rungs[-1] / 2))
