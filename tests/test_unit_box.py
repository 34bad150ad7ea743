import numpy as np
import pytest

from automerge.unit_box import UnitBox
from tests.conformance.members import SPACES, lfs


@pytest.mark.parametrize("name", SPACES)
def test_a_genotype_comes_back_from_its_point(name: str) -> None:
    space = SPACES[name]()
    box = UnitBox(space)
    X = space.sample(20, np.random.default_rng(0))
    points = box.points(X)
    assert points.shape == (20, box.n_dims)
    assert points.min() >= 0
    assert points.max() <= 1
    assert (box.genotypes(points) == X).all()


def test_each_choice_has_an_interval_of_equal_length() -> None:
    space = lfs(methods=["linear", "slerp", "task_arithmetic", "ties"])
    points = np.full((401, len(space.genes)), 0.6)
    points[:, 0] = np.linspace(0, 1, 401)
    codes = UnitBox(space).genotypes(points)[:, 0]
    assert [(codes == code).sum() for code in range(4)] == [100, 100, 100, 101]


def test_points_outside_the_box_are_taken_to_its_side() -> None:
    space = SPACES["smm_ps"]()
    outside = np.linspace(-1, 2, len(space.genes))[None]
    assert UnitBox(space).genotypes(outside)[0] == pytest.approx(np.clip(outside[0], 0, 1), abs=1e-4)
