"""Optimizers of other libraries that take whole generations, as those that are asked and told one by one.

A generation is a list of suggestions. When all of them are answered the library is told of them together. Asked for
more while answers are out, it draws again from the same state: of several suggestions for one place of the generation
the first to be answered counts. What is answered after its generation was told counts in the next if that is under way.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from automerge.fidelity import Ladder
from automerge.foreign import Foreign
from automerge.pareto import best_first
from automerge.protocols import Genotypes, Space
from automerge.records import Constraint, Objective
from automerge.unit_box import UnitBox


class Answer(NamedTuple):
    """A suggestion in the library's terms, and its values, larger is better; None if its model broke or failed."""

    suggestion: Any
    values: NDArray[np.float64] | None


class Generational(Foreign):
    """The part that all have in common. Holds the answers of the generation so far.

    A member draws and advances in its library's terms, and starts from the best trials known at its first suggestion.
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
    ) -> None:
        super().__init__(
            space=space, objectives=objectives, ladder=ladder, seed=seed, constraints=constraints, halving=halving
        )
        self._box = UnitBox(space)
        self._size = 0
        self._queue: list[tuple[int, Any]] = []
        self._answers: dict[int, Answer] = {}
        self._n_starts = 0

    def _suggest(self) -> tuple[Any, NDArray[np.float64]]:
        if not self._n_starts or (not self._answers and self._has_ended()):
            self._n_starts += 1
            self._start()
            self._size = 0
        if not self._queue:
            drawn = self._draw()
            self._size = self._size or len(drawn)
            open_places = [place for place in range(self._size) if place not in self._answers]
            self._queue = [(place, drawn[place % len(drawn)]) for place in open_places]
        place, suggestion = self._queue.pop(0)
        return (place, suggestion), self._genotype(suggestion)

    def _inform(self, handle: Any, values: NDArray[np.float64] | None) -> None:
        place, suggestion = handle
        if place < self._size:
            self._answers.setdefault(place, Answer(suggestion, values))
        if self._size and len(self._answers) == self._size:
            answers = [self._answers[place] for place in range(self._size)]
            self._answers, self._queue, self._size = {}, [], 0
            self._advance(answers)

    @property
    def _start_seed(self) -> int:
        """The seed of the library's generator, another at every start."""
        return int(np.random.default_rng([self._seed, 1, self._n_starts]).integers(2**31))

    def _best(self) -> NDArray[np.float64]:
        """The genotype of shape (n_genes,) of the best trial known, a sample if there is none.

        The best has the largest sum of its objective values, each scaled to [0, 1] over the trials: a compromise, where
        the front begins with its ends.
        """
        alive = self._ledger.alive
        if not alive:
            return np.asarray(self._space.sample(1, np.random.default_rng([self._seed, 2, self._n_starts]))[0])
        points = self._ledger.points(alive)
        span = np.ptp(points, axis=0)
        scaled = (points - points.min(axis=0)) / np.where(span > 0, span, 1.0)
        return alive[int(scaled.sum(axis=1).argmax())].genotype

    def _population(self, n: int) -> Genotypes:
        """n genotypes to start from: the best trials known, at most half, then samples of the space."""
        alive = self._ledger.alive
        best = [alive[index].genotype for index in best_first(self._ledger.points(alive))[: n // 2]]
        samples = self._space.sample(n - len(best), np.random.default_rng([self._seed, 3, self._n_starts]))
        return np.vstack([*best, samples])

    @abstractmethod
    def _start(self) -> None:
        """Begins the library's search: at the first suggestion, and anew when it has ended."""

    @abstractmethod
    def _draw(self) -> Sequence[Any]:
        """The suggestions of a generation, at least one; called again before `_advance`, further ones of it."""

    @abstractmethod
    def _genotype(self, suggestion: Any) -> NDArray[np.float64]:
        """The canonical genotype of a suggestion, shape (n_genes,)."""

    @abstractmethod
    def _advance(self, answers: Sequence[Answer]) -> None:
        """Tells the library of a whole generation, in the order of its places."""

    def _has_ended(self) -> bool:
        """Whether the library has nothing more to suggest. By default it never ends."""
        return False


def places(answers: Sequence[Answer]) -> NDArray[np.int64]:
    """The place of every answer in the order of a generation, 0 for the best, shape (n,).

    The order is by front and crowding, with one objective by value. Models that broke or failed come last.
    """
    alive = [k for k, answer in enumerate(answers) if answer.values is not None]
    broken = [k for k, answer in enumerate(answers) if answer.values is None]
    best = best_first(np.array([answers[k].values for k in alive])) if alive else ()
    order = np.array([*(alive[index] for index in best), *broken], dtype=np.int64)
    found = np.empty(len(answers), dtype=np.int64)
    found[order] = np.arange(len(answers))
    return found
