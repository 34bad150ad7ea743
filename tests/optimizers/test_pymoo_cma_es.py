"""What CMA-ES makes of its trials; what every optimizer must do is tested in conformance."""

from collections.abc import Sequence

import numpy as np
import pytest

from automerge.fidelity import Ladder
from automerge.optimizers.pymoo_cma_es import PymooCmaEs
from automerge.protocols import Optimizer, Space
from automerge.records import Objective
from tests.optimizers.hill import climbed, lead


def make(space: Space, objectives: Sequence[Objective], ladder: Ladder, seed: int) -> Optimizer:
    return PymooCmaEs(space=space, objectives=objectives, ladder=ladder, seed=seed)


def global_state() -> str:
    """The state of the generator that pycma would seed and draw from."""
    return str(np.random.get_state(legacy=False))  # noqa: NPY002 (it is what must not change)


@pytest.mark.parametrize("n_objectives", [1, 2])
def test_it_climbs_higher_than_random_search(n_objectives: int) -> None:
    assert lead(make, n_objectives=n_objectives) > 0.02


def test_numpys_global_generator_is_left_alone() -> None:
    before = global_state()
    climbed(make, 0)
    assert global_state() == before
