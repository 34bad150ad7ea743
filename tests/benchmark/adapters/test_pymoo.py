"""A benchmark as a problem of pymoo."""

import numpy as np
import pytest
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.optimize import minimize

from automerge.benchmark import Benchmark, load
from automerge.benchmark.adapters.pymoo import BenchmarkProblem, CanonicalRepair
from tests.benchmark.handmade import handmade


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return load(handmade(tmp_path_factory.mktemp("pymoo") / "lfs"))


def test_values_are_turned_and_broken_models_break_a_constraint(benchmark: Benchmark) -> None:
    problem = BenchmarkProblem(benchmark, n_items=20, seed=1)
    points = np.random.default_rng(0).uniform(problem.xl, problem.xu, size=(40, problem.n_var))
    out = problem.evaluate(points, return_as_dictionary=True)
    answers = benchmark.query(benchmark.space.repair(points), n_items=20, seed=1)
    assert 0 < answers.broken.sum() < 40
    alive = ~answers.broken
    assert (out["F"][alive] == -answers.values[alive]).all()
    assert (out["F"][~alive] == [0, 0, 300]).all()
    assert ((out["G"][:, 0] > 0) == answers.broken).all()


def test_evolution_finds_better_models_than_chance(benchmark: Benchmark) -> None:
    problem = BenchmarkProblem(benchmark, noise=False)
    found = minimize(problem, NSGA2(pop_size=20, repair=CanonicalRepair()), ("n_gen", 15), seed=0)
    assert (benchmark.space.repair(found.X) == found.X).all()
    drawn = np.random.default_rng(0).uniform(problem.xl, problem.xu, size=(20, problem.n_var))
    by_chance = benchmark.mean(benchmark.space.repair(drawn))
    best = (-found.F[:, :2]).max(axis=0)
    assert best[0] > by_chance["math"].max() and best[1] > by_chance["code"].max()
    assert not benchmark.query(found.X, noise=False).broken.any()
