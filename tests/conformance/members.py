"""Every member of every folder, built for its conformance suite. A new member is one new row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pkgutil import iter_modules

from safetensors.torch import load_file

from automerge import methods
from automerge.fidelity import Ladder
from automerge.optimizers.bayes_evolution import BayesEvolution
from automerge.optimizers.catcma import CatCma
from automerge.optimizers.evolution import Evolution
from automerge.optimizers.optuna_nsga2 import OptunaNsga2
from automerge.optimizers.pymoo_cma_es import PymooCmaEs
from automerge.optimizers.pymoo_de import PymooDe
from automerge.optimizers.pymoo_nsga2 import PymooNsga2
from automerge.optimizers.qnehvi import QNoisyExpectedHypervolume
from automerge.optimizers.random_search import RandomSearch
from automerge.optimizers.sep_cma import SepCma
from automerge.optimizers.smac import Smac
from automerge.optimizers.space_filling import SpaceFilling
from automerge.optimizers.tpe import Tpe
from automerge.optimizers.uniform_grid import UniformGrid
from automerge.protocols import Optimizer, Runner, Source, Space, Task
from automerge.records import Evaluation, Objective, Query
from automerge.runners.serial import SerialRunner
from automerge.runners.virtual import VirtualRunner
from automerge.sources.adapter import AdapterSource
from automerge.sources.checkpoint import CheckpointSource
from automerge.sources.memory import MemorySource
from automerge.spaces.dis import DepthIntegration
from automerge.spaces.lfs import LayerwiseFusion
from automerge.spaces.smm_dfs import SmmDataFlowSpace
from automerge.spaces.smm_ps import SmmParameterSpace
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


def dis(**options: object) -> Space:
    """A small DIS space."""
    return DepthIntegration(**{"sources": ["left", "right"], "n_layers": 6, **options})  # type: ignore[arg-type]


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
    "smm_ps": lambda: SmmParameterSpace(sources=["left", "right"], n_layers=4),
    "smm_ps, three sources by source": lambda: SmmParameterSpace(
        sources=["a", "b", "c"], n_layers=3, order="source", uniform=True, outer_weight=0.0
    ),
    "smm_ps, one source": lambda: SmmParameterSpace(sources=["a"], n_layers=3),
    "smm_dfs": lambda: SmmDataFlowSpace(sources=["left", "right"], n_layers=4),
    "smm_dfs, outer part of a source": lambda: SmmDataFlowSpace(sources=["a", "b"], n_layers=32, outer="b"),
    "smm_dfs, uniform": lambda: SmmDataFlowSpace(sources=["a", "b"], n_layers=32, uniform=True),
    "dis": dis,
    "dis, shorter last group": lambda: dis(n_layers=7, granularity=2, methods=["linear"]),
    "dis, fused blocks": lambda: dis(methods=["linear", "ties", "task_arithmetic"], max_repeats=1),
    "dis, prune": lambda: dis(methods=["task_arithmetic"], max_blocks=1, max_layers=6, min_layers=4),
    "dis, fewer layers than the sources": lambda: dis(methods=["task_arithmetic"], max_blocks=1, max_layers=4),
    "dis, scaled mlp": lambda: dis(scaling="branch_mlp"),
    "dis, no scales": lambda: dis(n_layers=8, scaling=None, methods=["slerp"]),
    "dis, fixed layers": lambda: dis(n_layers=8, granularity=2, fixed_first=1, fixed_last=2),
    "dis, one source": lambda: dis(sources=["a"], n_layers=8),
    "dis, three sources": lambda: dis(sources=["a", "b", "c"], max_blocks=3, max_layers=12, max_repeats=3),
}

OptimizerFactory = Callable[[Space, Sequence[Objective], Ladder, int], Optimizer]

OPTIMIZERS: dict[str, OptimizerFactory] = {
    "bayes_evolution": lambda s, o, ladder, seed: BayesEvolution(
        space=s, objectives=o, ladder=ladder, seed=seed, n_initial=4, n_generations=2, n_children=20
    ),
    "bayes_evolution, raw and whole": lambda s, o, ladder, seed: BayesEvolution(
        space=s,
        objectives=o,
        ladder=ladder,
        seed=seed,
        n_initial=4,
        n_generations=2,
        n_children=20,
        features=False,
        block_operators=False,
        rungs=False,
        correlations=False,
    ),
    "evolution": lambda s, o, ladder, seed: Evolution(space=s, objectives=o, ladder=ladder, seed=seed, n_initial=6),
    "random_search": lambda s, o, ladder, seed: RandomSearch(space=s, objectives=o, ladder=ladder, seed=seed),
    "random_search, full": lambda s, o, ladder, seed: RandomSearch(
        space=s, objectives=o, ladder=ladder, seed=seed, halving=False
    ),
    "random_search, tied": lambda s, o, ladder, seed: RandomSearch(
        space=s, objectives=o, ladder=ladder, seed=seed, tied=True
    ),
    "space_filling": lambda s, o, ladder, seed: SpaceFilling(space=s, objectives=o, ladder=ladder, seed=seed),
    "uniform_grid": lambda s, o, ladder, seed: UniformGrid(space=s, objectives=o, ladder=ladder, seed=seed),
    "tpe": lambda s, o, ladder, seed: Tpe(space=s, objectives=o, ladder=ladder, seed=seed, n_initial=12),
    "optuna_nsga2": lambda s, o, ladder, seed: OptunaNsga2(
        space=s, objectives=o, ladder=ladder, seed=seed, population=8
    ),
    "sep_cma": lambda s, o, ladder, seed: SepCma(space=s, objectives=o, ladder=ladder, seed=seed, population=6),
    "catcma": lambda s, o, ladder, seed: CatCma(space=s, objectives=o, ladder=ladder, seed=seed, population=6),
    "pymoo_de": lambda s, o, ladder, seed: PymooDe(space=s, objectives=o, ladder=ladder, seed=seed, population=6),
    "pymoo_cma_es": lambda s, o, ladder, seed: PymooCmaEs(
        space=s, objectives=o, ladder=ladder, seed=seed, population=6
    ),
    "pymoo_nsga2": lambda s, o, ladder, seed: PymooNsga2(space=s, objectives=o, ladder=ladder, seed=seed, population=6),
    "smac": lambda s, o, ladder, seed: Smac(
        space=s, objectives=o, ladder=ladder, seed=seed, n_initial=12, challengers=50, local_searches=1
    ),
    "smac, flat": lambda s, o, ladder, seed: Smac(
        space=s, objectives=o, ladder=ladder, seed=seed, flat=True, n_initial=12, challengers=50, local_searches=1
    ),
    "qnehvi": lambda s, o, ladder, seed: QNoisyExpectedHypervolume(
        space=s, objectives=o, ladder=ladder, seed=seed, n_initial=26, n_restarts=1, raw_samples=8, mc_samples=4
    ),
}


RunnerFactory = Callable[[Callable[[Query], Evaluation]], Runner]

RUNNERS: dict[str, RunnerFactory] = {
    "serial": SerialRunner,
    "virtual": VirtualRunner,
    "virtual, three workers": lambda evaluate: VirtualRunner(evaluate, n_workers=3),
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
