"""How much a search asks for: evaluations and items by phase, reckoned from its budget before it begins.

A share of 1/eta of the candidates on a rung goes on to the next, so with rungs of 30, 90 and 270 items and eta 3::

    candidate(sizes={"sums": 500}, ladder=ladder).items       # 30 + 60/3 + 180/9 = 70 items on average
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from automerge.fidelity import Ladder
from automerge.search import Budget


@dataclass(frozen=True)
class Work:
    """A number of evaluations, and of items by task in all of them."""

    evaluations: float
    items: Mapping[str, float]

    @property
    def n_items(self) -> float:
        """Items over all tasks."""
        return sum(self.items.values())

    def times(self, factor: float) -> Work:
        """So many times this work."""
        return Work(self.evaluations * factor, {task: factor * n for task, n in self.items.items()})


@dataclass(frozen=True)
class Rates:
    """Seconds to write a model, and to score an item of each task."""

    merge: float
    items: Mapping[str, float]

    def seconds(self, work: Work) -> float:
        """Seconds that the work takes."""
        return work.evaluations * self.merge + sum(n * self.items[task] for task, n in work.items.items())


@dataclass(frozen=True)
class Sizes:
    """Numbers of items by task: those of the search, and those of the test that are asked for."""

    search: Mapping[str, int]
    test: Mapping[str, int]


@dataclass(frozen=True)
class Ends:
    """How many models a search evaluates beside its candidates: before, for certainty, and on the test items."""

    references: int
    verify: int
    recommend: int


def evaluation(sizes: Mapping[str, int], start: int, stop: int) -> Work:
    """One model on the items [start, stop) of every task that has so many."""
    return Work(1, {task: min(stop, size) - min(start, size) for task, size in sizes.items()})


def candidate(sizes: Mapping[str, int], ladder: Ladder) -> Work:
    """A candidate on average, with its promotions."""
    steps = [evaluation(sizes, *step).times(ladder.eta**-k) for k, step in enumerate(pairwise((0, *ladder.rungs)))]
    items = {task: sum(step.items[task] for step in steps) for task in sizes}
    return Work(sum(step.evaluations for step in steps), items)


def n_candidates(average: Work, budget: Budget, rates: Rates, *, n_workers: int) -> int:
    """The number of candidates that a budget allows."""
    bounds = [
        budget.trials,
        None if budget.items is None else budget.items / average.n_items,
        None if budget.minutes is None else 60 * budget.minutes * n_workers / rates.seconds(average),
    ]
    return max(1, round(min(bound for bound in bounds if bound is not None)))


def workload(sizes: Sizes, ladder: Ladder, ends: Ends, candidates: int) -> dict[str, Work]:
    """The work of every phase of a search with so many candidates."""
    first, last = ladder.rungs[0], ladder.rungs[-1]
    largest = max(sizes.test.values())
    return {
        "reference models": evaluation(sizes.search, 0, last).times(ends.references),
        "search": candidate(sizes.search, ladder).times(candidates),
        "verification": evaluation(sizes.search, first, last).times(
            min(ends.verify, candidates) if first < last else 0
        ),
        "test": evaluation(sizes.test, 0, largest).times(ends.references + min(ends.recommend, candidates)),
    }
