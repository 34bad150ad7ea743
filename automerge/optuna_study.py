"""Optuna's samplers behind `ask` and `tell`: a study in memory whose parameters are the genes, by name.

Parameters are suggested in the order of the space's ConfigSpace, and one whose condition does not hold is not suggested
at all: its gene is at its default, and the trial does not have it. That is what Optuna calls define-by-run.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ConfigSpace.types import NotSet
from numpy.typing import NDArray

from automerge.fidelity import Ladder
from automerge.foreign import Foreign
from automerge.protocols import Space
from automerge.records import Constraint, Objective, Trial

try:
    import optuna
except ImportError as fault:
    raise ImportError('it needs Optuna: pip install optuna, or in a checkout pip install -e ".[rivals]"') from fault


__all__ = ["OptunaStudy", "optuna"]  # members take optuna from here, so that the message above is the one that is read


class OptunaStudy(Foreign):
    """The part that Optuna's samplers have in common. Holds the study.

    The first suggestions are samples of the space, as the other optimizers begin, since Optuna's own first trials draw
    every gene by itself and all look like one average model; a member says how many in `_begins`. With `flat` all
    parameters are suggested always, and those that do not act are left to the space's repair.
    """

    def __init__(
        self,
        *,
        space: Space,
        objectives: Sequence[Objective],
        ladder: Ladder,
        seed: int,
        sampler: optuna.samplers.BaseSampler,
        constraints: Sequence[Constraint] = (),
        halving: bool = True,
        flat: bool,
    ) -> None:
        super().__init__(
            space=space, objectives=objectives, ladder=ladder, seed=seed, constraints=constraints, halving=halving
        )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(sampler=sampler, directions=["maximize"] * len(self._ledger.objectives))
        self._configspace = space.to_configspace()
        self._unset: dict[str, Any] = dict.fromkeys(self._configspace, NotSet)
        self._flat = flat
        self._n_samples = 0

    def _suggest(self) -> tuple[Any, NDArray[np.float64]]:
        if self._begins():
            self._n_samples += 1
            sample = self._space.sample(1, np.random.default_rng([self._seed, 1, self._n_samples]))[0]
            trial, values = self._ask(self._named(sample))
        else:
            trial, values = self._ask()
        return trial, self._space.genotype(values)

    def _inform(self, handle: Any, values: NDArray[np.float64] | None) -> None:
        if values is None:
            self._study.tell(handle, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(handle, values.tolist())

    def _begin_from(self, trial: Trial) -> None:
        named = self._named(trial.genotype)
        if (self._space.genotype(named) == trial.genotype).all():
            self._inform(self._ask(named)[0], self._values(trial))

    @abstractmethod
    def _begins(self) -> bool:
        """Whether the next suggestion is still to be a sample of the space."""

    @property
    def _n_trials(self) -> int:
        """Number of the study's trials, with references and those under way."""
        return len(self._study.get_trials(deepcopy=False))

    def _ask(self, fixed: Mapping[str, Any] | None = None) -> tuple[optuna.Trial, Mapping[str, Any]]:
        """A trial of the study, and its parameters by name: suggested, or given."""
        if fixed is not None:
            self._study.enqueue_trial(dict(fixed))
        trial = self._study.ask()
        values: dict[str, Any] = {}
        for name, parameter in self._configspace.items():
            if self._flat or self._is_active(name, values):
                values[name] = (
                    trial.suggest_categorical(name, tuple(parameter.choices))
                    if hasattr(parameter, "choices")
                    else trial.suggest_float(name, parameter.lower, parameter.upper)
                )
        return trial, values

    def _named(self, genotype: NDArray[np.float64]) -> Mapping[str, Any]:
        """The values of a canonical genotype by name, without those of genes that do not act."""
        found: dict[str, Any] = {}
        by_name = {gene.name: value for gene, value in zip(self._space.genes, genotype, strict=True)}
        for name, parameter in self._configspace.items():
            if self._flat or self._is_active(name, found):
                choices = getattr(parameter, "choices", None)
                found[name] = choices[int(by_name[name])] if choices else float(by_name[name])
        return found

    def _is_active(self, name: str, values: dict[str, Any]) -> bool:
        """Whether a parameter's conditions hold under the values of the active parameters before it."""
        conditions = self._configspace.parent_conditions_of[name]
        return all(condition.satisfied_by_value(self._unset | values) for condition in conditions)
