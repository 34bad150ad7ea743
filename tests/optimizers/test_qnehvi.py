"""What plain Bayesian optimization makes of its trials; what every optimizer must do is tested in conformance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from automerge.fidelity import Ladder
from automerge.optimizers.qnehvi import QNoisyExpectedHypervolume
from automerge.optimizers.random_search import RandomSearch
from automerge.pareto import hypervolume
from automerge.protocols import Optimizer, Space
from automerge.records import Constraint, Objective, Proposal, Result, Trial
from tests.conformance.members import lfs

TASKS = [Objective("a"), Objective("b")]
N_ITEMS = 1000


def small() -> Space:
    """Twelve genes, of which seven are weights and strengths."""
    return lfs(components=["layer"], granularity=4, methods=["task_arithmetic"])


def evaluated(number: int, proposal: Proposal, space: Space, objectives: list[Objective]) -> Trial:
    """A trial whose scores fall with the squared distance of the features from one point for each task."""
    features = space.features(proposal.genotype[None])[0]
    optima = np.linspace(0.8, 0.4, len(objectives))
    scores = np.exp(-2 * ((features - optima[:, None]) ** 2).mean(axis=1))
    results = {each.name: Result(N_ITEMS, float(N_ITEMS * s)) for each, s in zip(objectives, scores, strict=True)}
    recipe = space.decode(proposal.genotype)
    return Trial(number, proposal.genotype, recipe, proposal.origin, "ok", results, {"layers": 4.0})


def searched(optimizer: Optimizer, space: Space, objectives: list[Objective], n: int) -> np.ndarray:
    """Scores of n trials, each told before the next is asked for, shape (n, n_objectives)."""
    values = []
    for number in range(n):
        trial = evaluated(number, optimizer.ask(), space, objectives)
        values.append(trial.values(objectives))
        optimizer.tell(trial)
    return np.array(values)


def qnehvi(space: Space, objectives: list[Objective], seed: int = 0, **options: object) -> QNoisyExpectedHypervolume:
    ladder = Ladder(minimum=N_ITEMS, maximum=N_ITEMS)
    settings = {"n_initial": 8, "n_restarts": 2, "raw_samples": 32, "mc_samples": 16, **options}
    return QNoisyExpectedHypervolume(space=space, objectives=objectives, ladder=ladder, seed=seed, **settings)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("n_objectives", [1, 2])
def test_finds_more_than_random_search_on_a_smooth_problem(n_objectives: int) -> None:
    space, objectives = small(), TASKS[:n_objectives]
    gains = []
    for seed in range(3):
        ladder = Ladder(minimum=N_ITEMS, maximum=N_ITEMS)
        random = RandomSearch(space=space, objectives=objectives, ladder=ladder, seed=seed)
        found, sampled = (
            hypervolume(searched(optimizer, space, objectives, 22), np.full(n_objectives, 0.5))
            for optimizer in (qnehvi(space, objectives, seed), random)
        )
        gains.append(found - sampled)
    assert min(gains) > 0


@pytest.mark.slow
def test_more_than_three_objectives_are_searched() -> None:
    space = small()
    objectives = [*TASKS, Objective("c"), Objective("d")]
    optimizer = qnehvi(space, objectives)
    searched(optimizer, space, objectives, 9)
    assert optimizer.ask().origin == {"operator": "qnehvi"}


def test_objectives_that_are_the_same_for_all_are_no_hindrance() -> None:
    space = small()
    optimizer = qnehvi(space, TASKS[:1])
    costed = qnehvi(space, [*TASKS[:1], Objective("layers", "cost")])
    for number in range(9):
        proposal = optimizer.ask()
        costed.ask()
        trial = evaluated(number, proposal, space, TASKS[:1])
        optimizer.tell(trial)
        costed.tell(trial)
    assert costed.ask().origin == {"operator": "qnehvi"}


@pytest.mark.slow
def test_a_constraint_keeps_from_what_scores_best() -> None:
    """A bound on the first task's score that the best break: without it they are sought."""
    space = small()
    bound = [Constraint("a", "<=", 0.8, "task")]
    free = searched(qnehvi(space, TASKS[:1]), space, TASKS[:1], 24)[8:]
    bounded = searched(qnehvi(space, TASKS[:1], constraints=bound), space, TASKS[:1], 24)[8:]
    assert (free > 0.8).mean() > (bounded > 0.8).mean()


@pytest.mark.slow
def test_points_under_way_keep_the_next_from_the_same_place() -> None:
    """Seven asked at once lie further apart than seven that are asked each without knowing of the others."""
    space = small()

    def asked(*, pending: bool) -> np.ndarray:
        optimizer = qnehvi(space, TASKS)
        searched(optimizer, space, TASKS, 12)
        found = []
        for _ in range(7):
            found.append(optimizer.ask().genotype)
            if not pending:
                optimizer._pending.clear()
        return space.features(np.array(found))

    def spread(features: np.ndarray) -> float:
        return float(np.linalg.norm(features[:, None] - features[None], axis=2).mean())

    assert spread(asked(pending=True)) > spread(asked(pending=False))


@pytest.mark.slow
def test_the_global_generator_of_torch_is_neither_used_nor_changed() -> None:
    space = small()

    def proposals(global_seed: int) -> list[bytes]:
        torch.manual_seed(global_seed)
        optimizer = qnehvi(space, TASKS)
        state = torch.random.get_rng_state()
        found = []
        for number in range(11):
            proposal = optimizer.ask()
            found.append(proposal.genotype.tobytes())
            optimizer.tell(evaluated(number, proposal, space, TASKS))
        assert torch.equal(torch.random.get_rng_state(), state)
        return found

    assert proposals(1) == proposals(2)


@pytest.mark.usefixtures("two_threads")
def test_what_it_chooses_does_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    space = small()
    optimizer = QNoisyExpectedHypervolume(
        space=space, objectives=TASKS, ladder=Ladder(minimum=N_ITEMS, maximum=N_ITEMS), seed=0, n_initial=3
    )
    threads = []
    maximum = QNoisyExpectedHypervolume._maximum

    def watched(self: QNoisyExpectedHypervolume, rng: np.random.Generator) -> np.ndarray | None:
        threads.append(torch.get_num_threads())
        return maximum(self, rng)

    monkeypatch.setattr(QNoisyExpectedHypervolume, "_maximum", watched)
    searched(optimizer, space, TASKS, 4)
    assert threads == [1]
    assert torch.get_num_threads() == 2
