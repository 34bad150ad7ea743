"""What suggestions of a library become, by one that suggests what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge.fidelity import Ladder
from automerge.foreign import Foreign, worst_values
from automerge.records import REFERENCE, Objective, Trial
from automerge.variation import N_TRIES
from tests.conformance.members import SPACES
from tests.toy import trial

SPACE = SPACES["smm_ps"]()


class Script(Foreign):
    """Suggests these weights, the same for all layers and sources; then the last of them for ever."""

    operator = "script"

    def __init__(self, weights: Sequence[float], *, maximum: int = 10) -> None:
        ladder = Ladder(minimum=10, maximum=maximum)
        super().__init__(space=SPACE, objectives=[Objective("a")], ladder=ladder, seed=0)
        self.weights = list(weights)
        self.n_suggested = 0
        self.told: list[tuple[int, float | None]] = []
        self.began: list[int] = []

    def _suggest(self) -> tuple[Any, NDArray[np.float64]]:
        handle = self.n_suggested
        self.n_suggested += 1
        return handle, x(self.weights[min(handle, len(self.weights) - 1)])

    def _inform(self, handle: Any, values: NDArray[np.float64] | None) -> None:
        self.told.append((handle, None if values is None else float(values[0])))

    def _begin_from(self, trial: Trial) -> None:
        self.began.append(trial.id)


def x(weight: float) -> NDArray[np.float64]:
    return np.full(len(SPACE.genes), weight)


def test_a_known_model_is_told_as_it_stands_and_a_reference_as_it_was_where_suggestions_begin() -> None:
    scores = {"a": np.r_[np.ones(6), np.zeros(24)]}
    script = Script([0.1, 0.1, 0.2, 0.3], maximum=90)
    promoted = replace(trial(0, script.ask().genotype, {"a": (30, 6.0)}), items=scores)
    script.tell(promoted)
    script.tell(replace(promoted, id=1, genotype=x(0.2), origin={"operator": REFERENCE}))
    script.ask()
    assert script.told == [(0, 0.2), (1, 0.2), (2, 0.6)]


def test_a_suggestion_is_told_its_own_values_once() -> None:
    script = Script([0.1, 0.2], maximum=90)
    first, second = script.ask(), script.ask()
    script.tell(trial(0, second.genotype, {"a": (10, 6.0)}))
    script.tell(trial(1, first.genotype, {"a": (10, 3.0)}))
    assert script.told == [(1, 0.6), (0, 0.3)]
    script.tell(trial(0, second.genotype, {"a": (30, 20.0)}))
    assert len(script.told) == 2


def test_a_suggestion_equal_to_a_known_genotype_is_told_without_evaluation() -> None:
    script = Script([0.1, 0.1, 0.2])
    script.tell(trial(0, script.ask().genotype, {"a": (10, 6.0)}))
    proposal = script.ask()
    assert (proposal.genotype == x(0.2)).all()
    assert script.told == [(0, 0.6), (1, 0.6)]


def test_a_suggestion_equal_to_one_under_way_is_told_with_it() -> None:
    script = Script([0.1, 0.1, 0.2])
    script.ask()
    assert (script.ask().genotype == x(0.2)).all()
    assert script.told == []
    script.tell(trial(0, x(0.1), {"a": (10, 6.0)}))
    assert script.told == [(0, 0.6), (1, 0.6)]


def test_where_nothing_new_is_suggested_a_sample_is_proposed() -> None:
    script = Script([0.1])
    script.ask()
    proposal = script.ask()
    assert proposal.origin == {"operator": "sample"}
    assert not (proposal.genotype == x(0.1)).all()
    assert script.n_suggested == 1 + N_TRIES


def test_a_broken_model_is_told_as_none() -> None:
    script = Script([0.1])
    script.tell(trial(0, script.ask().genotype, {}, status="failed"))
    assert script.told == [(0, None)]


def test_the_library_is_told_of_every_reference_once() -> None:
    script = Script([0.1])
    reference = trial(0, x(1.0), {"a": (10, 6.0)}, origin={"operator": REFERENCE, "name": "left"})
    script.tell(reference)
    script.tell(reference)
    script.tell(trial(1, script.ask().genotype, {"a": (10, 6.0)}))
    assert script.began == [0]


def test_promotions_are_due_before_suggestions() -> None:
    script = Script([0.1, 0.2, 0.3, 0.4], maximum=30)
    for number in range(3):
        script.tell(trial(number, script.ask().genotype, {"a": (10, 3.0 * number)}))
    proposal = script.ask()
    assert (proposal.trial, proposal.stop) == (2, 30)
    assert script.n_suggested == 3


def test_the_worst_of_scores_is_0_and_of_costs_that_of_the_largest_model() -> None:
    objectives = [Objective("a"), Objective("layers", "cost"), Objective("parameters", "cost")]
    space = SPACES["dis"]()
    assert worst_values(objectives, space).tolist() == [0, -space.max_layers, 0]
    costs = {"layers": np.array([3.0, 4.0]), "parameters": np.array([5e9, 7e9])}
    measured: Any = SimpleNamespace(max_layers=8, sample=lambda n, _: np.zeros((n, 1)), costs=lambda _: costs)
    assert worst_values(objectives, measured).tolist() == [0, -8, -7e9]
