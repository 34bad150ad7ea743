"""What `automerge check` shows, read off rendered tables."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from automerge.alignment import align
from automerge.check.estimate import Estimate
from automerge.check.kinship import layer_distances
from automerge.check.overview import cosines_table, estimate_table, layout_notes, sources_table, stored
from automerge.check.workload import Rates
from automerge.family import Family, open_family
from automerge.merge import ResidentSources
from automerge.resident.placement import Demand
from automerge.sources.memory import MemorySource
from automerge.task_vectors import TaskVectors, task_vectors
from tests.adapters import make_adapter


def shown(table: Table) -> list[list[str]]:
    """The cells of a rendered table, row by row."""
    console = Console(width=200, record=True, file=StringIO())
    console.print(table)
    lines = re.findall(r"[│┃](.*)[│┃]", console.export_text())
    return [[cell.strip() for cell in re.split("[│┃]", line)] for line in lines]


@pytest.fixture
def family(qwen2: dict[str, Path], tmp_path: Path) -> Family:
    folder = make_adapter(qwen2["base"], tmp_path / "adapter", r=2, target_modules=["q_proj", "v_proj"])
    models = {"left": str(qwen2["left"]), "lora": str(folder)}
    return open_family({"base": str(qwen2["base"]), "models": models}, trust_remote_code=False)


@pytest.fixture
def vectors(family: Family) -> TaskVectors:
    return task_vectors(ResidentSources(family.sources))


def test_kind_dtype_and_parameters_are_those_in_the_folder(family: Family) -> None:
    base, lora = stored("base", family.base), stored("lora", family.folders["lora"])
    assert (base.kind, base.dtypes) == ("checkpoint", ("bfloat16",))
    embedding, attention, mlp = 28 * 16, 16 * 16 * 2 + 2 * 16 * 8 + 16 + 2 * 8, 3 * 16 * 32
    assert base.n_parameters == embedding + 3 * (attention + mlp + 2 * 16) + 16
    # A pair of factors of rank 2 on q (16 to 16) and v (16 to 8), in three layers.
    assert (lora.kind, lora.dtypes, lora.n_parameters) == ("adapter", ("float32",), 3 * 2 * (16 + 16 + 16 + 8))


def test_sources_are_listed_with_the_spread_of_their_distances(family: Family, vectors: TaskVectors) -> None:
    heads, base, left, lora = shown(sources_table(family, vectors))
    assert heads == ["name", "kind", "dtype", "parameters", "min", "median", "max"]
    assert base[:3] + base[4:] == ["base", "checkpoint", "bfloat16", "", "", ""]
    distances = sorted(layer_distances(vectors)[:, 0])
    assert left[4:] == [f"{distance:.3f}" for distance in distances]
    assert lora[:2] == ["lora", "adapter"]


def test_cosines_are_a_triangle_and_none_for_a_lone_source(vectors: TaskVectors) -> None:
    table = cosines_table(vectors)
    assert table is not None
    assert shown(table) == [["", "left"], ["lora", f"{vectors.whole().cosines[0, 1]:.2f}"]]
    lone = TaskVectors(("a",), {(0, "mlp"): ((1.0, 0.0), (0.0, 1.0))})
    assert cosines_table(lone) is None


def test_estimates_are_told_line_by_line() -> None:
    found = Estimate(
        rates=Rates(0.1, {"sums": 0.01}),
        preparation=1.0,
        candidates=10,
        by_rung={30: 0.4, 90: 1.0},
        phases={"search": 100.0, "test": 20.0},
        demand=Demand(sources=10**9, candidate=10**9, masks=0),
        copies=0,
        free_memory=10**9,
        run=10**7,
        export=10**9,
        free_disk=10**10,
        folder=Path("/data"),
    )
    assert shown(estimate_table(found)) == [
        ["memory", "sources 1.0 GB, candidate 1.0 GB; 1.0 GB still free"],
        ["merging a whole model", "0.1 s"],
        ["learning about the weights, once", "1 s"],
        ["an item of sums", "10 ms"],
        ["a candidate on 30 items per task", "0.4 s"],
        ["a candidate on 90 items per task", "1 s"],
        ["search, 10 candidates", "1.7 min"],
        ["test", "20 s"],
        ["all of it", "2 min"],
        ["disk", "run folder 10.0 MB, an exported model 1.0 GB; 10.0 GB free in /data"],
    ]


def test_tied_embeddings_and_unknown_tensors_are_told(family: Family) -> None:
    layout = align(family.sources)
    assert layout_notes(layout, tied=True) == ["head and embedding are one tensor"]
    assert layout_notes(layout, tied=False) == ["head and embedding are two tensors"]


def test_a_stored_copy_of_the_embedding_and_strange_names_are_told() -> None:
    import torch

    embedding = torch.ones(4, 2)
    tensors = {"model.embed_tokens.weight": embedding, "lm_head.weight": embedding.clone()}
    tensors |= {f"model.layers.0.thing{k}.weight": torch.ones(2) for k in range(6)}
    layout = align([MemorySource("base", tensors), MemorySource("left", tensors)])
    tied, unknown = layout_notes(layout, tied=False)
    assert tied == "head and embedding are one tensor; the stored lm_head.weight repeats model.embed_tokens.weight"
    assert unknown.startswith("the names of 6 tensors within layers tell neither attention nor mlp nor norm")
    assert unknown.endswith("model.layers.0.thing3.weight and 2 more")
