"""The fast posterior against BoTorch's own, for one task and for several."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gpytorch.mlls import ExactMarginalLogLikelihood

from automerge.landscape import gaussian_process
from automerge.landscape.gaussian_process import Hyperparameters, Posterior, fit

N, D = 40, 6


def data(n_tasks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.random((N, D))
    truth = np.stack([0.5 + 0.3 * np.sin(3 * X[:, 0] + k) for k in range(n_tasks)], axis=1)
    variances = np.full(truth.shape, 0.02**2)
    return X, truth + rng.normal(size=truth.shape) * 0.02, variances


def of_botorch(X: np.ndarray, Y: np.ndarray, V: np.ndarray, hyper: Hyperparameters) -> Any:
    model = gaussian_process._model(X, Y, V, 1.0)
    model.covar_module.lengthscale = hyper.lengthscales[:, None, :] if Y.shape[1] > 1 else hyper.lengthscales
    model.mean_module.constant.data.copy_(hyper.constants.reshape(model.mean_module.constant.shape))
    return model.eval()


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
        expected = of_botorch(X, Y, V, hyper).posterior(torch.as_tensor(points))
    means, deviations = ours.predict(points)
    assert means == pytest.approx(expected.mean.numpy(), abs=1e-5)
    assert deviations == pytest.approx(expected.variance.sqrt().numpy(), abs=1e-5)
    joint_means, covariances = ours.joint(points)
    assert joint_means == pytest.approx(means, abs=1e-12)
    full = expected.distribution.covariance_matrix.numpy().reshape(n_tasks, 15, n_tasks, 15)
    for task in range(n_tasks):
        assert covariances[task] == pytest.approx(full[task, :, task, :], abs=1e-6)


@pytest.mark.parametrize("n_tasks", [1, 2])
def test_a_fit_raises_the_density_and_goes_on_from_where_it_ended(n_tasks: int) -> None:
    X, Y, V = data(n_tasks)

    def density(hyper: Hyperparameters) -> float:
        model = of_botorch(X, Y, V, hyper)
        mll = ExactMarginalLogLikelihood(model.likelihood, model)
        model.train()
        with torch.no_grad():
            return float(mll(model(*model.train_inputs), model.train_targets).sum())

    short = fit(X, Y, V, distance=1.0, n_steps=3)
    longer = fit(X, Y, V, start=short, distance=1.0, n_steps=20)
    flat = replace(short, lengthscales=torch.full((n_tasks, D), 5.0).double(), constants=torch.zeros(n_tasks).double())
    assert density(short) > density(flat)
    assert density(longer) > density(short)
    assert longer.lengthscales[:, 0].max() < longer.lengthscales[:, 1:].min()  # only the first feature counts


def test_a_fit_and_its_posterior_tell_held_out_scores() -> None:
    X, Y, V = data(2)
    posterior = Posterior(X[:30], Y[:30], V[:30], fit(X[:30], Y[:30], V[:30], distance=1.0, n_steps=40))
    means, deviations = posterior.predict(X[30:])
    assert np.abs(means - Y[30:]).mean() < 0.04
    assert np.abs(Y.mean(axis=0) - Y[30:]).mean() > 0.08
    assert (deviations < 0.1).all()


def test_equal_scores_leave_a_posterior_that_tells_them() -> None:
    X, _, V = data(1)
    flat = np.full((N, 1), 0.4)
    means, _ = Posterior(X, flat, V, fit(X, flat, V, distance=1.0, n_steps=3)).predict(X)
    assert means == pytest.approx(np.full((N, 1), 0.4))


@pytest.mark.parametrize("n_tasks", [1, 2])
def test_every_row_is_told_from_the_others_as_if_it_were_left_out(n_tasks: int) -> None:
    """The factor makes the mean square of errors that really leave each row out equal to 1."""
    X, Y, V = data(n_tasks)
    hyper = fit(X, Y, V, distance=1.0, n_steps=20)
    factors = Posterior(X, Y, V, hyper).calibration()
    squares = np.zeros(n_tasks)
    for k in range(N):
        rest = np.arange(N) != k
        means, deviations = Posterior(X[rest], Y[rest], V[rest], hyper).predict(X[[k]])
        squares += ((Y[k] - means[0]) ** 2 / ((factors * deviations[0]) ** 2 + V[k])) / N
    inside = (factors > 0.31) & (factors < 1.49)
    assert inside.any()
    assert squares[inside] == pytest.approx(np.ones(inside.sum()), rel=0.02)


def test_too_short_length_scales_are_found_to_be_too_unsure() -> None:
    X, Y, V = data(1)
    hyper = fit(X, Y, V, distance=1.0, n_steps=20)
    shorter = replace(hyper, lengthscales=hyper.lengthscales * 0.3)
    assert Posterior(X, Y, V, shorter).calibration() < Posterior(X, Y, V, hyper).calibration()
