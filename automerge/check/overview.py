"""What a search starts from, as tables for the terminal: its sources, how they relate, and what it will take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from rich.markup import escape
from rich.table import Table

from automerge.alignment import Alignment
from automerge.check.estimate import Estimate, duration
from automerge.check.kinship import layer_distances
from automerge.family import Family
from automerge.folders import headers
from automerge.lora.settings import WEIGHTS
from automerge.resident.placement import gigabytes
from automerge.sources.adapter import is_adapter
from automerge.sources.checkpoint import CheckpointSource
from automerge.task_vectors import TaskVectors

NAMED = 4
"""Tensors that are named before the rest is counted."""


SPREAD = (np.nanmin, np.nanmedian, np.nanmax)
"""What is shown of the distances of all layers."""


class Stored(NamedTuple):
    """What a source's folder holds: whole weights or an adapter, their dtypes, and the number of parameters."""

    name: str
    folder: Path
    kind: Literal["checkpoint", "adapter"]
    dtypes: tuple[str, ...]
    n_parameters: int


def stored(name: str, folder: Path) -> Stored:
    """What the headers of a source's weights tell."""
    adapter = is_adapter(folder)
    if adapter:
        sizes = [(header.shape, header.dtype) for header in headers(folder / WEIGHTS).values()]
    else:
        source = CheckpointSource(name, str(folder))
        sizes = [(source.shapes[tensor], source.dtypes[tensor]) for tensor in source.shapes]
    weights = [(shape, dtype) for shape, dtype in sizes if dtype.is_floating_point]
    return Stored(
        name=name,
        folder=folder,
        kind="adapter" if adapter else "checkpoint",
        dtypes=tuple(sorted({str(dtype).removeprefix("torch.") for _, dtype in weights})),
        n_parameters=sum(int(np.prod(shape)) for shape, _ in weights),
    )


def sources_table(family: Family, vectors: TaskVectors) -> Table:
    """The sources with their distances from the base, which are those of attention and mlp over the layers."""
    table = Table(title="sources, with distances from the base by layer, relative to its weights", title_justify="left")
    for column in ("name", "kind", "dtype"):
        table.add_column(column)
    for column in ("parameters", "min", "median", "max"):
        table.add_column(column, justify="right")
    distances = dict(zip(vectors.sources, layer_distances(vectors).T, strict=True))
    for name, folder in family.folders.items():
        row = stored(name, folder)
        spread = [f"{reduce(distances[name]):.3f}" for reduce in SPREAD] if name in distances else [""] * len(SPREAD)
        cells = (row.name, row.kind, ", ".join(row.dtypes), _count(row.n_parameters), *spread)
        table.add_row(*map(escape, cells))
    return table


def cosines_table(vectors: TaskVectors) -> Table | None:
    """The cosines between the task vectors of the whole model; None for a lone source."""
    if len(vectors.sources) < 2:
        return None
    table = Table(title="cosines between task vectors", title_justify="left")
    table.add_column("")
    for name in vectors.sources[:-1]:
        table.add_column(escape(name), justify="right")
    cosines = vectors.whole().cosines
    for row, name in enumerate(vectors.sources[1:], start=1):
        table.add_row(escape(name), *(_number(cosines[row, column]) for column in range(row)))
    return table


def estimate_table(found: Estimate) -> Table:
    """What the search takes, line by line."""
    table = Table(title="about what the search takes", title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("how much", overflow="fold")
    for what, how_much in _estimate_rows(found):
        table.add_row(escape(what), escape(how_much))
    return table


def layout_notes(alignment: Alignment, *, tied: bool) -> list[str]:
    """Sentences on tied embeddings, and on tensors whose names tell no component."""
    copied = "".join(f"; the stored {head} repeats {embedding}" for head, embedding in alignment.copies.items())
    found = [f"head and embedding are {f'one tensor{copied}' if tied or copied else 'two tensors'}"]
    if alignment.unknown:
        rest = f" and {len(alignment.unknown) - NAMED} more" if len(alignment.unknown) > NAMED else ""
        found.append(
            f"the names of {len(alignment.unknown)} tensors within layers tell neither attention nor mlp nor norm, so "
            f"they are merged with `other`: {', '.join(alignment.unknown[:NAMED])}{rest}"
        )
    return found


def _estimate_rows(found: Estimate) -> Iterator[tuple[str, str]]:
    demand = found.demand
    needs = [f"sources {gigabytes(demand.sources)}", f"candidate {gigabytes(demand.candidate)}"]
    needs += [f"masks {gigabytes(demand.masks)}"] if demand.masks else []
    yield "memory", f"{', '.join(needs)}; {gigabytes(found.free_memory)} still free"
    yield "merging a whole model", duration(found.rates.merge)
    yield "learning about the weights, once", duration(found.preparation)
    for task, seconds in found.rates.items.items():
        yield f"an item of {task}", duration(seconds)
    for rung, seconds in found.by_rung.items():
        yield f"a candidate on {rung} items per task", duration(seconds)
    for phase, seconds in found.phases.items():
        yield f"{phase}, {found.candidates} candidates" if phase == "search" else phase, duration(seconds)
    yield "all of it", duration(found.seconds)
    yield (
        "disk",
        (
            f"run folder {gigabytes(found.run)}, an exported model {gigabytes(found.export)}; "
            f"{gigabytes(found.free_disk)} free in {found.folder}"
        ),
    )


def _count(n: int) -> str:
    """A number of parameters: `7.24 B`, `135 M`, `0.89 M`."""
    return f"{n / 1e9:.2f} B" if n >= 1e9 else f"{n / 1e6:.3g} M"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"
