"""The batch: which few of the finalists to evaluate together, by BoTorch's noisy expected hypervolume improvement.

All points that matter, the best known ones, those under way and the finalists, are a finite set, so their joint
posterior is computed once and BoTorch is given a model that only looks up rows of it. The cost of a choice does not
depend on how much was measured.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.parego import qLogNParEGO
from botorch.acquisition.objective import GenericMCObjective
from botorch.models.model import Model
from botorch.posteriors import GPyTorchPosterior
from botorch.sampling.normal import SobolQMCNormalSampler
from gpytorch.distributions import MultitaskMultivariateNormal, MultivariateNormal
from linear_operator.utils.warnings import NumericalWarning
from numpy.typing import NDArray
from torch import Tensor

from automerge.acquisition.improvement import boxes
from automerge.botorch_kernels import disable_compilation

N_SAMPLES = 32
"""Joint samples of the objectives over which improvements are averaged."""

MAX_HYPERVOLUME = 3
"""Objectives up to which hypervolumes are computed; beyond, random weights make one number of them (ParEGO)."""

MAX_POINTS = 64
"""Known and pending points up to which those of so many objectives are: a batch then takes .9 s, with 152 3.9 s."""


class Division(torch.nn.Module):
    """What of three objectives a front leaves to gain, in the form that BoTorch's acquisitions ask for."""

    def __init__(self, ref_point: Tensor, Y: Tensor) -> None:
        super().__init__()
        lower, upper = boxes(Y.numpy(), ref_point.numpy())
        self._bounds = torch.as_tensor(np.stack([lower, upper]))

    def get_hypercell_bounds(self) -> Tensor:
        """Lower and upper corners of boxes, shape (2, n_boxes, 3)."""
        return self._bounds


class ImprovementOfThree(qLogNoisyExpectedHypervolumeImprovement):  # type: ignore[misc]  # botorch has no types
    """BoTorch's acquisition for three objectives, with a faster division of the space above each sampled front."""

    @property
    def p_class(self) -> type[Division]:
        """The division, in place of the one that BoTorch sets."""
        return Division

    @p_class.setter
    def p_class(self, _: Any) -> None: ...


class FinitePosterior(Model):  # type: ignore[misc]  # botorch has no types
    """A BoTorch model of finitely many points, which go by their number: its input is one column of row numbers.

    `means` has shape (n, n_objectives), `covariances` (n, n_objectives, n, n_objectives).
    """

    def __init__(self, means: NDArray[np.float64], covariances: NDArray[np.float64]) -> None:
        super().__init__()
        self._means = torch.as_tensor(means, dtype=torch.float64)
        self._covariances = torch.as_tensor(covariances, dtype=torch.float64)

    @property
    def num_outputs(self) -> int:
        """Number of objectives."""
        return int(self._means.shape[1])

    @property
    def batch_shape(self) -> torch.Size:
        """None: there is one model."""
        return torch.Size()

    def posterior(self, X: Tensor, *_: Any, posterior_transform: Any = None, **__: Any) -> Any:
        """The joint posterior of the points whose numbers X of shape (..., q, 1) holds."""
        rows = X[..., 0].round().long()
        q, m = rows.shape[-1], self.num_outputs
        mean = self._means[rows]
        covariance = self._covariances[rows[..., :, None], :, rows[..., None, :], :]
        # Indexing puts the objectives last: (..., q, q, m, m) to points and objectives in turn.
        covariance = covariance.transpose(-3, -2).reshape(*rows.shape[:-1], q * m, q * m)
        # A point that stands there twice, and exact costs, leave the matrix singular.
        covariance = covariance + 1e-9 * torch.eye(q * m, dtype=torch.float64)
        normal = (
            MultivariateNormal(mean[..., 0], covariance) if m == 1 else MultitaskMultivariateNormal(mean, covariance)
        )
        found = GPyTorchPosterior(normal)
        return found if posterior_transform is None else posterior_transform(found)


def choose(
    model: FinitePosterior,
    *,
    baseline: Sequence[int],
    pending: Sequence[int],
    finalists: Sequence[int],
    handicaps: NDArray[np.float64],
    reference: NDArray[np.float64],
    n: int,
    seed: int,
    aspiration: NDArray[np.float64] | None = None,
) -> list[int]:
    """At most n of the finalists, by number, each the best given those before it.

    `handicaps` are added to the logarithm of the improvement, such as that of the probability to work, shape
    (n_finalists,). Up to MAX_HYPERVOLUME objectives qLogNEHVI above `reference` is made large, of one objective
    qLogNEI, of more qLogNParEGO with weights drawn anew for each (arXiv 2105.08195, 2310.20708). Given an
    `aspiration` it is qLogNEI of the share of the way there from `reference`, in the objective that is worst off.
    """
    disable_compilation()
    chosen: list[int] = []
    candidates = torch.as_tensor(np.asarray(finalists, dtype=np.float64))[:, None, None]
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        # Jitter that the library adds to a singular covariance.
        warnings.simplefilter("ignore", NumericalWarning)
        torch.manual_seed(seed)
        for _ in range(min(n, len(finalists))):
            acquisition = _acquisition(
                model, baseline, [*pending, *chosen], rng, reference=reference, aspiration=aspiration
            )
            values = acquisition(candidates).numpy() + handicaps
            values[[k for k, number in enumerate(finalists) if number in chosen]] = -np.inf
            chosen.append(int(finalists[int(values.argmax())]))
    return chosen


def _acquisition(
    model: FinitePosterior,
    baseline: Sequence[int],
    pending: Sequence[int],
    rng: np.random.Generator,
    *,
    reference: NDArray[np.float64],
    aspiration: NDArray[np.float64] | None,
) -> Any:
    def column(numbers: Sequence[int]) -> Tensor:
        return torch.as_tensor(np.asarray(numbers, dtype=np.float64))[:, None]

    common = {
        "model": model,
        "X_baseline": column(baseline),
        "X_pending": column(pending) if pending else None,
        "sampler": SobolQMCNormalSampler(torch.Size([N_SAMPLES]), seed=int(rng.integers(2**31))),
        "prune_baseline": False,
        "cache_root": False,
    }
    if model.num_outputs == 1 and aspiration is None:
        return qLogNoisyExpectedImprovement(**common)
    if aspiration is not None:
        start, way = torch.as_tensor(reference), torch.as_tensor(aspiration - reference)
        achieved = GenericMCObjective(lambda Y, **_: ((Y - start) / way).amin(dim=-1))
        return qLogNoisyExpectedImprovement(objective=achieved, **common)
    few = model.num_outputs < MAX_HYPERVOLUME or len(baseline) + len(pending) <= MAX_POINTS
    if model.num_outputs <= MAX_HYPERVOLUME and few:
        three = model.num_outputs == MAX_HYPERVOLUME
        acquisition = ImprovementOfThree if three else qLogNoisyExpectedHypervolumeImprovement
        return acquisition(ref_point=torch.as_tensor(reference), **common)
    weights = torch.as_tensor(rng.dirichlet(np.ones(model.num_outputs)))
    return qLogNParEGO(scalarization_weights=weights, **common)
