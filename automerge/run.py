"""A run: everything checked and built from plain settings, searched, told and exported into one folder.

The settings are nested dictionaries as `conf/config.yaml` lays them out. All faults that can be seen without a model
in memory are listed together before anything long starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any, get_args

import torch

from automerge.alignment import align, differences
from automerge.components import build, faults
from automerge.evaluate import Evaluator, Orders
from automerge.fidelity import Ladder
from automerge.log import RunLog
from automerge.merge import ResidentSources
from automerge.model import DType, ResidentModel, load_causal_lm
from automerge.protocols import Optimizer, Runner, Space, Task
from automerge.recipe import BASE
from automerge.records import Objective
from automerge.search import Budget, Progress, Search
from automerge.sources.checkpoint import CheckpointSource

SECTIONS = {
    "seed": (),
    "source": ("base", "models", "revisions"),
    "task": (),
    "space": (),
    "optimizer": (),
    "runner": (),
    "fidelity": ("min", "max", "eta"),
    "budget": ("trials", "items", "minutes"),
    "costs": (),
    "model": ("device", "dtype", "batch_tokens", "threads", "trust_remote_code"),
    "report": ("verify", "recommend", "test_items", "baseline"),
}
"""The keys of the settings, and those below them where they are fixed."""

COSTS = ("layers", "parameters")
"""Costs that can be objectives."""

RECORDED = ("torch", "transformers", "datasets", "pymoo", "lightgbm", "numpy")
"""Packages whose versions go into the log beside automerge's own."""

LOG = "run.db"


@dataclass(frozen=True)
class Parts:
    """What a search is made of."""

    sources: ResidentSources
    model: ResidentModel
    tasks: Mapping[str, Task]
    space: Space
    objectives: tuple[Objective, ...]
    ladder: Ladder
    optimizer: Optimizer
    runner: Runner
    orders: Orders
    budget: Budget


def assemble(settings: Mapping[str, Any]) -> Parts:
    """The parts that the settings describe, with the model loaded.

    Raises ValueError with the list of all faults if something is wrong.
    """
    found = _settings_faults(settings)
    if found:
        raise ValueError(_listed("the settings", found))
    tasks, task_faults = _tasks(settings)
    sources, source_faults = _sources(settings)
    if task_faults or source_faults:
        raise ValueError(_listed("this run", [*source_faults, *task_faults]))
    # Everything that can refuse its options is built before the weights are read.
    names = [source.name for source in sources if source.name != BASE]
    space = build(settings["space"], sources=names, n_layers=align(sources).n_layers)
    objectives = (*(Objective(name) for name in tasks), *(Objective(name, "cost") for name in settings["costs"] or ()))
    ladder = _ladder(settings, tasks)
    budget = Budget(**settings["budget"])
    optimizer = build(
        settings["optimizer"], space=space, objectives=objectives, ladder=ladder, seed=int(settings["seed"])
    )
    model = _resident(settings["model"], sources)
    orders: Orders = {}
    return Parts(
        sources=model.sources,
        model=model,
        tasks=tasks,
        space=space,
        objectives=objectives,
        ladder=ladder,
        optimizer=optimizer,
        runner=build(settings["runner"], evaluate=Evaluator(model, tasks, orders)),
        orders=orders,
        budget=budget,
    )


def search(settings: Mapping[str, Any], parts: Parts, log: RunLog) -> Iterator[Progress]:
    """Yields the progress of the run in this log, from its beginning or from where it stopped.

    Raises ValueError if the log belongs to other settings.
    """
    stored = log.settings()
    if "config" in stored:
        changed = list(_differences(stored["config"], _relevant(settings)))
        if changed:
            raise ValueError(_listed(f"{log.path} was started with other settings, so it", changed, "be resumed"))
    else:
        log.write_settings(
            {
                "config": _relevant(settings),
                "seed": int(settings["seed"]),
                "objectives": [asdict(objective) for objective in parts.objectives],
                "layout": {"sources": list(parts.sources.names), "n_layers": parts.sources.alignment.n_layers},
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


def _settings_faults(settings: Mapping[str, Any]) -> list[str]:
    found = [f"unknown key `{key}`; there are {', '.join(SECTIONS)}" for key in settings if key not in SECTIONS]
    found += [f"missing key `{key}`" for key in SECTIONS if key not in settings]
    for section, keys in SECTIONS.items():
        value = settings.get(section)
        if keys and isinstance(value, Mapping):
            found += [
                f"{section}: unknown key `{key}`; there are {', '.join(keys)}" for key in value if key not in keys
            ]
        elif keys and section in settings:
            found.append(f"{section}: expected the keys {', '.join(keys)}, got {value!r}")
    source = settings.get("source")
    if isinstance(source, Mapping) and not (source.get("base") and source.get("models")):
        found.append("source: name a `base` and at least one of `models`, or choose an experiment: experiment=demo")
    elif isinstance(source, Mapping) and BASE in source["models"]:
        found.append(f"source.models: the name `{BASE}` is taken by the base model; choose another")
    tasks = settings.get("task")
    if not isinstance(tasks, Mapping) or not tasks:
        found.append("task: name at least one task, such as task=[zoo_sort,zoo_reverse]")
    else:
        for name, spec in tasks.items():
            found += faults(f"task.{name}", spec, name=name)
    found += faults("space", settings.get("space"), sources=None, n_layers=None)
    found += faults("optimizer", settings.get("optimizer"), space=None, objectives=None, ladder=None, seed=None)
    found += faults("runner", settings.get("runner"), evaluate=None)
    if isinstance(settings.get("model"), Mapping):
        found += _model_faults(settings["model"])
    unknown = [cost for cost in settings.get("costs") or () if cost not in COSTS]
    return found + [f"costs: unknown cost {cost!r}; there are {', '.join(COSTS)}" for cost in unknown]


def _model_faults(options: Mapping[str, Any]) -> list[str]:
    found = []
    if options.get("dtype") not in get_args(DType):
        found.append(f"model.dtype: expected one of {', '.join(get_args(DType))}, got {options.get('dtype')!r}")
    device = str(options.get("device"))
    if device != "auto":
        try:
            # Whether the device exists shows only when something is put there.
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as fault:
            reason = str(fault).splitlines()[0]
            found.append(f"model.device: {device!r} cannot be used here ({reason}); `auto` takes what there is")
    return found


def _resident(options: Mapping[str, Any], sources: list[CheckpointSource]) -> ResidentModel:
    """The live model with all sources in memory."""
    if options["threads"]:
        torch.set_num_threads(int(options["threads"]))
    device = options["device"] if options["device"] != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    resident = ResidentSources(sources, device=device)
    base = next(source for source in sources if source.name == BASE)
    loading = {key: options[key] for key in ("dtype", "batch_tokens", "trust_remote_code")}
    return ResidentModel(load_causal_lm(base.folder, device=device, **loading), resident)


def _tasks(settings: Mapping[str, Any]) -> tuple[dict[str, Task], list[str]]:
    tasks: dict[str, Task] = {}
    found = []
    for name, spec in settings["task"].items():
        try:
            tasks[name] = build(spec, name=name)
            found += [f"task {name!r}: {fault}" for fault in tasks[name].check()]
        except (ValueError, OSError) as fault:
            found.append(f"task {name!r}: {fault}")
    return tasks, found


def _sources(settings: Mapping[str, Any]) -> tuple[list[CheckpointSource], list[str]]:
    paths = {BASE: settings["source"]["base"], **settings["source"]["models"]}
    revisions = settings["source"].get("revisions") or {}
    sources, found = [], []
    for name, path in paths.items():
        try:
            sources.append(CheckpointSource(name, str(path), revision=revisions.get(name)))
        except (ValueError, OSError) as fault:
            found.append(f"source {name!r}: {fault}")
    if not found:
        found = differences(sources)
        found += _tokenizer_faults(sources, trust_remote_code=bool(settings["model"]["trust_remote_code"]))
    return sources, found


def _tokenizer_faults(sources: list[CheckpointSource], *, trust_remote_code: bool) -> list[str]:
    """A message for every source whose vocabulary is not the base's, and if the base has no tokenizer."""
    from transformers import AutoTokenizer  # noqa: PLC0415 (slow to import)

    vocabularies: dict[str, dict[str, int]] = {}
    for source in sources:
        try:
            tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=trust_remote_code)
            vocabularies[source.name] = tokenizer.get_vocab()
        except (ValueError, OSError) as fault:
            if source.name == BASE:
                return [f"the base {source.folder} has no tokenizer that loads: {fault}"]
    base = vocabularies[BASE]
    found = []
    for name, vocabulary in vocabularies.items():
        if vocabulary != base:
            unequal = sorted({*vocabulary.items()} ^ {*base.items()})
            found.append(
                f"source {name!r}: its vocabulary differs from the base's in {len(unequal)} entries, such as "
                f"{unequal[:3]}; tokens would change their meaning, so use fine-tunes with the base's tokenizer"
            )
    return found


def _ladder(settings: Mapping[str, Any], tasks: Mapping[str, Task]) -> Ladder:
    largest = max(task.size("search") for task in tasks.values())
    options = settings["fidelity"]
    maximum = min(int(options["max"] or largest), largest)
    return Ladder(minimum=min(int(options["min"] or maximum), maximum), maximum=maximum, eta=float(options["eta"]))


def _relevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the few that may change when a run is resumed."""
    kept = {key: value for key, value in settings.items() if key != "report"}
    source = settings["source"]
    # Absolute, so that a model can be exported from anywhere.
    models = {name: _absolute(path) for name, path in source["models"].items()}
    kept["source"] = {**source, "base": _absolute(source["base"]), "models": models}
    return {**kept, "model": {key: value for key, value in settings["model"].items() if key != "threads"}}


def _absolute(path: str) -> str:
    folder = Path(path).expanduser()
    return str(folder.resolve()) if folder.is_dir() else path


def _differences(stored: Any, given: Any, where: str = "") -> Iterator[str]:
    if isinstance(stored, Mapping) and isinstance(given, Mapping):
        for key in sorted({*stored, *given}):
            yield from _differences(stored.get(key), given.get(key), f"{where}.{key}" if where else str(key))
    elif stored != given:
        yield f"{where}: {stored!r} in the log, {given!r} now"


def _listed(what: str, found: list[str], verb: str = "be used") -> str:
    return f"{what} cannot {verb}:\n" + "\n".join(f"  - {fault}" for fault in found)
