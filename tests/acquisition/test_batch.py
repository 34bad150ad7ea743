import numpy as np
import pytest
import torch
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.sampling.normal import SobolQMCNormalSampler
from botorch.utils.multi_objective.box_decompositions.non_dominated import FastNondominatedPartitioning

from automerge.acquisition.batch import Division, FinitePosterior, ImprovementOfThree, choose


def beliefs(means: np.ndarray, deviation: float = 0.01) -> FinitePosterior:
    n, m = means.shape
    covariances = np.zeros((n, m, n, m))
    for point in range(n):
        for objective in range(m):
            covariances[point, objective, point, objective] = deviation**2
    return FinitePosterior(means, covariances)


def test_the_finite_posterior_gives_the_rows_that_it_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(10, 10))
    covariances = (root @ root.T).reshape(5, 2, 5, 2)
    means = rng.random((5, 2))
    model = FinitePosterior(means, covariances)
    posterior = model.posterior(torch.tensor([[[3.0], [1.0]], [[0.0], [4.0]]]).double())
    assert posterior.mean.numpy() == pytest.approx(means[[[3, 1], [0, 4]]])
    expected = covariances[np.ix_([3, 1], [0, 1], [3, 1], [0, 1])].reshape(4, 4)
    assert posterior.distribution.covariance_matrix[0].numpy() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_the_candidate_that_dominates_is_chosen_first(m: int) -> None:
    means = np.vstack([np.full((3, m), 0.5), np.full((1, m), 0.45), np.full((1, m), 0.8), np.full((1, m), 0.6)])
    chosen = choose(
        beliefs(means),
        baseline=[0, 1, 2],
        pending=[],
        finalists=[3, 4, 5],
        handicaps=np.zeros(3),
        reference=np.full(m, 0.3),
        n=1,
        seed=0,
    )
    assert chosen == [4]


def test_with_three_objectives_improvements_are_those_of_botorch() -> None:
    rng = np.random.default_rng(0)
    model = beliefs(rng.random((12, 3)), deviation=0.1)
    column = torch.arange(12).double()[:, None]
    values = []
    for kind in (qLogNoisyExpectedHypervolumeImprovement, ImprovementOfThree):
        acquisition = kind(
            model=model,
            ref_point=torch.full((3,), 0.2).double(),
            X_baseline=column[:6],
            X_pending=column[6:8],
            sampler=SobolQMCNormalSampler(torch.Size([16]), seed=0),
            prune_baseline=False,
            cache_root=False,
        )
        values.append(acquisition(column[8:, None]).exp().detach().numpy())
        divided = {type(each) for each in acquisition.partitioning.box_decompositions}
        assert divided == {Division if kind is ImprovementOfThree else FastNondominatedPartitioning}
    assert values[1] == pytest.approx(values[0], rel=1e-3, abs=1e-6)


def test_what_is_under_way_is_not_chosen_again() -> None:
    """Two gaps of the front: the larger one is filled by a pending point, so the other is chosen."""
    means = np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0.8, 0.5], [0.8, 0.5], [0.5, 0.7]])
    options = {
        "baseline": [0, 1, 2],
        "finalists": [4, 5],
        "handicaps": np.zeros(2),
        "reference": np.zeros(2),
        "n": 1,
        "seed": 0,
    }
    assert choose(beliefs(means), pending=[], **options) == [4]  # type: ignore[arg-type]
    assert choose(beliefs(means), pending=[3], **options) == [5]  # type: ignore[arg-type]


def test_a_batch_spreads_and_ends_with_the_finalists() -> None:
    means = np.array([[0.5, 0.5], [0.8, 0.5], [0.79, 0.5], [0.5, 0.75]])
    options = {"baseline": [0], "pending": [], "handicaps": np.zeros(3), "reference": np.zeros(2), "seed": 0}
    assert choose(beliefs(means), finalists=[1, 2, 3], n=2, **options) == [1, 3]  # type: ignore[arg-type]
    assert sorted(choose(beliefs(means), finalists=[1, 2, 3], n=9, **options)) == [1, 2, 3]  # type: ignore[arg-type]


def test_towards_an_aspiration_the_worst_off_objective_counts() -> None:
    """The hypervolume would take the second candidate, which goes further on where enough is reached."""
    means = np.array([[0.5, 0.3], [0.62, 0.45], [1.2, 0.35]])
    options = {"baseline": [0], "pending": [], "finalists": [1, 2], "handicaps": np.zeros(2), "n": 1, "seed": 0}
    reference = np.array([0.3, 0.25])
    plain = choose(beliefs(means, 0.001), reference=reference, **options)  # type: ignore[arg-type]
    aspiring = choose(beliefs(means, 0.001), reference=reference, aspiration=np.array([0.6, 0.5]), **options)  # type: ignore[arg-type]
    assert (plain, aspiring) == ([2], [1])


def test_a_handicap_outweighs_a_larger_gain() -> None:
    means = np.array([[0.5, 0.5], [0.8, 0.8], [0.7, 0.7]])
    options = {"baseline": [0], "pending": [], "finalists": [1, 2], "reference": np.zeros(2), "n": 1, "seed": 0}
    assert choose(beliefs(means), handicaps=np.log([1e-3, 1.0]), **options) == [2]  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_choice_and_leaves_the_global_generator() -> None:
    means = np.random.default_rng(1).random((30, 4))
    options = {
        "baseline": range(10),
        "pending": [],
        "finalists": range(10, 30),
        "handicaps": np.zeros(20),
        "reference": np.zeros(4),
        "n": 4,
    }
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    first = choose(beliefs(means), seed=1, **options)  # type: ignore[arg-type]
    assert (torch.rand(3) == expected).all()
    assert choose(beliefs(means), seed=1, **options) == first  # type: ignore[arg-type]
