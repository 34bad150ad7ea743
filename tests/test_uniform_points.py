"""The order and the points of the grids over uniform merges."""

from itertools import islice

import numpy as np
import pytest

from automerge.protocols import Space
from automerge.recipe import BASE
from automerge.spaces.lfs import LayerwiseFusion
from automerge.uniform_points import UniformSamples, uniform_points
from tests.conformance.members import SPACES, lfs


def points(space: Space, n: int, seed: int = 0) -> np.ndarray:
    """The first n different ones."""
    found = {x.tobytes(): x for x in islice(uniform_points(space, seed=seed), 100 * n)}
    return np.array(list(found.values())[:n])


def test_task_arithmetic_goes_from_equal_strengths_to_each_its_own_and_then_to_half_steps() -> None:
    """With weights from 0 to 1.5: 4 equal strengths, 12 other pairs; then 3 new equal strengths, 30 other pairs."""
    space = lfs(methods=["task_arithmetic"])
    weights = points(space, 49)[:, 1:3]
    assert sorted(weights[:4].tolist()) == [[0, 0], [0.5, 0.5], [1, 1], [1.5, 1.5]]
    assert {tuple(pair) for pair in weights[:16]} == {(a / 2, b / 2) for a in range(4) for b in range(4)}
    assert sorted(weights[16:19].tolist()) == [[0.25, 0.25], [0.75, 0.75], [1.25, 1.25]]
    assert {tuple(pair) for pair in weights} == {(a / 4, b / 4) for a in range(7) for b in range(7)}


@pytest.mark.parametrize("name", ["lfs", "smm_ps", "smm_dfs", "dis, fused blocks"])
def test_every_layer_is_alike(name: str) -> None:
    """But for stacks, which lose layers where they would be too deep, and scales that do nothing."""
    space = SPACES[name]()
    X = points(space, 12)
    roles = {gene.role for gene in space.genes if gene.depth >= 0} - {"scale", "transition"}
    for role in roles:
        columns = [k for k, gene in enumerate(space.genes) if gene.role == role and gene.depth >= 0]
        assert (X[:, columns] == X[:, columns[:1]]).all()


@pytest.mark.parametrize("name", ["dis", "dis, fused blocks", "dis, prune"])
def test_stacks_have_a_block_at_every_position(name: str) -> None:
    """Without any, repair would leave the first and last few layers alone: no merge."""
    space = SPACES[name]()
    columns = [k for k, gene in enumerate(space.genes) if gene.role == "block:0"]
    X = points(space, 60)
    assert len(X) == 60
    assert (X[:, columns] > 0).all()


def test_the_seed_changes_the_order_alone() -> None:
    space = lfs(methods=["task_arithmetic"])
    first, second = points(space, 49), points(space, 49, seed=1)
    assert (first != second).any()
    assert {row.tobytes() for row in first} == {row.tobytes() for row in second}


def test_of_many_sources_a_part_of_the_grid_is_drawn() -> None:
    many = SPACES["lfs, four sources"]()
    X = points(many, 300)
    assert len({row.tobytes() for row in X}) == 300


def test_samples_are_uniform_merges_of_two_or_more_sources_and_reach_every_number_of_them() -> None:
    space = LayerwiseFusion(sources=["a", "b", "c", "d"], n_layers=2, methods=["task_arithmetic"])
    X = UniformSamples(space).draw(400, np.random.default_rng(0))
    weights = X[:, 1:5]
    numbers = (weights > 0).sum(axis=1)
    # Four tosses, and at least two: (1 + 4 + 6) / 16, 4 / 16, 1 / 16.
    assert np.bincount(numbers)[2:] / 400 == pytest.approx([11 / 16, 4 / 16, 1 / 16], abs=0.07)
    assert (weights % 0.25 == 0).all()
    assert weights.max() == 1.5
    columns = [k for k, gene in enumerate(space.genes) if gene.role == "weight:a"]
    assert (X[:, columns] == X[:, columns[:1]]).all()


@pytest.mark.parametrize("name", SPACES)
def test_samples_are_merges_wherever_sources_have_weights_in_layers(name: str) -> None:
    space = SPACES[name]()
    samples = UniformSamples(space)
    X = samples.draw(10, np.random.default_rng(0))
    roles = {gene.role for gene in space.genes if gene.role.startswith("weight:") and gene.depth >= 0}
    assert samples.n_weighted == len(roles)
    assert X.shape == (10 if roles else 0, len(space.genes))
    inputs = [{each.source for _, fusion in space.decode(x).fusions() for each in fusion.inputs} - {BASE} for x in X]
    # Some methods leave out sources of small weights.
    assert sum(len(sources) >= min(2, len(roles)) for sources in inputs) > 0.5 * len(X) or not roles


def test_plain_stacks_of_the_coarsest_grid_have_a_layer_at_every_position() -> None:
    space = SPACES["dis"]()
    X = points(space, 2)
    assert {len(space.decode(x).layers) for x in X} == {6}
    first = [k for k, gene in enumerate(space.genes) if gene.role == "block:0"]
    assert sorted(X[:, first].tolist()) == [[1.0] * len(first), [2.0] * len(first)]


def test_fused_stacks_of_the_coarsest_grid_are_fused_at_every_position() -> None:
    space = SPACES["dis, fused blocks"]()
    first = [k for k, gene in enumerate(space.genes) if gene.role == "block:0"]
    linear = [x for x in points(space, 12) if (x[first] == space.genes[first[0]].upper).all()]
    assert len(linear) > 6  # the others are merges of one source alone, which are blocks of it
