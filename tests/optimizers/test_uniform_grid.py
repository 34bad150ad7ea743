"""How the grid is proposed; its points are tested in test_uniform_points, what all do in conformance."""

from automerge.fidelity import Ladder
from automerge.optimizers.uniform_grid import UniformGrid
from automerge.records import Objective
from tests.conformance.members import dis


def test_when_the_grids_are_used_up_samples_follow() -> None:
    space = dis(sources=["a"], n_layers=8, granularity=2, max_blocks=1, scaling=None)
    grid = UniformGrid(space=space, objectives=[Objective("a")], ladder=Ladder(minimum=90, maximum=90), seed=0)
    assert [grid.ask().origin["operator"] for _ in range(11)][-1] == "sample"
