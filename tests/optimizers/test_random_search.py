"""What random search draws; what every optimizer must do is tested in conformance."""

import numpy as np
import pytest

from automerge.fidelity import Ladder
from automerge.optimizers.random_search import RandomSearch
from automerge.protocols import Space
from automerge.records import Objective, Trial
from automerge.tied_samples import tied
from tests.conformance.members import SPACES, dis, lfs


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


@pytest.mark.parametrize("name", ["lfs", "lfs, every method", "smm_ps", "lfs, tied components"])
def test_all_layers_of_a_tied_sample_share_one_setting(name: str) -> None:
    """Half of the time the components and the part outside the layers share it too."""
    space = SPACES[name]()
    search = RandomSearch(
        space=space, objectives=[Objective("a")], ladder=Ladder(minimum=10, maximum=90), seed=3, tied=True
    )
    X = np.array([search.ask().genotype for _ in range(60)])
    roles = sorted({(gene.component, gene.role) for gene in space.genes if gene.depth >= 0})
    for role in roles:
        columns = [k for k, gene in enumerate(space.genes) if (gene.component, gene.role) == role]
        assert (X[:, columns] == X[:, columns[:1]]).all()
    components = {gene.component for gene in space.genes}
    if len(components) > 1:
        slots = [[k for k, gene in enumerate(space.genes) if gene.component == name] for name in components]
        size = len([gene for gene in space.genes if gene.component == "outer"])
        whole = [len({row[columns[:size]].tobytes() for columns in slots}) == 1 for row in X]
        assert 0.35 < np.mean(whole) < 0.95


def test_a_tied_stack_keeps_its_blocks_and_fuses_them_alike() -> None:
    space = SPACES["dis, prune"]()
    fused = next(k for k, gene in enumerate(space.genes) if gene.role == "block:0")
    code = space.genes[fused].n_choices - 1
    rng, n_differing = np.random.default_rng(0), 0
    for x in space.sample(60, rng):
        child = tied(x, space, rng)
        blocks = [k for k, gene in enumerate(space.genes) if gene.role == "block:0"]
        weights = [child[k + 3 : k + 5].tolist() for k in blocks if child[k] == code]
        assert all(pair == weights[0] for pair in weights)
        n_differing += int(len({tuple(x[k + 3 : k + 5]) for k in blocks if x[k] == code}) > 1)
    assert n_differing > 5
