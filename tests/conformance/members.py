"""Every member of every folder, built for its conformance suite. A new member is one new row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pkgutil import iter_modules

from safetensors.torch import load_file

from automerge import methods
from automerge.fidelity import Ladder
from automerge.optimizers.evolution import Evolution
from automerge.optimizers.random_search import RandomSearch
from automerge.protocols import Optimizer, Source, Space, Task
from automerge.records import Objective
from automerge.sources.adapter import AdapterSource
from automerge.sources.checkpoint import CheckpointSource
from automerge.sources.memory import MemorySource
from automerge.spaces.lfs import LayerwiseFusion
from automerge.tasks.exact_continuation import ExactContinuation
from automerge.tasks.generation import Generation
from automerge.tasks.multiple_choice import MultipleChoice
from tests import adapters
from tests.toy import copy_rows, write_jsonl


def modules(folder: object) -> set[str]:
    """Names of the modules in a package's folder."""
    return {module.name for module in iter_modules(folder.__path__)}  # type: ignore[attr-defined]


def lfs(**options: object) -> Space:
    """A small LFS space."""
    return LayerwiseFusion(sources=["left", "right"], n_layers=4, **options)  # type: ignore[arg-type]


SPACES: dict[str, Callable[[], Space]] = {
    "lfs": lfs,
    "lfs, tied components": lambda: lfs(components=["layer"], granularity=2),
    "lfs, task arithmetic": lambda: lfs(methods=["task_arithmetic"]),
    "lfs, ties": lambda: lfs(methods=["ties"]),
    "lfs, dare and task arithmetic": lambda: lfs(methods=["dare_ties", "task_arithmetic"]),
    "lfs, slerp": lambda: lfs(methods=["slerp"]),
    "lfs, linear": lambda: lfs(methods=["linear"]),
    "lfs, four sources": lambda: LayerwiseFusion(sources=["a", "b", "c", "d"], n_layers=2, max_weight=1.0),
    "lfs, three sources": lambda: LayerwiseFusion(sources=["a", "b", "c"], n_layers=3, granularity=2),
    "lfs, every method": lambda: LayerwiseFusion(
        sources=["a", "b", "c"], n_layers=3, methods=[name for name in methods.names() if name != "passthrough"]
    ),
    "lfs, spherical methods": lambda: lfs(methods=["nuslerp", "karcher", "model_stock", "sce"]),
    "lfs, one source": lambda: LayerwiseFusion(sources=["a"], n_layers=3),
}

OptimizerFactory = Callable[[Space, Sequence[Objective], Ladder, int], Optimizer]

OPTIMIZERS: dict[str, OptimizerFactory] = {
    "evolution": lambda s, o, ladder, seed: Evolution(space=s, objectives=o, ladder=ladder, seed=seed, n_initial=6),
    "random_search": lambda s, o, ladder, seed: RandomSearch(space=s, objectives=o, ladder=ladder, seed=seed),
    "random_search, full": lambda s, o, ladder, seed: RandomSearch(
        space=s, objectives=o, ladder=ladder, seed=seed, halving=False
    ),
}


SourceFactory = Callable[[Mapping[str, Path], Path], Source]


def _adapter(folders: Mapping[str, Path], scratch: Path) -> Source:
    base = CheckpointSource("base", str(folders["base"]))
    folder = adapters.make_adapter(folders["base"], scratch / "adapter")
    return AdapterSource("left", str(folder), base=base)


SOURCES: dict[str, SourceFactory] = {
    "checkpoint": lambda folders, _: CheckpointSource("left", str(folders["left"])),
    "memory": lambda folders, _: MemorySource("left", load_file(folders["left"] / "model.safetensors")),
    "adapter": _adapter,
}


def make_tasks(folder: Path, first: int = 1) -> dict[str, Task]:
    """One task of each kind over the same toy prompts."""

    def rows(seed: int) -> list[dict[str, object]]:
        items = []
        for row in copy_rows(12, seed):
            letters = sorted(c for c in row["prompt"] if c.isalpha())
            items.append(
                {
                    "prompt": row["prompt"],
                    "answer": "".join(letters),
                    "choices": [letters[0], "9"] if seed % 2 else ["9", letters[0]],
                    "label": 0 if seed % 2 else 1,
                }
            )
        return items

    search = {"path": str(write_jsonl(folder / "search.jsonl", rows(first)))}
    test = {"path": str(write_jsonl(folder / "test.jsonl", rows(2)))}
    common = {"search": search, "test": test, "prompt": "{{ prompt }}"}
    return {
        "exact_continuation": ExactContinuation(name="exact_continuation", answer="{{ answer }}", **common),  # type: ignore[arg-type]
        "multiple_choice": MultipleChoice(name="multiple_choice", **common),  # type: ignore[arg-type]
        "generation": Generation(name="generation", answer="{{ answer }}", max_new_tokens=12, **common),  # type: ignore[arg-type]
    }
