"""A Gaussian process per task, fitted by BoTorch and asked thousands of times an instant.

The model is BoTorch's `SingleTaskGP` with known noise and a Matern-5/2 kernel with one length scale per feature. Its
posterior for one batch of many points is what BoTorch would give, from one Cholesky factor; BoTorch itself, asked for
candidates one by one, takes seconds.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from botorch.exceptions.warnings import InputDataWarning, OptimizationWarning
from botorch.models import SingleTaskGP
from botorch.optim.fit import fit_gpytorch_mll_scipy
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import AdditiveKernel, Kernel, MaternKernel
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior
from linear_operator.utils.warnings import NumericalWarning
from numpy.typing import NDArray
from torch import Tensor

JITTER = 1e-6
"""Added to the standardised noise, so that equal recipes leave the covariance regular."""

FLAT = 1e-8
"""Standard deviation below which BoTorch takes outcomes as equal."""

MODE = 1.0
"""Likeliest length scale, over the distance at which two models of the space usually lie.

The prior of arXiv 2402.02229 goes by the number of features. But weights of neighbouring layers move together and
stacks differ in few places, so that number says little of distances: on logged merges of the zoo (layer-wise fusion and
stacks, 15 to 140 rows) scales of 0.5 to 2 distances told held-out scores best, far better than those by number.
"""

WIDTH = 1.0
"""Standard deviation of the logarithm of a length scale."""


CALIBRATED = (0.3, 1.5)
"""Bounds of the factor by which deviations are corrected."""

DOUBTED = 0.5
"""Standard deviation of the logarithm of that factor, before anything is known."""


@dataclass(frozen=True)
class Hyperparameters:
    """Length scales, shape (n_tasks, n_features), and by task, shape (n_tasks,), how outcomes are standardised and the
    constant mean of what is.
    """

    lengthscales: Tensor
    constants: Tensor
    offsets: Tensor
    scales: Tensor


def fit(
    features: NDArray[np.float64],
    means: NDArray[np.float64],
    noise: NDArray[np.float64],
    *,
    distance: float,
    start: Hyperparameters | None = None,
    n_steps: int,
) -> Hyperparameters:
    """The hyperparameters of largest posterior density that `n_steps` of L-BFGS reach, from `start` if given.

    `features` has shape (n, n_features), `means` (n, n_tasks), the covariances of their errors `noise` (n_tasks, n, n);
    `distance` is that between the features of usual models.
    """
    model = _model(features, means, noise, distance)
    kernel = model.covar_module.kernels[0]
    if start is not None:
        kernel.lengthscale = start.lengthscales[:, None, :] if means.shape[1] > 1 else start.lengthscales
        model.mean_module.constant.data.copy_(start.constants.reshape(model.mean_module.constant.shape))
    mll = ExactMarginalLogLikelihood(model.likelihood, model)
    mll.train()
    with warnings.catch_warnings():
        # That it stops after so many steps is what we ask for; rounding troubles are mended by the library's jitter.
        warnings.simplefilter("ignore", OptimizationWarning)
        warnings.simplefilter("ignore", NumericalWarning)
        fit_gpytorch_mll_scipy(mll, options={"maxiter": n_steps})
    n_tasks = means.shape[1]
    return Hyperparameters(
        kernel.lengthscale.detach().reshape(n_tasks, -1),
        model.mean_module.constant.detach().reshape(n_tasks),
        model.outcome_transform.means.detach().reshape(n_tasks),
        model.outcome_transform.stdvs.detach().reshape(n_tasks),
    )


class Posterior:
    """The posterior given rows and hyperparameters, of the scores themselves without noise.

    With independent errors it is that of BoTorch's model with these hyperparameters.
    """

    def __init__(
        self,
        features: NDArray[np.float64],
        means: NDArray[np.float64],
        noise: NDArray[np.float64],
        hyperparameters: Hyperparameters,
    ) -> None:
        Y = torch.as_tensor(means, dtype=torch.float64)
        # As in the fit, not by these rows: the constants and length scales belong to that standardisation.
        self._offset, self._scale = hyperparameters.offsets, hyperparameters.scales
        self._hyper = hyperparameters
        self._X = self._scaled(features)
        residual = (Y - self._offset) / self._scale - hyperparameters.constants
        errors = _standardised(noise, self._scale)
        self._factor = torch.linalg.cholesky(_matern(self._X, self._X) + errors)
        self._weights = torch.cholesky_solve(residual.T[..., None], self._factor)
        # What is left of a row's error if all others are known.
        self._noise = 1 / torch.cholesky_inverse(torch.linalg.cholesky(errors)).diagonal(dim1=-2, dim2=-1)

    def predict(self, features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means and standard deviations of the scores at m points, each of shape (m, n_tasks)."""
        cross = _matern(self._scaled(features), self._X)
        means = (cross @ self._weights)[..., 0] + self._hyper.constants[:, None]
        explained = torch.linalg.solve_triangular(self._factor, cross.mT, upper=False).square().sum(dim=1)
        deviations = (1 - explained).clamp_min(1e-9).sqrt()
        return (means.T * self._scale + self._offset).numpy(), (deviations.T * self._scale).numpy()

    def joint(self, features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means of shape (m, n_tasks) and, task by task, covariances of shape (n_tasks, m, m) of the scores."""
        points = self._scaled(features)
        cross = _matern(points, self._X)
        means = (cross @ self._weights)[..., 0] + self._hyper.constants[:, None]
        half = torch.linalg.solve_triangular(self._factor, cross.mT, upper=False)
        covariances = _matern(points, points) - half.mT @ half
        covariances = covariances * self._scale[:, None, None] ** 2
        return (means.T * self._scale + self._offset).numpy(), covariances.numpy()

    def calibration(self) -> NDArray[np.float64]:
        """By what the deviations of `predict` are to be multiplied, shape (n_tasks,), within CALIBRATED.

        Every row is told from all others in closed form (Rasmussen and Williams 2006, equations 5.10 to 5.12). The
        factor makes the errors of that likeliest, where of their variances what no other row's error tells is left as
        it is; its logarithm is believed to be 0 with a standard deviation of DOUBTED.
        """
        inverse = torch.cholesky_inverse(self._factor)
        variances = 1 / inverse.diagonal(dim1=-2, dim2=-1)
        errors = self._weights[..., 0] * variances
        spread = (variances - self._noise).clamp_min(0.0)
        factors = torch.as_tensor(np.geomspace(*CALIBRATED, 41))
        total = factors[:, None, None] ** 2 * spread + self._noise
        density = -(errors.square() / total + total.log()).sum(dim=-1) / 2
        density -= (factors.log()[:, None] / DOUBTED) ** 2 / 2
        return np.asarray(factors[density.argmax(dim=0)])

    def _scaled(self, features: NDArray[np.float64]) -> Tensor:
        """Features over length scales, shape (n_tasks, n, n_features)."""
        return torch.as_tensor(features, dtype=torch.float64)[None] / self._hyper.lengthscales[:, None, :]


def _matern(first: Tensor, second: Tensor) -> Tensor:
    """The Matern-5/2 kernel of points that are scaled already (Rasmussen and Williams 2006, equation 4.17)."""
    distance = torch.cdist(first, second, compute_mode="use_mm_for_euclid_dist") * 5**0.5
    return (1 + distance + distance.square() / 3) * torch.exp(-distance)


def _standardised(noise: NDArray[np.float64], scales: Tensor) -> Tensor:
    """Covariances of errors, shape (n_tasks, n, n), over squared scales, with JITTER."""
    errors = torch.as_tensor(noise, dtype=torch.float64) / scales[:, None, None] ** 2
    # Where errors are much larger than what scores differ by, JITTER alone would be lost in rounding.
    largest = errors.diagonal(dim1=-2, dim2=-1).amax(dim=-1).clamp_min(1.0)
    return errors + JITTER * largest[:, None, None] * torch.eye(errors.shape[-1], dtype=torch.float64)


class _Errors(Kernel):  # type: ignore[misc]  # the library has no types
    """The known covariances of the rows' errors, as a part of the kernel: BoTorch's noise is independent."""

    def __init__(self, covariances: Tensor) -> None:
        super().__init__(batch_shape=covariances.shape[:-2])
        self._covariances = covariances

    def forward(self, *_: Tensor, diag: bool = False, **__: object) -> Tensor:
        """The covariances, or their diagonal: it is asked for those of all rows only, as by a fit."""
        return self._covariances.diagonal(dim1=-2, dim2=-1) if diag else self._covariances


def _model(
    features: NDArray[np.float64], means: NDArray[np.float64], noise: NDArray[np.float64], distance: float
) -> SingleTaskGP:
    n_tasks, n_features = means.shape[1], features.shape[1]
    batch = torch.Size([n_tasks] if n_tasks > 1 else [])
    mode = MODE * distance
    kernel = MaternKernel(
        nu=2.5,
        ard_num_dims=n_features,
        batch_shape=batch,
        lengthscale_prior=LogNormalPrior(math.log(mode) + WIDTH**2, WIDTH),
        lengthscale_constraint=GreaterThan(0.025, transform=None, initial_value=mode),
    )
    with warnings.catch_warnings():
        # Features are in their own units, not all scaled to the unit box, on purpose.
        warnings.simplefilter("ignore", InputDataWarning)
        Y = torch.as_tensor(means, dtype=torch.float64)
        scales = Y.std(dim=0)
        # As BoTorch standardises outcomes: equal ones are left as they are.
        scales = torch.where(scales >= FLAT, scales, torch.ones_like(scales))
        errors = _standardised(noise, scales)
        return SingleTaskGP(
            torch.as_tensor(features, dtype=torch.float64),
            Y,
            2 * JITTER * scales.square().expand_as(Y),
            covar_module=AdditiveKernel(kernel, _Errors(errors if n_tasks > 1 else errors[0])),
        )
