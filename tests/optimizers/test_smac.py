"""What SMAC asks for and is told; what every optimizer must do is tested in conformance."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace, Float
from smac import MultiFidelityFacade, Scenario
from smac.runhistory import StatusType, TrialInfo

from automerge.fidelity import Ladder
from automerge.optimizers.smac import Smac, _forest
from automerge.protocols import Space
from automerge.records import REFERENCE, Objective, Proposal, Result, Trial
from tests.conformance.members import SPACES, dis, lfs

TASKS = (Objective("a"), Objective("b"))
LADDER = Ladder(minimum=10, maximum=90)


def smac(space: Space, objectives: Sequence[Objective] = TASKS, ladder: Ladder = LADDER, **options: Any) -> Smac:
    settings = {"n_initial": 9, "challengers": 50, "local_searches": 1, "seed": 0, **options}
    return Smac(space=space, objectives=objectives, ladder=ladder, **settings)


def evaluated(number: int, proposal: Proposal, space: Space, status: Any = "ok", **costs: float) -> Trial:
    """A trial whose scores rise with the means of halves of the features."""
    features = space.features(proposal.genotype[None])[0]
    scores = np.clip([features[::2].mean(), features[1::2].mean()], 0.05, 0.95)
    results = {name: Result(proposal.stop, proposal.stop * score) for name, score in zip("ab", scores, strict=True)}
    recipe = space.decode(proposal.genotype)
    costs = {"layers": float(len(recipe.layers)), **costs}
    return Trial(number, proposal.genotype, recipe, proposal.origin, status, results if status == "ok" else {}, costs)


class Run:
    """An optimizer with the trials that it was told of."""

    def __init__(
        self,
        space: Space,
        status: Callable[[int], str] = lambda _: "ok",
        costs: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
        **options: Any,
    ) -> None:
        self.space = space
        self.optimizer = smac(space, **options)
        self.status = status
        self.costs = costs
        self.trials: dict[int, Trial] = {}
        self.proposals: list[Proposal] = []

    def answer(self, proposal: Proposal) -> None:
        number = len(self.trials) if proposal.trial is None else proposal.trial
        costs = self.costs.get(proposal.origin["operator"], {})
        self.trials[number] = evaluated(number, proposal, self.space, self.status(len(self.proposals)), **costs)
        self.optimizer.tell(self.trials[number])

    def start(self) -> Run:
        """Tells the references."""
        for name, reference in self.space.references().items():
            if reference.genotype is not None:
                origin = {"operator": REFERENCE, "name": name}
                self.answer(Proposal(reference.genotype, self.optimizer._ledger.ladder.rungs[-1], origin))
        return self

    def go(self, n: int) -> Run:
        for _ in range(n):
            self.proposals.append(self.optimizer.ask())
            self.answer(self.proposals[-1])
        return self

    @property
    def told(self) -> list[tuple[float | None, StatusType]]:
        """Budgets and states of what SMAC was told, without what it waits for."""
        history = self.optimizer._smac.runhistory
        return [(key.budget, v.status) for key, v in history.items() if v.status != StatusType.RUNNING]


@pytest.mark.parametrize(
    ("minimum", "maximum", "eta"),
    [(10, 90, 3.0), (1, 243, 3.0), (37, 1000, 3.0), (1, 10, 1.5), (50, 800, 2.0), (7, 100, 2.5), (40, 40, 3.0)],
)
def test_its_budgets_are_the_rungs(minimum: int, maximum: int, eta: float) -> None:
    """243 = 3^5 is where rounding of logarithms costs SMAC a rung; 1.5 is where rungs rounded down would add one."""
    ladder = Ladder(minimum=minimum, maximum=maximum, eta=eta)
    optimizer = smac(lfs(), ladder=ladder)
    config = optimizer._smac.runhistory.get_configs()[0]
    budgets = optimizer._smac.intensifier._budgets_in_stage[0]  # type: ignore[attr-defined]
    assert tuple(optimizer._stop(TrialInfo(config, budget=budget)) for budget in budgets) == ladder.rungs
    assert optimizer.ask().stop == ladder.rungs[0]


def test_all_rungs_are_reached_as_in_hyperband() -> None:
    """The first bracket: nine configurations, then the best three of them, then the best."""
    run = Run(lfs()).go(13)
    assert [proposal.stop for proposal in run.proposals] == [10] * 9 + [30] * 3 + [90]
    assert [proposal.trial is None for proposal in run.proposals] == [True] * 9 + [False] * 4


@pytest.mark.parametrize("objective", ["a", "b"])
def test_of_one_objective_the_best_are_promoted(objective: str) -> None:
    run = Run(lfs(), objectives=[Objective(objective)]).go(12)
    scores = {number: trial.results[objective].mean for number, trial in run.trials.items()}
    best = sorted(scores, key=lambda number: -scores[number])[:3]
    assert {proposal.trial for proposal in run.proposals[9:]} == set(best)


def test_of_a_cost_the_least_are_promoted() -> None:
    run = Run(dis(), objectives=[Objective("layers", "cost")]).go(12)
    layers = [trial.costs["layers"] for trial in run.trials.values()]
    numbers = [proposal.trial for proposal in run.proposals[9:]]
    promoted = [run.trials[number].costs["layers"] for number in numbers if number is not None]
    assert promoted
    assert max(promoted) <= sorted(layers)[2]


@pytest.mark.parametrize("flat", [False, True])
def test_every_suggestion_is_told_after_its_evaluation(flat: bool) -> None:
    run = Run(SPACES["dis"](), flat=flat).start().go(30)
    assert run.optimizer._smac.runhistory.running == 0
    assert len(run.told) >= 30


@pytest.mark.slow
def test_equal_calls_give_equal_proposals_whatever_the_global_generators_hold() -> None:
    def proposals(global_seed: int) -> list[tuple[bytes, int]]:
        np.random.seed(global_seed)  # noqa: NPY002 (what others may have left behind)
        random.seed(global_seed)
        run = Run(lfs()).start().go(24)
        return [(proposal.genotype.tobytes(), proposal.stop) for proposal in run.proposals]

    assert proposals(1) == proposals(2)


@pytest.mark.slow
def test_proposals_do_not_depend_on_the_salt_of_hashes() -> None:
    """SMAC keeps configurations in sets, whose order differs from process to process."""
    code = (
        "import hashlib; from tests.optimizers.test_smac import Run, lfs; run = Run(lfs()).start().go(30);"
        "print(hashlib.sha256(b''.join(proposal.genotype.tobytes() for proposal in run.proposals)).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": salt},
            cwd=Path(__file__).parents[2],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for salt in ("0", "1")
    }
    assert len(found) == 1


def test_no_files_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    Run(lfs()).start().go(20)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [lambda _: "failed", lambda n: "invalid" if n % 2 else "ok"])
@pytest.mark.parametrize("objectives", [TASKS, TASKS[:1], (*TASKS, Objective("layers", "cost"))])
def test_broken_trials_do_not_break_it_and_are_told_as_crashed(
    status: Callable[[int], str], objectives: Sequence[Objective]
) -> None:
    run = Run(lfs(), status=status, objectives=objectives).go(26)
    assert StatusType.CRASHED in {status for _, status in run.told}


def test_a_broken_model_is_told_no_better_a_cost_than_any_of_the_space() -> None:
    space = dis()
    objectives = [Objective("a"), Objective("layers", "cost")]
    optimizer = smac(space, objectives)
    proposal = Proposal(space.sample(1, np.random.default_rng(0))[0], 10, {"operator": "smac"})
    told = optimizer._value(evaluated(0, proposal, space, "invalid"))
    assert told.status == StatusType.CRASHED
    assert told.cost == [1.0, space.max_layers]


def test_a_trial_without_a_known_value_counts_as_broken() -> None:
    """The number of parameters is known of the references alone."""
    objectives = [*TASKS, Objective("parameters", "cost")]
    run = Run(lfs(), objectives=objectives, costs={REFERENCE: {"parameters": 1e6}}).start()
    assert {status for _, status in run.told} == {StatusType.SUCCESS}
    run.go(3)
    assert [status for _, status in run.told].count(StatusType.CRASHED) == 3


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", ["lfs", "lfs, every method", "dis", "dis, fused blocks", "dis, prune", "smm_ps"])
def test_references_are_told_at_the_highest_rung_and_not_asked_for_again(name: str, flat: bool) -> None:
    space = SPACES[name]()
    known = [each.genotype.tobytes() for each in space.references().values() if each.genotype is not None]
    run = Run(space, flat=flat).start()
    assert run.told == [(90.0, StatusType.SUCCESS)] * len(set(known))
    run.go(12)
    assert not {proposal.genotype.tobytes() for proposal in run.proposals} & set(known)


def test_references_change_what_the_forest_suggests() -> None:
    def proposals(*, start: bool) -> list[bytes]:
        run = Run(lfs())
        run = (run.start() if start else run).go(24)
        return [proposal.genotype.tobytes() for proposal in run.proposals if proposal.trial is None]

    informed, blind = proposals(start=True), proposals(start=False)
    assert informed[:9] == blind[:9]
    assert informed[9:] != blind[9:]


@pytest.mark.slow
def test_models_asked_for_while_under_way_are_evaluated_once_and_further_if_need_be() -> None:
    """Of eleven models, nearly all configurations are one that is known or in flight."""
    space = dis(sources=["a"], n_layers=8, granularity=2, max_blocks=1, scaling=None)
    run = Run(space)
    flying: list[Proposal] = []
    rng = np.random.default_rng(0)
    for _ in range(36):
        flying.append(run.optimizer.ask())
        promoted = [proposal.trial for proposal in flying if proposal.trial is not None]
        assert len(set(promoted)) == len(promoted), "a trial is evaluated twice at once"
        if len(flying) == 4:
            proposal = flying.pop(rng.integers(4))
            assert proposal.trial is None or run.trials[proposal.trial].n_items < proposal.stop
            run.answer(proposal)
    reached: dict[bytes, int] = {}
    for trial in run.trials.values():
        reached[trial.genotype.tobytes()] = max(reached.get(trial.genotype.tobytes(), 0), trial.n_items)
    history = run.optimizer._smac.runhistory
    for key, value in history.items():
        model = run.optimizer._configurations.genotype(history.get_config(key.config_id)).tobytes()
        is_told = value.status == StatusType.SUCCESS
        assert key.budget is not None
        assert is_told == (reached.get(model, 0) >= key.budget)
    assert len(run.told) > 2 * len(run.trials)


def test_what_is_due_after_a_shorter_evaluation_is_proposed_next() -> None:
    """SMAC asks for another configuration of a model in flight, and further than the one under way."""
    run = Run(lfs())
    first = run.optimizer.ask()
    (waiting,) = run.optimizer._waiting.values()
    info = waiting[0][1]
    far = TrialInfo(info.config, seed=info.seed, budget=90.0)
    assert run.optimizer._proposal(far) is None
    run.answer(first)
    due = run.optimizer.ask()
    assert (due.trial, due.stop) == (0, 90)
    run.answer(due)
    assert (90.0, StatusType.SUCCESS) in run.told


@pytest.mark.parametrize("n_trials", [3, 60])
def test_the_forest_is_that_of_smac(n_trials: int) -> None:
    """Against the forest that SMAC's own facade builds, on the same trials."""
    space = ConfigurationSpace({f"x{k}": (0.0, 1.0) for k in range(6)} | {"kind": ["left", "right"]}, seed=0)
    space.add(Float("last", (0.0, 1.0)))
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(space, output_directory=Path(folder), seed=3)
        rng = np.random.default_rng(0)
        X = np.array([config.get_array() for config in space.sample_configuration(n_trials)])
        y = np.log(rng.random((n_trials, 1)))
        asked = np.array([config.get_array() for config in space.sample_configuration(200)])
        models = (_forest(scenario), MultiFidelityFacade.get_model(scenario))
        ours, theirs = (model.train(X, y).predict(asked) for model in models)
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(np.asarray(ours[1]), np.asarray(theirs[1]))
