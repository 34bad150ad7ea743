"""Optimizers against each other on a benchmark: the same searches with every seed, their curves, and who is better.

Every run is an ordinary search with a log of its own, so what was stopped goes on and what is finished is kept::

    found = compare({"evolution": settings, "tpe": others}, range(10), Path("comparison"), jobs=2)
    found.finals("tpe")      # by seed what the recommended models gain in expectation
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge.benchmark.benchmark import load
from automerge.benchmark.processes import each_done
from automerge.benchmark.ranking import Paired, Ranking, paired, ranking
from automerge.benchmark.simulation import Simulator, assemble
from automerge.check.workload import candidate
from automerge.history import History, reference_point
from automerge.log import LOG, RunLog
from automerge.pareto import hypervolume
from automerge.parts import Parts, changes, listed, search, versions
from automerge.records import Objective, Result, Trial

FIGURES = "figures.json"
"""Name of the file in a run's folder that says that the run is finished, and holds what came out."""

RESULTS = "results.json"
"""Name of the file that holds what came out of all runs."""

RUNS = "runs"
"""Name of the folder of all runs."""


@dataclass(frozen=True)
class Run:
    """One finished run.

    Its curve: `values` after so many search `items` and virtual `seconds` of the search phase, all of shape
    (n_evaluations + 1,), begins after the references. A value is the hypervolume of fully evaluated models on search
    items, or with one objective the best score. `final` is that of what the run recommended, by expected scores on test
    items and above one reference point for all runs; `references` that of sources and uniform merges. Gains are over
    these, so that seeds with easier items count alike.
    """

    optimizer: str
    seed: int
    items: NDArray[np.float64]
    seconds: NDArray[np.float64]
    values: NDArray[np.float64]
    final: float
    references: float
    n_trials: int

    @property
    def gains(self) -> NDArray[np.float64]:
        """What the values have more than at the beginning of the search, of the same shape."""
        return np.asarray(self.values - self.values[0])

    @property
    def gain(self) -> float:
        """What the recommended models have more than sources and uniform merges, by expected scores."""
        return self.final - self.references


@dataclass(frozen=True)
class Comparison:
    """Finished runs of all `optimizers` with all `seeds` on a benchmark of this name and version.

    `what` says what values are; `items` is the budget of every run, as far as curves go.
    """

    benchmark: str
    optimizers: tuple[str, ...]
    seeds: tuple[int, ...]
    items: int
    what: str
    n_workers: int
    runs: tuple[Run, ...]

    def of(self, optimizer: str) -> list[Run]:
        """The runs of one optimizer, by seed."""
        return [run for run in self.runs if run.optimizer == optimizer]

    def finals(self, optimizer: str) -> dict[int, float]:
        """By seed the expected gain of what the runs of an optimizer recommended."""
        return {run.seed: run.gain for run in self.of(optimizer)}

    def over_items(self, optimizer: str, items: NDArray[np.float64]) -> NDArray[np.float64]:
        """Gains after so many items of shape (n,), shape (n_seeds, n)."""
        return np.array([_at(items, run.items, run.gains) for run in self.of(optimizer)])

    def over_seconds(self, optimizer: str, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Gains after so many virtual seconds of shape (n,), shape (n_seeds, n); a run that ended keeps its last."""
        return np.array([_at(seconds, run.seconds, run.gains) for run in self.of(optimizer)])

    @property
    def best(self) -> str:
        """The optimizer with the highest mean expected gain."""
        return max(self.optimizers, key=lambda name: np.mean(list(self.finals(name).values())))

    def behind(self, optimizer: str) -> Paired | None:
        """Paired differences of expected gains, an optimizer minus the best; None for the best itself."""
        return None if optimizer == self.best else paired(self.finals(optimizer), self.finals(self.best))

    @property
    def ranking(self) -> Ranking | None:
        """Ranks by expected gains over seeds; None for fewer than three optimizers or two seeds."""
        if len(self.optimizers) < 3 or len(self.seeds) < 2:
            return None
        columns = [self.finals(name) for name in self.optimizers]
        return ranking(self.optimizers, np.array([[column[seed] for column in columns] for seed in self.seeds]))


@dataclass(frozen=True)
class _Job:
    optimizer: str
    seed: int
    settings: Mapping[str, Any]
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.optimizer} with seed {self.seed}"

    @property
    def is_finished(self) -> bool:
        return (self.folder / FIGURES).is_file()


def compare(
    contestants: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    to: Path,
    *,
    jobs: int = 1,
    tell: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """The comparison of searches with these settings by name, with every seed, in the folder `to`.

    Runs that are finished there are kept, others go on where they stopped, `jobs` at once, and `tell` is given a line
    for each that ends. Raises ValueError for settings that are wrong or differ from those of runs in the folder, and
    after all others are done if a run failed.
    """
    if not contestants or not seeds or jobs < 1:
        raise ValueError(
            f"expected optimizers, seeds and jobs from 1, got {len(contestants)}, {len(seeds)} and {jobs}: "
            "write optimizers=[evolution,tpe] seeds=10 --jobs 2"
        )
    planned = [
        _Job(name, seed, {**settings, "seed": seed}, to / RUNS / f"{name}-{seed}")
        for seed in seeds
        for name, settings in contestants.items()
    ]
    parts = {name: assemble(settings) for name, settings in contestants.items()}
    _refuse_others(planned, {name: each.identity for name, each in parts.items()})
    waiting = [job for job in planned if not job.is_finished]
    faults = {}
    for number, (job, fault) in enumerate(each_done(_work, waiting, jobs), start=1):
        if fault:
            faults[job.name] = fault
        tell(f"{number} of {len(waiting)}: {job.name}{f': {fault}' if fault else ''}")
    if faults:
        raise ValueError(listed("these runs", [f"{name}: {fault}" for name, fault in faults.items()], "be finished"))
    budgets = {settings["budget"].get("items") for settings in contestants.values()}
    found = _comparison(planned, parts, tuple(seeds), budgets.pop() if len(budgets) == 1 else None)
    _write(to / RESULTS, {**_content(found), "settings": dict(contestants), "versions": versions()})
    return found


def halving_items(parts: Parts, trials: int) -> int:
    """Search items, over all tasks, that successive halving of so many trials takes on average."""
    sizes = {name: task.size("search") for name, task in parts.tasks.items()}
    return round(trials * candidate(sizes, parts.ladder).n_items)


def _at(places: NDArray[np.float64], steps: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values of a curve that holds each until its next step."""
    return np.asarray(values[np.searchsorted(steps, places, side="right") - 1])


def _refuse_others(planned: Sequence[_Job], identities: Mapping[str, Mapping[str, Any]]) -> None:
    found = []
    for job in planned:
        if (job.folder / LOG).is_file():
            with RunLog(job.folder / LOG, read_only=True) as log:
                stored = log.settings()
            if "config" in stored:
                found += [f"{job.name}: {each}" for each in changes(stored["config"], job.settings)]
                if stored["identity"] != identities[job.optimizer]:
                    found.append(f"{job.name}: the benchmark is another now")
    if found:
        raise ValueError(listed("the folder holds runs with other settings, so it", [*found, "name a new folder"]))


def _work(job: _Job) -> str:
    """Runs a job to its end and writes its figures; returns why it could not, empty if it could.

    A fault is data here: one optimizer must not end the comparison, and not every exception passes between processes.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    fault_file = job.folder / "fault.txt"
    try:
        parts = assemble(job.settings)
        with RunLog(job.folder / LOG) as log:
            for _ in search(job.settings, parts, log):
                pass
            history = History.of(log)
        _write(job.folder / FIGURES, _figures(history, parts, job.settings))
    except Exception as fault:
        fault_file.write_text(traceback.format_exc(), encoding="utf-8")
        return f"{type(fault).__name__}: {fault}"
    fault_file.unlink(missing_ok=True)
    return ""


def _figures(history: History, parts: Parts, settings: Mapping[str, Any]) -> dict[str, Any]:
    searched = [row for row in history.evaluations if row.phase != "test"]
    n_references = sum(row.phase == "reference" for row in searched)
    n_searched = sum(row.phase == "search" for row in searched)
    # The last reference is where the search begins; verification is no part of its curve.
    curve = history.trajectory()[n_references - 1 : n_references + n_searched]
    walls = [row.wall for row in searched[n_references : n_references + n_searched]]
    level = float(history.reference_point[0]) if _is_score(history.objectives) else 0.0
    judged = _judged(history, parts, settings)
    return {
        "items": [n_items for n_items, _ in curve],
        "seconds": [0.0, *np.cumsum(walls).tolist()],
        "values": [level + volume for _, volume in curve],
        "final": judged(history.recommended),
        "references": judged(history.references),
        "n_trials": len(history.trials) - len(history.references),
    }


def _judged(history: History, parts: Parts, settings: Mapping[str, Any]) -> Callable[[Sequence[int]], float]:
    """What trials are worth by their expected scores, above a reference point from those of the sources."""
    options = settings["benchmark"]
    simulator = Simulator(load(options["path"]), {}, seed=int(options.get("seed", 0)))

    def expected(number: int) -> Trial:
        trial = history.trials[number]
        scores = simulator.expected(trial.recipe)
        return replace(trial, results={task: Result(1, score) for task, score in scores.items()})

    sources = [expected(number) for number in history.sources]
    point = reference_point(
        sources,
        history.objectives,
        chances={name: task.chance for name, task in parts.tasks.items()},
        constrained=bool(history.constraints),
        depth=parts.space.max_layers / max(len(trial.recipe.layers) for trial in sources),
    )

    def worth(numbers: Sequence[int]) -> float:
        alive = [number for number in numbers if history.trials[number].status == "ok"]
        points = np.array([expected(number).values(history.objectives) for number in alive])
        if _is_score(history.objectives):
            return float(points.max(initial=point[0] if not alive else -np.inf))
        return hypervolume(points.reshape(len(alive), len(point)), point)

    return worth


def _is_score(objectives: Sequence[Objective]) -> bool:
    """Whether the hypervolume is how much the best score has above the reference point."""
    return len(objectives) == 1 and objectives[0].kind != "cost"


def _comparison(
    planned: Sequence[_Job], parts: Mapping[str, Parts], seeds: tuple[int, ...], items: int | None
) -> Comparison:
    first = next(iter(parts.values()))
    told = first.facts["benchmark"]
    runs = tuple(_run(job) for job in planned)
    return Comparison(
        benchmark=f"{told['name']} {told['version']}",
        optimizers=tuple(parts),
        seeds=seeds,
        # Without a budget in items the curves are drawn as far as all of them go.
        items=items or int(min(run.items[-1] for run in runs)),
        what=f"best score, {first.objectives[0].name}" if _is_score(first.objectives) else "hypervolume",
        n_workers=first.runner.n_workers,
        runs=runs,
    )


def _run(job: _Job) -> Run:
    content = json.loads((job.folder / FIGURES).read_text(encoding="utf-8"))
    items, seconds, values = (np.array(content.pop(key), dtype=np.float64) for key in ("items", "seconds", "values"))
    return Run(job.optimizer, job.seed, items, seconds, values, **content)


def _content(found: Comparison) -> dict[str, Any]:
    """The comparison ready for JSON."""
    return {
        **asdict(found),
        "runs": [
            {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in asdict(run).items()}
            for run in found.runs
        ],
        "ranking": None if found.ranking is None else asdict(found.ranking),
    }


def _write(path: Path, values: Any) -> None:
    """Writes a JSON file whole or not at all."""
    draft = path.with_name(f"{path.name}.part")
    draft.write_text(json.dumps(values) + "\n", encoding="utf-8")
    draft.replace(path)
