"""What random search draws; what every optimizer must do is tested in conformance."""

import numpy as np

from automerge.fidelity import Ladder
from automerge.optimizers.random_search import RandomSearch
from automerge.protocols import Space
from automerge.records import Objective, Trial
from tests.conformance.members import dis, lfs


def build(space: Space, seed: int = 3) -> RandomSearch:
    return RandomSearch(space=space, objectives=[Objective("a")], ladder=Ladder(minimum=10, maximum=90), seed=seed)


def test_every_proposal_is_a_sample_of_a_generator_of_its_own() -> None:
    space = lfs()
    search = build(space)
    for number in range(1, 20):
        expected = space.sample(1, np.random.default_rng([3, number]))[0]
        assert (search.ask().genotype == expected).all()


def test_what_was_told_or_asked_is_drawn_anew() -> None:
    space = dis(sources=["a"], n_layers=8, granularity=4, max_blocks=2)
    first = build(space).ask()
    other = build(space)
    other.tell(Trial(0, first.genotype, space.decode(first.genotype), {"operator": "sample"}, "failed"))
    genotypes = [other.ask().genotype.tobytes() for _ in range(40)]
    assert len({first.genotype.tobytes(), *genotypes}) == 41
