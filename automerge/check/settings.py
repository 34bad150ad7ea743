"""Preflight: every fault that can be seen before weights are read, as messages that say how to mend it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, get_args

from automerge.check.constraints import COSTS, read_constraints
from automerge.components import faults
from automerge.log import LOG
from automerge.options import positive_faults, whole_faults
from automerge.recipe import BASE
from automerge.search import TestTrials

SECTIONS = {
    "seed": (),
    "source": ("base", "models", "revisions", "chat_template"),
    "task": (),
    "space": (),
    "optimizer": (),
    "runner": (),
    "fidelity": ("min", "max", "eta"),
    "budget": ("trials", "items", "minutes"),
    "costs": (),
    "weights": (),
    "constraints": (),
    "start": (),
    "start_limit": (),
    "model": ("device", "dtype", "batch_tokens", "threads", "trust_remote_code", "placement", "compile"),
    "report": ("verify", "recommend", "test_items", "test_trials", "baseline"),
    "benchmark": ("path", "seed"),
}
"""The keys of the settings, and those below them where they are fixed."""

LATER: Mapping[str, Any] = {"weights": None, "constraints": [], "start_limit": 8, "benchmark": None}
"""Keys that logs of earlier versions lack, with what such runs did."""

LATER_REPORT: Mapping[str, Any] = {"test_trials": "recommended"}
"""Keys of the section `report` that logs of earlier versions lack, with what such runs did."""

LEAST = {
    "budget": {"trials": 1, "items": 1},
    "fidelity": {"min": 1, "max": 1},
    "report": {"verify": 0, "recommend": 1, "test_items": 1},
}
"""The least that whole numbers of the settings may be; where null has a meaning they may be null too."""

NEEDED = (("report", "verify"), ("report", "recommend"))
"""Whole numbers of the settings for which null means nothing."""

OF_BENCHMARK = ("source", "task", "space", "start")
"""What a simulated run takes from its benchmark, so that its settings have none of it."""


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with every key that an earlier version did not have."""
    report = settings.get("report")
    return {**LATER, **settings, "report": {**LATER_REPORT, **report} if isinstance(report, Mapping) else report}


GIVEN = ("space", "objectives", "ladder", "constraints", "seed")
"""What a run gives its optimizer; all else are the optimizer's options."""


def settings_faults(settings: Mapping[str, Any]) -> list[str]:
    """Every fault of the settings themselves: unknown or missing keys, options that no part takes, wrong numbers."""
    found = [
        f"unknown key `{key}`; there are {', '.join(SECTIONS)}"
        for key in settings
        if key not in (*SECTIONS, "experiment")
    ]
    if "experiment" in settings:
        found.append("experiment: the first line of a file in the folder `experiment` must be `# @package _global_`")
    is_simulated = settings.get("benchmark") is not None
    empty = (*OF_BENCHMARK, "fidelity", "model") if is_simulated else ("benchmark",)
    needed = [key for key in SECTIONS if key not in (*LATER, *empty)]
    found += [f"missing key `{key}`" for key in needed if key not in settings]
    for section, keys in SECTIONS.items():
        value = settings.get(section)
        if keys and isinstance(value, Mapping):
            found += [
                f"{section}: unknown key `{key}`; there are {', '.join(keys)}" for key in value if key not in keys
            ]
        elif keys and section in settings and not (value is None and section in empty):
            found.append(f"{section}: expected the keys {', '.join(keys)}, got {value!r}")
    found += faults("optimizer", settings.get("optimizer"), **dict.fromkeys(GIVEN))
    found += faults("runner", settings.get("runner"), evaluate=None)
    found += _number_faults(settings) + _report_faults(settings.get("report"))
    unknown = [cost for cost in settings.get("costs") or () if cost not in COSTS]
    found += [f"costs: unknown cost {cost!r}; there are {', '.join(COSTS)}" for cost in unknown]
    return found + (_benchmark_faults(settings) if is_simulated else _live_faults(settings))


def _live_faults(settings: Mapping[str, Any]) -> list[str]:
    """The faults of what only a search on live models has."""
    # These know devices and weights, and need torch for it, which a simulated run does without.
    from automerge.check.model_options import model_faults  # noqa: PLC0415
    from automerge.start import path_faults  # noqa: PLC0415

    found = []
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
    if isinstance(settings.get("model"), Mapping):
        found += model_faults(settings["model"])
    found += path_faults(settings.get("start"))
    found += whole_faults(1, start_limit=settings.get("start_limit", 1))
    if isinstance(tasks, Mapping):
        found += weight_faults(settings.get("weights"), tasks)
        found += read_constraints(settings.get("constraints"), tasks)[1]
    return found


def _benchmark_faults(settings: Mapping[str, Any]) -> list[str]:
    """The faults of what only a simulated run has."""
    found = [
        f"{key}: a benchmark has its own; leave {key} out, and name no experiment"
        for key in OF_BENCHMARK
        if settings.get(key)
    ]
    options = settings["benchmark"]
    if isinstance(options, Mapping):
        path, seed = options.get("path"), options.get("seed", 0)
        if not isinstance(path, str) or not path:
            found.append(f"benchmark.path: expected the folder of a benchmark, got {path!r}; write benchmark.path=DIR")
        found += whole_faults(0, **{"benchmark.seed": seed})
    return found


def weight_faults(weights: Any, tasks: Collection[str]) -> list[str]:
    """What is wrong with the weights of the tasks; None is right, and so are positive numbers for all of them."""
    if weights is None:
        return []
    if not isinstance(weights, Mapping):
        return [
            f"weights: expected a number for each task, or null, got {weights!r}; write weights={{sums: 2, facts: 1}}"
        ]
    found = [f"weights: unknown task {name!r}; there are {', '.join(tasks)}" for name in weights if name not in tasks]
    if missing := [name for name in tasks if name not in weights]:
        found.append(
            f"weights: expected all tasks, got none for {', '.join(missing)}; weigh them, or leave them out of task"
        )
    for name, weight in weights.items():
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not (is_number and 0 < weight < math.inf):
            found.append(f"weights.{name}: expected a positive number, got {weight!r}")
    return found


def _number_faults(settings: Mapping[str, Any]) -> list[str]:
    """A message for every number of the settings that is none, or that is too small."""
    found = []
    for section, keys in LEAST.items():
        values = settings.get(section)
        if isinstance(values, Mapping):
            for key, least in keys.items():
                value = values.get(key)
                if value is None and (section, key) not in NEEDED:
                    continue
                # What people write as 1e5 comes as a float.
                whole = int(value) if isinstance(value, float) and value.is_integer() else value
                found += whole_faults(least, **{f"{section}.{key}": whole})
    budget, fidelity = settings.get("budget"), settings.get("fidelity")
    if isinstance(budget, Mapping) and budget.get("minutes") is not None:
        found += positive_faults(**{"budget.minutes": budget["minutes"]})
    if isinstance(fidelity, Mapping):
        eta: Any = fidelity.get("eta")
        is_number = isinstance(eta, int | float) and not isinstance(eta, bool)
        found += [] if is_number and 1 < eta < math.inf else [f"fidelity.eta: expected a number above 1, got {eta!r}"]
    return found + whole_faults(0, seed=settings.get("seed", 0))


def _report_faults(report: Any) -> list[str]:
    if not isinstance(report, Mapping):
        return []
    found = []
    baseline = report.get("baseline")
    if baseline and not (Path(baseline) / LOG).is_file():
        found.append(f"report.baseline: {baseline!r} is no run folder of automerge: it has no {LOG}")
    tested = {**LATER_REPORT, **report}["test_trials"]
    if tested not in get_args(TestTrials):
        found.append(f"report.test_trials: expected one of {', '.join(get_args(TestTrials))}, got {tested!r}")
    return found
