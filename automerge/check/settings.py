"""Preflight: every fault that can be seen before weights are read, as messages that say how to mend it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, get_args

import torch

from automerge.check.constraints import COSTS, read_constraints
from automerge.components import faults
from automerge.log import LOG
from automerge.model import DType
from automerge.recipe import BASE
from automerge.resident.placement import Placement
from automerge.start import path_faults
from automerge.tensors.kernels import Compile

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
    "report": ("verify", "recommend", "test_items", "baseline"),
}
"""The keys of the settings, and those below them where they are fixed."""

LATER: Mapping[str, Any] = {"weights": None, "constraints": [], "start_limit": 8}
"""Keys that logs of earlier versions lack, with what such runs did."""


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with every key that an earlier version did not have."""
    return {**LATER, **settings}


GIVEN = ("space", "objectives", "ladder", "constraints", "seed")
"""What a run gives its optimizer; all else are the optimizer's options."""


def settings_faults(settings: Mapping[str, Any]) -> list[str]:
    """Every fault of the settings themselves: unknown or missing keys, options that no part takes, wrong numbers."""
    found = [f"unknown key `{key}`; there are {', '.join(SECTIONS)}" for key in settings if key not in SECTIONS]
    found += [f"missing key `{key}`" for key in SECTIONS if key not in settings and key not in LATER]
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
    found += faults("optimizer", settings.get("optimizer"), **dict.fromkeys(GIVEN))
    found += faults("runner", settings.get("runner"), evaluate=None)
    if isinstance(settings.get("model"), Mapping):
        found += _model_faults(settings["model"])
    found += _number_faults(settings) + _baseline_faults(settings.get("report"))
    found += path_faults(settings.get("start")) + _limit_faults(settings.get("start_limit", 1))
    if isinstance(tasks, Mapping):
        found += weight_faults(settings.get("weights"), tasks)
        found += read_constraints(settings.get("constraints"), tasks)[1]
    unknown = [cost for cost in settings.get("costs") or () if cost not in COSTS]
    return found + [f"costs: unknown cost {cost!r}; there are {', '.join(COSTS)}" for cost in unknown]


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


def _limit_faults(limit: Any) -> list[str]:
    is_count = isinstance(limit, int) and not isinstance(limit, bool) and limit >= 1
    return [] if is_count else [f"start_limit: expected a whole number from 1, got {limit!r}"]


def _number_faults(settings: Mapping[str, Any]) -> list[str]:
    """A message for every number of the settings that is none."""
    found = []
    optional = {"budget": ("trials", "items", "minutes"), "fidelity": ("min", "max"), "report": ("test_items",)}
    needed = {"fidelity": ("eta",), "report": ("verify", "recommend"), "model": ("batch_tokens",)}
    for sections, may_be_null in ((optional, True), (needed, False)):
        for section, keys in sections.items():
            values = settings.get(section)
            values = values if isinstance(values, Mapping) else dict.fromkeys(keys, 0)
            for key in keys:
                value = values.get(key)
                if not isinstance(value, int | float) and not (value is None and may_be_null):
                    expected = "a number or null" if may_be_null else "a number"
                    found.append(f"{section}.{key}: expected {expected}, got {value!r}")
    model = settings.get("model")
    counts = {"batch_tokens": 1, "threads": 1} if isinstance(model, Mapping) else {}
    for key, least in counts.items():
        value = model.get(key) if isinstance(model, Mapping) else None
        if value is not None and not (isinstance(value, int) and value >= least):
            found.append(f"model.{key}: expected a whole number from {least}, got {value!r}")
    seed = settings.get("seed", 0)
    return found + (
        [] if isinstance(seed, int) and seed >= 0 else [f"seed: expected a whole number from 0, got {seed!r}"]
    )


def _baseline_faults(report: Any) -> list[str]:
    baseline = report.get("baseline") if isinstance(report, Mapping) else None
    if baseline and not (Path(baseline) / LOG).is_file():
        return [f"report.baseline: {baseline!r} is no run folder of automerge: it has no {LOG}"]
    return []


def _model_faults(options: Mapping[str, Any]) -> list[str]:
    found = []
    if options.get("dtype") not in get_args(DType):
        found.append(f"model.dtype: expected one of {', '.join(get_args(DType))}, got {options.get('dtype')!r}")
    for key, known in (("placement", ("auto", *get_args(Placement))), ("compile", get_args(Compile))):
        if options.get(key) not in known:
            found.append(f"model.{key}: expected one of {', '.join(known)}, got {options.get(key)!r}")
    device = str(options.get("device"))
    if device != "auto":
        try:
            # Whether the device exists shows only when something is put there.
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as fault:
            reason = str(fault).splitlines()[0]
            found.append(f"model.device: {device!r} cannot be used here ({reason}); `auto` takes what there is")
    return found
