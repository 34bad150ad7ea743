"""A recipe as an ordinary Hugging Face folder, which plain `transformers` loads and which scores as logged.

The folder appears whole or not at all: it is written beside its place and renamed at the end.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from automerge.history import History
from automerge.log import LOG, RunLog
from automerge.merge import ResidentSources
from automerge.pareto import interval
from automerge.recipe import BASE, Recipe
from automerge.records import Result
from automerge.sources.checkpoint import CheckpointSource

COPIED = (
    "config.json",
    "generation_config.json",
    "*.model",
    "tokenizer*",
    "special_tokens_map.json",
    "vocab*",
    "merges*",
    "added_tokens.json",
    "chat_template*",
)
"""Files of the base that the merged model takes over."""

SHARD_BYTES = 5 * 10**9
"""Largest size of a weight file."""


def export_run(run: Path, to: Path, *, point: int | None = None, trial: int | None = None) -> None:
    """Writes the model of a run's recommended point (from 1), or of any of its trials, into the new folder `to`.

    Raises FileExistsError if the folder exists, ValueError for a number that the run does not have.
    """
    with RunLog(run / LOG, read_only=True) as log:
        history = History.of(log)
        settings = log.settings()
    if point is not None:
        if not history.recommended:
            raise ValueError(f"the run has not ended, so it recommends nothing yet: automerge search --resume {run}")
        if not 1 <= point <= len(history.recommended):
            raise ValueError(
                f"the run recommends points 1..{len(history.recommended)}, got {point}; see its report.html"
            )
        trial = history.recommended[point - 1]
    if trial is None or trial not in history.trials:
        raise ValueError(f"the run has trials 0..{len(history.trials) - 1}, got {trial}")
    source = settings["config"]["source"]
    paths = {BASE: source["base"], **source["models"]}
    revisions = source.get("revisions") or {}
    sources = [CheckpointSource(name, str(path), revision=revisions.get(name)) for name, path in paths.items()]
    known = settings.get("identity", {}).get("sources")
    export_recipe(history.trials[trial].recipe, sources, to, card=_card(history, settings, trial), fingerprints=known)


def export_recipe(
    recipe: Recipe,
    sources: list[CheckpointSource],
    to: Path,
    *,
    card: str,
    fingerprints: Mapping[str, str] | None = None,
) -> None:
    """Writes the merged model into the new folder `to`: weights, the base's config and tokenizer, recipe, card.

    Raises FileExistsError if the folder exists, ValueError if sources are not those with the given fingerprints.
    """
    if to.exists():
        raise FileExistsError(f"{to} exists; name a new folder")
    base = next(source for source in sources if source.name == BASE)
    resident = ResidentSources(sources)
    resident.check(recipe)
    changed = [name for name, known in (fingerprints or {}).items() if resident.fingerprints.get(name) != known]
    if changed:
        raise ValueError(
            f"the weights of {', '.join(changed)} are not those that were searched, so the scores would not be the "
            "model's; put the old weights back, or search again"
        )
    to.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
    try:
        for pattern in COPIED:
            for path in base.folder.glob(pattern):
                shutil.copy(path, unfinished / path.name)
        config = json.loads((base.folder / "config.json").read_text())
        _save_weights(resident, recipe, unfinished)
        config["num_hidden_layers" if "num_hidden_layers" in config else "n_layer"] = len(recipe.layers)
        (unfinished / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (unfinished / "recipe.json").write_text(json.dumps(json.loads(recipe.to_json()), indent=1) + "\n")
        (unfinished / "README.md").write_text(card)
        # mkdtemp makes folders private; a model folder is as readable as its neighbours.
        unfinished.chmod(0o755)
        unfinished.rename(to)
    except BaseException:
        shutil.rmtree(unfinished)
        raise


def _save_weights(resident: ResidentSources, recipe: Recipe, folder: Path) -> None:
    state = {name: tensor.contiguous().cpu() for name, tensor in resident.state_dict(recipe).items()}
    shards: list[dict[str, Any]] = [{}]
    size = 0
    for name, tensor in state.items():
        n_bytes = tensor.numel() * tensor.element_size()
        if shards[-1] and size + n_bytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += n_bytes
    if len(shards) == 1:
        save_file(shards[0], folder / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, file))
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _card(history: History, settings: dict[str, Any], trial: int) -> str:
    """The model card: what was merged, how, and what it scored."""
    chosen = history.trials[trial]
    source = settings["config"]["source"]
    methods = sorted({fusion.method for _, fusion in chosen.recipe.fusions()})
    rows = []
    for objective in history.objectives:
        if objective.kind == "task":
            tested = history.tests.get(trial, {}).get(objective.name)
            rows.append(f"| {objective.name} | {_share(chosen.results.get(objective.name))} | {_share(tested)} |")
        else:
            value = f"{chosen.costs.get(objective.name, float('nan')):g}"
            rows.append(f"| {objective.name} | {value} | {value} |")
    versions = settings.get("versions", {})
    models = "\n".join(f"- {name}: `{path}`" for name, path in source["models"].items())
    return f"""---
library_name: transformers
tags: [merge, automerge]
---
# A merge found by automerge

Base: `{source["base"]}`. Sources:
{models}

Methods: {", ".join(methods)}. The exact recipe, slot by slot, is in `recipe.json` (id `{chosen.recipe.id}`).
It is trial {trial} of a search with seed {settings.get("seed")} by automerge {versions.get("automerge", "?")}.

| objective | search items | test items |
|---|---|---|
{chr(10).join(rows)}

Scores are percentages with 95 % Wilson intervals. Test items were not seen by the search. The licences of the base
and of every source apply to this model.
"""


def _share(result: Result | None) -> str:
    if result is None:
        return "not evaluated"
    lower, upper = interval(result.total, result.n)
    return f"{100 * result.mean:.1f} ({100 * lower:.1f}-{100 * upper:.1f}), n = {result.n}"
