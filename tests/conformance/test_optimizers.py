"""What every optimizer must do, on problems whose answer is known in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pytest

from automerge.fidelity import Ladder
from automerge.protocols import Optimizer, Space
from automerge.records import REFERENCE, Objective, Proposal, Result, Trial
from tests.conformance.members import OPTIMIZERS, lfs

N_ITEMS = 90


class Build(Protocol):
    """Builds an optimizer for a problem."""

    def __call__(self, problem: Problem, seed: int = 0) -> Optimizer: ...


class Problem:
    """Scores that are smooth in the genotype, with Bernoulli items; one task per objective."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.space: Space = lfs()
        self.objectives = tuple(objectives)
        self.ladder = Ladder(minimum=10, maximum=N_ITEMS)
        self.trials: dict[int, Trial] = {}

    def truth(self, x: np.ndarray) -> np.ndarray:
        """Expected scores, larger is better, one per task."""
        features = self.space.features(x[None])[0]
        halves = np.array([features[0::2].mean(), features[1::2].mean()])
        return np.asarray(np.clip(1 - np.abs(halves - np.array([0.9, 0.4])), 0.05, 0.95))

    def start(self, optimizer: Optimizer) -> None:
        """Tells the references in the space."""
        for name, reference in self.space.references().items():
            if reference.genotype is not None:
                self.answer(optimizer, Proposal(reference.genotype, N_ITEMS, {"operator": REFERENCE, "name": name}))

    def answer(self, optimizer: Optimizer, proposal: Proposal, status: Any = "ok") -> Trial:
        """Evaluates a proposal and tells the trial."""
        x, stop = proposal.genotype, proposal.stop
        number = len(self.trials) if proposal.trial is None else proposal.trial
        uniforms = np.random.default_rng([5, 6]).random((2, N_ITEMS))
        right = uniforms < self.truth(x)[:, None]
        results = {o.name: Result(stop, float(right[k, :stop].sum())) for k, o in enumerate(self.objectives)}
        told = Trial(number, x, self.space.decode(x), proposal.origin, "ok", results, {"layers": 4.0})
        if status != "ok":
            told = replace(told, status=status, results={})
        self.trials[number] = told
        optimizer.tell(told)
        return told


@pytest.fixture(params=[1, 2], ids=["one objective", "two objectives"])
def problem(request: pytest.FixtureRequest) -> Problem:
    return Problem([Objective("a"), Objective("b")][: request.param])


@pytest.fixture(params=OPTIMIZERS)
def build(request: pytest.FixtureRequest) -> Build:
    return lambda problem, seed=0: OPTIMIZERS[request.param](problem.space, problem.objectives, problem.ladder, seed)


def run(problem: Problem, optimizer: Optimizer, n: int) -> list[Proposal]:
    problem.start(optimizer)
    proposals = []
    for _ in range(n):
        proposals.append(optimizer.ask())
        problem.answer(optimizer, proposals[-1])
    return proposals


def test_proposals_are_canonical_and_stop_at_rungs(problem: Problem, build: Build) -> None:
    for proposal in run(problem, build(problem), 60):
        assert (problem.space.repair(proposal.genotype[None])[0] == proposal.genotype).all()
        assert proposal.stop in problem.ladder.rungs
        assert "operator" in proposal.origin


def test_promotions_name_known_trials_and_only_go_up(problem: Problem, build: Build) -> None:
    optimizer = build(problem)
    problem.start(optimizer)
    for _ in range(80):
        proposal = optimizer.ask()
        if proposal.trial is not None:
            known = problem.trials[proposal.trial]
            assert (known.genotype == proposal.genotype).all()
            assert proposal.stop > known.n_items
        problem.answer(optimizer, proposal)


def test_the_same_seed_gives_the_same_proposals_and_another_gives_others(problem: Problem, build: Build) -> None:
    def genotypes(seed: int) -> list[bytes]:
        fresh = Problem(problem.objectives)
        return [proposal.genotype.tobytes() for proposal in run(fresh, build(fresh, seed), 40)]

    assert genotypes(0) == genotypes(0)
    assert genotypes(0) != genotypes(1)


def test_can_be_asked_while_others_are_pending_without_proposing_the_same_twice(problem: Problem, build: Build) -> None:
    optimizer = build(problem)
    run(problem, optimizer, 40)
    pending = [optimizer.ask() for _ in range(8)]
    keys = [(proposal.trial, proposal.genotype.tobytes(), proposal.stop) for proposal in pending]
    assert len(set(keys)) == len(keys)


def test_failed_and_invalid_trials_are_taken_and_never_promoted(problem: Problem, build: Build) -> None:
    optimizer = build(problem)
    problem.start(optimizer)
    for step in range(60):
        proposal = optimizer.ask()
        if proposal.trial is not None:
            assert problem.trials[proposal.trial].status == "ok"
        problem.answer(optimizer, proposal, status=("ok", "failed", "invalid")[step % 3])


def test_costs_are_objectives_like_any_other(build: Build) -> None:
    problem = Problem([Objective("a")])
    problem.objectives = (Objective("a"), Objective("layers", "cost"))
    optimizer = build(problem)
    problem.objectives = (Objective("a"),)
    assert len(run(problem, optimizer, 30)) == 30
