"""NSGA-II (Deb et al. 2002) as Optuna has it: uniform crossover, and mutation that draws a parameter anew."""

from __future__ import annotations

from collections.abc import Sequence

from automerge.fidelity import Ladder
from automerge.options import flag_faults, refuse, whole_faults
from automerge.optuna_study import OptunaStudy, optuna
from automerge.protocols import Space
from automerge.records import Constraint, Objective, Trial


class OptunaNsga2(OptunaStudy):
    """Optuna's NSGAIISampler over the space's parameters.

    The first generation of `population` trials are references, at most half, and samples of the space. Parents hand on
    only the parameters that all trials have, and the others are drawn at random in every child; so by default the space
    is `flat`, without conditions. `flat: false` is how the sampler acts on a space with conditions.
    """

    operator = "optuna_nsga2"

    def __init__(
        self,
        *,
        space: Space,
        objectives: Sequence[Objective],
        ladder: Ladder,
        seed: int,
        constraints: Sequence[Constraint] = (),
        halving: bool = True,
        population: int = 20,
        flat: bool = True,
    ) -> None:
        """Raises ValueError for a population that is too small."""
        refuse([*whole_faults(2, population=population), *flag_faults(flat=flat)])
        super().__init__(
            space=space,
            objectives=objectives,
            ladder=ladder,
            seed=seed,
            sampler=optuna.samplers.NSGAIISampler(population_size=population, seed=seed),
            constraints=constraints,
            halving=halving,
            flat=flat,
        )
        self._population = population

    def _begin_from(self, trial: Trial) -> None:
        # A generation of references alone would leave nothing to cross over with.
        if self._n_trials < self._population // 2:
            super()._begin_from(trial)

    def _begins(self) -> bool:
        return self._n_trials < self._population
