"""What every optimizer must do, on problems whose answer is known in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pytest

from automerge.fidelity import Ladder
from automerge.protocols import HypervolumeOptimizer, Optimizer, Space
from automerge.records import REFERENCE, Objective, Proposal, Result, Trial
from tests.conformance.members import OPTIMIZERS, SPACES, dis

N_ITEMS = 90

SEARCHED = ("lfs", "dis", "dis, prune", "smm_dfs")
"""Spaces that the optimizers search here."""


class Build(Protocol):
    """Builds an optimizer for a problem."""

    def __call__(self, problem: Problem, seed: int = 0) -> Optimizer: ...


class Problem:
    """Scores that are smooth in the genotype, with Bernoulli items, for one or two tasks; the depth is a cost."""

    def __init__(self, space: Space, objectives: Sequence[Objective]) -> None:
        self.space = space
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
        tasks = [objective.name for objective in self.objectives if objective.kind == "task"]
        results = {task: Result(stop, float(right[k, :stop].sum())) for k, task in enumerate(tasks)}
        recipe = self.space.decode(x)
        costs = {"layers": float(len(recipe.layers))}
        items = {task: right[k, :stop].astype(float) for k, task in enumerate(tasks)}
        told = Trial(number, x, recipe, proposal.origin, "ok", results, costs, items=items)
        if status != "ok":
            told = replace(told, status=status, results={}, items={})
        self.trials[number] = told
        optimizer.tell(told)
        return told


@pytest.fixture(params=[*SEARCHED, "one objective"])
def problem(request: pytest.FixtureRequest) -> Problem:
    if request.param == "one objective":
        return Problem(SPACES["lfs"](), [Objective("a")])
    return Problem(SPACES[request.param](), [Objective("a"), Objective("b")])


@pytest.fixture(params=OPTIMIZERS)
def build(request: pytest.FixtureRequest) -> Build:
    return lambda problem, seed=0: built(request.param, problem, seed)


def built(name: str, problem: Problem, seed: int = 0) -> Optimizer:
    """An optimizer that knows from where hypervolume counts, as a search tells it."""
    optimizer = OPTIMIZERS[name](problem.space, problem.objectives, problem.ladder, seed)
    if isinstance(optimizer, HypervolumeOptimizer):
        deepest = 1.1 * problem.space.max_layers
        optimizer.count_above(np.array([-deepest if each.kind == "cost" else 0.0 for each in problem.objectives]))
    return optimizer


def run(problem: Problem, optimizer: Optimizer, n: int) -> list[Proposal]:
    problem.start(optimizer)
    proposals = []
    for _ in range(n):
        proposals.append(optimizer.ask())
        problem.answer(optimizer, proposals[-1])
    return proposals


def test_proposals_are_canonical_and_begin_at_rungs(problem: Problem, build: Build) -> None:
    """A promotion may be made in pieces, which end between two rungs."""
    rungs = problem.ladder.rungs
    for proposal in run(problem, build(problem), 30):
        assert (problem.space.repair(proposal.genotype[None])[0] == proposal.genotype).all()
        assert proposal.stop in rungs or (proposal.trial is not None and rungs[0] < proposal.stop < rungs[-1])
        assert "operator" in proposal.origin


def test_promotions_name_known_trials_and_only_go_up(problem: Problem, build: Build) -> None:
    optimizer = build(problem)
    problem.start(optimizer)
    for _ in range(30):
        proposal = optimizer.ask()
        if proposal.trial is not None:
            known = problem.trials[proposal.trial]
            assert (known.genotype == proposal.genotype).all()
            assert proposal.stop > known.n_items
        problem.answer(optimizer, proposal)


def test_the_same_seed_gives_the_same_proposals_and_another_gives_others(problem: Problem, build: Build) -> None:
    def genotypes(seed: int) -> list[bytes]:
        fresh = Problem(problem.space, problem.objectives)
        return [proposal.genotype.tobytes() for proposal in run(fresh, build(fresh, seed), 15)]

    first = genotypes(0)
    assert genotypes(0) == first
    assert genotypes(1) != first


def test_can_be_asked_while_others_are_pending_without_proposing_the_same_twice(problem: Problem, build: Build) -> None:
    optimizer = build(problem)
    run(problem, optimizer, 20)
    pending = [optimizer.ask() for _ in range(8)]
    keys = [(proposal.trial, proposal.genotype.tobytes(), proposal.stop) for proposal in pending]
    assert len(set(keys)) == len(keys)


def test_failed_and_invalid_trials_are_taken_and_never_promoted(problem: Problem, build: Build) -> None:
    optimizer = build(problem)
    problem.start(optimizer)
    for step in range(30):
        proposal = optimizer.ask()
        if proposal.trial is not None:
            assert problem.trials[proposal.trial].status == "ok"
        problem.answer(optimizer, proposal, status=("ok", "failed", "invalid")[step % 3])


def test_no_genotype_is_proposed_as_a_new_one_twice(problem: Problem, build: Build) -> None:
    new = [proposal.genotype.tobytes() for proposal in run(problem, build(problem), 36) if proposal.trial is None]
    known = [each.genotype.tobytes() for each in problem.space.references().values() if each.genotype is not None]
    assert len(new) > 15
    assert len({*known, *new}) == len(known) + len(new)


def test_a_space_that_is_used_up_is_searched_whole_and_then_again(build: Build) -> None:
    """All, three or two of four pairs of layers: eleven models, of which the source is a reference."""
    small = dis(sources=["a"], n_layers=8, granularity=2, max_blocks=1, scaling=None)
    problem = Problem(small, [Objective("a"), Objective("b")])
    new = [proposal.genotype.tobytes() for proposal in run(problem, build(problem), 36) if proposal.trial is None]
    assert len(new) > 15
    assert len({trial.recipe.id for trial in problem.trials.values()}) == 11
    assert len(set(new[:8])) == 8


def depths(name: str, optimizer: str, objectives: Sequence[Objective]) -> tuple[list[int], list[int]]:
    """The layers of what is proposed for the first time, and of what is promoted."""
    problem = Problem(SPACES[name](), objectives)
    found: tuple[list[int], list[int]] = ([], [])
    for proposal in run(problem, built(optimizer, problem), 50):
        found[proposal.trial is not None].append(len(problem.space.decode(proposal.genotype).layers))
    return found


@pytest.mark.parametrize("name", [name for name in SEARCHED if name != "lfs"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_depth_as_an_objective_leads_to_shallower_models(name: str, optimizer: str) -> None:
    new, promoted = depths(name, optimizer, [Objective("a")])
    new_with_costs, promoted_with_costs = depths(name, optimizer, [Objective("a"), Objective("layers", "cost")])
    if optimizer in ("random_search, full", "space_filling"):
        assert (new_with_costs, promoted_with_costs) == (new, [])  # it looks at no objective
    elif not promoted:
        assert np.mean(new_with_costs) < np.mean(new) - 0.3
    else:
        assert np.mean(promoted_with_costs) < np.mean(promoted) - 0.3


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("bayes_evolution", "batch", 2.5),
        ("bayes_evolution", "n_generations", None),
        ("catcma", "population", 1),
        ("catcma", "sigma", 0),
        ("evolution", "population", 0),
        ("evolution", "n_initial", -1),
        ("evolution", "crossover", 7),
        ("bayes_evolution", "rungs", "no"),
        ("random_search", "tied", "no"),
        ("sep_cma", "halving", "no"),
        ("optuna_nsga2", "population", 1),
        ("pymoo_cma_es", "sigma", 0),
        ("pymoo_de", "population", 4),
        ("pymoo_nsga2", "population", 7.5),
        ("qnehvi", "n_restarts", 0),
        ("qnehvi", "mc_samples", 0),
        ("sep_cma", "population", 1),
        ("sep_cma", "sigma", -1),
        ("smac", "challengers", 0),
        ("smac", "retrain_after", 0),
        ("tpe", "n_initial", -1),
    ],
)
def test_options_that_cannot_be_are_refused_when_it_is_built(name: str, option: str, value: object) -> None:
    """Not at the first `ask` that needs them, when all references have been evaluated."""
    space = SPACES["lfs"]()
    kind: Any = type(OPTIMIZERS[name](space, (Objective("a"),), Ladder(minimum=10, maximum=N_ITEMS), 0))
    options: dict[str, Any] = {option: value}
    with pytest.raises(ValueError, match=f"{option}: expected .*, got {value!r}"):
        kind(space=space, objectives=(Objective("a"),), ladder=Ladder(minimum=10, maximum=N_ITEMS), seed=0, **options)
