"""Serial: evaluates queries in this process, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable

from automerge.records import Evaluation, Query


class SerialRunner:
    """Evaluates at `collect`, in the order of submission. Holds the queries that wait."""

    n_workers = 1

    def __init__(self, evaluate: Callable[[Query], Evaluation]) -> None:
        self._evaluate = evaluate
        self._waiting: dict[int, Query] = {}
        self._n_submitted = 0

    def submit(self, query: Query) -> int:
        """Takes a query and returns its ticket."""
        ticket = self._n_submitted
        self._n_submitted += 1
        self._waiting[ticket] = query
        return ticket

    def collect(self) -> tuple[int, Evaluation]:
        """Evaluates the query submitted first. Raises RuntimeError if nothing was submitted."""
        if not self._waiting:
            raise RuntimeError("nothing to collect; submit a query first")
        ticket = next(iter(self._waiting))
        return ticket, self._evaluate(self._waiting.pop(ticket))

    def settle(self, ticket: int, wall: float) -> None:  # noqa: ARG002 (time that passed needs no keeping here)
        """Takes back a query whose answer a log has. Raises ValueError for a ticket that is not in flight."""
        if self._waiting.pop(ticket, None) is None:
            raise ValueError(f"ticket {ticket} is not in flight; there are {list(self._waiting)}")

    def clock(self) -> float:
        """Seconds of real time."""
        return time.perf_counter()
