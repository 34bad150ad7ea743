"""Virtual: answers queries at once and lets a clock of its own run as if workers had evaluated them in parallel.

For evaluators that only tell how long an evaluation takes, such as a benchmark: a query takes the seconds of its
evaluation from its submission, or from when a worker is free, and `collect` gives the query that ends first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import NamedTuple

from automerge.options import refuse, whole_faults
from automerge.records import Evaluation, Query

NANOSECONDS = 10**9
"""In a second: the clock counts whole ones, so that sums of times in a log give the same moments again."""


class _Waiting(NamedTuple):
    query: Query
    submitted: int


class _Ending(NamedTuple):
    end: int
    ticket: int
    evaluation: Evaluation


class VirtualRunner:
    """Evaluates at `collect`, at no cost of virtual time beyond the seconds that evaluations tell.

    Holds the clock, the queries that wait, the evaluations that have not ended, and when each worker is free. A search
    that thinks takes no virtual time. Raises ValueError unless `n_workers` is a whole number from 1.
    """

    def __init__(self, evaluate: Callable[[Query], Evaluation], *, n_workers: int = 1) -> None:
        refuse(whole_faults(1, n_workers=n_workers))
        self.n_workers = n_workers
        self._evaluate = evaluate
        self._now = 0
        self._n_submitted = 0
        self._waiting: dict[int, _Waiting] = {}
        self._ending: list[_Ending] = []
        self._free = [0] * n_workers

    def submit(self, query: Query) -> int:
        """Takes a query and returns its ticket."""
        ticket = self._n_submitted
        self._n_submitted += 1
        self._waiting[ticket] = _Waiting(query, self._now)
        return ticket

    def collect(self) -> tuple[int, Evaluation]:
        """The evaluation that ends first, at which the clock then stands; of equals that submitted first.

        Raises RuntimeError if nothing was submitted.
        """
        for ticket, (query, submitted) in self._waiting.items():
            evaluation = self._evaluate(query)
            end = max(submitted, self._free[0]) + round(NANOSECONDS * sum(evaluation.seconds.values()))
            heapq.heapreplace(self._free, end)
            heapq.heappush(self._ending, _Ending(end, ticket, evaluation))
        self._waiting.clear()
        if not self._ending:
            raise RuntimeError("nothing to collect; submit a query first")
        first = heapq.heappop(self._ending)
        self._now = first.end
        return first.ticket, first.evaluation

    def settle(self, ticket: int, wall: float) -> None:
        """Takes back a query whose answer a log has and moves the clock on.

        Raises ValueError for a ticket that is not in flight.
        """
        if self._waiting.pop(ticket, None) is None:
            raise ValueError(f"ticket {ticket} is not in flight; there are {list(self._waiting)}")
        self._now += round(NANOSECONDS * wall)

    def clock(self) -> float:
        """Seconds of virtual time since the search began."""
        return self._now / NANOSECONDS
