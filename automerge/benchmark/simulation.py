"""A benchmark in place of live models: it answers the queries of an ordinary search, which leaves an ordinary log.

::

    parts = assemble({"benchmark": {"path": "DIR", "seed": 0}, "optimizer": {...}, "runner": {...}, ...})
    for progress in automerge.parts.search(settings, parts, log): ...
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from automerge.benchmark.benchmark import Benchmark, load
from automerge.benchmark.folder import CARD, LICENCE, REPORT, read_sums
from automerge.benchmark.measured_reference import MeasuredReference
from automerge.benchmark.responses import keys, text_key
from automerge.check.constraints import read_constraints
from automerge.check.settings import complete, settings_faults, weight_faults
from automerge.components import build
from automerge.parts import Parts, cost_objectives, listed, optimizer, rungs, score_objectives
from automerge.protocols import LanguageModel, Request
from automerge.recipe import Recipe
from automerge.records import Constraint, Evaluation, Objective, Orders, Query, Scores, Slice, Split
from automerge.search import Budget

FACTS = ("layout", "task_vectors")
"""What a log keeps of the models and the benchmark of its run hands on."""

TOLD = (CARD, LICENCE, REPORT, "data/")
"""Files of a benchmark that tell of it and do not change its answers, by the beginnings of their names."""

SAMPLED = 64
"""Models of the space whose mean time is that of a model outside it."""


class SimulatedTask:
    """The name, sizes and chance of a task whose items are the benchmark's: it has no texts."""

    def __init__(self, name: str, *, chance: float, sizes: Mapping[Split, int], fingerprint: str) -> None:
        self.name = name
        self.chance = chance
        self.fingerprint = fingerprint
        self._sizes = sizes

    def size(self, split: Split) -> int:
        """Number of items of that split."""
        return self._sizes[split]

    def requests(self, split: Split) -> list[Request]:
        """Raises TypeError: there is nothing to read."""
        raise TypeError(f"the {split} items of {self.name!r} are those of a benchmark, which holds no texts")

    def score(self, model: LanguageModel, split: Split, items: Sequence[int]) -> list[float]:
        """Raises TypeError: there is nothing to score."""
        raise TypeError(f"{len(items)} {split} items of {self.name!r} are a benchmark's, which {model} cannot read")

    def check(self) -> list[str]:
        """No faults."""
        return []


class _Model(NamedTuple):
    """What a benchmark knows of a model: `key` makes its answers its own, `scores` are expected by (task, split)."""

    key: NDArray[np.uint64]
    genotype: NDArray[np.float64] | None
    scores: Mapping[tuple[str, Split], float]
    costs: Mapping[str, float]


class Simulator:
    """Answers queries by a benchmark, in the world of this seed: the same model answers alike in all searches.

    `orders` is shared with the search, which fixes the order of the search items once the sources are evaluated.
    Where the benchmark has no models of the test items, models are expected to score there as on the search items.
    References that the space cannot hold answer with the rates that were measured, and those that broke then or were
    not measured are invalid; no other reference breaks.
    """

    def __init__(self, benchmark: Benchmark, orders: Orders, *, seed: int) -> None:
        self._benchmark = benchmark
        self._orders = orders
        self._seed = seed
        self._references = {each.recipe.id: each for each in benchmark.reference_configs}
        sampled = benchmark.seconds(benchmark.space.sample(SAMPLED, np.random.default_rng(0)))
        self._mean_seconds = (float(sampled.merge.mean()), float(sampled.item.mean()))

    @property
    def knows_time(self) -> bool:
        """Whether the benchmark tells what models take to merge and to evaluate."""
        return bool(np.isfinite(self._mean_seconds).all())

    def __call__(self, query: Query) -> Evaluation:
        """The evaluation of a query.

        Status `invalid` if the model is one of those that break. Raises ValueError for a recipe outside the space that
        was no reference of the benchmark's runs.
        """
        known = self._references.get(query.recipe.id)
        if known is not None and (reason := _unknown(known, [part.task for part in query.slices])):
            return Evaluation("invalid", costs=known.costs, reason=reason)
        model = self._model(query.recipe, [(part.task, part.split) for part in query.slices])
        seconds = self._seconds(model, query.n_items)
        if self._breaks(query.recipe, model):
            return Evaluation("invalid", (), seconds, model.costs, "the benchmark predicts a broken model")
        return Evaluation("ok", tuple(self._scores(model, part) for part in query.slices), seconds, model.costs)

    def expected(self, recipe: Recipe) -> dict[str, float]:
        """By task the expected score of a recipe on all test items, without noise. Raises as a query does."""
        scores = self._model(recipe, [(task, "test") for task in self._benchmark.tasks]).scores
        return {task: score for (task, _), score in scores.items()}

    def _model(self, recipe: Recipe, places: Sequence[tuple[str, Split]]) -> _Model:
        known = self._references.get(recipe.id)
        if known is not None and known.genotype is None:
            rates = {(task, split): _rate(known, task, split) for task, split in places}
            return _Model(np.array([text_key(recipe.id)]), None, rates, known.costs)
        genotypes = self._genotype(recipe)[None]
        means = {
            split: self._benchmark.mean(genotypes, split if split in self._benchmark.splits else "search")
            for split in {split for _, split in places}
        }
        scores = {(task, split): float(means[split][task][0]) for task, split in places}
        costs = {name: float(values[0]) for name, values in self._benchmark.space.costs(genotypes).items()}
        return _Model(keys(genotypes), genotypes[0], scores, costs)

    def _genotype(self, recipe: Recipe) -> NDArray[np.float64]:
        try:
            return self._benchmark.space.encode(recipe)
        except ValueError as fault:
            raise ValueError(
                f"the benchmark {self._benchmark.name} knows the models of its space and the references of the runs it "
                f"was made of; recipe {recipe.id} is none of them: {fault}"
            ) from fault

    def _scores(self, model: _Model, part: Slice) -> Scores:
        order = self._orders.get((part.task, part.split))
        if order is None or part.stop > len(order):
            known = {f"{task}/{split}": len(items) for (task, split), items in self._orders.items()}
            raise ValueError(f"the query asks for item {part.stop} of {part.task}/{part.split}; there are {known}")
        items = order[part.start : part.stop]
        world = self._benchmark.world(part.task, part.split)
        right = world.respond(np.array([model.scores[part.task, part.split]]), model.key, items, seed=self._seed)
        return Scores(part, tuple(items.tolist()), tuple(right[0].astype(float).tolist()))

    def _breaks(self, recipe: Recipe, model: _Model) -> bool:
        if model.genotype is None or recipe.id in self._references:
            return False
        return bool(self._benchmark.is_broken(model.genotype, self._seed)[0])

    def _seconds(self, model: _Model, n_items: int) -> dict[str, float]:
        """By phase of the work; nothing where the benchmark does not tell."""
        if not self.knows_time:
            return {}
        merge, item = self._mean_seconds
        if model.genotype is not None:
            told = self._benchmark.seconds(model.genotype)
            merge, item = float(told.merge[0]), float(told.item[0])
        return {"merge": max(0.0, merge), "forward": max(0.0, item) * n_items}


def assemble(settings: Mapping[str, Any]) -> Parts:
    """The parts of a simulated run that the settings describe.

    Raises ValueError with the list of all faults if something is wrong, FileNotFoundError if there is no benchmark.
    """
    settings = complete(settings)
    if found := settings_faults(settings):
        raise ValueError(listed("the settings", found))
    options = settings["benchmark"]
    benchmark = load(options["path"])
    if not benchmark.splits:
        raise ValueError(f"{benchmark.folder} has no models: its runs had too few trials; export it from more of them")
    tasks = _tasks(benchmark)
    constraints, found = _constraints(settings, benchmark)
    found += weight_faults(settings["weights"], tasks)
    known = benchmark.space.costs(benchmark.space.sample(1, np.random.default_rng(0)))
    found += [
        f"costs: the benchmark does not know {name!r}, only {', '.join(known)}"
        for name in settings["costs"] or ()
        if name not in known
    ]
    found += [
        f"constraints: the benchmark does not know {each.name!r}, only {', '.join(known)}"
        for each in constraints
        if each.kind == "cost" and each.name not in known
    ]
    orders: Orders = {}
    simulator = Simulator(benchmark, orders, seed=int(options.get("seed", 0)))
    minutes = settings["budget"].get("minutes")
    try:
        budget = Budget(**settings["budget"])
    except ValueError as fault:
        found.append(f"budget: {fault}")
    if minutes is not None and not simulator.knows_time:
        found.append("budget.minutes: the runs of the benchmark told no times; bound the budget by trials or items")
    sources = [each for each in benchmark.reference_configs if each.kind == "source"]
    found += [f"benchmark.path: {reason}" for each in sources if (reason := _unknown(each, tasks))]
    if found:
        raise ValueError(listed("this run", found))
    objectives = _objectives(settings, benchmark)
    ladder = rungs(settings.get("fidelity") or benchmark.metadata["fidelity"], tasks)
    proposing = {"objectives": objectives, "ladder": ladder, "constraints": constraints, "seed": int(settings["seed"])}
    return Parts(
        tasks=tasks,
        space=benchmark.space,
        starts={},
        objectives=objectives,
        constraints=constraints,
        ladder=ladder,
        optimizer=optimizer(settings["optimizer"], space=benchmark.space, **proposing),
        runner=build(settings["runner"], evaluate=simulator),
        orders=orders,
        budget=budget,
        identity={
            "benchmark": fingerprint(benchmark.folder),
            "tasks": {name: task.fingerprint for name, task in tasks.items()},
            "start": {},
        },
        facts={
            **{key: benchmark.metadata[key] for key in FACTS if benchmark.metadata.get(key) is not None},
            "benchmark": {
                **{key: benchmark.metadata[key] for key in ("name", "version", "n_trials")},
                "untested": [] if "test" in benchmark.splits else list(benchmark.tasks),
            },
        },
    )


def fingerprint(folder: Path) -> str:
    """A hash of all files of a benchmark that its answers depend on. Raises as `read_sums` does."""
    answering = sorted(f"{told}  {name}" for name, told in read_sums(folder).items() if not name.startswith(TOLD))
    return hashlib.sha256("\n".join(answering).encode()).hexdigest()[:16]


def _unknown(reference: MeasuredReference, tasks: Iterable[str]) -> str:
    """Why the benchmark cannot answer for a reference on these tasks, empty if it can."""
    # Of those in the space its models know.
    if reference.genotype is not None:
        return ""
    if reference.status != "ok":
        return f"{reference.name} was {reference.status} in the benchmark's own runs"
    lacking = [task for task in tasks if reference.measured[task]["search"] is None]
    return f"{reference.name} was not measured on {', '.join(lacking)} in the benchmark's own runs" if lacking else ""


def _rate(reference: MeasuredReference, task: str, split: Split) -> float:
    """The measured rate of a reference; where it was not tested, that on search items. Raises ValueError for none."""
    known = reference.measured[task][split] or reference.measured[task]["search"]
    if known is None:
        raise ValueError(_unknown(reference, [task]))
    return known[0] / known[1]


def _tasks(benchmark: Benchmark) -> dict[str, SimulatedTask]:
    """The tasks in the order of the objectives, as the benchmark's own searches had them: seeds of items go by it."""
    names = dict.fromkeys([task for objective in benchmark.objectives for task, _ in objective.shares])
    told = benchmark.metadata["tasks"]
    return {
        name: SimulatedTask(
            name,
            chance=told[name]["chance"] or 0.0,
            sizes=benchmark.n_items[name],
            fingerprint=told[name]["fingerprint"],
        )
        for name in names
    }


def _objectives(settings: Mapping[str, Any], benchmark: Benchmark) -> tuple[Objective, ...]:
    """Those that the settings choose; for scores and for costs those of the benchmark's own searches by default."""
    own = benchmark.objectives
    weights, costs = settings["weights"], settings["costs"]
    scores = tuple(each for each in own if each.kind != "cost")
    return (
        *(scores if weights is None else score_objectives(weights, benchmark.tasks)),
        *((each for each in own if each.kind == "cost") if costs is None else cost_objectives(costs)),
    )


def _constraints(settings: Mapping[str, Any], benchmark: Benchmark) -> tuple[tuple[Constraint, ...], list[str]]:
    if settings["constraints"] is None:
        return tuple(Constraint(**content) for content in benchmark.metadata["constraints"]), []
    constraints, faults = read_constraints(settings["constraints"], benchmark.tasks)
    return tuple(constraints), faults
