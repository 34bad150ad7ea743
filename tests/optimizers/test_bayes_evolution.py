"""What the model of the landscape is good for; what every optimizer must do is tested in conformance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from automerge.fidelity import Ladder
from automerge.landscape.beliefs import Beliefs
from automerge.landscape.survival import MINIMUM
from automerge.mating import STACKED, mate
from automerge.optimizers import bayes_evolution
from automerge.optimizers.bayes_evolution import ENOUGH_MEASURED, OPERATOR, STACKED_FUSED, BayesEvolution
from automerge.optimizers.random_search import RandomSearch
from automerge.pareto import hypervolume
from automerge.protocols import Optimizer, Space
from automerge.records import REFERENCE, Constraint, Objective, Proposal, Result, Status, Trial
from automerge.spaces.lfs import LayerwiseFusion
from tests.conformance.members import SPACES, dis, lfs

OBJECTIVES = (Objective("a"), Objective("b"))
N_ITEMS = 270


class Landscape:
    """Two tasks: each wants its own half of the model from its own source, or in conflict all of it."""

    def __init__(self, space: Space, *, breaks: bool = False, conflict: bool = False) -> None:
        self.space = space
        self.breaks = breaks
        self.conflict = conflict
        self.trials: dict[int, Trial] = {}

    def truth(self, x: np.ndarray) -> np.ndarray:
        found = []
        layers = self.space.decode(x).layers
        middle = len(layers) // 2
        parts = (layers, layers) if self.conflict else (layers[:middle], layers[middle:])
        for source, part in zip(("left", "right"), parts, strict=True):
            shares = []
            for layer in part:
                weights = {read.source: read.weight for read in layer.components[0][1].inputs}
                shares.append(weights.get(source, 0.0) / (sum(weights.values()) or 1.0))
            found.append(0.2 + 0.7 * float(np.mean(shares or [0.0])))
        return np.array(found)

    def answer(self, optimizer: Optimizer, proposal: Proposal) -> Trial:
        number = len(self.trials) if proposal.trial is None else proposal.trial
        uniforms = np.random.default_rng(1).random((2, N_ITEMS))
        right = uniforms[:, : proposal.stop] < self.truth(proposal.genotype)[:, None]
        recipe = self.space.decode(proposal.genotype)
        told = Trial(
            number,
            proposal.genotype,
            recipe,
            proposal.origin,
            "ok",
            {task: Result(proposal.stop, float(right[k].sum())) for k, task in enumerate("ab")},
            {"layers": float(len(recipe.layers))},
            items={} if proposal.origin.get("kind") == "source" else dict(zip("ab", right.astype(float), strict=True)),
        )
        if self.breaks and len(recipe.layers) > 6:
            told = replace(told, status="invalid", results={}, items={})
        self.trials[number] = told
        optimizer.tell(told)
        return told

    def start(self, optimizer: Optimizer) -> None:
        for name, reference in self.space.references().items():
            if reference.genotype is not None:
                origin = {"operator": REFERENCE, "name": name, "kind": reference.kind}
                self.answer(optimizer, Proposal(reference.genotype, N_ITEMS, origin))


def build(space: Space, kind: type[Any] = BayesEvolution, **options: Any) -> Any:
    small = {"n_initial": 8, "n_generations": 4, "n_children": 40} if kind is BayesEvolution else {}
    ladder = Ladder(minimum=30, maximum=N_ITEMS)
    built = kind(**{"space": space, "objectives": OBJECTIVES, "ladder": ladder, "seed": 0, **small, **options})
    if kind is BayesEvolution:
        built.count_above(np.full(2, 0.13))
    return built


def searched(landscape: Landscape, optimizer: Optimizer, n_items: int, *, started: bool = False) -> float:
    """The true hypervolume of all that was tried with so many items, references included."""
    if not started:
        landscape.start(optimizer)
    spent = 0
    while spent < n_items:
        proposal = optimizer.ask()
        begun = 0 if proposal.trial is None else landscape.trials[proposal.trial].n_items
        landscape.answer(optimizer, proposal)
        spent += proposal.stop - begun
    points = np.array([landscape.truth(trial.genotype) for trial in landscape.trials.values()])
    return hypervolume(points, np.full(2, 0.2))


@pytest.mark.slow
def test_it_finds_more_than_random_search_with_as_many_items() -> None:
    found: dict[type[Any], Sequence[float]] = {
        kind: [searched(Landscape(lfs()), build(lfs(), kind, seed=seed), 3000) for seed in (0, 1)]
        for kind in (BayesEvolution, RandomSearch)
    }
    assert min(found[BayesEvolution]) > max(found[RandomSearch]) + 0.02


def test_it_goes_on_from_a_log_as_if_it_had_never_stopped() -> None:
    landscape = Landscape(lfs())
    first = build(lfs())
    landscape.start(first)
    asked = []
    for _ in range(24):
        asked.append(first.ask())
        landscape.answer(first, asked[-1])
    again, replayed = build(lfs()), Landscape(lfs())
    replayed.start(again)
    for proposal in asked:
        repeated = again.ask()
        assert (repeated.genotype == proposal.genotype).all()
        assert (repeated.stop, repeated.trial) == (proposal.stop, proposal.trial)
        replayed.answer(again, repeated)
    assert (first.ask().genotype == again.ask().genotype).all()


@pytest.mark.slow
def test_with_racing_promotions_are_made_in_pieces_and_given_up_without_hope() -> None:
    landscape, optimizer = Landscape(lfs()), build(lfs(), racing=True)
    landscape.start(optimizer)
    pieces: list[tuple[int, int]] = []
    for _ in range(60):
        proposal = optimizer.ask()
        if proposal.trial is not None:
            pieces.append((landscape.trials[proposal.trial].n_items, proposal.stop))
        landscape.answer(optimizer, proposal)
    assert {begun for begun, _ in pieces} >= {30, 52}
    assert all(stop in (52, 90, 156, 270) for _, stop in pieces)
    stopped = [trial for trial in landscape.trials.values() if trial.n_items in (52, 156)]
    whole = build(lfs())
    other = Landscape(lfs())
    other.start(whole)
    for _ in range(40):
        other.answer(whole, whole.ask())
    assert {trial.n_items for trial in other.trials.values()} <= {30, 90, 270}
    assert stopped


@pytest.mark.slow
def test_broken_regions_are_left_once_they_are_known() -> None:
    """Stacks of more than six layers break, which many samples are. One search tries too few to tell the shares by."""
    space = dis(scaling=None)
    deep: dict[bool, list[bool]] = {True: [], False: []}
    for seed in range(3):
        landscape, optimizer = Landscape(space, breaks=True), build(space, n_initial=24, seed=seed)
        landscape.start(optimizer)
        for _ in range(110):
            proposal = optimizer.ask()
            n_broken = sum(trial.status == "invalid" for trial in landscape.trials.values())
            if proposal.trial is None:
                deep[n_broken >= MINIMUM].append(len(space.decode(proposal.genotype).layers) > 6)
            landscape.answer(optimizer, proposal)
    assert np.mean(deep[False]) > 0.2
    assert len(deep[True]) > 10
    assert np.mean(deep[True]) < 0.15


@pytest.mark.parametrize("bound", [5, 7])
def test_a_bound_on_the_layers_is_kept(bound: int) -> None:
    space = dis()
    constraint = Constraint("layers", "<=", bound)
    landscape, optimizer = Landscape(space), build(space, constraints=[constraint])
    landscape.start(optimizer)
    chosen = []
    for _ in range(50):
        proposal = optimizer.ask()
        chosen.append(len(space.decode(proposal.genotype).layers))
        landscape.answer(optimizer, proposal)
    assert len(chosen) > 10
    assert max(chosen) <= bound


@pytest.mark.slow
def test_an_aspiration_draws_the_search_to_its_part_of_the_front() -> None:
    def ends(**preference: Any) -> np.ndarray:
        """By how much a is ahead of b in models that were chosen, that were promoted, and that are to be verified."""
        landscape, optimizer = Landscape(lfs(), conflict=True), build(lfs(), **preference)
        landscape.start(optimizer)
        found: list[list[np.ndarray]] = [[], [], []]
        for _ in range(48):
            proposal = optimizer.ask()
            if proposal.origin["operator"] == OPERATOR:
                found[proposal.trial is not None].append(landscape.truth(proposal.genotype))
            landscape.answer(optimizer, proposal)
        found[2] = [landscape.truth(landscape.trials[trial].genotype) for trial in optimizer.promising(4)]
        return np.array([np.mean([a - b for a, b in some]) for some in found])

    assert (ends(reference_point={"a": 0.6}) > ends(reference_point={"b": 0.6}) + 0.15).all()
    assert (ends(aspiration={"a": 0.9, "b": 0.3}) > ends(aspiration={"a": 0.3, "b": 0.9}) + 0.15).all()


@pytest.mark.slow
def test_it_promotes_the_ends_of_the_front_that_the_search_counts_though_no_source_lies_in_the_space() -> None:
    def promoted(reference_point: Sequence[float]) -> np.ndarray:
        landscape, optimizer = Landscape(lfs(), conflict=True), build(lfs())
        optimizer.count_above(np.array(reference_point))
        # As of a space without its sources: the search tells of a uniform merge alone.
        references = lfs().references().values()
        middle = next(each.genotype for each in references if each.kind == "uniform" and each.genotype is not None)
        landscape.answer(optimizer, Proposal(middle, N_ITEMS, {"operator": REFERENCE, "name": "", "kind": "uniform"}))
        for _ in range(60):
            landscape.answer(optimizer, optimizer.ask())
        own = [each for each in landscape.trials.values() if each.origin["operator"] != REFERENCE]
        return np.array([landscape.truth(each.genotype) for each in own if each.n_items > 30])

    assert np.ptp(promoted([0.2, 0.2])[:, 0]) > np.ptp(promoted([0.5, 0.5])[:, 0]) + 0.1


@pytest.mark.parametrize("kept", [True, False])
def test_where_nothing_keeps_the_constraints_promotions_go_on(*, kept: bool) -> None:
    bound = Constraint("a", ">=", 0.3 if kept else 0.999, "task")
    landscape, optimizer = Landscape(lfs()), build(lfs(), constraints=[bound])
    landscape.start(optimizer)
    promoted = 0
    for _ in range(30):
        proposal = optimizer.ask()
        promoted += proposal.trial is not None
        landscape.answer(optimizer, proposal)
    assert promoted >= 5


def test_what_is_equal_to_a_broken_model_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its genotype may differ, as where two methods make one model of the same numbers."""
    landscape, optimizer = Landscape(lfs()), build(lfs())
    landscape.start(optimizer)
    broken = lfs().sample(3, np.random.default_rng(5))
    # What was only lost is no reason against its equals.
    lost = lfs().sample(1, np.random.default_rng(6))[0]
    for genotype, status in [*((genotype, "invalid") for genotype in broken), (lost, "failed")]:
        number = len(landscape.trials)
        told = Trial(number, genotype, lfs().decode(genotype), {"operator": "sample"}, cast(Status, status))
        landscape.trials[number] = told
        optimizer.tell(told)
    pools: list[np.ndarray] = []

    def evolved(space: Space, start: np.ndarray, *arguments: Any, **options: Any) -> np.ndarray:
        return np.vstack([broken, lost, space.sample(5, np.random.default_rng(len(pools)))])

    def first(landscape: Any, pool: np.ndarray, *, n: int, **options: Any) -> np.ndarray:
        pools.append(pool)
        return pool[:n]

    monkeypatch.setattr(bayes_evolution, "evolve", evolved)
    monkeypatch.setattr(bayes_evolution, "select", first)
    # As if other genotypes made the same models: these were not proposed.
    monkeypatch.setattr(optimizer._ledger, "is_new", lambda _: True)
    for _ in range(20):
        landscape.answer(optimizer, optimizer.ask())
    assert len(pools) >= 2
    for pool in pools:
        assert len(pool) == 6
        assert (pool == lost).all(axis=1).any()
        assert not (pool[:, None] == broken[None]).all(axis=2).any()


def test_where_the_space_holds_no_reference_the_first_models_tell_where_to_begin() -> None:
    """Merging takes as long as a thousand items: so few items would waste it."""
    landscape, optimizer = Landscape(lfs()), build(lfs())
    stops = []
    for _ in range(12):
        proposal = optimizer.ask()
        told = landscape.answer(optimizer, proposal)
        optimizer.tell(replace(told, seconds={"merge": 10.0, "forward": 0.01 * told.n_items}))
        stops += [proposal.stop] if proposal.trial is None else []
    assert stops[:ENOUGH_MEASURED] == [30] * ENOUGH_MEASURED
    assert set(stops[ENOUGH_MEASURED:]) == {90}


def test_of_one_objective_candidates_do_not_gather_at_one_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """They evolve by what is hoped for beside what is believed."""
    seen = []

    def evolved(space: Space, start: np.ndarray, fitness: Any, *arguments: Any, **options: Any) -> np.ndarray:
        seen.append(fitness(start))
        return space.sample(5, np.random.default_rng(len(seen)))

    monkeypatch.setattr(bayes_evolution, "evolve", evolved)
    for objectives in (OBJECTIVES[:1], OBJECTIVES):
        optimizer, landscape = build(lfs(), objectives=objectives), Landscape(lfs())
        optimizer.count_above(np.full(len(objectives), 0.13))
        landscape.start(optimizer)
        for _ in range(12):
            landscape.answer(optimizer, optimizer.ask())
    believed, hoped = seen[0].T
    assert (hoped > believed).all()
    # What is less known is hoped for more, so the two do not rank alike.
    assert np.std(hoped - believed) > 0
    assert seen[-1].shape[1] == 2


def test_where_nothing_known_counts_yet_the_best_still_go_further() -> None:
    landscape, optimizer = Landscape(lfs()), build(lfs())
    optimizer.count_above(np.full(2, 0.95))  # above all that there is
    landscape.start(optimizer)
    for _ in range(20):
        landscape.answer(optimizer, optimizer.ask())
    own = [each for each in landscape.trials.values() if each.origin["operator"] != REFERENCE]
    assert sum(each.n_items > 30 for each in own) >= 3


def test_without_a_point_to_count_from_the_first_ask_says_what_is_missing() -> None:
    optimizer = BayesEvolution(space=lfs(), objectives=OBJECTIVES, ladder=Ladder(minimum=30, maximum=90), seed=0)
    with pytest.raises(RuntimeError, match="call count_above before the first ask"):
        optimizer.ask()


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"first_rung": 31}, "first_rung: 31 is none of the rungs 30, 90, 270"),
        ({"first_rung": 90, "rungs": False}, "first_rung: 90 means nothing without rungs"),
        ({"batch": 0}, "batch: expected a whole number from 1, got 0"),
        ({"n_generations": 0}, "n_generations: expected a whole number from 1, got 0"),
        ({"n_children": -1}, "n_children: expected a whole number from 1, got -1"),
        ({"n_initial": -1}, "n_initial: expected a whole number from 0, got -1"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        build(lfs(), **options)


def test_new_models_begin_at_the_rung_that_the_user_names() -> None:
    landscape, optimizer = Landscape(lfs()), build(lfs(), first_rung=90)
    landscape.start(optimizer)
    assert {optimizer.ask().stop for _ in range(4)} == {90}


def test_it_finds_more_than_it_began_with() -> None:
    landscape, optimizer = Landscape(lfs()), build(lfs())
    landscape.start(optimizer)
    known = np.array([landscape.truth(trial.genotype) for trial in landscape.trials.values()])
    found = searched(landscape, optimizer, 1500, started=True)
    assert found > hypervolume(known, np.full(2, 0.2)) + 0.05


@pytest.mark.parametrize("n_known", [0, 7, 8])
def test_it_begins_with_uniform_merges_where_few_references_are_such(n_known: int) -> None:
    space = lfs(methods=["task_arithmetic"])
    optimizer = build(space, n_initial=8)
    landscape = Landscape(space)
    for number, genotype in enumerate(space.sample(n_known, np.random.default_rng(1))):
        origin = {"operator": REFERENCE, "name": str(number), "kind": "uniform"}
        landscape.answer(optimizer, Proposal(genotype, N_ITEMS, origin))
    asked = [optimizer.ask() for _ in range(8)]
    assert [each.origin["operator"] for each in asked] == (["grid", "sample"] * 4 if n_known < 8 else ["sample"] * 8)
    for proposal in (each for each in asked if each.origin["operator"] == "grid"):
        weights = proposal.genotype.reshape(-1, 3)[:, 1:]
        assert (weights == weights[0]).all()


def test_uniform_merges_of_some_sources_are_candidates_and_parents_in_every_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space = SPACES["lfs, three sources"]()
    parents, pools = [], []

    def evolved(space: Space, start: np.ndarray, *arguments: Any, **options: Any) -> np.ndarray:
        parents.append(start)
        return space.sample(5, np.random.default_rng(len(parents)))

    def first(landscape: Any, pool: np.ndarray, *, n: int, **options: Any) -> np.ndarray:
        pools.append(pool)
        return pool[:n]

    monkeypatch.setattr(bayes_evolution, "evolve", evolved)
    monkeypatch.setattr(bayes_evolution, "select", first)
    optimizer, landscape = build(space, rungs=False), Landscape(space)
    landscape.start(optimizer)
    for _ in range(20):
        landscape.answer(optimizer, optimizer.ask())
    assert len(pools) >= 2
    layers = [[k for k, gene in enumerate(space.genes) if gene.role == f"weight:{name}"] for name in ("a", "b", "c")]
    for candidates in (*parents, *pools):
        alike = np.all([(candidates[:, one] == candidates[:, one[:1]]).all(axis=1) for one in layers], axis=0)
        of_two = (candidates[:, [one[0] for one in layers]] > 0).sum(axis=1) == 2
        assert (alike & of_two).sum() > 20


def test_of_three_sources_it_always_begins_with_uniform_merges_for_the_references_are_of_all_at_once() -> None:
    space = SPACES["lfs, three sources"]()
    optimizer = build(space, n_initial=None)
    landscape = Landscape(space)
    for number, genotype in enumerate(space.sample(16, np.random.default_rng(1))):
        origin = {"operator": REFERENCE, "name": str(number), "kind": "uniform"}
        landscape.answer(optimizer, Proposal(genotype, N_ITEMS, origin))
    operators = [optimizer.ask().origin["operator"] for _ in range(16)]
    assert operators == ["sample", "uniform_sample", "uniform_sample", "uniform_sample"] * 4


@pytest.mark.parametrize(("n_sources", "expected"), [(1, 8), (2, 8), (3, 16), (4, 24), (9, 24)])
def test_the_beginning_grows_with_the_sources_to_a_bound(n_sources: int, expected: int) -> None:
    space = LayerwiseFusion(sources=[f"source{k}" for k in range(n_sources)], n_layers=2)
    optimizer = build(space, n_initial=None)
    landscape = Landscape(space)
    own: list[str] = []
    while len(own) <= expected:
        proposal = optimizer.ask()
        landscape.answer(optimizer, proposal)
        if proposal.trial is None:
            own.append(str(proposal.origin["operator"]))
    assert set(own[:expected]) <= {"sample", "grid", "uniform_sample"}
    assert own[expected] == OPERATOR


@pytest.mark.usefixtures("two_threads")
def test_what_it_chooses_does_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over more threads are rounded otherwise, with which a run could not go on under others."""
    landscape, optimizer = Landscape(lfs()), build(lfs(), n_initial=4)
    landscape.start(optimizer)
    threads = []
    believe = Beliefs.landscape

    def watched(self: Beliefs, trials: list[Trial]) -> Any:
        threads.append(torch.get_num_threads())
        return believe(self, trials)

    monkeypatch.setattr(Beliefs, "landscape", watched)
    searched(landscape, optimizer, 300, started=True)
    optimizer.promising(3)
    assert torch.get_num_threads() == 2
    assert set(threads) == {1}


@pytest.mark.parametrize(
    ("name", "costs", "expected"),
    [
        ("dis, fused blocks", (), STACKED_FUSED),
        ("dis, fused blocks", (Objective("layers", "cost"),), STACKED),
        ("dis", (), STACKED),
    ],
)
def test_stacks_are_edited_less_where_weights_decide_and_depth_does_not(
    monkeypatch: pytest.MonkeyPatch, name: str, costs: tuple[Objective, ...], expected: float
) -> None:
    shares = set()

    def watched(*arguments: Any, stacked: float, **options: Any) -> Any:
        shares.add(stacked)
        return mate(*arguments, stacked=stacked, **options)

    monkeypatch.setattr(bayes_evolution, "mate", watched)
    landscape = Landscape(SPACES[name]())
    ladder = Ladder(minimum=30, maximum=N_ITEMS)
    optimizer = BayesEvolution(
        space=landscape.space, objectives=(*OBJECTIVES, *costs), ladder=ladder, seed=0, n_initial=0, n_generations=1
    )
    optimizer.count_above(np.array([0.2, 0.2, *(-20.0 for _ in costs)]))
    landscape.start(optimizer)
    optimizer.ask()
    assert shares == {expected}
