"""The search: evaluate the references, then ask, run, log and tell until the budget is spent, then judge the front.

The log is the truth. A search that is run again on its log takes every logged evaluation as the answer to the same
question, in the logged order, and goes on where the log ends; so it can be killed at any moment.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from automerge.fidelity import Ladder
from automerge.history import OUTSIDE, advanced, eligible, front, in_space, reference_point, started
from automerge.log import EvaluationRow, RunLog, TrialRow
from automerge.pareto import hypervolume
from automerge.protocols import HypervolumeOptimizer, Optimizer, Reference, Runner, Space, Task
from automerge.recipe import Recipe
from automerge.records import (
    REFERENCE,
    Constraint,
    Evaluation,
    Objective,
    Orders,
    Phase,
    Proposal,
    Query,
    Slice,
    Split,
    Trial,
    genotype_key,
)
from automerge.subsets import shuffled, stratified


@dataclass(frozen=True, slots=True)
class Budget:
    """When the search phase ends: whichever bound is reached first. None is no bound; one at least is needed.

    It ends before where the space has no more models: then all are evaluated on all items as far as the budget lasts.
    `trials` counts new genotypes, `items` the search items evaluated for them, `minutes` wall-clock time of the search
    phase. References, verification and test come on top.
    """

    trials: int | None = None
    items: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        """Refuses a search without end."""
        bounds = [self.trials, self.items, self.minutes]
        if all(bound is None for bound in bounds) or any(bound is not None and bound <= 0 for bound in bounds):
            raise ValueError(f"a budget needs a positive number of trials, items or minutes, got {asdict(self)}")

    def share(self, *, trials: int, items: int, seconds: float) -> float:
        """How much of the budget is spent, from 0 to 1 and above."""
        pairs = ((trials, self.trials), (items, self.items), (seconds / 60, self.minutes))
        return max(spent / bound for spent, bound in pairs if bound is not None)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a search tells after every evaluation; `share` is that of the current phase that is done, 0 to 1.

    `populations` are the numbers of proposed trials that reached each rung of the ladder or went beyond. `thinking` is
    the share of the search phase's wall time spent in the optimizer's `ask`, 0 to 1. It counts what this process
    measured, whatever the runner's clock says: nothing of what is taken from the log, whose `wall` holds such times
    without telling them apart. What the optimizer does in `tell` is no part of it. `n_failed` evaluations were lost.
    `used_up` says that the search phase ended because the optimizer found no new model. `best` is the best score on all
    search items so far where it is the only objective, else None, as before any is known.
    """

    phase: Phase
    share: float
    n_trials: int
    n_items: int
    hypervolume: float
    best: float | None
    populations: tuple[int, ...]
    thinking: float
    n_failed: int
    used_up: bool
    trial: Trial
    resumed: bool


MAX_FAILED = 20
"""Evaluations that may fail one after the other, before a search stops in place of spending its budget on nothing."""

LAST_FAILED = 3
"""Failed evaluations at the very end with which a search is not taken for finished."""

MAX_COPIES = 5
"""Proposals of known genotypes as new ones, one after the other, with which a space is taken for used up.

An optimizer makes such a proposal only when many draws in a row gave nothing new.
"""

TestTrials = Literal["recommended", "all"]
"""Which trials are evaluated on the test items at the end, beside the references: `all` are those that are ok."""


@dataclass(frozen=True, slots=True)
class _Flight:
    trial: Trial
    phase: Phase
    slices: tuple[Slice, ...]
    ticket: int


class Search:
    """One run over one log. Holds the trials and counts so far; `run` is an iterator and is used once.

    `given` are canonical genotypes by name that are evaluated and told like the space's references, after them. A
    reference outside the space is a trial like any other, which the optimizer is not told. What breaks one of the
    `constraints` is evaluated, tested if it is a reference, and not recommended; there may be nothing to recommend.
    Times are those of the runner's clock. Failed evaluations are logged with the next that does not fail: those at the
    end, which a broken device may have lost, are asked anew when the search is run again. A trial that has scores and
    loses an evaluation is asked for it once more in each phase, so that one lost worker does not cost a good model.
    `test_trials` "all" is for collecting data: it changes nothing but how many trials have test results.
    """

    def __init__(
        self,
        *,
        space: Space,
        tasks: Mapping[str, Task],
        objectives: Sequence[Objective],
        optimizer: Optimizer,
        runner: Runner,
        log: RunLog,
        orders: Orders,
        ladder: Ladder,
        budget: Budget,
        seed: int,
        constraints: Sequence[Constraint] = (),
        given: Mapping[str, NDArray[np.float64]] | None = None,
        n_verify: int = 8,
        n_recommend: int = 8,
        test_items: int | None = None,
        test_trials: TestTrials = "recommended",
    ) -> None:
        if test_trials not in get_args(TestTrials):
            raise ValueError(f"test_trials: expected one of {', '.join(get_args(TestTrials))}, got {test_trials!r}")
        self._space = space
        self._references = dict(space.references())
        if taken := sorted(self._references.keys() & (given or {}).keys()):
            raise ValueError(f"given recipes need names that no reference of the space has, got {', '.join(taken)}")
        self._references |= {name: Reference(genotype, "given") for name, genotype in (given or {}).items()}
        self._tasks = tasks
        self._objectives = tuple(objectives)
        self._constraints = tuple(constraints)
        self._optimizer = optimizer
        self._runner = runner
        self._log = log
        self._orders = orders
        self._ladder = ladder
        self._budget = budget
        self._seed = seed
        self._n_verify = n_verify
        self._n_recommend = n_recommend
        self._test_items = test_items
        self._test_trials = test_trials
        self._trials: dict[int, Trial] = {}
        self._flights: list[_Flight] = []
        self._replay = deque(log.evaluations())
        self._unlogged: list[tuple[_Flight, Evaluation, float]] = []
        self._n_failed = 0
        self._retried: set[tuple[int, Phase]] = set()
        self._genotypes: set[bytes] = set()
        self._n_copies = 0
        self._logged = {row.id: row for row in log.trials()}
        self._n_trials = 0
        self._n_items = 0
        self._seconds = 0.0
        self._begun = 0.0
        self._asking = 0.0
        self._searching = 0.0
        self._landed = time.perf_counter()
        self._clock = runner.clock()
        self._reference_point: NDArray[np.float64] | None = None

    def run(self) -> Iterator[Progress]:
        """Yields after every evaluation.

        Raises ValueError if the log does not follow from the settings, RuntimeError if a source cannot be evaluated, or
        if `MAX_FAILED` evaluations failed one after the other, or the last `LAST_FAILED` of all.
        """
        yield from self._evaluate_references()
        yield from self._search()
        yield from self._verify()
        yield from self._test()
        if len(self._unlogged) >= LAST_FAILED:
            raise RuntimeError(self._lost())
        self._write()

    def _evaluate_references(self) -> Iterator[Progress]:
        references = self._references
        for number, name in enumerate(self._tasks):
            size = self._tasks[name].size("search")
            self._orders[name, "search"] = shuffled(size, (self._seed, number, 0), self._ladder.rungs[-1])
        scores: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self._tasks}
        n_sources = sum(reference.kind == "source" for reference in references.values())
        for number, (name, reference) in enumerate(references.items()):
            origin: dict[str, Any] = {"operator": REFERENCE, "name": name, "kind": reference.kind}
            origin |= {} if reference.eligible else {"eligible": False}
            genotype = OUTSIDE if reference.genotype is None else reference.genotype
            self._launch(self._new_trial(genotype, origin, reference.recipe), "reference", self._ladder.rungs[-1])
            trial, evaluation, resumed = self._land()
            if reference.kind == "source":
                if evaluation.status != "ok":
                    remedy = "go on with --resume when this is mended"
                    if resumed or evaluation.status == "invalid":
                        remedy = "the log knows it as such; when it is mended, start a new run in another folder"
                    raise RuntimeError(
                        f"source {name!r} could not be evaluated: {evaluation.status}, {evaluation.reason}; {remedy}"
                    )
                for part in evaluation.scores:
                    by_item = dict(zip(part.items, part.values, strict=True))
                    order = self._orders[part.slice.task, "search"]
                    scores[part.slice.task].append(np.array([by_item[int(item)] for item in order]))
            if number == n_sources - 1:
                # Only a whole evaluation does not depend on the order, so the order may depend on the sources.
                self._fix_orders(scores)
            yield self._progress("reference", (number + 1) / len(references), trial, resumed=resumed)

    def _fix_orders(self, scores: Mapping[str, Sequence[NDArray[np.float64]]]) -> None:
        for number, name in enumerate(self._tasks):
            items = self._orders[name, "search"]
            ordered = stratified(items, np.array(scores[name]), (self._seed, number, 1))
            self._log.write_order(name, "search", ordered)
            self._orders[name, "search"] = ordered
        sources = [trial for trial in self._trials.values() if trial.origin["kind"] == "source"]
        self._reference_point = reference_point(
            sources,
            self._objectives,
            chances={name: task.chance for name, task in self._tasks.items()},
            constrained=bool(self._constraints),
            depth=self._space.max_layers / max(len(trial.recipe.layers) for trial in sources),
        )
        self._log.write_settings({"reference_point": self._reference_point.tolist()})
        if isinstance(self._optimizer, HypervolumeOptimizer):
            self._optimizer.count_above(self._reference_point)

    def _search(self) -> Iterator[Progress]:
        self._begun = self._seconds
        self._n_trials = 0
        while self._share() < 1:
            while len(self._flights) < self._runner.n_workers and self._share() < 1:
                self._propose(self._ask())
            trial, _, resumed = self._land()
            yield self._progress("search", min(1.0, self._share()), trial, resumed=resumed)
        yield from self._land_all("search", 1.0)

    def _land_all(self, phase: Phase, share: float) -> Iterator[Progress]:
        """Waits for what is in flight, and for what of it is lost and asked once more."""
        while self._flights:
            trial, _, resumed = self._land()
            yield self._progress(phase, share, trial, resumed=resumed)

    def _ask(self) -> Proposal:
        begun = time.perf_counter()
        proposal = self._optimizer.ask()
        # While the log answers, the evaluations take no time, and a share of it would say nothing.
        if not self._replay:
            self._asking += time.perf_counter() - begun
        return proposal

    @property
    def _is_used_up(self) -> bool:
        return self._n_copies >= MAX_COPIES

    def _share(self) -> float:
        """How much of the search phase is done, from 0 to 1 and above."""
        return 1.0 if self._is_used_up else self._spent()

    def _spent(self) -> float:
        """How much of the budget is spent, from 0 to 1 and above."""
        seconds = self._seconds - self._begun
        return self._budget.share(trials=self._n_trials, items=self._n_items, seconds=seconds)

    def _propose(self, proposal: Proposal) -> None:
        if proposal.trial is None:
            known = genotype_key(proposal.genotype) in self._genotypes
            self._n_copies = self._n_copies + 1 if known else 0
            trial = self._new_trial(proposal.genotype, proposal.origin)
            self._n_trials += 1
        else:
            trial = self._trials[proposal.trial]
        self._n_items += self._launch(trial, "search", proposal.stop)

    def _verify(self) -> Iterator[Progress]:
        """Evaluates the most promising trials on all search items, so that the front is judged at one fidelity.

        Where the space is used up, all trials as far as the budget lasts.
        """
        full = self._ladder.rungs[-1]
        promising = self._optimizer.promising(len(self._trials) if self._is_used_up else self._n_verify)
        for number, trial in enumerate(promising):
            if number >= self._n_verify and self._spent() >= 1:
                break
            n_items = self._launch(self._trials[trial], "verify", full)
            # The first of them come on top of the budget.
            self._n_items += n_items if number >= self._n_verify else 0
            yield from self._land_all("verify", (number + 1) / len(promising))
        if self._reference_point is None:
            raise RuntimeError("the sources come first: without them there is no reference point")
        found = front(
            self._eligible(),
            self._objectives,
            reference=self._reference_point,
            n_items=full,
            limit=self._n_recommend,
        )
        self._log.write_settings({"recommended": [trial.id for trial in found]})

    def _eligible(self) -> list[Trial]:
        return [trial for trial in self._trials.values() if eligible(trial, self._constraints)]

    def _test(self) -> Iterator[Progress]:
        for number, (name, task) in enumerate(self._tasks.items()):
            # Whatever the seed of the search, the same test items: runs are compared on them.
            order = shuffled(task.size("test"), (number, 2), self._test_items)
            self._log.write_order(name, "test", order)
            self._orders[name, "test"] = order
        full = max(len(self._orders[name, "test"]) for name in self._tasks)
        references = [trial.id for trial in self._trials.values() if trial.origin["operator"] == REFERENCE]
        recommended = self._log.settings()["recommended"]
        others = recommended if self._test_trials == "recommended" else [*recommended, *self._trials]
        candidates = dict.fromkeys([*references, *others])
        chosen = [number for number in candidates if self._trials[number].status == "ok"]
        for number, trial in enumerate(chosen):
            self._launch(self._trials[trial], "test", full)
            yield from self._land_all("test", (number + 1) / len(chosen))

    def _new_trial(
        self, genotype: NDArray[np.float64], origin: Mapping[str, Any], recipe: Recipe | None = None
    ) -> Trial:
        number = len(self._trials)
        if recipe is None:
            recipe = self._space.decode(genotype)
        logged = self._logged.get(number)
        if logged is not None and logged.recipe_id != recipe.id:
            raise ValueError(
                f"trial {number} of the log has recipe {logged.recipe_id}, but these settings propose {recipe.id}; "
                "the log was made with other options, seed or version, or where rounding differs (another processor): "
                "go on with it where it was made, or start a new run in another folder"
            )
        self._genotypes.add(genotype_key(genotype))
        row = TrialRow(id=number, recipe_id=recipe.id, genotype=genotype, recipe=recipe, origin=origin)
        self._trials[number] = started(row)
        return self._trials[number]

    def _launch(self, trial: Trial, phase: Phase, stop: int) -> int:
        """Puts the evaluation of a trial's items up to `stop` into flight; returns the number of items."""
        split: Split = "test" if phase == "test" else "search"
        slices = []
        for name in self._tasks:
            begun = trial.results[name].n if split == "search" and name in trial.results else 0
            end = min(stop, len(self._orders[name, split]))
            if begun < end:
                slices.append(Slice(name, split, begun, end))
        self._submit(trial, phase, tuple(slices))
        return sum(part.stop - part.start for part in slices)

    def _submit(self, trial: Trial, phase: Phase, slices: tuple[Slice, ...]) -> None:
        ticket = self._runner.submit(Query(trial.recipe, slices))
        self._flights.append(_Flight(trial, phase, slices, ticket))

    def _land(self) -> tuple[Trial, Evaluation, bool]:
        """The next evaluation to end, from the log or from the runner, logged and told."""
        resumed = bool(self._replay)
        flight, evaluation, wall = self._from_log(self._replay.popleft()) if resumed else self._from_runner()
        self._flights.remove(flight)
        self._seconds += wall
        self._n_failed += evaluation.status == "failed"
        before, self._landed = self._landed, time.perf_counter()
        if flight.phase == "search" and not resumed:
            self._searching += self._landed - before
        trial = self._trials[flight.trial.id]
        asked = (trial.id, flight.phase)
        if evaluation.status == "failed" and trial.results and asked not in self._retried:
            # Nothing is told meanwhile: to the optimizer it is still under way.
            self._retried.add(asked)
            self._submit(flight.trial, flight.phase, flight.slices)
        elif flight.phase != "test":
            trial = advanced(trial, evaluation)
            self._trials[trial.id] = trial
            if in_space(trial):
                self._optimizer.tell(trial)
        return trial, evaluation, resumed

    def _from_log(self, row: EvaluationRow) -> tuple[_Flight, Evaluation, float]:
        for flight in self._flights:
            if (flight.trial.id, flight.phase, flight.slices) == (row.trial, row.phase, row.slices):
                self._runner.settle(flight.ticket, row.wall)
                self._clock = self._runner.clock()
                return flight, row.evaluation, row.wall
        raise ValueError(
            f"evaluation {row.id} of the log ({row.phase} of trial {row.trial}) is not what these settings ask for; "
            "the log was made with other options, data or version, or where rounding differs (another processor): "
            "start a new run in another folder"
        )

    def _from_runner(self) -> tuple[_Flight, Evaluation, float]:
        ticket, evaluation = self._runner.collect()
        flight = next(flight for flight in self._flights if flight.ticket == ticket)
        now = self._runner.clock()
        wall, self._clock = now - self._clock, now
        self._unlogged.append((flight, evaluation, wall))
        if evaluation.status != "failed":
            self._write()
        elif len(self._unlogged) == MAX_FAILED:
            raise RuntimeError(self._lost())
        return flight, evaluation, wall

    def _lost(self) -> str:
        """That the last evaluations failed, and what to do."""
        _, last, _ = self._unlogged[-1]
        return (
            f"the last {len(self._unlogged)} evaluations failed, the last one so: {last.reason}; none of them counts. "
            "If the device is broken or full, go on with --resume when it is mended, or with another model.device or "
            "fewer model.batch_tokens; if models of this space are too large for it, start a new run with fewer layers"
        )

    def _write(self) -> None:
        """Logs what has ended since the log was written."""
        for flight, evaluation, wall in self._unlogged:
            trial = flight.trial
            row = TrialRow(trial.id, trial.recipe.id, trial.genotype, trial.recipe, trial.origin)
            self._log.write_evaluation(row, phase=flight.phase, slices=flight.slices, evaluation=evaluation, wall=wall)
        self._unlogged.clear()

    def _progress(self, phase: Phase, share: float, trial: Trial, *, resumed: bool) -> Progress:
        volume, best = 0.0, None
        if self._reference_point is not None:
            full = [
                trial for trial in self._eligible() if trial.status == "ok" and trial.n_items >= self._ladder.rungs[-1]
            ]
            points = np.array([t.values(self._objectives) for t in full])
            volume = hypervolume(points, self._reference_point)
            if len(points) and len(self._objectives) == 1 and self._objectives[0].kind != "cost":
                best = float(points.max())
        return Progress(
            phase=phase,
            share=share,
            n_trials=self._n_trials,
            n_items=self._n_items,
            hypervolume=volume,
            best=best,
            populations=self._populations(),
            thinking=min(1.0, self._asking / self._searching) if self._searching else 0.0,
            n_failed=self._n_failed,
            used_up=self._is_used_up,
            trial=trial,
            resumed=resumed,
        )

    def _populations(self) -> tuple[int, ...]:
        reached = [trial.n_items for trial in self._trials.values() if trial.origin["operator"] != REFERENCE]
        return tuple(sum(n_items >= rung for n_items in reached) for rung in self._ladder.rungs)
