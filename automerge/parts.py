"""What a search is made of, whatever answers its queries, and the search of these parts over the log of one run.

A live model (`run.py`) and a benchmark (`benchmark/simulation.py`) assemble the same parts::

    parts = assemble(settings)
    for progress in search(settings, parts, log): ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge.check.settings import complete
from automerge.components import build
from automerge.fidelity import Ladder
from automerge.log import RunLog
from automerge.protocols import Optimizer, Runner, Space, Task
from automerge.records import Constraint, Objective, Orders
from automerge.search import Budget, Progress, Search

RECORDED = (
    "torch",
    "transformers",
    "datasets",
    "numpy",
    "lightgbm",
    "pymoo",
    "botorch",
    "gpytorch",
    "smac",
    "ConfigSpace",
    "optuna",
    "cmaes",
    "cma",
)
"""Packages whose versions go into the log beside automerge's own."""

FREE = ("device", "batch_tokens", "threads", "placement", "compile")
"""Options of the model that change where and how fast it runs and not what it is."""

SPLITS = ("search", "test")
"""Sections of a task that say where its rows are."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a search is made of.

    `starts` are canonical genotypes by name. `identity` says by fingerprints what is searched, and a log belongs to one
    identity; `facts` is what else the log keeps of the models, ready for JSON.
    """

    tasks: Mapping[str, Task]
    space: Space
    starts: Mapping[str, NDArray[np.float64]]
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    ladder: Ladder
    optimizer: Optimizer
    runner: Runner
    orders: Orders
    budget: Budget
    identity: Mapping[str, Any]
    facts: Mapping[str, Any]


def search(settings: Mapping[str, Any], parts: Parts, log: RunLog) -> Iterator[Progress]:
    """Yields the progress of the run in this log, from its beginning or from where it stopped.

    Raises ValueError if the log belongs to other settings.
    """
    settings = complete(settings)
    stored = log.settings()
    moved: dict[str, Any] = {}
    if "config" in stored:
        if not _chooses_dtype(stored["config"]):
            settings = _with_dtype(settings, parts)
        found = changes(stored["config"], settings)
        # A log of an earlier version does not tell all of it.
        own = {key: parts.identity.get(key) for key in stored["identity"]}
        differing = _differences(_unnamed(stored["identity"]), _unnamed(own))
        found += [f"{each} (its content has changed)" for each in differing]
        if found:
            raise ValueError(listed(f"{log.path} was started with other settings, so it", found, "be resumed"))
        if (now := _absolute(settings)) != _absolute(stored["config"]):
            moved["config"] = now
    else:
        settings = _with_dtype(settings, parts)
        log.write_settings(
            {
                "config": _absolute(settings),
                "identity": dict(parts.identity),
                "seed": int(settings["seed"]),
                "objectives": [asdict(objective) for objective in parts.objectives],
                "constraints": [asdict(constraint) for constraint in parts.constraints],
                **parts.facts,
                "versions": versions(),
            }
        )
    options = settings["report"]
    steps = Search(
        space=parts.space,
        tasks=parts.tasks,
        objectives=parts.objectives,
        optimizer=parts.optimizer,
        runner=parts.runner,
        log=log,
        orders=parts.orders,
        ladder=parts.ladder,
        budget=parts.budget,
        seed=int(settings["seed"]),
        constraints=parts.constraints,
        given=parts.starts,
        n_verify=int(options["verify"]),
        n_recommend=int(options["recommend"]),
        test_items=None if options["test_items"] is None else int(options["test_items"]),
        test_trials=options["test_trials"],
    ).run()
    for step in steps:
        # Once the log has been followed to its end: what comes after, such as an export, looks where things are now.
        if moved and not step.resumed:
            log.write_settings(moved)
            moved = {}
        yield step
    if moved:
        log.write_settings(moved)


def optimizer(spec: Mapping[str, Any], **given: Any) -> Optimizer:
    """The optimizer of the settings. Raises ValueError that names it for options that cannot be."""
    try:
        built: Optimizer = build(spec, **given)
    except ValueError as fault:
        raise ValueError(listed("this run", [f"optimizer: {fault}"])) from fault
    return built


def score_objectives(weights: Mapping[str, float] | None, tasks: Iterable[str]) -> tuple[Objective, ...]:
    """The scores of all tasks, or their weighted mean."""
    if weights is None:
        return tuple(Objective(name) for name in tasks)
    # In the order of the tasks, whatever order the weights are written in.
    return (Objective.mean_of({name: float(weights[name]) for name in tasks}),)


def cost_objectives(costs: Sequence[str] | None) -> tuple[Objective, ...]:
    """The costs of these names."""
    return tuple(Objective(name, "cost") for name in costs or ())


def rungs(options: Mapping[str, Any], tasks: Mapping[str, Task]) -> Ladder:
    """The ladder of the `fidelity` section of the settings, cut to the items of the largest task."""
    largest = max(task.size("search") for task in tasks.values())
    maximum = min(int(options["max"] or largest), largest)
    return Ladder(minimum=min(int(options["min"] or maximum), maximum), maximum=maximum, eta=float(options["eta"]))


def versions() -> dict[str, str]:
    """Versions of Python, automerge and the packages that results depend on."""
    found = {"python": python_version()}
    for package in ("automerge", *RECORDED):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def changes(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """In which settings that make a run what it is these differ, as `key: value in the log, value now`."""
    return list(_differences(_relevant(stored), _relevant(given)))


def listed(what: str, found: Sequence[str], verb: str = "be used") -> str:
    """A message with a line for every fault."""
    return "\n".join([f"{what} cannot {verb}:", *(f"  - {fault}" for fault in found)])


def _relevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that may change when a run is resumed.

    Models, rows of tasks, given recipes and benchmarks are known by their content, wherever they lie.
    """
    settings = complete(settings)
    kept = {
        **settings,
        "report": _without(settings["report"], ("baseline",)),
        "model": _without(settings.get("model") or {}, FREE),
    }
    if benchmark := settings["benchmark"]:
        return {**kept, "benchmark": _without(benchmark, ("path",))}
    source = settings["source"]
    return {
        **kept,
        "source": {**_without(source, ("base", "revisions")), "models": list(source["models"])},
        "task": {name: _without_paths(spec) for name, spec in settings["task"].items()},
        "start": None,
    }


def _unnamed(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity with the contents of given recipes in their order, without names, which follow their paths."""
    return {**identity, "start": list((identity.get("start") or {}).values())}


def _chooses_dtype(settings: Mapping[str, Any]) -> bool:
    """Whether the settings leave the dtype to the device, as those that earlier versions logged do."""
    return bool((settings.get("model") or {}).get("dtype") == "auto")


def _with_dtype(settings: Mapping[str, Any], parts: Parts) -> dict[str, Any]:
    """The settings with the dtype that is in use, so that a run goes on in it on another device too."""
    if not _chooses_dtype(settings) or "dtype" not in parts.facts:
        return dict(settings)
    return {**settings, "model": {**settings["model"], "dtype": parts.facts["dtype"]}}


def _without_paths(task: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a task without the paths of its rows."""
    return {
        key: _without(value, ("path",)) if key in SPLITS and isinstance(value, Mapping) else value
        for key, value in task.items()
    }


def _without(section: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key not in keys}


def _absolute(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with absolute paths, so that a run can be resumed and exported from anywhere."""
    settings = complete(settings)
    if baseline := settings["report"]["baseline"]:
        settings = {**settings, "report": {**settings["report"], "baseline": _resolved(baseline)}}
    if benchmark := settings["benchmark"]:
        return {**settings, "benchmark": {**benchmark, "path": _resolved(str(benchmark["path"]))}}
    source = settings["source"]
    models = {name: _resolved(path) for name, path in source["models"].items()}
    return {
        **settings,
        "source": {**source, "base": _resolved(source["base"]), "models": models},
        "task": {name: _found(spec) for name, spec in settings["task"].items()},
        "start": [_resolved(path) for path in settings.get("start") or ()],
    }


def _found(task: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a task with absolute paths of its rows."""
    return {
        key: {**value, "path": _resolved(value["path"])}
        if key in SPLITS and isinstance(value, Mapping) and isinstance(value.get("path"), str)
        else value
        for key, value in task.items()
    }


def _resolved(path: str) -> str:
    """The absolute path of what is there, links not followed: their names tell formats; a hub id stays as it is."""
    local = Path(path).expanduser()
    return str(local.absolute()) if local.exists() else path


def _differences(stored: Any, given: Any, where: str = "") -> Iterator[str]:
    if isinstance(stored, Mapping) and isinstance(given, Mapping):
        for key in sorted({*stored, *given}):
            yield from _differences(stored.get(key), given.get(key), f"{where}.{key}" if where else str(key))
    elif stored != given:
        yield f"{where}: {stored!r} in the log, {given!r} now"
