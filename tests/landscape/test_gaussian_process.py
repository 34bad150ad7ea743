"""The fast posterior against BoTorch's own, for one task and for several."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from botorch.models import SingleTaskGP
from gpytorch.kernels import MaternKernel
from gpytorch.mlls import ExactMarginalLogLikelihood
from scipy.optimize import minimize_scalar
from scipy.stats import multivariate_normal, norm

from automerge.landscape import gaussian_process
from automerge.landscape.gaussian_process import Hyperparameters, Posterior, fit

N, D = 40, 6


def data(n_tasks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, scores, and the covariances of the errors these were drawn with, all independent."""
    rng = np.random.default_rng(0)
    X = rng.random((N, D))
    truth = np.stack([0.5 + 0.3 * np.sin(3 * X[:, 0] + k) for k in range(n_tasks)], axis=1)
    noise = np.stack([np.eye(N) * 0.02**2] * n_tasks)
    return X, truth + rng.normal(size=truth.shape) * 0.02, noise


def correlated(n_tasks: int) -> np.ndarray:
    """Covariances of errors that neighbours in the order have in common."""
    near = np.exp(-np.abs(np.arange(N)[:, None] - np.arange(N)[None]) / 5)
    return np.stack([0.02**2 * (k + 1) * (0.3 * np.eye(N) + 0.7 * near) for k in range(n_tasks)])


def set_to(model: Any, kernel: Any, hyper: Hyperparameters) -> Any:
    kernel.lengthscale = hyper.lengthscales[:, None, :] if len(hyper.lengthscales) > 1 else hyper.lengthscales
    model.mean_module.constant.data.copy_(hyper.constants.reshape(model.mean_module.constant.shape))
    return model


def of_botorch(X: np.ndarray, Y: np.ndarray, variances: np.ndarray, hyper: Hyperparameters) -> Any:
    """BoTorch's own model of rows with independent errors."""
    n_tasks = Y.shape[1]
    kernel = MaternKernel(nu=2.5, ard_num_dims=D, batch_shape=torch.Size([n_tasks] if n_tasks > 1 else []))
    model = SingleTaskGP(*(torch.as_tensor(each) for each in (X, Y, variances)), covar_module=kernel.double())
    return set_to(model, kernel, hyper).eval()


def density(X: np.ndarray, Y: np.ndarray, V: np.ndarray, hyper: Hyperparameters) -> float:
    """What a fit makes large, of these hyperparameters."""
    model = gaussian_process._model(X, Y, V, 1.0)
    set_to(model, model.covar_module.kernels[0], hyper)
    mll = ExactMarginalLogLikelihood(model.likelihood, model)
    model.train()
    with torch.no_grad():
        return float(mll(model(*model.train_inputs), model.train_targets).sum())


def matern(first: np.ndarray, second: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    distance = np.sqrt((((first[:, None] - second[None]) / lengths) ** 2).sum(axis=2)) * 5**0.5
    return np.asarray((1 + distance + distance**2 / 3) * np.exp(-distance))


@pytest.mark.parametrize("n_tasks", [1, 3])
def test_the_posterior_is_that_of_botorch(n_tasks: int) -> None:
    X, Y, V = data(n_tasks)
    hyper = Hyperparameters(
        torch.linspace(0.3, 2.0, n_tasks * D, dtype=torch.float64).reshape(n_tasks, D),
        torch.linspace(-0.2, 0.2, n_tasks, dtype=torch.float64),
        torch.as_tensor(Y.mean(axis=0)),
        torch.as_tensor(Y.std(axis=0, ddof=1)),
    )
    points = np.random.default_rng(1).random((15, D))
    ours = Posterior(X, Y, V, hyper)
    with torch.no_grad():
        expected = of_botorch(X, Y, np.full_like(Y, 0.02**2), hyper).posterior(torch.as_tensor(points))
    means, deviations = ours.predict(points)
    assert means == pytest.approx(expected.mean.numpy(), abs=1e-5)
    assert deviations == pytest.approx(expected.variance.sqrt().numpy(), abs=1e-5)
    joint_means, covariances = ours.joint(points)
    assert joint_means == pytest.approx(means, abs=1e-12)
    full = expected.distribution.covariance_matrix.numpy().reshape(n_tasks, 15, n_tasks, 15)
    for task in range(n_tasks):
        assert covariances[task] == pytest.approx(full[task, :, task, :], abs=1e-6)


@pytest.mark.parametrize("n_tasks", [1, 2])
def test_errors_that_rows_have_in_common_count_as_such(n_tasks: int) -> None:
    """Against the textbook's formulas, written out densely (Rasmussen and Williams 2006, equations 2.22 to 2.24)."""
    X, Y, _ = data(n_tasks)
    V = correlated(n_tasks)
    lengths = np.linspace(0.3, 2.0, n_tasks * D).reshape(n_tasks, D)
    constants = np.linspace(-0.2, 0.2, n_tasks)
    hyper = Hyperparameters(*map(torch.as_tensor, (lengths, constants, Y.mean(axis=0), Y.std(axis=0, ddof=1))))
    points = np.random.default_rng(1).random((15, D))
    means, deviations = Posterior(X, Y, V, hyper).predict(points)
    for k in range(n_tasks):
        scale = Y[:, k].std(ddof=1)
        inverse = np.linalg.inv(matern(X, X, lengths[k]) + V[k] / scale**2)
        cross = matern(points, X, lengths[k])
        standardised = (Y[:, k] - Y[:, k].mean()) / scale - constants[k]
        expected = (cross @ inverse @ standardised + constants[k]) * scale + Y[:, k].mean()
        assert means[:, k] == pytest.approx(expected, abs=1e-4)
        explained = np.einsum("ij,jk,ik->i", cross, inverse, cross)
        assert deviations[:, k] == pytest.approx(np.sqrt(1 - explained) * scale, abs=1e-4)


@pytest.mark.parametrize("n_tasks", [1, 2])
def test_the_density_that_is_made_large_knows_common_errors(n_tasks: int) -> None:
    X, Y, _ = data(n_tasks)
    V = correlated(n_tasks)

    def expected(length: float) -> float:
        """Up to a constant of the length scales' priors, which differences between means do not see."""
        total = 0.0
        for k in range(n_tasks):
            scale = Y[:, k].std(ddof=1)
            covariance = matern(X, X, np.full(D, length)) + V[k] / scale**2 + 3e-6 * np.eye(N)
            total += multivariate_normal(np.full(N, 0.3), covariance).logpdf((Y[:, k] - Y[:, k].mean()) / scale)
            total -= multivariate_normal(np.zeros(N), covariance).logpdf((Y[:, k] - Y[:, k].mean()) / scale)
        return total / N

    for length in (0.4, 1.5):
        means = []
        for constant in (0.3, 0.0):
            lengths = torch.full((n_tasks, D), length, dtype=torch.float64)
            constants = torch.full((n_tasks,), constant, dtype=torch.float64)
            hyper = Hyperparameters(lengths, constants, torch.zeros(n_tasks), torch.ones(n_tasks))
            means.append(density(X, Y, V, hyper))
        assert means[0] - means[1] == pytest.approx(expected(length), abs=1e-4)


@pytest.mark.parametrize("n_tasks", [1, 2])
def test_a_fit_raises_the_density_and_goes_on_from_where_it_ended(n_tasks: int) -> None:
    X, Y, V = data(n_tasks)
    short = fit(X, Y, V, distance=1.0, n_steps=3)
    longer = fit(X, Y, V, start=short, distance=1.0, n_steps=20)
    flat = replace(short, lengthscales=torch.full((n_tasks, D), 5.0).double(), constants=torch.zeros(n_tasks).double())
    assert density(X, Y, V, short) > density(X, Y, V, flat)
    assert density(X, Y, V, longer) > density(X, Y, V, short)
    assert longer.lengthscales[:, 0].max() < longer.lengthscales[:, 1:].min()  # only the first feature counts


def test_a_fit_and_its_posterior_tell_held_out_scores() -> None:
    X, Y, V = data(2)
    posterior = Posterior(X[:30], Y[:30], V[:, :30, :30], fit(X[:30], Y[:30], V[:, :30, :30], distance=1.0, n_steps=40))
    means, deviations = posterior.predict(X[30:])
    assert np.abs(means - Y[30:]).mean() < 0.04
    assert np.abs(Y.mean(axis=0) - Y[30:]).mean() > 0.08
    assert (deviations < 0.1).all()


def test_equal_scores_leave_a_posterior_that_tells_them() -> None:
    X, _, V = data(1)
    flat = np.full((N, 1), 0.4)
    means, _ = Posterior(X, flat, V, fit(X, flat, V, distance=1.0, n_steps=3)).predict(X)
    assert means == pytest.approx(np.full((N, 1), 0.4))


def test_errors_much_larger_than_what_scores_differ_by_leave_a_posterior() -> None:
    X, Y, _ = data(1)
    tiny = 0.4 + 1e-7 * Y
    V = correlated(1)
    means, _ = Posterior(X, tiny, V, fit(X, tiny, V, distance=1.0, n_steps=3)).predict(X)
    assert means == pytest.approx(np.full((N, 1), 0.4), abs=1e-6)


@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize("length", [0.3, 1.0, 3.0])
def test_the_factor_makes_likeliest_what_rows_left_out_differ_by(length: float, *, common: bool) -> None:
    """Against the dense formulas: every row is told from the others, and so is its error from the others' errors."""
    X, Y, _ = data(1)
    V = correlated(1) if common else data(1)[2]
    scale = Y.std(ddof=1)
    lengths = np.full((1, D), length)
    hyper = Hyperparameters(*map(torch.as_tensor, (lengths, np.zeros(1), Y.mean(axis=0), Y.std(axis=0, ddof=1))))
    factor = Posterior(X, Y, V, hyper).calibration()[0]
    errors = V[0] / scale**2 + 1e-6 * np.eye(N)
    covariance = matern(X, X, lengths[0]) + errors
    standardised = (Y[:, 0] - Y[:, 0].mean()) / scale

    def left_out(matrix: np.ndarray, k: int) -> tuple[np.ndarray, float]:
        """How row k follows from the others, and the variance that is left."""
        rest = np.arange(N) != k
        weights = np.linalg.solve(matrix[np.ix_(rest, rest)], matrix[rest, k])
        return weights, float(matrix[k, k] - weights @ matrix[rest, k])

    def surprise(logarithm: float) -> float:
        total = logarithm**2 / 0.5**2 / 2
        for k in range(N):
            weights, variance = left_out(covariance, k)
            _, own = left_out(errors, k)
            error = standardised[k] - weights @ np.delete(standardised, k)
            total -= norm.logpdf(error, scale=np.sqrt(np.exp(2 * logarithm) * (variance - own) + own))
        return float(total)

    best = minimize_scalar(surprise, bounds=tuple(np.log((0.3, 1.5))), method="bounded").x
    assert factor == pytest.approx(np.exp(best), rel=0.03)


def test_too_short_length_scales_are_found_to_be_too_unsure() -> None:
    X, Y, V = data(1)
    hyper = fit(X, Y, V, distance=1.0, n_steps=20)
    shorter = replace(hyper, lengthscales=hyper.lengthscales * 0.3)
    assert Posterior(X, Y, V, shorter).calibration() < Posterior(X, Y, V, hyper).calibration()
