from collections.abc import Callable

import numpy as np
import pytest

from automerge.protocols import Gene
from automerge.variation import N_TRIES, Layout, block_mutation, depth_crossover, new_sample, slot_mutation
from tests.conformance.members import SPACES, dis

N_DEPTHS = 6
GENES = tuple(
    Gene(
        f"{depth}.{component}.{role}",
        depth,
        component,
        role,
        0.0,
        4.0 if role == "method" else 1.0,
        5 * (role == "method"),
    )
    for depth, component in [*((d, c) for d in range(N_DEPTHS) for c in ("attention", "mlp")), (-1, "outer")]
    for role in ("method", "weight")
)
LAYOUT = Layout.of(GENES)
ZERO, ONE = np.zeros(len(GENES)), np.ones(len(GENES))


def children(operator: Callable[[np.random.Generator], np.ndarray], n: int = 400) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([operator(rng) for _ in range(n)])


def test_a_new_sample_is_the_first_of_the_stream_that_is_not_known() -> None:
    space = dis()
    rng = np.random.default_rng(0)
    stream = [space.sample(1, rng)[0].tobytes() for _ in range(N_TRIES + 1)]
    assert len(set(stream)) == len(stream)
    for n_known in (0, 1, 5, N_TRIES - 1):
        rng = np.random.default_rng(0)
        assert new_sample(space, stream[:n_known], rng).tobytes() == stream[n_known]
        assert space.sample(1, rng)[0].tobytes() == stream[n_known + 1]


def test_a_space_without_new_samples_gives_a_known_one() -> None:
    space = dis()
    rng = np.random.default_rng(0)
    stream = [space.sample(1, rng)[0].tobytes() for _ in range(N_TRIES)]
    assert new_sample(space, stream, np.random.default_rng(0)).tobytes() == stream[-1]


def test_crossover_takes_every_slot_whole_and_mostly_intervals_of_depth() -> None:
    kids = children(lambda rng: depth_crossover(ZERO, ONE, LAYOUT, rng))
    assert (kids[:, 0::2] == kids[:, 1::2]).all()  # method and weight of a slot go together
    attention = kids[:, [k for k, g in enumerate(GENES) if g.component == "attention" and g.role == "weight"]]
    changes = np.abs(np.diff(attention, axis=1)).sum(axis=1)
    assert np.mean(changes <= 2) > 0.7
    assert 0.2 < kids.mean() < 0.6


def test_block_mutation_moves_one_role_alike() -> None:
    start = np.full(len(GENES), 0.5)
    kids = children(lambda rng: block_mutation(start, LAYOUT, rng))
    roles = np.array([gene.role for gene in GENES])
    moved = [kid != start for kid in kids]
    # An interval that lies outside the chosen component falls back on mutating slots.
    assert np.mean([len(set(roles[genes])) == 1 for genes in moved]) > 0.75
    assert np.mean([len(set(kid[genes])) == 1 for kid, genes in zip(kids, moved, strict=True)]) > 0.75


def test_slot_mutation_changes_few_genes_within_bounds_and_codes_stay_codes() -> None:
    start = np.array([2.0 if gene.role == "method" else 0.9 for gene in GENES])
    kids = children(lambda rng: slot_mutation(start, LAYOUT, rng))
    assert (kids >= LAYOUT.lower).all()
    assert (kids <= LAYOUT.upper).all()
    codes = kids[:, LAYOUT.n_choices > 0]
    assert (codes == np.round(codes)).all()
    assert set(np.unique(codes)) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert 1 <= np.median((kids != start).sum(axis=1)) <= len(GENES) / 2


def test_parents_are_left_as_they_are() -> None:
    parent = np.full(len(GENES), 0.5)
    children(lambda rng: block_mutation(slot_mutation(parent, LAYOUT, rng), LAYOUT, rng), n=50)
    assert (parent == 0.5).all()


@pytest.mark.parametrize(("name", "expected"), [("dis", False), ("dis, fused blocks", True), ("dis, prune", True)])
def test_a_stack_is_fused_where_its_positions_hold_more_than_blocks_and_scales(name: str, expected: bool) -> None:
    assert Layout.of(SPACES[name]().genes).is_fused == expected
