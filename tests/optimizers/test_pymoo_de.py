"""What differential evolution makes of its trials; what every optimizer must do is tested in conformance."""

from collections.abc import Sequence

import pytest

from automerge.fidelity import Ladder
from automerge.optimizers.pymoo_de import PymooDe
from automerge.protocols import Optimizer, Space
from automerge.records import Objective
from tests.optimizers.hill import lead


def make(space: Space, objectives: Sequence[Objective], ladder: Ladder, seed: int) -> Optimizer:
    return PymooDe(space=space, objectives=objectives, ladder=ladder, seed=seed)


@pytest.mark.parametrize("n_objectives", [1, 2])
def test_it_climbs_higher_than_random_search(n_objectives: int) -> None:
    assert lead(make, n_objectives=n_objectives) > 0.01
