"""A run on live models: everything checked and built from plain settings, searched over the log in its folder.

The settings are nested dictionaries as `conf/config.yaml` lays them out. All faults that can be seen without a model
in memory are listed together before anything long starts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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
from automerge.evaluate import Evaluator
from automerge.family import Family, open_family
from automerge.folders import companions
from automerge.log import RunLog
from automerge.measures import from_settings, measure, to_settings
from automerge.merge import ResidentSources
from automerge.model import ResidentModel, load_causal_lm
from automerge.parts import Parts, cost_objectives, listed, optimizer, rungs, score_objectives, search, versions
from automerge.protocols import Measures, Task
from automerge.recipe import BASE
from automerge.records import Orders
from automerge.resident.placement import gigabytes
from automerge.search import Budget
from automerge.start import Starts, read_starts
from automerge.task_vectors import TaskVectors, task_vectors

__all__ = ["LiveParts", "assemble", "search", "versions"]

QUICK = 4 * 10**9
"""Bytes of weights that are read although something else keeps a run from beginning."""

TRIED = 16
"""Recipes of the space of which one is tried on the live model before a search, if they stack layers."""


@dataclass(frozen=True, kw_only=True)
class LiveParts(Parts):
    """What a search is made of, with the models that answer its queries."""

    family: Family
    sources: ResidentSources
    vectors: TaskVectors
    model: ResidentModel


def assemble(settings: Mapping[str, Any], *, log: Path | None = None) -> LiveParts:
    """The parts that the settings describe, with the model loaded.

    Where a file `log` is there, the run goes on, and the sources' norms are those that it holds: taken anew on another
    device they may differ in their last bits, and with them what an optimizer chooses. Raises ValueError with the list
    of all faults if something is wrong.
    """
    settings = complete(settings)
    found = settings_faults(settings)
    if found:
        raise ValueError(listed("the settings", found))
    tasks, task_faults = _tasks(settings)
    try:
        budget = Budget(**settings["budget"])
    except ValueError as fault:
        task_faults.append(f"budget: {fault}")
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
            # Nothing will run, so the list may take its time to be whole, but not minutes.
            task_faults += _weight_faults(family)
    if task_faults or family is None:
        raise ValueError(listed("this run", task_faults) + source_faults)
    objectives = (*score_objectives(settings["weights"], tasks), *cost_objectives(settings["costs"]))
    constraints = tuple(read_constraints(settings["constraints"], tasks)[0])
    ladder = rungs(settings["fidelity"], tasks)
    proposing = {"objectives": objectives, "ladder": ladder, "constraints": constraints, "seed": int(settings["seed"])}
    # What refuses its options does so here, before minutes of loading; the one that searches knows the weights' sizes.
    optimizer(settings["optimizer"], space=space, **proposing)
    model = _resident(settings["model"], family, space.methods)
    vectors = task_vectors(model.sources)
    strangers = kinship_faults(vectors)
    if strangers:
        raise ValueError(listed("this run", strangers))
    measures = _as_logged(measure(model.sources, vectors), log)
    space = space.measured(measures)
    tried = space.sample(TRIED, np.random.default_rng(0))
    if unfit := stack_faults(model, [space.decode(genotype) for genotype in tried]):
        raise ValueError(listed("this space", unfit))
    orders: Orders = {}
    return LiveParts(
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
        optimizer=optimizer(settings["optimizer"], space=space, **proposing),
        runner=build(settings["runner"], evaluate=Evaluator(model, tasks, orders)),
        orders=orders,
        budget=budget,
        identity={
            "sources": model.sources.fingerprints,
            "folders": {name: companions(folder) for name, folder in family.folders.items()},
            "tasks": {name: task.fingerprint for name, task in tasks.items()},
            "start": {name: space.decode(genotype).id for name, genotype in starts.items()},
        },
        facts={
            "dtype": str(model.lm.model.dtype).removeprefix("torch."),
            "layout": {"sources": list(model.sources.names), "n_layers": model.sources.alignment.n_layers},
            "task_vectors": vectors.to_settings(),
            "measures": to_settings(measures),
            "chances": {name: task.chance for name, task in tasks.items()},
        },
    )


def _as_logged(measures: Measures, log: Path | None) -> Measures:
    """The measures with the norms of the log, where it is there and has norms of the same slots."""
    if log is None or not log.is_file():
        return measures
    with RunLog(log, read_only=True) as opened:
        stored = opened.settings()
    if "task_vectors" not in stored:
        return measures
    norms = from_settings(stored).norms
    # Other slots are those of other models, which `search` refuses by their fingerprints.
    shapes = {slot: values.shape for slot, values in measures.norms.items()}
    fits = shapes == {slot: values.shape for slot, values in norms.items()}
    return replace(measures, norms=norms) if fits else measures


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
    """What only the weights tell: entries that are not finite, sources that are no fine-tunes of the base.

    Of more than QUICK bytes, that they were not looked at.
    """
    n_bytes = sum(
        math.prod(shape) * source.dtypes[name].itemsize
        for source in family.sources
        for name, shape in source.shapes.items()
    )
    if n_bytes > QUICK:
        return [f"(the weights, {gigabytes(n_bytes)}, were not looked at yet: they are when the rest is mended)"]
    try:
        sources = ResidentSources(family.sources)
    except ValueError as fault:
        return [str(fault).replace("\n", "\n  ")]
    return kinship_faults(task_vectors(sources))
