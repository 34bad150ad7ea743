"""How suggestions become generations, by a library whose suggestions are numbered weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from automerge.fidelity import Ladder
from automerge.generational import Answer, Generational, places
from automerge.records import REFERENCE, Objective
from tests.conformance.members import SPACES
from tests.toy import trial

SPACE = SPACES["smm_ps"]()
SIZE = 3


class Counter(Generational):
    """Suggests weights of a hundredth, two hundredths and so on, in generations of SIZE."""

    operator = "counter"

    def __init__(self, *, n_objectives: int = 1, ends: bool = False) -> None:
        objectives = [Objective(name) for name in "ab"[:n_objectives]]
        super().__init__(space=SPACE, objectives=objectives, ladder=Ladder(minimum=10, maximum=10), seed=0)
        self.drawn = 0
        self.starts: list[NDArray[np.float64]] = []
        self.generations: list[list[tuple[int, float | None]]] = []
        self.ends = ends

    def _start(self) -> None:
        self.starts.append(self._best())

    def _draw(self) -> Sequence[Any]:
        self.drawn += SIZE
        return range(self.drawn - SIZE + 1, self.drawn + 1)

    def _genotype(self, suggestion: Any) -> NDArray[np.float64]:
        return x(suggestion)

    def _advance(self, answers: Sequence[Answer]) -> None:
        self.generations.append([(s, None if values is None else float(values[0])) for s, values in answers])

    def _has_ended(self) -> bool:
        return self.ends and bool(self.generations)


def x(hundredths: int) -> NDArray[np.float64]:
    return np.full(len(SPACE.genes), hundredths / 100)


def answer(counter: Counter, hundredths: int) -> None:
    counter.tell(trial(hundredths, x(hundredths), {"a": (10, float(hundredths))}))


def asked(counter: Counter, n: int) -> list[int]:
    return [round(100 * counter.ask().genotype[0]) for _ in range(n)]


def test_a_generation_is_told_when_all_are_answered_in_the_order_of_its_places() -> None:
    counter = Counter()
    assert asked(counter, 3) == [1, 2, 3]
    answer(counter, 3)
    answer(counter, 1)
    assert counter.generations == []
    answer(counter, 2)
    assert counter.generations == [[(1, 0.1), (2, 0.2), (3, 0.3)]]


def test_more_suggestions_are_drawn_for_the_places_that_are_open() -> None:
    counter = Counter()
    asked(counter, 3)
    answer(counter, 2)
    assert asked(counter, 2) == [4, 6]
    answer(counter, 6)
    answer(counter, 1)
    assert counter.generations == [[(1, 0.1), (2, 0.2), (6, 0.6)]]


def test_a_late_answer_counts_in_the_next_generation() -> None:
    counter = Counter()
    asked(counter, 3)
    answer(counter, 1)
    answer(counter, 2)
    assert asked(counter, 1) == [6]
    answer(counter, 6)
    assert len(counter.generations) == 1
    assert asked(counter, 1) == [7]
    answer(counter, 3)
    assert asked(counter, 1) == [8]
    answer(counter, 7)
    answer(counter, 8)
    assert counter.generations[1] == [(7, 0.7), (8, 0.8), (3, 0.3)]


def test_the_start_is_the_best_compromise_of_the_trials_known() -> None:
    counter = Counter(n_objectives=2)
    for number, both in enumerate([(9.0, 1.0), (6.0, 7.0), (1.0, 9.0)]):
        scores = {"a": (10, both[0]), "b": (10, both[1])}
        counter.tell(trial(number, x(50 + number), scores, origin={"operator": REFERENCE, "name": str(number)}))
    counter.ask()
    assert (counter.starts[0] == x(51)).all()


def test_a_library_that_has_ended_starts_anew_from_the_best() -> None:
    counter = Counter(ends=True)
    asked(counter, 3)
    for number in (1, 2, 3):
        answer(counter, number)
    assert asked(counter, 1) == [4]
    assert len(counter.starts) == 2
    assert (counter.starts[1] == x(3)).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0.1], [0.9], [0.5]], [2, 0, 1]),
        ([[0.1], None, [0.5]], [1, 2, 0]),
        ([None, None], [0, 1]),
        ([[0.2, 0.2], [0.9, 0.1], [0.1, 0.9], [0.5, 0.5]], [3, 0, 1, 2]),
    ],
)
def test_places_go_by_front_and_crowding_and_the_broken_come_last(
    values: list[list[float] | None], expected: list[int]
) -> None:
    answers = [Answer(None, None if each is None else np.array(each)) for each in values]
    assert places(answers).tolist() == expected
