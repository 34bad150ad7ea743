"""A benchmark as a problem of pymoo, on real vectors.

::

    problem = BenchmarkProblem(benchmark, n_items=50)
    minimize(problem, NSGA2(pop_size=50, repair=CanonicalRepair()), ("n_gen", 20)).F   # the negated values
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge.benchmark.benchmark import Benchmark
from automerge.records import Split

try:
    from pymoo.core.problem import Problem
    from pymoo.core.repair import Repair
except ImportError as fault:
    raise ImportError(f"it needs pymoo: pip install pymoo ({fault})") from fault


class BenchmarkProblem(Problem):  # type: ignore[misc]  # pymoo has no types
    """The benchmark's objectives, negated since pymoo takes smaller for better, of one variable per gene.

    Codes of choices are real numbers as well, and count as the nearest whole one. A broken model breaks a constraint,
    and has the score 0 on all tasks. The options are those of `Benchmark.query`.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        *,
        n_items: int | None = None,
        seed: int = 0,
        split: Split = "search",
        noise: bool = True,
    ) -> None:
        genes = benchmark.space.genes
        super().__init__(
            n_var=len(genes),
            n_obj=len(benchmark.objectives),
            n_ieq_constr=1,
            xl=np.array([gene.lower for gene in genes]),
            xu=np.array([gene.upper for gene in genes]),
        )
        self._benchmark = benchmark
        self._options: dict[str, Any] = {"n_items": n_items, "seed": seed, "split": split, "noise": noise}

    def genotypes(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """The canonical genotypes of points of shape (n, n_genes)."""
        return self._benchmark.space.repair(X)

    def _evaluate(self, x: NDArray[np.float64], out: dict[str, Any], *_: Any, **__: Any) -> None:
        answers = self._benchmark.query(self.genotypes(x), **self._options)
        out["F"] = -answers.values_with(broken_score=0.0)
        out["G"] = np.where(answers.broken, 1.0, -1.0)[:, None]


class CanonicalRepair(Repair):  # type: ignore[misc]  # pymoo has no types
    """Brings a population to canonical genotypes, so that models that are the same look the same."""

    def _do(self, problem: BenchmarkProblem, X: NDArray[np.float64], **_: Any) -> NDArray[np.float64]:
        return problem.genotypes(X)
