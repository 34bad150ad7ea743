"""What a search will take: memory, seconds per candidate and altogether, disk. Measured in moments, then multiplied.

Every method of the space writes one slot, and the base is asked a few items of every task. So all figures are only
about right: a candidate writes no more than the slots that changed, and may answer at other length than the base.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from automerge.check.workload import Ends, Rates, Sizes, Work, candidate, evaluation, n_candidates, workload
from automerge.fidelity import Ladder
from automerge.merge import PASSTHROUGH, ResidentSources, Run
from automerge.model import ResidentModel
from automerge.protocols import Space, Task
from automerge.recipe import Fusion, Recipe
from automerge.resident.placement import Demand, free_bytes, gigabytes
from automerge.search import Budget
from automerge.stacking import in_place

ENOUGH = 0.25
"""Seconds after which a measurement is long enough."""

PATIENCE = 60.0
"""Seconds that measuring a task may take if its next step takes four times as long as the last."""

FILLED = 2.0
"""By how much longer four times as many items take once the batches of a device are full."""

SAMPLED = 32
"""Random recipes that tell which methods a space uses and how often, and how long recipes are."""

SCORE_BYTES = 16
"""Bytes in the log for an item's score: its row number and its value."""

EVALUATION_BYTES = 700
"""Bytes in the log for an evaluation beside its items."""

RESULT_BYTES = 10**7
"""Bytes of report and benchmark, which hardly grow with the run: most are plotly.js and the trees."""


class MergeTime(NamedTuple):
    """Seconds to write all slots of a model, and seconds that its methods take once to learn about all tensors."""

    seconds: float
    preparation: float


@dataclass(frozen=True)
class Estimate:
    """About what a search takes; `rates` are those of its candidates.

    `by_rung` gives the seconds of one candidate up to each number of items, `phases` those of every phase. `demand` is
    what weights need in memory, `copies` what layers take that stacks refer to in another dtype than their source's,
    `free_memory` what is free with the sources loaded; `run`, `export` and `free_disk` are bytes: of the run's folder,
    of an exported model, and of the disk of `folder`.
    """

    rates: Rates
    preparation: float
    candidates: int
    by_rung: Mapping[int, float]
    phases: Mapping[str, float]
    demand: Demand
    copies: int
    free_memory: int
    run: int
    export: int
    free_disk: int
    folder: Path

    @property
    def seconds(self) -> float:
        """Seconds of the whole run."""
        return self.preparation + sum(self.phases.values())

    def lines(self) -> list[str]:
        """The estimate in two lines."""
        rungs = dict.fromkeys((min(self.by_rung), max(self.by_rung)))
        each = " and ".join(f"{duration(self.by_rung[rung])} on {rung}" for rung in rungs)
        return [
            f"about {duration(self.seconds)} in all: {self.candidates} candidates, each taking {each} items per task",
            f"about {gigabytes(self.run)} of disk for the run folder and {gigabytes(self.export)} for an exported "
            f"model, {gigabytes(self.free_disk)} are free",
        ]

    def warnings(self) -> list[str]:
        """What will run out."""
        found = []
        if self.demand.masks > self.free_memory:
            found.append(
                f"the masks of random methods take {gigabytes(self.demand.masks)}, but only "
                f"{gigabytes(self.free_memory)} are free; search methods without masks or take a larger device"
            )
        if self.copies > self.free_memory:
            found.append(
                f"the layers of all sources in the dtype of the computation take {gigabytes(self.copies)}, but only "
                f"{gigabytes(self.free_memory)} are free, so stacks will copy layers for every candidate; set "
                "model.dtype to that of the checkpoints"
            )
        if self.run > self.free_disk:
            found.append(
                f"the run folder takes about {gigabytes(self.run)}, but {self.folder} has only "
                f"{gigabytes(self.free_disk)} free; free some space, or put the run on another disk by hydra.run.dir"
            )
        elif self.run + self.export > self.free_disk:
            found.append(
                f"an exported model takes about {gigabytes(self.export)}, but {self.folder} has only "
                f"{gigabytes(self.free_disk)} free; export to another disk"
            )
        return found


def estimate(
    model: ResidentModel,
    tasks: Mapping[str, Task],
    space: Space,
    ladder: Ladder,
    budget: Budget,
    *,
    n_verify: int,
    n_recommend: int,
    n_given: int = 0,
    test_items: int | None,
    n_workers: int,
    folder: Path,
) -> Estimate:
    """What a search of these parts takes, with the base still in the live model.

    `n_given` recipes come beside the space's references; `folder` is where the run will be; it need not exist. Raises
    InvalidModelError if the base's outputs are broken.
    """
    genotypes = space.sample(SAMPLED, np.random.default_rng(0))
    recipes = [space.decode(genotype) for genotype in genotypes]
    merge = merge_time(model.sources, recipes)
    rates = Rates(merge.seconds, {name: item_seconds(model, task, ladder.rungs[0]) for name, task in tasks.items()})
    # The base was asked; candidates take longer by as much as they are deeper.
    n_layers = model.sources.alignment.n_layers
    depth = float(np.mean([len(recipe.layers) for recipe in recipes])) / n_layers
    own = Rates(merge.seconds, {name: depth * seconds for name, seconds in rates.items.items()})
    sizes = Sizes(
        search={name: task.size("search") for name, task in tasks.items()},
        test={name: min(task.size("test"), test_items or task.size("test")) for name, task in tasks.items()},
    )
    candidates = n_candidates(candidate(sizes.search, ladder), budget, own, n_workers=n_workers)
    ends = Ends(references=len(space.references()) + n_given, verify=n_verify, recommend=n_recommend)
    work = workload(sizes, ladder, ends, candidates)
    nearest = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    recipe_bytes = float(np.mean([len(recipe.to_json()) for recipe in recipes])) + genotypes[0].nbytes
    return Estimate(
        rates=own,
        preparation=merge.preparation,
        candidates=candidates,
        by_rung={rung: own.seconds(evaluation(sizes.search, 0, rung)) for rung in ladder.rungs},
        phases={
            # References, verification and test ask for one model after the other, whatever the number of workers.
            name: (rates if name == "reference models" else own).seconds(part) / (n_workers if name == "search" else 1)
            for name, part in work.items()
        },
        demand=model.sources.demand,
        copies=model.n_bytes_of_copies() if any(not in_place(recipe, n_layers) for recipe in recipes) else 0,
        free_memory=free_bytes(model.sources.device),
        run=_run_bytes(work, (candidates + ends.references) * recipe_bytes),
        export=sum(block.size * block.dtype.itemsize for blocks in model.sources.layout.values() for block in blocks),
        free_disk=shutil.disk_usage(nearest).free,
        folder=nearest,
    )


def merge_time(sources: ResidentSources, recipes: Sequence[Recipe]) -> MergeTime:
    """The time to write a model of such recipes.

    Each of their methods writes the largest slot within a layer twice, into memory of its own; the first time includes
    what the method has to learn of the tensors. Methods weigh by how often the recipes use them; what a stack passes
    through is only referred to.
    """
    sizes = {slot: sum(block.size for block in blocks) for slot, blocks in sources.layout.items()}
    component = max((slot for slot in sizes if slot[0] is not None), key=lambda slot: sizes[slot])[1]
    examples: dict[str, list[Fusion]] = {}
    n_fusions = 0
    for recipe in recipes:
        stacked = not in_place(recipe, sources.alignment.n_layers)
        for (_, own), fusion in recipe.fusions():
            if own == component and sizes.get((fusion.inputs[0].layer, own)):
                n_fusions += 1
                if not (stacked and fusion.method == PASSTHROUGH):
                    examples.setdefault(fusion.method, []).append(fusion)
    seconds = preparation = 0.0
    for fusions in examples.values():
        # Those that read most take longest; a lone input may be a mere copy.
        fusion = max(fusions, key=lambda each: len(each.inputs))
        slot = (fusion.inputs[0].layer, component)
        runs = [
            [Run(0, block.size, torch.empty(block.size, dtype=block.dtype, device=sources.device))]
            for block in sources.layout[slot]
        ]
        first, second = (_seconds(sources.device, partial(sources.write, fusion, component, runs)) for _ in range(2))
        scale = sum(sizes.values()) / sizes[slot]
        seconds += second * scale * len(fusions) / n_fusions
        preparation += max(0.0, first - second) * scale
    return MergeTime(seconds, preparation)


def item_seconds(model: ResidentModel, task: Task, most: int) -> float:
    """Seconds per item of the task with the model as it is, from at most `most` items spread over its data."""
    most = min(most, task.size("search"))
    n, before, spent = 1, math.inf, 0.0
    while True:
        items = [int(item) for item in np.linspace(0, task.size("search") - 1, n)]
        seconds = _seconds(model.sources.device, partial(task.score, model.lm, "search", items))
        spent += seconds
        # A single item may be warming up, and a batch that is not full takes a device as long as a full one.
        is_full = seconds > ENOUGH and seconds >= FILLED * before
        if n == most or is_full or spent + 4 * seconds > PATIENCE:
            return seconds / n
        n, before = min(4 * n, most), seconds


def duration(seconds: float) -> str:
    """The time as people say it, with two digits: `12 ms`, `45 s`, `12 min`, `3.5 h`."""
    for size, unit, least in ((3600, "h", 1.5), (60, "min", 1.5), (1, "s", 0.1)):
        if seconds >= least * size:
            return f"{float(f'{seconds / size:.2g}'):g} {unit}"
    return f"{float(f'{1000 * seconds:.2g}'):g} ms"


def _run_bytes(work: Mapping[str, Work], recipe_bytes: float) -> int:
    n_items = sum(part.n_items for part in work.values())
    n_evaluations = sum(part.evaluations for part in work.values())
    return round(SCORE_BYTES * n_items + EVALUATION_BYTES * n_evaluations + recipe_bytes + RESULT_BYTES)


def _seconds(device: torch.device, action: Callable[[], object]) -> float:
    """Seconds until the action is done on the device too."""
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
