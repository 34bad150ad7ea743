"""SMAC (arXiv 2109.09831): Hyperband over a random forest, ParEGO if there are several objectives, by SMAC3.

The system that arXiv 2502.04030 searches merges with. SMAC decides what is evaluated how far: its budgets are the rungs
of the ladder, and where it wants a known configuration at a higher budget, a known trial is promoted. So only the new
items are evaluated (nested cost). SMAC as published evaluates every budget from the first item (full cost): that cost
follows from the log, as the sum of `stop` over the slices of all evaluations instead of `stop - start`.
"""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ConfigSpace import Categorical, Configuration, ConfigurationSpace, Constant, Float
from ConfigSpace.hyperparameters import Hyperparameter
from ConfigSpace.util import deactivate_inactive_hyperparameters
from numpy.typing import NDArray
from smac import MultiFidelityFacade, Scenario
from smac.main.exceptions import ConfigurationSpaceExhaustedException
from smac.model.random_forest import RandomForest
from smac.multi_objective.parego import ParEGO
from smac.runhistory import StatusType, TrialInfo, TrialValue

from automerge.fidelity import Ladder
from automerge.foreign import worst_values
from automerge.ledger import Ledger
from automerge.options import flag_faults, refuse, whole_faults
from automerge.protocols import Gene, Space
from automerge.records import Constraint, Objective, Proposal, Trial, genotype_key
from automerge.variation import N_TRIES, new_sample

# It warns of what is ordinary here, such as a small space that is used up.
logging.getLogger("smac").setLevel(logging.CRITICAL)

OPERATOR = "smac"
"""What origins say of SMAC's suggestions."""

MAX_LEAVES = 2**13
"""Bound on the leaves of a tree, which has no more than the trials of one rung."""


class Smac:
    """Proposes what SMAC asks for. Holds SMAC's state, the trials told, and what SMAC waits to be told.

    `flat` makes every gene a parameter of its own, as in the code of arXiv 2502.04030; without, parameters that a
    choice leaves without effect do not exist. `n_initial` is the number of random configurations before the forest is
    asked (SMAC by itself takes ten for every parameter, up to a quarter of all trials), `challengers` the number of
    random configurations that the acquisition function sorts, `local_searches` the number of searches that start from
    the best of them, and of those that start from the best trials, `retrain_after` the number of configurations taken
    from one forest.

    The forest learns from the trials at the highest rung that has any. References are told to SMAC at the highest rung,
    as far as its space can express them. Different configurations may be one model: it is evaluated once. A broken or
    failed trial is told as crashed, with the worst cost of the space or seen.
    """

    def __init__(
        self,
        *,
        space: Space,
        objectives: Sequence[Objective],
        ladder: Ladder,
        seed: int,
        constraints: Sequence[Constraint] = (),
        flat: bool = False,
        n_initial: int = 24,
        challengers: int = 2000,
        local_searches: int = 10,
        retrain_after: int = 8,
    ) -> None:
        """Raises ValueError for options that cannot be."""
        counts = {"n_initial": n_initial, "challengers": challengers, "retrain_after": retrain_after}
        refuse([*whole_faults(1, **counts), *whole_faults(0, local_searches=local_searches), *flag_faults(flat=flat)])
        self.n_initial = n_initial
        self._space = space
        self._seed = seed
        self._ledger = Ledger(objectives=objectives, ladder=ladder, constraints=constraints)
        self._configurations = _Configurations(space, flat=flat)
        self._smac = _facade(
            self._configurations.space,
            [objective.name for objective in objectives],
            ladder,
            seed,
            n_initial=n_initial,
            challengers=challengers,
            local_searches=local_searches,
            retrain_after=retrain_after,
        )
        self._is_task = np.array([objective.kind != "cost" for objective in objectives])
        self._worst = self._is_task - worst_values(objectives, space)
        self._n_asked = 0
        self._known: dict[bytes, Trial] = {}
        self._flying: dict[bytes, int | None] = {}
        self._waiting: dict[bytes, list[tuple[int, TrialInfo]]] = {}
        self._due: deque[tuple[int, int]] = deque()
        # The first ask starts Hyperband. It comes before the references are told, which would otherwise fill the first
        # bracket and leave it too small to be halved.
        self._first: TrialInfo | None = self._smac.ask()
        self._budgets = {self._stop(self._first): self._first.budget, ladder.rungs[-1]: float(ladder.rungs[-1])}

    def ask(self) -> Proposal:
        """What SMAC asks for: a new genotype or the promotion of a known trial; a sample if that is nothing new.

        It is a known genotype only if `new_sample` finds no other, as where the space is used up.
        """
        self._n_asked += 1
        if self._due:
            trial, stop = self._due.popleft()
            return self._ledger.promote(self._ledger.trials[trial], stop)
        for _ in range(N_TRIES):
            info = self._suggestion()
            if info is None:
                break
            proposal = self._proposal(info)
            if proposal is not None:
                return proposal
        genotype = new_sample(self._space, self._ledger.seen, np.random.default_rng([self._seed, self._n_asked]))
        self._ledger.see(genotype)
        self._flying.setdefault(genotype_key(genotype), None)
        return Proposal(genotype, self._ledger.first_stop, {"operator": "sample"})

    def tell(self, trial: Trial) -> None:
        """Takes the state of a trial."""
        is_first = trial.id not in self._ledger.trials
        self._ledger.tell(trial)
        key = genotype_key(trial.genotype)
        # A model is a trial twice where the space is used up: then what counts is the one evaluated further.
        known = self._known.get(key)
        if known is None or known.id == trial.id or trial.n_items > known.n_items:
            known = self._known[key] = trial
        if self._flying.get(key) in (None, trial.id):
            self._flying.pop(key, None)
        if is_first and trial.origin["operator"] != OPERATOR:
            self._add(trial)
        waiting = self._waiting.pop(key, [])
        for _, info in (each for each in waiting if _answers(known, each[0])):
            self._smac.tell(info, self._value(known), save=False)
        if unanswered := [each for each in waiting if not _answers(known, each[0])]:
            self._waiting[key] = unanswered
            if key not in self._flying:
                # Another configuration of this model was asked for further than this one while it was in flight.
                self._due.append((known.id, min(stop for stop, _ in unanswered)))
                self._flying[key] = known.id

    def promising(self, n: int) -> list[int]:
        """Ids of at most n partly evaluated trials that most likely belong on the front, best first."""
        return self._ledger.promising(n)

    def _suggestion(self) -> TrialInfo | None:
        """What SMAC asks for next, None once it has used up its space."""
        if self._first is not None:
            info, self._first = self._first, None
            return info
        try:
            with warnings.catch_warnings():
                # The local search takes the mean duration of no steps if it makes none.
                warnings.filterwarnings("ignore", "Mean of empty slice|invalid value encountered in", RuntimeWarning)
                return self._smac.ask()
        except (StopIteration, ConfigurationSpaceExhaustedException):
            return None

    def _proposal(self, info: TrialInfo) -> Proposal | None:
        """The evaluation that SMAC asks for; None if it is told at once or waits for one in flight."""
        genotype = self._configurations.genotype(info.config)
        key, stop = genotype_key(genotype), self._stop(info)
        self._budgets[stop] = info.budget
        trial = self._known.get(key)
        if trial is not None and _answers(trial, stop):
            self._smac.tell(info, self._value(trial), save=False)
            return None
        self._waiting.setdefault(key, []).append((stop, info))
        if key in self._flying:
            return None
        self._flying[key] = None if trial is None else trial.id
        if trial is not None:
            return self._ledger.promote(trial, stop)
        self._ledger.see(genotype)
        return Proposal(genotype, stop, {"operator": OPERATOR})

    def _add(self, trial: Trial) -> None:
        """Tells SMAC a trial that it did not ask for, if it can express it and the trial ended at a rung."""
        config = self._configurations.configuration(trial.genotype)
        budget = self._budgets.get(trial.n_items)
        if config is not None and budget is not None:
            # Under another seed than SMAC's own it would be another trial to SMAC.
            (key,) = self._smac.intensifier.get_instance_seed_keys_of_interest()
            self._smac.tell(TrialInfo(config, seed=key.seed, budget=budget), self._value(trial), save=False)

    def _value(self, trial: Trial) -> TrialValue:
        """Costs, smaller is better: 1 - score for tasks, the cost itself for costs, the worst so far if it is broken.

        SMAC takes NaN and fails later, when it trains its forest; so an unknown value counts as broken.
        """
        costs = self._costs(trial)
        is_known = bool(np.isfinite(costs).all())
        if is_known:
            self._worst = np.maximum(self._worst, costs)
        found = (costs if is_known else self._worst).tolist()
        status = StatusType.SUCCESS if is_known else StatusType.CRASHED
        return TrialValue(cost=found if len(found) > 1 else found[0], status=status)

    def _costs(self, trial: Trial) -> NDArray[np.float64]:
        if trial.status != "ok":
            return np.full(len(self._is_task), np.nan)
        alive = self._ledger.alive
        values = self._ledger.points(alive)[[each.id for each in alive].index(trial.id)]
        return np.asarray(np.where(self._is_task, 1 - values, -values))

    def _stop(self, info: TrialInfo) -> int:
        """The rung of a budget. SMAC divides by eta without rounding, the ladder rounds every rung down."""
        rungs = self._ledger.ladder.rungs
        below = math.log(rungs[-1] / info.budget, self._ledger.ladder.eta)  # type: ignore[operator]  # it has a budget
        return rungs[-1 - round(below)]


class _Configurations:
    """The map between SMAC's configurations and a space's genotypes."""

    def __init__(self, space: Space, *, flat: bool) -> None:
        self._space = space
        self._flat = flat
        self.space: ConfigurationSpace = _flat(space) if flat else space.to_configspace()

    def genotype(self, config: Configuration) -> NDArray[np.float64]:
        """The canonical genotype of a configuration, shape (n_genes,)."""
        values: Mapping[str, Any] = dict(config)
        if not self._flat:
            return self._space.genotype(values)
        x = np.array([float(values[gene.name]) for gene in self._space.genes])
        return np.asarray(self._space.repair(x[None])[0])

    def configuration(self, genotype: NDArray[np.float64]) -> Configuration | None:
        """A configuration of a canonical genotype, None if there is none, as for a model beyond the bounds."""
        values = {}
        for gene, value in zip(self._space.genes, genotype, strict=True):
            if gene.name in self.space:
                choices = getattr(self.space[gene.name], "choices", None)
                values[gene.name] = float(value) if choices is None else choices[int(value)]
        config = deactivate_inactive_hyperparameters(values, self.space)
        return config if (self.genotype(config) == genotype).all() else None


def _flat(space: Space) -> ConfigurationSpace:
    """Every gene a parameter, without conditions; choices are by their codes."""
    found = ConfigurationSpace()
    found.add([_parameter(gene) for gene in space.genes])  # at once: it sorts all anew at every call
    return found


def _parameter(gene: Gene) -> Hyperparameter[Any, Any]:
    if gene.n_choices > 1:
        return Categorical(gene.name, range(gene.n_choices), default=int(gene.default))
    if gene.n_choices == 1 or gene.lower == gene.upper:
        return Constant(gene.name, gene.default)
    return Float(gene.name, (gene.lower, gene.upper), default=gene.default)


def _facade(
    space: ConfigurationSpace,
    objectives: Sequence[str],
    ladder: Ladder,
    seed: int,
    *,
    n_initial: int,
    challengers: int,
    local_searches: int,
    retrain_after: int,
) -> MultiFidelityFacade:
    """SMAC's own multi-fidelity form. It writes its settings when it is built and nothing later: they are removed."""
    n_steps = len(ladder.rungs) - 1
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            space,
            name="search",
            output_directory=Path(folder),
            deterministic=True,
            objectives=list(objectives) if len(objectives) > 1 else objectives[0],
            # Only an initial design is cut by the number of trials, at a quarter: when to end is not for SMAC to say.
            n_trials=4 * n_initial,
            # A little lower than the lowest rung, so that rounding does not cost SMAC a rung.
            min_budget=ladder.rungs[-1] / ladder.eta**n_steps * (1 - 1e-9),
            max_budget=float(ladder.rungs[-1]),
            seed=seed,
        )
        facade = MultiFidelityFacade
        return facade(
            scenario,
            model=_forest(scenario),
            overwrite=True,
            logging_level=False,
            multi_objective_algorithm=ParEGO(scenario) if len(objectives) > 1 else None,
            # With several objectives SMAC 2.4 fails under any other choice of incumbents.
            intensifier=facade.get_intensifier(
                scenario,
                eta=ladder.eta,  # type: ignore[arg-type]  # any number does
                incumbent_selection="highest_budget",
            ),
            initial_design=facade.get_initial_design(scenario, n_configs=n_initial),
            config_selector=facade.get_config_selector(scenario, retrain_after=retrain_after),
            acquisition_maximizer=_maximizer(scenario, challengers=challengers, local_searches=local_searches),
        )


def _maximizer(scenario: Scenario, *, challengers: int, local_searches: int) -> Any:
    """SMAC's search for the maximum of the acquisition function, with the starts of its local searches in order.

    SMAC takes them from a set of configurations, whose order is that of salted hashes: another in every process,
    and with it other proposals from one seed.
    """
    found = MultiFidelityFacade.get_acquisition_maximizer(
        scenario, challengers=challengers, local_search_iterations=local_searches
    )
    search: Any = found._local_search
    unordered = search._get_initial_points

    def ordered(*arguments: Any) -> list[Configuration]:
        return sorted(unordered(*arguments), key=lambda config: config.get_array().tobytes())

    search._get_initial_points = ordered
    return found


def _forest(scenario: Scenario) -> RandomForest:
    """The forest of SMAC's facade with the same trees, built faster.

    SMAC's own starts threads for every prediction and clears memory for two million nodes before it builds a tree.
    """
    return RandomForest(
        scenario.configspace,
        log_y=True,
        n_trees=10,
        ratio_features=1.0,
        min_samples_split=2,
        min_samples_leaf=1,
        max_leaf_nodes=MAX_LEAVES,
        seed=scenario.seed,
        n_jobs=1,
    )


def _answers(trial: Trial, stop: int) -> bool:
    """Whether what is known of a trial answers its evaluation up to item `stop`."""
    return trial.status != "ok" or trial.n_items >= stop
