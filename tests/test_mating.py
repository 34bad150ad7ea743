import numpy as np
import pytest

from automerge.mating import mate, mate_by_gene, tied_share
from automerge.variation import Layout
from tests.conformance.members import SPACES


@pytest.mark.parametrize("name", ["lfs", "dis", "dis, fused blocks", "smm_ps"])
def test_children_differ_from_their_first_parent_and_tell_what_made_them(name: str) -> None:
    space = SPACES[name]()
    layout = Layout.of(space.genes)
    rng = np.random.default_rng(0)
    X = space.sample(60, rng)
    seen = set()
    moved: list[np.bool_] = []
    for first, second in zip(X[:30], X[30:], strict=True):
        child, operators = mate(first, second, layout, rng, tied=0.5)
        seen.update(operators)
        assert operators
        assert child.shape == first.shape
        moved.append((child != first).any())
    assert np.mean(moved) > 0.7  # an interval of depth may be empty, or alike in both
    assert "depth_crossover" in seen
    assert seen & {"block_mutation", "slot_mutation", "depth_mutation"}
    assert ("depth_mutation" in seen) == bool(layout.blocks.size)


def test_a_parent_alone_is_mutated_only() -> None:
    space = SPACES["lfs"]()
    layout = Layout.of(space.genes)
    rng = np.random.default_rng(0)
    x = space.sample(1, rng)[0]
    for _ in range(20):
        child, operators = mate(x, x.copy(), layout, rng, tied=0.5, crossover=1.0, mutation=0.0)
        assert operators in (["block_mutation"], ["slot_mutation"])
        assert (child != x).any()


def test_moves_of_the_whole_model_come_first() -> None:
    assert tied_share(0) == pytest.approx(0.8)
    assert tied_share(50) < 0.5
    assert tied_share(1000) == pytest.approx(0.2)


def test_mating_by_gene_mixes_both_parents_everywhere_within_bounds() -> None:
    space = SPACES["lfs"]()
    layout = Layout.of(space.genes)
    rng = np.random.default_rng(0)
    first, second = space.sample(2, rng)
    apart = first != second
    children = np.array([mate_by_gene(first, second, layout, rng) for _ in range(200)])
    assert (children >= layout.lower).all()
    assert (children <= layout.upper).all()
    from_second = (children[:, apart] == second[apart]).mean(axis=0)
    assert (np.abs(from_second - 0.5) < 0.2).all()
    moved = ((children != first) & (children != second)).sum(axis=1)
    assert 0.5 < moved.mean() < 4


@pytest.mark.parametrize("stacked", [0.0, 0.4, 0.7, 1.0])
def test_stacks_are_edited_as_often_as_is_asked_for(stacked: float) -> None:
    space = SPACES["dis, fused blocks"]()
    layout = Layout.of(space.genes)
    rng = np.random.default_rng(0)
    x = space.sample(1, rng)[0]
    operators = [mate(x, x, layout, rng, tied=0.5, stacked=stacked)[1][0] for _ in range(400)]
    assert operators.count("depth_mutation") / len(operators) == pytest.approx(stacked, abs=0.08)
