"""What Optuna's NSGA-II makes of its trials; what every optimizer must do is tested in conformance."""

from collections.abc import Sequence

import numpy as np
import pytest

from automerge.fidelity import Ladder
from automerge.optimizers.optuna_nsga2 import OptunaNsga2
from automerge.protocols import Optimizer, Space
from automerge.records import REFERENCE, Objective
from tests.conformance.members import lfs
from tests.optimizers.hill import lead
from tests.toy import trial


def make(space: Space, objectives: Sequence[Objective], ladder: Ladder, seed: int) -> Optimizer:
    return OptunaNsga2(space=space, objectives=objectives, ladder=ladder, seed=seed)


@pytest.mark.parametrize("n_objectives", [1, 2])
def test_it_climbs_higher_than_random_search(n_objectives: int) -> None:
    assert lead(make, n_objectives=n_objectives) > 0.01


def test_the_first_generation_is_half_references_and_half_samples_of_the_space() -> None:
    space = lfs()
    optimizer = OptunaNsga2(
        space=space, objectives=[Objective("a")], ladder=Ladder(minimum=10, maximum=10), seed=0, population=8
    )
    known = [each.genotype for each in space.references().values() if each.genotype is not None][:5]
    for number, genotype in enumerate(known):
        origin = {"operator": REFERENCE, "name": str(number)}
        optimizer.tell(trial(number, genotype, {"a": (10, number / 10)}, origin=origin))
    samples = [space.sample(1, np.random.default_rng([0, 1, k]))[0] for k in (1, 2, 3, 4, 5)]
    proposed = []
    for number in range(5, 10):
        proposed.append(optimizer.ask().genotype)
        optimizer.tell(trial(number, proposed[-1], {"a": (10, 1.0)}))
    assert [(one == other).all() for one, other in zip(proposed, samples, strict=True)] == [True] * 4 + [False]
