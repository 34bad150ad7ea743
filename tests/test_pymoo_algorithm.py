from collections.abc import Sequence

import numpy as np
import pytest

from automerge.fidelity import Ladder
from automerge.generational import Answer
from automerge.optimizers.pymoo_nsga2 import PymooNsga2
from automerge.records import REFERENCE, Objective
from tests.conformance.members import SPACES
from tests.toy import trial

SPACE = SPACES["lfs"]()


def build(population: int = 10, objectives: Sequence[Objective] = (Objective("a"),)) -> PymooNsga2:
    return PymooNsga2(
        space=SPACE,
        objectives=objectives,
        ladder=Ladder(minimum=10, maximum=10),
        seed=0,
        population=population,
    )


def test_a_population_too_small_to_mate_is_refused() -> None:
    with pytest.raises(ValueError, match="population: expected a whole number from 5, got 4"):
        build(4)


def test_a_broken_model_is_worse_than_all_others_but_finite() -> None:
    optimizer = build()
    kept = Answer(None, np.array([-7.5]))
    first = optimizer._losses([kept, Answer(None, None)])
    later = optimizer._losses([Answer(None, np.array([0.5])), Answer(None, None)])
    assert first[0, 0] == 7.5
    assert np.isfinite(first).all()
    assert later[0, 0] == -0.5
    assert min(first[1, 0], later[1, 0]) > 7.5


def test_a_broken_model_has_no_better_cost_than_any_of_the_space() -> None:
    optimizer = build(objectives=[Objective("a"), Objective("layers", "cost")])
    (broken,) = optimizer._losses([Answer(None, None)])
    assert broken[1] > SPACE.max_layers
    assert broken[0] > 0


def test_the_first_generation_is_the_best_references_and_samples() -> None:
    """The references in it are told without evaluation, so the first five proposals are samples."""
    optimizer = build()
    genotypes = SPACE.sample(8, np.random.default_rng(5))
    for number, genotype in enumerate(genotypes):
        origin = {"operator": REFERENCE, "name": str(number)}
        optimizer.tell(trial(number, genotype, {"a": (10, float(number))}, origin=origin))
    proposals = [optimizer.ask() for _ in range(5)]
    for number, proposal in enumerate(proposals, start=8):
        assert proposal.origin == {"operator": "pymoo_nsga2"}
        optimizer.tell(trial(number, proposal.genotype, {"a": (10, 0.0)}))
    bred = {genotype.tobytes() for genotype in optimizer._box.genotypes(optimizer._algorithm.pop.get("X"))}
    assert bred == {each.tobytes() for each in (*genotypes[3:], *(proposal.genotype for proposal in proposals))}
