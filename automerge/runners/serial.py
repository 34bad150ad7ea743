"""Serial: evaluates queries in this process, one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from automerge.records import Evaluation, Query


class SerialRunner:
    """Evaluates at `collect`, in the order of submission. Holds the queries that wait."""

    n_workers = 1

    def __init__(self, evaluate: Callable[[Query], Evaluation]) -> None:
        self._evaluate = evaluate
        self._waiting: deque[tuple[int, Query]] = deque()
        self._n_submitted = 0

    def submit(self, query: Query) -> int:
        """Takes a query and returns its ticket."""
        ticket = self._n_submitted
        self._n_submitted += 1
        self._waiting.append((ticket, query))
        return ticket

    def collect(self) -> tuple[int, Evaluation]:
        """Evaluates the query submitted first. Raises RuntimeError if nothing was submitted."""
        if not self._waiting:
            raise RuntimeError("nothing to collect; submit a query first")
        ticket, query = self._waiting.popleft()
        return ticket, self._evaluate(query)
