"""What CatCMA makes of its trials; what every optimizer must do is tested in conformance."""

from collections.abc import Sequence

import numpy as np
import pytest

from automerge.fidelity import Ladder
from automerge.optimizers.catcma import CatCma
from automerge.protocols import Optimizer, Space
from automerge.records import Objective
from tests.conformance.members import SPACES, lfs
from tests.optimizers.hill import lead
from tests.toy import trial


def make(space: Space, objectives: Sequence[Objective], ladder: Ladder, seed: int) -> Optimizer:
    return CatCma(space=space, objectives=objectives, ladder=ladder, seed=seed)


@pytest.mark.parametrize("n_objectives", [1, 2])
def test_it_climbs_higher_than_random_search(n_objectives: int) -> None:
    assert lead(make, n_objectives=n_objectives) > 0.02


def test_the_best_choice_of_categories_becomes_likely() -> None:
    """Each slot's method is right or wrong: the share of right ones rises where random search stays at a fifth."""
    space, ladder = lfs(), Ladder(minimum=100, maximum=100)
    codes = [k for k, gene in enumerate(space.genes) if gene.role == "method"]
    optimizer = CatCma(space=space, objectives=[Objective("a")], ladder=ladder, seed=0)
    shares = []
    for number in range(300):
        proposal = optimizer.ask()
        shares.append(float((proposal.genotype[codes] == 3).mean()))
        optimizer.tell(trial(number, proposal.genotype, {"a": (100, 100 * shares[-1])}))
    assert np.mean(shares[:20]) < 0.4
    assert np.mean(shares[-20:]) > 0.6


@pytest.mark.parametrize("name", ["lfs, linear", "smm_ps, one source", "dis, one source"])
def test_genes_with_one_choice_or_none_are_no_categories(name: str) -> None:
    space = SPACES[name]()
    optimizer = make(space, [Objective("a")], Ladder(minimum=10, maximum=10), 0)
    for number in range(60):
        proposal = optimizer.ask()
        optimizer.tell(trial(number, proposal.genotype, {"a": (10, 10 * float(proposal.genotype.mean() % 1))}))
    assert proposal.origin == {"operator": "catcma"}
