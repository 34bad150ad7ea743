"""A run: everything checked and built from plain settings, searched, told and exported into one folder.

The settings are nested dictionaries as `conf/config.yaml` lays them out. All faults that can be seen without a model
in memory are listed together before anything long starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
import torch

from automerge.alignment import align
from automerge.check.constraints import read_constraints
from automerge.check.context import context_faults
from automerge.check.kinship import kinship_faults
from automerge.check.settings import complete, settings_faults
from automerge.check.stacks import stack_faults
from automerge.components import build
from automerge.evaluate import Evaluator, Orders
from automerge.family import Family, open_family
from automerge.fidelity import Ladder
from automerge.log import RunLog
from automerge.measures import measure
from automerge.merge import ResidentSources
from automerge.model import ResidentModel, load_causal_lm
from automerge.protocols import Optimizer, Runner, Space, Task
from automerge.recipe import BASE
from automerge.records import Constraint, Objective
from automerge.search import Budget, Progress, Search
from automerge.start import Starts, read_starts
from automerge.task_vectors import TaskVectors, task_vectors

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


TRIED = 16
"""Recipes of the space of which one is tried on the live model before a search, if they stack layers."""

FREE = ("threads", "placement", "compile")
"""Options of the model that change how fast it is and not what it is."""


@dataclass(frozen=True)
class Parts:
    """What a search is made of."""

    family: Family
    sources: ResidentSources
    vectors: TaskVectors
    model: ResidentModel
    tasks: Mapping[str, Task]
    space: Space
    starts: Starts
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    ladder: Ladder
    optimizer: Optimizer
    runner: Runner
    orders: Orders
    budget: Budget


def assemble(settings: Mapping[str, Any]) -> Parts:
    """The parts that the settings describe, with the model loaded.

    Raises ValueError with the list of all faults if something is wrong.
    """
    settings = complete(settings)
    found = settings_faults(settings)
    if found:
        raise ValueError(_listed("the settings", found))
    tasks, task_faults = _tasks(settings)
    family = None
    source_faults = ""
    try:
        family = open_family(settings["source"], trust_remote_code=bool(settings["model"]["trust_remote_code"]))
    except ValueError as fault:
        source_faults = f"\n{fault}"
    starts: Starts = {}
    if family is not None:
        alignment = align(family.sources)
        names = [source.name for source in family.sources if source.name != BASE]
        try:
            space = build(settings["space"], sources=names, n_layers=alignment.n_layers)
            starts, start_faults = read_starts(
                settings["start"] or (),
                settings["source"],
                family,
                alignment,
                space,
                tasks=settings["task"],
                limit=settings["start_limit"],
            )
            task_faults += start_faults
        except ValueError as fault:
            task_faults.append(f"space: {fault}")
        trusting = bool(settings["model"]["trust_remote_code"])
        task_faults += context_faults(tasks, family.base, family.vocabulary.tokenizer(), trust_remote_code=trusting)
        if task_faults:
            # Nothing will run, so the list may take its time to be whole.
            task_faults += _weight_faults(family)
    if task_faults or family is None:
        raise ValueError(_listed("this run", task_faults) + source_faults)
    objectives = _objectives(settings, tasks)
    constraints = tuple(read_constraints(settings["constraints"], tasks)[0])
    ladder = _ladder(settings, tasks)
    budget = Budget(**settings["budget"])
    proposing = {"objectives": objectives, "ladder": ladder, "constraints": constraints, "seed": int(settings["seed"])}
    # What refuses its options does so here, before minutes of loading; the one that searches knows the weights' sizes.
    build(settings["optimizer"], space=space, **proposing)
    model = _resident(settings["model"], family, space.methods)
    vectors = task_vectors(model.sources)
    strangers = kinship_faults(vectors)
    if strangers:
        raise ValueError(_listed("this run", strangers))
    space = space.measured(measure(model.sources, vectors))
    tried = space.sample(TRIED, np.random.default_rng(0))
    if unfit := stack_faults(model, [space.decode(genotype) for genotype in tried]):
        raise ValueError(_listed("this space", unfit))
    orders: Orders = {}
    return Parts(
        family=family,
        vectors=vectors,
        sources=model.sources,
        model=model,
        tasks=tasks,
        space=space,
        starts=starts,
        objectives=objectives,
        constraints=constraints,
        ladder=ladder,
        optimizer=build(settings["optimizer"], space=space, **proposing),
        runner=build(settings["runner"], evaluate=Evaluator(model, tasks, orders)),
        orders=orders,
        budget=budget,
    )


def search(settings: Mapping[str, Any], parts: Parts, log: RunLog) -> Iterator[Progress]:
    """Yields the progress of the run in this log, from its beginning or from where it stopped.

    Raises ValueError if the log belongs to other settings.
    """
    stored = log.settings()
    identity = {
        "sources": parts.sources.fingerprints,
        "tasks": {name: task.fingerprint for name, task in parts.tasks.items()},
        "start": {name: parts.space.decode(genotype).id for name, genotype in parts.starts.items()},
    }
    if "config" in stored:
        changed = list(_differences(_relevant(stored["config"]), _relevant(settings)))
        changed += [f"{change} (its content has changed)" for change in _differences(stored["identity"], identity)]
        if changed:
            raise ValueError(_listed(f"{log.path} was started with other settings, so it", changed, "be resumed"))
    else:
        log.write_settings(
            {
                "config": _absolute(settings),
                "identity": identity,
                "seed": int(settings["seed"]),
                "objectives": [asdict(objective) for objective in parts.objectives],
                "constraints": [asdict(constraint) for constraint in parts.constraints],
                "layout": {"sources": list(parts.sources.names), "n_layers": parts.sources.alignment.n_layers},
                "task_vectors": parts.vectors.to_settings(),
                "versions": versions(),
            }
        )
    options = settings["report"]
    yield from Search(
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
        test_items=options["test_items"],
    ).run()


def versions() -> dict[str, str]:
    """Versions of Python, automerge and the packages that results depend on."""
    found = {"python": python_version()}
    for package in ("automerge", *RECORDED):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _resident(options: Mapping[str, Any], family: Family, methods: Sequence[str]) -> ResidentModel:
    """The live model with all sources beside it."""
    if options["threads"]:
        torch.set_num_threads(int(options["threads"]))
    device = options["device"] if options["device"] != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    loading = {key: options[key] for key in ("dtype", "batch_tokens", "trust_remote_code")}
    lm = load_causal_lm(family.base, device=device, vocabulary=family.vocabulary, **loading)
    resident = ResidentSources(
        family.sources,
        device=device,
        placement=options["placement"],
        n_held=lm.n_bytes,
        methods=methods,
        model_type=family.model_type,
    )
    resident.compile(options["compile"], methods)
    return ResidentModel(lm, resident)


def _tasks(settings: Mapping[str, Any]) -> tuple[dict[str, Task], list[str]]:
    tasks: dict[str, Task] = {}
    found = []
    for name, spec in settings["task"].items():
        try:
            tasks[name] = build(spec, name=name)
            found += [f"task {name!r}: {fault}" for fault in tasks[name].check()]
        except (ValueError, TypeError, OSError) as fault:
            found.append(f"task {name!r}: {fault}")
    return tasks, found


def _weight_faults(family: Family) -> list[str]:
    """What only the weights tell: entries that are not finite, sources that are no fine-tunes of the base."""
    try:
        sources = ResidentSources(family.sources)
    except ValueError as fault:
        return [str(fault).replace("\n", "\n  ")]
    return kinship_faults(task_vectors(sources))


def _objectives(settings: Mapping[str, Any], tasks: Mapping[str, Task]) -> tuple[Objective, ...]:
    """The scores of all tasks or their weighted mean, then the costs."""
    weights = settings["weights"]
    # In the order of the tasks, whatever order the weights are written in.
    scores = (
        [Objective(name) for name in tasks]
        if weights is None
        else [Objective.mean_of({name: float(weights[name]) for name in tasks})]
    )
    return (*scores, *(Objective(name, "cost") for name in settings["costs"] or ()))


def _ladder(settings: Mapping[str, Any], tasks: Mapping[str, Task]) -> Ladder:
    largest = max(task.size("search") for task in tasks.values())
    options = settings["fidelity"]
    maximum = min(int(options["max"] or largest), largest)
    return Ladder(minimum=min(int(options["min"] or maximum), maximum), maximum=maximum, eta=float(options["eta"]))


def _relevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that may change when a run is resumed."""
    return {
        **_absolute(settings),
        "report": {key: value for key, value in settings["report"].items() if key != "baseline"},
        "model": {key: value for key, value in settings["model"].items() if key not in FREE},
    }


def _absolute(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with absolute paths, so that a run can be resumed and exported from anywhere."""
    settings = complete(settings)
    source = settings["source"]
    models = {name: _resolved(path) for name, path in source["models"].items()}
    return {
        **settings,
        "source": {**source, "base": _resolved(source["base"]), "models": models},
        "start": [_resolved(path) for path in settings.get("start") or ()],
    }


def _resolved(path: str) -> str:
    """The absolute path of what is there; a hub id stays as it is."""
    local = Path(path).expanduser()
    return str(local.resolve()) if local.exists() else path


def _differences(stored: Any, given: Any, where: str = "") -> Iterator[str]:
    if isinstance(stored, Mapping) and isinstance(given, Mapping):
        for key in sorted({*stored, *given}):
            yield from _differences(stored.get(key), given.get(key), f"{where}.{key}" if where else str(key))
    elif stored != given:
        yield f"{where}: {stored!r} in the log, {given!r} now"


def _listed(what: str, found: list[str], verb: str = "be used") -> str:
    return "\n".join([f"{what} cannot {verb}:", *(f"  - {fault}" for fault in found)])
