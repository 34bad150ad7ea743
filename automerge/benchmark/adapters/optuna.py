"""A benchmark as the objective of an Optuna study.

::

    objective = OptunaObjective(benchmark, n_items=50)
    study = optuna.create_study(directions=objective.directions)
    study.optimize(objective, n_trials=100)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from automerge.benchmark.benchmark import Benchmark
from automerge.records import Split

if TYPE_CHECKING:
    import optuna


class OptunaObjective:
    """The values of the benchmark's objectives as a function of a trial, which is suggested every gene by name.

    The options are those of `Benchmark.query`. Genes that do not act are suggested too, and make no difference.
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
        self._benchmark = benchmark
        self._n_items, self._seed, self._split, self._noise = n_items, seed, split, noise

    @property
    def directions(self) -> list[str]:
        """What a study is to be created with: larger is better in all values."""
        return ["maximize"] * len(self._benchmark.objectives)

    def __call__(self, trial: optuna.trial.BaseTrial) -> float | tuple[float, ...]:
        """One value, or a tuple of several; NaN, a failed trial for Optuna, where the model is broken."""
        config = {
            gene.name: trial.suggest_categorical(gene.name, self._benchmark.choices(gene.name))
            if gene.n_choices
            else trial.suggest_float(gene.name, gene.lower, gene.upper)
            for gene in self._benchmark.space.genes
        }
        answers = self._benchmark.query(config, self._n_items, self._seed, self._split, noise=self._noise)
        values = tuple(answers.values[0].tolist())
        return values if len(values) > 1 else values[0]
