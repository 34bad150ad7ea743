import numpy as np
import pytest

from automerge.acquisition.pool import evolve
from automerge.mating import mate
from automerge.variation import Layout
from tests.conformance.members import SPACES


def values(X: np.ndarray) -> np.ndarray:
    """Two objectives in conflict: to be near each of two points."""
    targets = np.random.default_rng(7).random((2, X.shape[1]))
    return np.stack([-((X - target) ** 2).mean(axis=1) for target in targets], axis=1)


@pytest.mark.parametrize("name", ["lfs", "dis", "smm_dfs"])
def test_the_pool_holds_every_new_model_once_in_canonical_form_and_gets_better(name: str) -> None:
    space = SPACES[name]()
    layout = Layout.of(space.genes)
    start = space.sample(20, np.random.default_rng(0))
    looked_at: list[np.ndarray] = []

    def fitness(X: np.ndarray) -> np.ndarray:
        looked_at.append(X)
        return values(X)

    pool = evolve(
        space,
        start,
        fitness,
        lambda a, b, rng: mate(a, b, layout, rng, tied=0.5)[0],
        np.random.default_rng(1),
        n_generations=6,
        n_children=40,
        n_parents=20,
    )
    assert len(looked_at) == 7
    assert (space.repair(pool) == pool).all()
    everything = {x.tobytes() for x in np.vstack(looked_at[1:])} - {x.tobytes() for x in start}
    assert {np.ascontiguousarray(x).tobytes() for x in pool} == everything
    assert len(pool) == len(everything)
    assert values(pool).sum(axis=1).max() > values(start).sum(axis=1).max()
    assert values(looked_at[-1]).mean() > values(looked_at[1]).mean()


def test_the_same_generator_gives_the_same_pool() -> None:
    space = SPACES["lfs"]()
    layout = Layout.of(space.genes)
    start = space.sample(10, np.random.default_rng(0))

    def pool(seed: int) -> np.ndarray:
        return evolve(
            space,
            start,
            values,
            lambda a, b, rng: mate(a, b, layout, rng, tied=0.5)[0],
            np.random.default_rng(seed),
            n_generations=2,
            n_children=20,
            n_parents=10,
        )

    assert (pool(1) == pool(1)).all()
    assert pool(1).shape != pool(2).shape or (pool(1) != pool(2)).any()
