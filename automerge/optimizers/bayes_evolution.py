"""Bayesian-guided multi-objective evolution with multi-fidelity.

pymoo evolves many candidates inside a model of the landscape, an acquisition of BoTorch picks which of them to
evaluate, first on few items; the model says which go further, and which belong on the front:

1. Beliefs: a Gaussian process per task on the effective weights of the sources, from one row per recipe with errors of
   known size, correlated among similar models; trees beside it while rows are few; whether a model is broken is
   believed apart from how good it is.
2. Candidates: NSGA-II on the means that are believed, of one objective also on what is possible, from the best recipes
   so far, and of three and more sources from random uniform merges of some of them, with operators on blocks of depth;
   moves of the whole model come first.
3. Choice: the exact expected hypervolume improvement of every candidate picks finalists, qLogNEHVI the batch among
   them, with what is under way pending.
4. Fidelity: successive halving, ordered by beliefs instead of measured means, of trials that may reach the front; with
   racing a promotion goes on in pieces and is given up once the trial has hardly a chance.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice, pairwise

import numpy as np
from numpy.typing import NDArray

from automerge import fidelity
from automerge.acquisition.aim import Aim
from automerge.acquisition.pool import evolve
from automerge.acquisition.preference import Preference, achievements
from automerge.acquisition.selection import select
from automerge.fidelity import Ladder
from automerge.landscape.beliefs import Beliefs
from automerge.landscape.model import Landscape, View
from automerge.ledger import Ledger
from automerge.mating import STACKED, mate, mate_by_gene, tied_share
from automerge.options import flag_faults, refuse, whole_faults
from automerge.pareto import Points, best_first, widest_first
from automerge.protocols import Genotypes, Space
from automerge.records import REFERENCE, Constraint, Objective, Proposal, Trial, genotype_key
from automerge.threads import one_thread
from automerge.uniform_points import UniformSamples, uniform_points
from automerge.variation import Layout, new_sample

OPERATOR = "acquisition"
"""What origins say of models that the acquisition chose."""

ELITE = 60
"""Known recipes from which candidates evolve."""

INITIAL = 8
"""Models before the landscape is asked, for every weighed source beyond the first; there are at least so many."""

MOST_INITIAL = 24
"""The most of them, however many the sources."""

GRID_TRIES = 60
"""Points of the grid that are looked at for one of the first models."""

N_UNIFORM = 60
"""Random uniform merges of some of three or more sources that are candidates too and that others evolve from.

The references tell nothing of them. Of two sources they tell enough: there such candidates found no better fronts.
"""

HOPE = 0.05
"""Chance to reach the front below which a trial is not evaluated further."""

PIECES = 2
"""Evaluations in which a promotion from one rung to the next is made, so that it can be given up on the way."""

DRAWS = 64
"""Samples among which one is sought that keeps the bounds on costs."""

STACKED_FUSED = 0.4
"""Share of mutations that edit stacks whose positions may be fused; the others mostly move weights.

On five development seeds (stacks of two experts) .4 found .141, .2 .139, and STACKED .112. Where costs are objectives
it is STACKED: edits alone make models shallower.
"""

OPTIMISM = 2.0
"""Deviations above its mean at which a candidate of one objective is looked at too."""

ENOUGH_MEASURED = 4
"""Models that tell what merging costs, where no reference does: the first also learns what methods need to know."""

INSURANCE = 0.1
"""Share of new models that are candidates drawn without the acquisition, against a wrong landscape."""


class BayesEvolution:
    """Proposes what a model of the landscape believes to improve the front most, and promotes what it believes in.

    `n_initial` is the number of models before the landscape is asked, by default INITIAL for every source beyond the
    first that is weighed, at least INITIAL and at most MOST_INITIAL: samples of the space and uniform merges, of two
    sources points of a grid by turns with samples, unless as many of the references in the space are uniform merges, of
    more sources three random ones to a sample.
    `batch` is the number of models that are chosen at once, `n_generations` and `n_children` the size of the evolution
    inside the landscape.
    Switches for ablations: without `features` the landscape sees raw genes, without `block_operators` candidates vary
    gene by gene, without `rungs` every model is evaluated on all items, without `correlations` the landscape takes the
    errors of all models on the same items as independent. With `racing` a promotion is made in pieces and
    given up between them without hope, which costs more merges.

    New models begin at `first_rung`, one of the ladder's, by default that of `fidelity.first_rung`. A preference, by
    names of objectives, says where on the front to look: improvements count above `reference_point`, or the search
    goes towards `aspiration` and, once something is as good, above it.

    Holds the trials told, the genotypes asked, the last hyperparameters and the models chosen but not yet asked for.
    """

    def __init__(
        self,
        *,
        space: Space,
        objectives: Sequence[Objective],
        ladder: Ladder,
        seed: int,
        constraints: Sequence[Constraint] = (),
        n_initial: int | None = None,
        batch: int = 4,
        n_generations: int = 8,
        n_children: int = 150,
        features: bool = True,
        block_operators: bool = True,
        rungs: bool = True,
        correlations: bool = True,
        racing: bool = False,
        first_rung: int | None = None,
        reference_point: Mapping[str, float] | None = None,
        aspiration: Mapping[str, float] | None = None,
    ) -> None:
        """Raises ValueError for options that cannot be, and for a preference as `Preference` tells."""
        given = {} if n_initial is None else {"n_initial": n_initial}
        refuse(
            [
                *whole_faults(1, batch=batch, n_generations=n_generations, n_children=n_children),
                *whole_faults(0, **given),
                *flag_faults(
                    features=features,
                    block_operators=block_operators,
                    rungs=rungs,
                    correlations=correlations,
                    racing=racing,
                ),
            ]
        )
        if first_rung is not None and not rungs:
            raise ValueError(f"first_rung: {first_rung} means nothing without rungs; leave one of them out")
        self._space = space
        self._layout = Layout.of(space.genes)
        has_costs = any(objective.kind == "cost" for objective in objectives)
        self._stacked = STACKED_FUSED if self._layout.is_fused and not has_costs else STACKED
        self._ledger = Ledger(objectives=objectives, ladder=ladder, constraints=constraints, halving=rungs)
        view = View(space, objectives, constraints, raw=not features)
        self._beliefs = Beliefs(view, seed=seed, correlations=correlations)
        self._preference = Preference(self._ledger.objectives, reference_point=reference_point, aspiration=aspiration)
        if first_rung is not None and first_rung not in ladder.rungs:
            raise ValueError(
                f"first_rung: {first_rung} is none of the rungs {', '.join(map(str, ladder.rungs))}; take one"
            )
        self._first_rung: int | None = first_rung
        self._seed = seed
        self._uniform = UniformSamples(space)
        self._has_few_sources = self._uniform.n_weighted <= 2
        self._grid = uniform_points(space, seed=seed)
        default = min(INITIAL * max(1, self._uniform.n_weighted - 1), MOST_INITIAL)
        self.n_initial = default if n_initial is None else n_initial
        self._batch = batch
        self._n_generations = n_generations
        self._n_children = n_children
        self._block_operators = block_operators
        self._pieces = PIECES if racing else 1
        self._chosen: deque[NDArray[np.float64]] = deque()
        self._pending: dict[bytes, NDArray[np.float64]] = {}
        self._goals: dict[int, int] = {}
        self._landscape: Landscape | None = None
        self._reference_point: NDArray[np.float64] | None = None
        self._n_asked = 0
        self._n_new = 0

    @one_thread()
    def ask(self) -> Proposal:
        """A promotion if one is due, else a new genotype at the first rung: one of the first, then what was chosen.

        It is a known one only if nothing new is found, as where the space is used up. Raises RuntimeError before
        `count_above` was called.
        """
        self._reference()  # fails at once, not after the first models
        self._n_asked += 1
        rng = np.random.default_rng([self._seed, self._n_asked])
        if self._n_new >= self.n_initial:
            if self._landscape is None:
                self._landscape = self._beliefs.landscape(list(self._ledger.trials.values()))
            if self._landscape is not None:
                promotion = self._promotion(self._landscape)
                if promotion is not None:
                    return promotion
        genotype, operator = self._new(rng)
        self._n_new += 1
        self._ledger.see(genotype)
        self._pending[genotype_key(genotype)] = genotype
        return Proposal(genotype, self._begin(), {"operator": operator})

    def count_above(self, reference_point: NDArray[np.float64]) -> None:
        """Takes the point above which improvements count where the user names none."""
        self._reference_point = reference_point

    def tell(self, trial: Trial) -> None:
        """Takes the state of a trial."""
        self._ledger.tell(trial)
        self._pending.pop(genotype_key(trial.genotype), None)
        self._landscape = None

    @one_thread()
    def promising(self, n: int) -> list[int]:
        """Ids of at most n partly evaluated trials that most likely belong on the front, best first, by the beliefs."""
        landscape = self._beliefs.landscape(list(self._ledger.trials.values()))
        alive = self._ledger.alive
        unfinished = {trial.id for trial in self._ledger.unfinished}
        if landscape is None:
            return self._ledger.promising(n)
        points = self._points(landscape, alive)
        aim = self._aim(points)
        order: Iterable[int]
        if aim.aspiration is None:
            order = chain(widest_first(points, aim.reference), best_first(points))
        else:
            order = np.argsort(-achievements(points, aim.reference, aim.aspiration), kind="stable")
        found: dict[int, None] = {}
        for k in order:
            if len(found) == n:
                break
            if alive[k].id in unfinished:
                found[alive[k].id] = None
        return list(found)

    def _begin(self) -> int:
        """The rung at which new models begin."""
        if self._ledger.first_stop == self._ledger.ladder.rungs[-1]:
            return self._ledger.first_stop
        if self._first_rung is None:
            measured = [trial for trial in self._ledger.alive if trial.origin["operator"] == REFERENCE]
            if not measured:
                # Where the space holds no reference, the first models tell what merging costs.
                measured = [trial for trial in self._ledger.alive if trial.n_items == self._ledger.first_stop]
                if len(measured) < ENOUGH_MEASURED:
                    return self._ledger.first_stop
            self._first_rung = fidelity.first_rung(self._ledger.ladder, measured)
        return self._first_rung

    def _promotion(self, landscape: Landscape) -> Proposal | None:
        """The next piece of a promotion under way, or a new promotion, of a trial that may reach the front."""
        rungs = self._ledger.ladder.rungs
        if self._ledger.first_stop == rungs[-1]:
            return None
        promoting = self._ledger.promoting
        for number, goal in list(self._goals.items()):
            if number not in promoting:
                del self._goals[number]
                trial = self._ledger.trials[number]
                if trial.status == "ok" and self._gains(landscape, [trial], goal)[1][0] >= HOPE:
                    return self._promote(trial, goal)
        own = [trial for trial in self._ledger.proposed if trial.status == "ok"]
        for rung, above in reversed(list(pairwise(rungs))):
            reached = [trial for trial in own if trial.n_items >= rung]
            waiting = [trial for trial in reached if trial.n_items < above and trial.id not in promoting]
            if not waiting or len(reached) - len(waiting) >= int(len(reached) / self._ledger.ladder.eta):
                continue
            gains, hopes = self._gains(landscape, waiting, above)
            if (hopes >= HOPE).any():
                return self._promote(waiting[int(np.where(hopes >= HOPE, gains, -1.0).argmax())], above)
        return None

    def _promote(self, trial: Trial, goal: int) -> Proposal:
        """The evaluation up to the goal, or a piece of it."""
        below = max(rung for rung in self._ledger.ladder.rungs if rung < goal)
        stops = [round(below * (goal / below) ** (piece / self._pieces)) for piece in range(1, self._pieces + 1)]
        stop = next(stop for stop in stops if stop > trial.n_items)
        if stop < goal:
            self._goals[trial.id] = goal
        return self._ledger.promote(trial, stop)

    def _gains(
        self, landscape: Landscape, trials: Sequence[Trial], goal: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What each trial is expected to add to the front of those evaluated up to the goal or on the way there.

        With the chance that it adds anything, both of shape (n,).
        """
        numbers = {trial.id for trial in trials}
        ahead = [
            trial
            for trial in self._ledger.alive
            if trial.id not in numbers and (trial.n_items >= goal or trial.id in self._ledger.promoting)
        ]
        front = self._points(landscape, ahead) if ahead else np.empty((0, len(self._ledger.objectives)))
        aim = self._aim(front)
        X = np.array([trial.genotype for trial in trials])
        belief, kept = landscape.believe(X), landscape.keeps(X)
        hopes = aim.chance(belief)
        # Where nothing is believed to keep the constraints, what comes nearest is to be known better all the same.
        known = np.array([trial.genotype for trial in self._ledger.alive])
        if (landscape.keeps(known) >= 0.5).any():
            hopes = hopes * kept
        return aim.expected(belief) * kept, hopes

    def _aim(self, front: Points) -> Aim:
        return Aim(front, self._reference(), self._preference.aspiration, seed=self._n_asked)

    def _points(self, landscape: Landscape, trials: Sequence[Trial]) -> Points:
        """Believed objective values, shape (n, n_objectives); what likely breaks a constraint lies below the rest."""
        X = np.array([trial.genotype for trial in trials])
        points = landscape.believe(X).means
        broken = (landscape.keeps(X) < 0.5)[:, None]
        return np.where(broken, points.min(axis=0) - landscape.violations(X)[:, None], points)

    def _new(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], str]:
        """A new genotype and the operator that made it."""
        if self._begins_with_uniform_merge:
            # Bounds on costs may leave out all of a grid: then there are samples, not a search of the whole grid.
            grid = islice(self._grid, GRID_TRIES)
            for genotype in grid if self._has_few_sources else self._uniform.draw(N_UNIFORM, rng):
                if self._ledger.is_new(genotype) and self._beliefs.view.excess(genotype[None])[0] == 0:
                    return genotype, "grid" if self._has_few_sources else "uniform_sample"
        if self._landscape is not None and not self._chosen:
            self._choose(self._landscape, rng)
        while self._chosen:
            genotype = self._chosen.popleft()
            if self._ledger.is_new(genotype):
                return genotype, OPERATOR
        return self._sample(rng), "sample"

    def _sample(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """A new sample of the space that keeps the bounds on costs, or of several the one that breaks them least."""
        drawn = []
        for _ in range(DRAWS):
            drawn.append(new_sample(self._space, self._ledger.seen, rng))
            if self._beliefs.view.excess(drawn[-1][None])[0] == 0:
                return drawn[-1]
        return drawn[int(self._beliefs.view.excess(np.array(drawn)).argmin())]

    def _choose(self, landscape: Landscape, rng: np.random.Generator) -> None:
        """Fills the queue with the next batch."""
        alive = self._ledger.alive
        known = np.array([trial.genotype for trial in alive])
        points = self._points(landscape, alive)
        elite = known[best_first(points)[:ELITE]]
        span = np.ptp(points, axis=0)
        uniform = known[:0] if self._has_few_sources else self._uniform.draw(N_UNIFORM, rng)
        pool = evolve(
            self._space,
            np.vstack([elite, uniform]),
            lambda X: _fitness(landscape, X, span),
            self._vary,
            rng,
            n_generations=self._n_generations,
            n_children=self._n_children,
            n_parents=ELITE,
        )
        pool = np.array([x for x in [*pool, *uniform] if self._ledger.is_new(x)]).reshape(-1, known.shape[1])
        broken = [trial.genotype for trial in self._ledger.trials.values() if trial.status == "invalid"]
        if broken:
            pool = pool[landscape.distinct(pool, np.array(broken))]
        if not len(pool):
            return
        n_blind = int(rng.binomial(self._batch, INSURANCE))
        chosen = select(
            landscape,
            pool,
            known=known,
            pending=np.array(list(self._pending.values())).reshape(-1, known.shape[1]),
            reference=self._reference(),
            aspiration=self._preference.aspiration,
            n=self._batch - n_blind,
            seed=int(rng.integers(2**31)),
        )
        kept = pool[self._beliefs.view.excess(pool) == 0]
        blind = kept if len(kept) else pool
        self._chosen.extend([*chosen, *blind[rng.choice(len(blind), size=min(n_blind, len(blind)), replace=False)]])

    def _vary(
        self, first: NDArray[np.float64], second: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        if not self._block_operators:
            return mate_by_gene(first, second, self._layout, rng)
        return mate(first, second, self._layout, rng, tied=tied_share(self._n_new), stacked=self._stacked)[0]

    @property
    def _begins_with_uniform_merge(self) -> bool:
        """Whether the next of the first models is to be a uniform merge.

        The references are merges of all sources at equal strengths: of three and more that leaves most unknown.
        """
        if self._n_new >= self.n_initial:
            return False
        if not self._has_few_sources:
            return self._n_new % 4 > 0
        n_known = sum(trial.origin.get("kind") == "uniform" for trial in self._ledger.trials.values())
        return n_known < self.n_initial and self._n_new % 2 == 0

    def _reference(self) -> NDArray[np.float64]:
        """The point above which improvements count, shape (n_objectives,): the user's, else that of the search.

        As long as no known model lies above it, what they have least of counts too, so that there is a way up.
        """
        if self._reference_point is None:
            raise RuntimeError("from where hypervolume counts is not known; call count_above before the first ask")
        point = self._preference.reference(self._reference_point)
        known = np.array([trial.values(self._ledger.objectives) for trial in self._ledger.alive])
        if len(known) and not (known > point).all(axis=1).any():
            return np.asarray(np.minimum(point, known.min(axis=0)))
        return point


def _fitness(landscape: Landscape, X: Genotypes, span: NDArray[np.float64]) -> Points:
    """What the evolution makes large: believed values, less where a model likely breaks or breaks a constraint.

    `span` are the ranges of objective values among known models, shape (n_objectives,). Of one objective, the value at
    OPTIMISM deviations is a second one: by means alone all candidates would gather at one peak, and nothing would lead
    to another.
    """
    broken = (1 - landscape.chance(X)) + landscape.violations(X)
    belief = landscape.believe(X)
    values = belief.means - broken[:, None] * np.maximum(span, 1e-9)
    return np.asarray(np.hstack([values, values + OPTIMISM * belief.deviations]) if values.shape[1] == 1 else values)
