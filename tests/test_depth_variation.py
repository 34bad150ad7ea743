"""Edits of stacks, worked out by hand, and how evolution uses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from automerge import depth_variation as edits
from automerge.depth_variation import depth_mutation, edit, jitter
from automerge.fidelity import Ladder
from automerge.optimizers.evolution import Evolution
from automerge.protocols import Gene, Space
from automerge.records import Objective, Result, Trial
from automerge.spaces.dis import DepthIntegration
from automerge.variation import Layout, block_mutation, slot_mutation
from tests.conformance.members import lfs

STACK = np.array([[1, 0, 0], [1, 2, 0], [2, 2, 1], [0, 0, 0], [3, 0, 0]])
N_CODES = 4


def dis(**options: object) -> DepthIntegration:
    return DepthIntegration(**{"sources": ["a", "b", "c"], "n_layers": 12, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (edits.exchanged, [[1, 0, 0], [1, 2, 0], [0, 0, 0], [2, 2, 1], [3, 0, 0]]),
        (edits.turned, [[1, 0, 0], [2, 1, 0], [1, 2, 2], [0, 0, 0], [3, 0, 0]]),
        (edits.duplicated, [[1, 0, 0], [1, 2, 2], [2, 2, 1], [0, 0, 0], [3, 0, 0]]),
        (lambda stack, at: edits.inserted(stack, at, 3), [[1, 0, 0], [1, 2, 3], [2, 2, 1], [0, 0, 0], [3, 0, 0]]),
        (edits.thinned, [[1, 0, 0], [1, 0, 0], [2, 2, 0], [0, 0, 0], [3, 0, 0]]),
        (edits.emptied, [[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [3, 0, 0]]),
        (lambda stack, at: edits.replaced(stack, at, 3), [[1, 0, 0], [3, 0, 0], [3, 0, 0], [0, 0, 0], [3, 0, 0]]),
    ],
    ids=["exchanged", "turned", "duplicated", "inserted", "thinned", "emptied", "replaced"],
)
def test_edits_change_a_segment_and_leave_their_argument(
    made: Callable[[np.ndarray, slice], np.ndarray], expected: Sequence[Sequence[int]]
) -> None:
    before = STACK.copy()
    assert made(STACK, slice(1, 3)).tolist() == expected
    assert (before == STACK).all()


def test_nothing_is_stacked_on_nothing_or_exchanged_beyond_the_end() -> None:
    there = slice(3, 4)
    assert (edits.duplicated(STACK, there) == STACK).all()
    assert (edits.inserted(STACK, there, 1) == STACK).all()
    assert (edits.exchanged(STACK, slice(3, 5)) == STACK).all()


def test_a_random_edit_changes_few_neighbouring_positions_and_all_kinds_of_edits_occur() -> None:
    rng = np.random.default_rng(0)
    stack = np.zeros((30, 3), dtype=np.int64)
    stack[:, 0] = 1
    stack[::3, 1] = 2
    children = [edit(stack, N_CODES, rng) for _ in range(500)]
    changed = [np.flatnonzero((child != stack).any(axis=1)) for child in children]
    assert all(len(positions) for positions in changed)
    assert np.mean([np.ptp(positions) + 1 <= 3 for positions in changed]) > 0.8
    depths = np.array([(child > 0).sum() for child in children]) - (stack > 0).sum()
    assert np.mean(depths < 0) > 0.15
    assert np.mean(depths == 0) > 0.15
    assert np.mean(depths > 0) > 0.15
    assert {int(code) for child in children for code in np.unique(child)} == {0, 1, 2, 3}


def test_an_edit_of_what_cannot_change_gives_it_back() -> None:
    only = np.array([[0]])
    rng = np.random.default_rng(0)
    assert {int(edit(only, 2, rng)[0, 0]) for _ in range(50)} == {1}
    assert {int(edit(only + 1, 2, rng)[0, 0]) for _ in range(50)} == {0}


def test_scales_are_jittered_a_little_alike_or_apart_and_now_and_then_reset() -> None:
    rng = np.random.default_rng(0)
    scales = np.linspace(0.8, 1.2, 20)
    moves = [jitter(scales, rng) - scales for _ in range(600)]
    size = [np.abs(move).max() for move in moves]
    assert 0.01 < np.median(size) < 0.3
    assert any((jitter(scales, rng) == 1).all() for _ in range(300))
    several = [move[move != 0] for move in moves if (move != 0).sum() > 1]
    assert 0.25 < np.mean([np.allclose(move, move[0]) for move in several]) < 0.75
    assert 0.1 < np.mean([(move != 0).all() for move in moves]) < 0.35


def test_depth_mutation_moves_blocks_or_scales_and_nothing_else() -> None:
    space = dis(methods=["linear"])
    layout = Layout.of(space.genes)
    roles = np.array([gene.role.split(":")[0] for gene in space.genes])
    rng = np.random.default_rng(0)
    parents = space.sample(300, rng)
    kinds = []
    for parent in parents:
        before = parent.copy()
        child = depth_mutation(parent, layout, rng)
        assert (parent == before).all()
        assert ((child >= layout.lower) & (child <= layout.upper)).all()
        kinds.append({str(role) for role in roles[child != parent]})
    assert {frozenset(kind) for kind in kinds} <= {frozenset({"block"}), frozenset({"scale"}), frozenset()}
    assert 0.6 < np.mean([kind == {"block"} for kind in kinds]) < 0.8


def test_other_mutations_leave_blocks_and_their_scales_alone() -> None:
    space = dis(methods=["linear", "ties"])
    layout = Layout.of(space.genes)
    held = np.array([gene.role == "scale" or gene.role.startswith("block:") for gene in space.genes])
    rng = np.random.default_rng(0)
    n_moved = 0
    for parent in space.sample(200, rng):
        for child in (block_mutation(parent, layout, rng), slot_mutation(parent, layout, rng)):
            assert (child[held] == parent[held]).all()
            n_moved += bool((child != parent).any())
    assert n_moved > 300


def test_a_layout_knows_blocks_by_position_and_slot_whatever_the_order_of_genes() -> None:
    genes = [
        Gene("late1", 3, "layer", "block:1", 0, 2, 3),
        Gene("late", 3, "layer", "scale"),
        Gene("early1", 1, "layer", "block:1", 0, 2, 3),
        Gene("early0", 1, "layer", "block:0", 0, 2, 3),
        Gene("early", 1, "layer", "scale"),
        Gene("late0", 3, "layer", "block:0", 0, 2, 3),
        Gene("other", 2, "mlp", "scale"),
    ]
    layout = Layout.of(genes)
    assert [[genes[k].name for k in row] for row in layout.blocks] == [["early0", "early1"], ["late0", "late1"]]
    assert [genes[k].name for k in layout.scales] == ["early", "late"]
    assert np.flatnonzero(layout.movable).tolist() == [6]
    without = Layout.of(lfs().genes)
    assert without.blocks.size == without.scales.size == 0
    assert without.movable.all()
    with pytest.raises(ValueError, match="use block_mutation"):
        depth_mutation(np.zeros(len(lfs().genes)), without, np.random.default_rng(0))


def searched(space: Space, n: int) -> list[Trial]:
    """Trials of an evolution that likes short stacks with a repeat."""
    objectives = [Objective("score")]
    evolution = Evolution(
        space=space, objectives=objectives, ladder=Ladder(minimum=10, maximum=10), seed=0, n_initial=8
    )
    trials = []
    for number in range(n):
        proposal = evolution.ask()
        recipe = space.decode(proposal.genotype)
        score = 1 / len(recipe.layers) + 0.05 * (len(set(recipe.layers)) < len(recipe.layers))
        results = {"score": Result(10, 10 * score)}
        trials.append(Trial(number, proposal.genotype, recipe, proposal.origin, "ok", results, {}))
        evolution.tell(trials[-1])
    return trials


def test_evolution_edits_stacks_and_finds_what_is_asked_for() -> None:
    trials = searched(dis(min_layers=4), 150)
    operators = [str(trial.origin["operator"]) for trial in trials if trial.origin["operator"] != "sample"]
    assert np.mean(["depth_mutation" in operator for operator in operators]) > 0.4
    assert any("block_mutation" in operator or "slot_mutation" in operator for operator in operators)
    best = max(trials, key=lambda trial: trial.results["score"].total)
    assert len(best.recipe.layers) <= 6


def test_evolution_of_other_spaces_has_nothing_to_edit() -> None:
    assert not any("depth_mutation" in str(trial.origin["operator"]) for trial in searched(lfs(), 40))
