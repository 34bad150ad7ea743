"""The same work on many things, in processes of their own."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import TypeVar

Thing = TypeVar("Thing")
Found = TypeVar("Found")


def each_done(
    work: Callable[[Thing], Found], things: Sequence[Thing], jobs: int, *, apart: bool = False
) -> Iterator[tuple[Thing, Found]]:
    """Every thing with what came of the work on it, as they end; `jobs` at once.

    A single job works in this process or, as several do, `apart` from it, with threads and memory of its own. Raises
    what the work raises, once what was begun has ended; nothing else is begun then.
    """
    if jobs == 1 and not apart:
        yield from ((thing, work(thing)) for thing in things)
        return
    # Libraries read it as they are loaded; with several processes each has one core.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running: dict[Future[Found], Thing] = {}
        waiting = deque(things)
        while waiting or running:
            # Only what can begin is handed over: a worker that is interrupted would go on with whatever else it has.
            while waiting and len(running) < jobs:
                thing = waiting.popleft()
                running[pool.submit(work, thing)] = thing
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
