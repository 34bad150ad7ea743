"""What is drawn to fill a space; what every optimizer must do is tested in conformance."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from automerge.fidelity import Ladder
from automerge.optimizers.space_filling import SHARES, SpaceFilling
from automerge.protocols import Space
from automerge.records import REFERENCE, Objective, Proposal, Result, Trial
from tests.conformance.members import SPACES, lfs

LADDER = Ladder(minimum=10, maximum=90)


def build(space: Space, seed: int = 3, **options: Any) -> SpaceFilling:
    return SpaceFilling(space=space, objectives=[Objective("a")], ladder=LADDER, seed=seed, **options)


def answered(space: Space, n: int, **options: Any) -> tuple[list[Proposal], dict[int, Trial]]:
    """The proposals and all trials by id of a search that is told the references and then every proposal."""
    optimizer = build(space, **options)
    trials: dict[int, Trial] = {}

    def answer(x: np.ndarray, origin: Mapping[str, object], stop: int) -> None:
        number = len(trials)
        trials[number] = Trial(number, x, space.decode(x), origin, "ok", {"a": Result(stop, 0.5 * stop)})
        optimizer.tell(trials[number])

    for name, reference in space.references().items():
        if reference.genotype is not None:
            answer(reference.genotype, {"operator": REFERENCE, "name": name, "kind": reference.kind}, 90)
    proposals = []
    for _ in range(n):
        proposals.append(optimizer.ask())
        answer(proposals[-1].genotype, proposals[-1].origin, proposals[-1].stop)
    return proposals, trials


def test_operators_come_in_their_shares() -> None:
    proposals, _ = answered(lfs(), 400)
    counts = Counter(proposal.origin["operator"] for proposal in proposals)
    for operator, share in SHARES.items():
        assert counts[operator] == pytest.approx(400 * share, abs=4 * np.sqrt(400 * share * (1 - share)))
    only, _ = answered(lfs(), 30, shares={"walk": 2, "tied_sample": 0})
    assert {proposal.origin["operator"] for proposal in only} == {"walk"}


def test_rungs_come_in_the_shares_of_stops() -> None:
    proposals, _ = answered(lfs(), 300, stops=[3, 0, 1])
    counts = Counter(proposal.stop for proposal in proposals)
    assert LADDER.rungs == (10, 30, 90)
    assert counts.keys() == {10, 90}
    assert counts[10] == pytest.approx(225, abs=4 * np.sqrt(300 * 0.75 * 0.25))
    assert {proposal.stop for proposal in answered(lfs(), 20)[0]} == {90}


@pytest.mark.parametrize("name", ["lfs", "smm_ps", "smm_dfs", "dis", "dis, prune"])
def test_a_slot_change_leaves_all_other_slots_as_they_were(name: str) -> None:
    """In spaces whose genes act whatever the others are; stacks are repaired as a whole."""
    space = SPACES[name]()
    proposals, trials = answered(space, 40, shares={"slot_change": 1})
    changed = [
        {
            (gene.depth, gene.component)
            for gene, old, new in zip(space.genes, parent.genotype, each.genotype, strict=True)
            if old != new
        }
        for each in proposals
        if each.origin["operator"] == "slot_change"
        for parent in [trials[number] for number in each.origin.get("parents", ())]
    ]
    assert len(changed) > 30
    assert all(changed)
    if name in ("lfs", "smm_ps"):
        assert {len(slots) for slots in changed} == {1}


def test_walks_go_further_from_a_reference_the_more_steps_they_take() -> None:
    space = lfs()
    proposals, trials = answered(space, 300, shares={"walk": 1}, n_steps=20)
    spans = np.array([gene.upper - gene.lower or 1.0 for gene in space.genes])
    steps = np.array([proposal.origin["steps"] for proposal in proposals])
    ways = []
    for proposal in proposals:
        (number,) = proposal.origin["parents"]
        assert trials[number].origin["operator"] == REFERENCE
        ways.append(np.abs((proposal.genotype - trials[number].genotype) / spans).mean())
    assert {1, 20} <= set(steps.tolist()) <= set(range(1, 21))
    assert np.mean(np.array(ways)[steps > 10]) > 1.5 * np.mean(np.array(ways)[steps <= 3])


def test_tied_samples_have_one_setting_for_all_layers() -> None:
    space = SPACES["smm_ps"]()
    proposals, _ = answered(space, 20, shares={"tied_sample": 1})
    for role in {gene.role for gene in space.genes}:
        columns = [k for k, gene in enumerate(space.genes) if gene.role == role]
        assert all((each.genotype[columns] == each.genotype[columns[0]]).all() for each in proposals)


def test_nothing_that_was_measured_steers_it() -> None:
    space = lfs()
    told, _ = answered(space, 40, shares={"sample": 1, "tied_sample": 1})
    untold = build(space, shares={"sample": 1, "tied_sample": 1})
    assert [each.genotype.tobytes() for each in told] == [untold.ask().genotype.tobytes() for _ in told]


def test_without_any_trial_told_it_can_be_asked() -> None:
    optimizer = build(SPACES["dis"]())
    assert len({optimizer.ask().genotype.tobytes() for _ in range(40)}) == 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": {"walks": 1}}, "unknown operators walks in shares: they are sample, tied_sample, walk"),
        ({"shares": {"walk": 0}}, "shares must be 0 or more, and one of them more"),
        ({"shares": {"walk": -1, "sample": 2}}, "shares must be 0 or more"),
        ({"stops": [1, 1]}, r"for each of the rungs 10, 30, 90, got 2 shares"),
        ({"stops": [float("nan"), 1, 1]}, "stops must be 0 or more"),
        ({"n_steps": 0}, "n_steps: expected a whole number from 1, got 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(lfs(), **options)
