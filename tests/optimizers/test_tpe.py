"""What TPE makes of its trials; what every optimizer must do is tested in conformance."""

from collections.abc import Sequence

import pytest
from ConfigSpace import Configuration
from optuna.trial import FrozenTrial, TrialState

from automerge.fidelity import Ladder
from automerge.optimizers.tpe import Tpe
from automerge.protocols import Optimizer, Space
from automerge.records import REFERENCE, Objective
from tests.conformance.members import SPACES, lfs
from tests.optimizers.hill import lead
from tests.toy import trial


def make(space: Space, objectives: Sequence[Objective], ladder: Ladder, seed: int) -> Optimizer:
    return Tpe(space=space, objectives=objectives, ladder=ladder, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("n_objectives", [1, 2])
def test_it_climbs_higher_than_random_search(n_objectives: int) -> None:
    assert lead(make, n_objectives=n_objectives) > 0.04


def study_of(optimizer: Tpe, space: Space, n: int) -> list[FrozenTrial]:
    """The trials of the study after n proposals that all score alike."""
    for number in range(n):
        proposal = optimizer.ask()
        optimizer.tell(trial(number, proposal.genotype, {"a": (10, 10 * float(proposal.genotype.mean() % 1))}))
    trials: list[FrozenTrial] = optimizer._study.get_trials()
    return trials


@pytest.mark.parametrize("name", ["lfs", "dis", "dis, fused blocks", "smm_dfs"])
def test_parameters_that_do_not_act_are_absent_and_their_genes_at_the_defaults(name: str) -> None:
    space = SPACES[name]()
    optimizer = Tpe(space=space, objectives=[Objective("a")], ladder=Ladder(minimum=10, maximum=10), seed=0)
    configspace, n_absent = space.to_configspace(), 0
    for each in study_of(optimizer, space, 24):
        # Raises where a parameter is missing that acts, and where one is given that does not.
        Configuration(configspace, values=each.params).check_valid_configuration()
        for gene, value in zip(space.genes, space.genotype(each.params), strict=True):
            if gene.name not in each.params:
                n_absent += 1
                assert value == gene.default
    assert n_absent > 30


def test_without_conditions_every_trial_has_every_parameter() -> None:
    space = lfs()
    optimizer = Tpe(space=space, objectives=[Objective("a")], ladder=Ladder(minimum=10, maximum=10), seed=0, flat=True)
    assert all(len(each.params) == len(space.genes) for each in study_of(optimizer, space, 15))


def test_references_are_trials_of_the_study_before_any_suggestion() -> None:
    space = lfs()
    optimizer = Tpe(space=space, objectives=[Objective("a")], ladder=Ladder(minimum=10, maximum=10), seed=0)
    known = [each.genotype for each in space.references().values() if each.genotype is not None]
    for number, genotype in enumerate(known):
        origin = {"operator": REFERENCE, "name": str(number)}
        optimizer.tell(trial(number, genotype, {"a": (10, number / 10)}, origin=origin))
    told = optimizer._study.get_trials()
    assert [(space.genotype(each.params) == genotype).all() for each, genotype in zip(told, known, strict=True)]
    assert [each.value for each in told] == pytest.approx([number / 100 for number in range(len(known))])


def test_a_broken_model_is_a_failed_trial() -> None:
    space = lfs()
    optimizer = Tpe(space=space, objectives=[Objective("a")], ladder=Ladder(minimum=10, maximum=10), seed=0)
    optimizer.tell(trial(0, optimizer.ask().genotype, {}, status="invalid"))
    assert [each.state for each in optimizer._study.get_trials()] == [TrialState.FAIL]
