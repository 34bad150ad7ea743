"""A search without models: scores are a known function of the genotype, items are Bernoulli by a fixed number each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from automerge.fidelity import Ladder
from automerge.log import RunLog
from automerge.optimizers.evolution import Evolution
from automerge.protocols import LanguageModel, Optimizer, Request
from automerge.recipe import Recipe
from automerge.records import Constraint, Evaluation, Objective, Orders, Query, Scores, Split
from automerge.runners.serial import SerialRunner
from automerge.search import Budget, Search, TestTrials
from automerge.spaces.lfs import LayerwiseFusion

N_ITEMS = 120
TASKS = ("a", "b")
OBJECTIVES = (Objective("a"), Objective("b"))


class SizedTask:
    """A task that only tells its size."""

    chance = 0.0

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def fingerprint(self) -> str:
        return self.name

    def size(self, split: Split) -> int:
        return N_ITEMS

    def requests(self, split: Split) -> list[Request]:
        raise AssertionError("the simulation has no texts")

    def score(self, model: LanguageModel, split: Split, items: Sequence[int]) -> list[float]:
        raise AssertionError("the simulation answers queries itself")

    def check(self) -> list[str]:
        return []


class Simulator:
    """Answers queries by rule: `left` is good at a, `right` at b, and some mixtures are good at both."""

    def __init__(self, orders: Orders, *, pause: float = 0.0, breaks: bool = False) -> None:
        self.orders = orders
        self.pause = pause
        self.breaks = breaks
        self.n_queries = 0

    def __call__(self, query: Query) -> Evaluation:
        time.sleep(self.pause)
        self.n_queries += 1
        if self.breaks and int(query.recipe.id, 16) % 5 == 0 and len(query.recipe.sources) > 1:
            return Evaluation("invalid", reason="this one is broken", costs={"layers": 4.0})
        scores = []
        for part in query.slices:
            items = self.orders[part.task, part.split][part.start : part.stop]
            uniforms = np.random.default_rng([TASKS.index(part.task), part.split == "test"]).random(N_ITEMS)
            right = uniforms[items] < self.truth(query)[part.task]
            scores.append(Scores(part, tuple(items.tolist()), tuple(right.astype(float).tolist())))
        return Evaluation("ok", tuple(scores), {"merge": 0.0, "forward": 0.0, "score": 0.0}, {"layers": 4.0})

    def truth(self, query: Query) -> dict[str, float]:
        """Expected scores: a wants the left source in the first half of the depth, b the right one in the second."""
        share: dict[str, list[float]] = {"a": [], "b": []}
        for (depth, _), fusion in query.recipe.fusions():
            weights = {read.source: read.weight for read in fusion.inputs}
            total = sum(weights.values()) or 1.0
            if depth is not None and depth < 2:
                share["a"].append(weights.get("left", 0.0) / total)
            elif depth is not None:
                share["b"].append(weights.get("right", 0.0) / total)
        return {task: 0.3 + 0.6 * float(np.mean(values)) for task, values in share.items()}


def make_search(
    log: RunLog,
    *,
    trials: int = 40,
    items: int | None = None,
    seed: int = 0,
    pause: float = 0.0,
    breaks: bool = False,
    given: Mapping[str, Recipe] | None = None,
    objectives: Sequence[Objective] = OBJECTIVES,
    constraints: Sequence[Constraint] = (),
    test_trials: TestTrials = "recommended",
    optimizer: Callable[..., Optimizer] = Evolution,
) -> tuple[Search, Simulator]:
    """A search over a small LFS space on the simulator, from recipes given by name, and the simulator."""
    space = LayerwiseFusion(sources=["left", "right"], n_layers=4, granularity=2, strengths=[0.5])
    ladder = Ladder(minimum=12, maximum=N_ITEMS)
    orders: Orders = {}
    simulator = Simulator(orders, pause=pause, breaks=breaks)
    log.write_settings(
        {
            "objectives": [asdict(objective) for objective in objectives],
            "constraints": [asdict(constraint) for constraint in constraints],
            "seed": seed,
        }
    )
    search = Search(
        space=space,
        tasks={name: SizedTask(name) for name in TASKS},
        objectives=objectives,
        optimizer=optimizer(
            space=space, objectives=objectives, ladder=ladder, seed=seed, constraints=constraints, n_initial=6
        ),
        runner=SerialRunner(simulator),
        log=log,
        orders=orders,
        ladder=ladder,
        budget=Budget(trials=trials, items=items),
        seed=seed,
        constraints=constraints,
        given={name: space.encode(recipe) for name, recipe in (given or {}).items()},
        n_verify=3,
        n_recommend=4,
        test_trials=test_trials,
    )
    return search, simulator


def contents(path: Path) -> list[tuple[object, ...]]:
    """All that a log says of trials and scores, without times."""
    with RunLog(path, read_only=True) as log:
        trials = [(t.id, t.recipe_id, t.genotype.tobytes(), sorted(t.origin.items(), key=str)) for t in log.trials()]
        rows = [(e.trial, e.phase, e.slices, e.evaluation.status, e.evaluation.scores) for e in log.evaluations()]
        orders = sorted((key, items.tobytes()) for key, items in log.orders().items())
        return [*map(tuple, trials), *rows, *orders, tuple(log.settings()["recommended"])]


def main(path: str, trials: int, pause: float) -> None:
    """Runs the search in this log to its end and tells every finished evaluation; may be killed at any moment."""
    with RunLog(path) as log:
        search, _ = make_search(log, trials=trials, pause=pause, breaks=True)
        for number, _ in enumerate(search.run(), start=1):
            print(number, flush=True)


if __name__ == "__main__":
    import sys

    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
