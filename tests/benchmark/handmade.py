"""A benchmark folder written by hand, of any space, whose truth is known: what the reading side needs, no logs."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from automerge.benchmark.encoder import encoder_content
from automerge.benchmark.ensemble import combine
from automerge.benchmark.folder import (
    BROKEN,
    ENCODER,
    ITEM_SECONDS,
    ITEMS,
    MERGE_SECONDS,
    METADATA,
    NEARNESS,
    SPACE,
    write_json,
    write_sums,
)
from automerge.benchmark.nearness import Nearness
from automerge.components import build
from automerge.protocols import Measures, Space
from automerge.recipe import COMPONENTS, OUTER

Values = NDArray[np.float64]

SIZES = {"math": {"search": 60, "test": 40}, "code": {"search": 50, "test": 40}}
LAYERWISE = {
    "_target_": "automerge.spaces.lfs.LayerwiseFusion",
    "methods": ["linear", "task_arithmetic", "ties"],
    "granularity": 2,
    "strengths": [0.5],
}
LAYOUT = {"sources": ["left", "right"], "n_layers": 4}
N_BAGS = 3
N_MODELS = 300


def measures(layout: Mapping[str, Any] = LAYOUT) -> Measures:
    """Norms that differ by layer and source, and numbers of parameters."""
    layers, n = range(layout["n_layers"]), len(layout["sources"])
    norms: dict[tuple[int | None, str], Values] = {(None, OUTER): np.full(n, 0.1)}
    norms |= {(layer, c): np.linspace(0.1, 0.2 + 0.01 * layer, n) for layer in layers for c in COMPONENTS}
    return Measures(norms, {None: 100, **dict.fromkeys(layers, 50)})


def bags(X: Values, y: Values, objective: str = "cross_entropy", n: int = N_BAGS) -> list[lightgbm.Booster]:
    """Small boosters, each trained on all rows but one fold."""
    options = {"num_leaves": 7, "learning_rate": 0.2, "num_threads": 1, "verbosity": -1, "feature_fraction": 0.5}
    fold = np.arange(len(X)) % n
    return [
        lightgbm.train(
            {**options, "objective": objective, "seed": bag},
            lightgbm.Dataset(X[fold != bag], label=y[fold != bag], params={"verbosity": -1}),
            20,
        )
        for bag in range(n)
    ]


def handmade(
    folder: Path,
    *,
    spec: Mapping[str, Any] = LAYERWISE,
    layout: Mapping[str, Any] = LAYOUT,
    tasks: tuple[str, ...] = ("math", "code"),
    truth: Callable[[Space, Values], Mapping[str, Values]] | None = None,
    breaks: bool = True,
    tested: bool = True,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """The folder; `truth` gives expected scores by task; `changes` replace entries of the metadata."""
    space: Space = build(spec, **layout)
    space = space.measured(measures(layout))
    X = space.sample(N_MODELS, np.random.default_rng(1))
    inputs = np.concatenate([space.features(X), X], axis=1)
    targets: dict[str, tuple[Values, str]] = {}
    for task, p in (truth or halves)(space, X).items():
        targets |= {f"{task}.search": (p, "cross_entropy"), f"{task}.test": (0.9 * p, "cross_entropy")}
    if not tested:
        targets = {name: target for name, target in targets.items() if not name.endswith("test")}
    if breaks:
        targets[BROKEN] = (np.where(X[:, -1] > np.quantile(X[:, -1], 0.8), 0.9, 0.05), "cross_entropy")
    targets[MERGE_SECONDS] = (0.02 + 0.01 * X[:, 1], "gamma")
    targets[ITEM_SECONDS] = (np.full(len(X), 0.001), "gamma")
    (folder / "models").mkdir(parents=True)
    models = {name: f"models/{k}.txt.gz" for k, name in enumerate(targets)}
    for name, (y, objective) in targets.items():
        (folder / models[name]).write_bytes(gzip.compress(combine(bags(inputs, y, objective)).encode()))
    Nearness.fit(space.features(X)).save(folder / NEARNESS)
    rng = np.random.default_rng(2)
    items = {
        task: {
            split: {"rows": rng.permutation(n)[: n - 5].tolist(), "difficulties": rng.normal(0, 1.5, n - 5).tolist()}
            for split, n in SIZES[task].items()
        }
        for task in tasks
    }
    metadata = {
        "schema": 2,
        "name": "handmade",
        "version": "1.0.0",
        "tasks": {task: {"chance": 0.25, "sizes": SIZES[task], "binary": True} for task in tasks},
        "objectives": [
            *({"name": task, "kind": "task", "weights": []} for task in tasks),
            {"name": "parameters", "kind": "cost", "weights": []},
        ],
        "models": models,
        "nearness": NEARNESS,
        "references": [_reference(space, name) for name in space.references()],
    }
    write_json(folder, METADATA, {**metadata, **(changes or {})})
    write_json(folder, ENCODER, encoder_content(space, spec, layout, measures(layout)))
    named = choices(space)
    genes = [
        {"name": gene.name, "lower": gene.lower, "upper": gene.upper, "choices": named[gene.name]}
        for gene in space.genes
    ]
    write_json(folder, SPACE, {"genes": genes})
    write_json(folder, ITEMS, items)
    write_sums(folder)
    return folder


def halves(space: Space, X: Values) -> dict[str, Values]:
    """`math` wants much of the first weights, `code` little of them."""
    real = X[:, [gene.n_choices == 0 and gene.role.startswith("weight") for gene in space.genes]]
    level = real[:, : max(1, real.shape[1] // 2)].mean(axis=1)
    return {"math": 0.2 + 0.6 * np.clip(level, 0, 1), "code": 0.8 - 0.6 * np.clip(level, 0, 1)}


def choices(space: Space) -> dict[str, list[str] | None]:
    """The names of the codes of every gene as ConfigSpace has them, None for a real gene."""
    named = space.to_configspace()
    return {gene.name: [*named[gene.name].choices] if gene.n_choices else None for gene in space.genes}


def _reference(space: Space, name: str) -> dict[str, Any]:
    import json

    known = space.references()[name]
    recipe = known.recipe if known.genotype is None else space.decode(known.genotype)
    assert recipe is not None
    return {
        "name": name,
        "kind": known.kind,
        "eligible": known.eligible,
        "status": "ok",
        "recipe": json.loads(recipe.to_json()),
        "genotype": None if known.genotype is None else known.genotype.tolist(),
        "results": {"math": {"search": [30.0, 60], "test": None}, "code": {"search": [10.0, 50], "test": [9.0, 40]}},
        "costs": {"layers": float(len(recipe.layers))},
    }
