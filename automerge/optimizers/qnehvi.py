"""Plain Bayesian optimization by BoTorch: Gaussian processes on the genes, noisy expected hypervolume improvement.

The family of AP-BMM (arXiv 2512.09972), without any knowledge of merging: one `SingleTaskGP` with BoTorch's default
priors for every objective on the unit box, and qLogNEHVI (arXiv 2105.08195, 2310.20708) maximized over the box; qLogNEI
for one objective, qLogNParEGO for more than three, where hypervolumes are slow. What is found is rounded to the
nearest genotype.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from botorch.acquisition.acquisition import AcquisitionFunction
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.parego import qLogNParEGO
from botorch.exceptions.warnings import (
    BadInitialCandidatesWarning,
    InputDataWarning,
    NumericsWarning,
    OptimizationWarning,
)
from botorch.models import SingleTaskGP
from botorch.models.model_list_gp_regression import ModelListGP
from botorch.optim.fit import fit_gpytorch_mll_scipy
from botorch.optim.optimize import optimize_acqf
from botorch.sampling.normal import SobolQMCNormalSampler
from botorch.utils.multi_objective.hypervolume import infer_reference_point
from botorch.utils.multi_objective.pareto import is_non_dominated
from gpytorch.mlls import ExactMarginalLogLikelihood
from linear_operator.utils.warnings import NumericalWarning
from numpy.typing import NDArray
from torch import Tensor

from automerge.botorch_kernels import disable_compilation
from automerge.fidelity import Ladder
from automerge.ledger import Ledger
from automerge.options import flag_faults, refuse, whole_faults
from automerge.protocols import Space
from automerge.records import Constraint, Objective, Proposal, Trial, genotype_key
from automerge.threads import one_thread
from automerge.unit_box import UnitBox
from automerge.variation import new_sample

MAX_HYPERVOLUME = 3
"""Objectives up to which hypervolumes are computed: they cut the space into parts that grow fast in number."""

FIT_STEPS = 200
"""Steps of L-BFGS for the hyperparameters of the processes."""

SEARCH_STEPS = 100
"""Steps of L-BFGS for the maximum of the acquisition function."""

LEAST_NOISE = 1e-6
"""Variance of the noise of exact values, such as costs, as a share of the variance of the values."""

EXPECTED = (BadInitialCandidatesWarning, InputDataWarning, NumericsWarning, NumericalWarning, OptimizationWarning)
"""What the libraries warn of in ordinary use: values all alike, flat acquisitions, jitter, the last of the steps."""


class QNoisyExpectedHypervolume:
    """Proposes the maximum of the acquisition function, at the first rung, and promotes the best up the ladder.

    The first `n_initial` genotypes are samples of the space. Measured means have the noise of their binomial standard
    errors; constraints enter as in `Ledger.points`; broken and failed trials are left out. The maximum is searched by
    L-BFGS from the best `n_restarts` of `raw_samples` points of the box; `mc_samples` are joint samples of the
    objectives. Without `halving` everything is evaluated on all items at once. Holds the trials told and the genotypes
    asked.
    """

    def __init__(
        self,
        *,
        space: Space,
        objectives: Sequence[Objective],
        ladder: Ladder,
        seed: int,
        constraints: Sequence[Constraint] = (),
        n_initial: int = 16,
        n_restarts: int = 4,
        raw_samples: int = 128,
        mc_samples: int = 64,
        halving: bool = True,
    ) -> None:
        """Raises ValueError for options that cannot be."""
        counts = {"n_restarts": n_restarts, "raw_samples": raw_samples, "mc_samples": mc_samples}
        refuse([*whole_faults(0, n_initial=n_initial), *whole_faults(1, **counts), *flag_faults(halving=halving)])
        disable_compilation()
        self._space = space
        self._box = UnitBox(space)
        self._ledger = Ledger(objectives=objectives, ladder=ladder, constraints=constraints, halving=halving)
        self._seed = seed
        self.n_initial = n_initial
        self._n_restarts = n_restarts
        self._raw_samples = raw_samples
        self._mc_samples = mc_samples
        self._pending: dict[bytes, NDArray[np.float64]] = {}
        self._n_asked = 0
        self._n_new = 0

    @one_thread()
    def ask(self) -> Proposal:
        """A promotion if one is due, else a new genotype at the first rung: first samples, then maxima.

        It is a sample again where all maxima found are known, and a known one only if `new_sample` finds no other.
        """
        self._n_asked += 1
        promotion = self._ledger.promotion()
        if promotion is not None:
            return promotion
        rng = np.random.default_rng([self._seed, self._n_asked])
        genotype = self._maximum(rng) if self._n_new >= self.n_initial else None
        operator = "sample" if genotype is None else "qnehvi"
        if genotype is None:
            genotype = new_sample(self._space, self._ledger.seen, rng)
        self._n_new += 1
        self._ledger.see(genotype)
        self._pending[genotype_key(genotype)] = genotype
        return Proposal(genotype, self._ledger.first_stop, {"operator": operator})

    def tell(self, trial: Trial) -> None:
        """Takes the state of a trial."""
        self._ledger.tell(trial)
        self._pending.pop(genotype_key(trial.genotype), None)

    def promising(self, n: int) -> list[int]:
        """Ids of at most n partly evaluated trials that most likely belong on the front, best first."""
        return self._ledger.promising(n)

    def _maximum(self, rng: np.random.Generator) -> NDArray[np.float64] | None:
        """The new genotype of largest acquisition value among the maxima found, shape (n_genes,); None if none is new.

        Also None while fewer than two trials can be learnt from.
        """
        X, Y, variances = self._data()
        if len(X) < 2:
            return None
        with _seeded(int(rng.integers(2**31))), warnings.catch_warnings():
            for category in EXPECTED:
                warnings.simplefilter("ignore", category)
            acquisition = self._acquisition(X, Y, _fitted(X, Y, variances), seed=int(rng.integers(2**31)))
            points, values = optimize_acqf(
                acquisition,
                bounds=torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, self._box.n_dims),
                q=1,
                num_restarts=self._n_restarts,
                raw_samples=self._raw_samples,
                options={"maxiter": SEARCH_STEPS},
                return_best_only=False,
                retry_on_optimization_warning=False,
            )
        best_first = np.argsort(-np.asarray(values), kind="stable")
        for genotype in self._box.genotypes(points[best_first, 0].numpy()):
            if self._ledger.is_new(genotype):
                return np.asarray(genotype)
        return None

    def _data(self) -> tuple[Tensor, Tensor, Tensor]:
        """Points of the box, shape (n, n_genes); values and variances of their noise, shape (n, n_objectives)."""
        alive = self._ledger.alive
        values = self._ledger.points(alive)
        known = np.flatnonzero(np.isfinite(values).all(axis=1))
        found = [alive[index] for index in known]
        points = self._box.points(np.array([trial.genotype for trial in found]).reshape(len(found), -1))
        variances = [[_variance(trial, objective) for objective in self._ledger.objectives] for trial in found]
        X = torch.from_numpy(np.clip(points, 0.0, 1.0))
        return X, torch.from_numpy(values[known]), torch.tensor(variances, dtype=torch.float64)

    def _acquisition(self, X: Tensor, Y: Tensor, model: ModelListGP, *, seed: int) -> AcquisitionFunction:
        settings: dict[str, Any] = {
            "model": model,
            "X_baseline": X,
            "sampler": SobolQMCNormalSampler(torch.Size([self._mc_samples]), seed=seed),
            "prune_baseline": True,
            "X_pending": self._pending_points(),
        }
        if Y.shape[1] == 1:
            return qLogNoisyExpectedImprovement(**settings)
        if Y.shape[1] > MAX_HYPERVOLUME:
            return qLogNParEGO(**settings)
        reference = infer_reference_point(Y[is_non_dominated(Y)])
        return qLogNoisyExpectedHypervolumeImprovement(ref_point=reference, **settings)

    def _pending_points(self) -> Tensor | None:
        if not self._pending:
            return None
        return torch.from_numpy(self._box.points(np.array(list(self._pending.values()))))


def _variance(trial: Trial, objective: Objective) -> float:
    """The variance of a measured mean, or of a weighted mean of several tasks; costs are exact."""
    return sum(share**2 * trial.results[task].standard_error ** 2 for task, share in objective.shares)


def _fitted(X: Tensor, Y: Tensor, variances: Tensor) -> ModelListGP:
    """One process an objective, each at its most probable hyperparameters."""
    return ModelListGP(*(_process(X, Y[:, [k]], variances[:, [k]]) for k in range(Y.shape[1])))


def _process(X: Tensor, Y: Tensor, variances: Tensor) -> SingleTaskGP:
    spread = float(Y.var())
    model = SingleTaskGP(X, Y, variances.clamp_min(LEAST_NOISE * (spread if spread > 0 else 1.0)))
    fit_gpytorch_mll_scipy(ExactMarginalLogLikelihood(model.likelihood, model), options={"maxiter": FIT_STEPS})
    return model


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Has BoTorch draw from `seed`: it takes PyTorch's global generator, which is given back as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
