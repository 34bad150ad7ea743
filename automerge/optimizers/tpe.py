"""TPE, the tree-structured Parzen estimator of Optuna (Bergstra et al. 2011; multivariate: Falkner et al. 2018).

Parameters that are active together are drawn together (`group`), trials under way count as bad ones (`constant_liar`),
and several objectives are compared by non-domination and hypervolume (Ozaki et al. 2022).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from automerge.fidelity import Ladder
from automerge.options import flag_faults, refuse, whole_faults
from automerge.optuna_study import OptunaStudy, optuna
from automerge.protocols import Space
from automerge.records import Constraint, Objective


class Tpe(OptunaStudy):
    """Optuna's TPESampler over the space's parameters with their conditions.

    The first `n_initial` suggestions are samples of the space; references come on top. With `flat` the conditions are
    left out, so that all parameters are drawn from one joint distribution.
    """

    operator = "tpe"

    def __init__(
        self,
        *,
        space: Space,
        objectives: Sequence[Objective],
        ladder: Ladder,
        seed: int,
        constraints: Sequence[Constraint] = (),
        halving: bool = True,
        n_initial: int = 10,
        flat: bool = False,
    ) -> None:
        """Raises ValueError for options that cannot be."""
        refuse([*whole_faults(0, n_initial=n_initial), *flag_faults(flat=flat)])
        with warnings.catch_warnings():
            # `group` and, in older versions, `multivariate` and `constant_liar` are marked experimental.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                multivariate=True, group=True, constant_liar=True, n_startup_trials=n_initial, seed=seed
            )
        super().__init__(
            space=space,
            objectives=objectives,
            ladder=ladder,
            seed=seed,
            sampler=sampler,
            constraints=constraints,
            halving=halving,
            flat=flat,
        )
        self.n_initial = n_initial

    def _begins(self) -> bool:
        return self._n_samples < self.n_initial
