"""A recipe as an ordinary Hugging Face folder, which plain `transformers` loads and which scores as logged.

The folder appears whole or not at all: it is written beside its place and renamed at the end.
"""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from automerge.binding import bind
from automerge.export.adapter import Written, publish, write_adapter
from automerge.family import Family, open_family
from automerge.folders import TOKENIZERS, companions
from automerge.history import History
from automerge.log import LOG, RunLog
from automerge.merge import ResidentSources
from automerge.mergekit import to_yaml
from automerge.pareto import interval
from automerge.recipe import BASE, Recipe
from automerge.records import Result
from automerge.resident.placement import gigabytes
from automerge.sources.adapter import is_adapter
from automerge.stacking import origins, stacked_config
from automerge.vocabulary.union import Vocabulary
from automerge.weight_files import save

CONFIGS = ("config.json", "generation_config.json")
"""Files of the base that the merged model takes over; those of the tokenizer too, unless the vocabulary grew."""

SHARD_BYTES = 5 * 10**9
"""Largest size of a weight file."""


def export_run(
    run: Path,
    to: Path,
    *,
    point: int | None = None,
    trial: int | None = None,
    adapter: Adapter | None = None,
    source: Mapping[str, Any] | None = None,
) -> Written | None:
    """Writes the model of a run's recommended point (from 1), or of any of its trials, into the new folder `to`.

    With `adapter` it is written as one LoRA adapter of the base, and its rank and error are returned. `source` is the
    section of the settings for models that have moved since the run; None looks where they were. Raises
    FileExistsError if the folder exists, ValueError for a number that the run does not have and for other models.
    """
    with RunLog(run / LOG, read_only=True) as log:
        history = History.of(log)
        settings = log.settings()
    if point is not None:
        if "recommended" not in settings:
            command = f"automerge search --resume {shlex.quote(str(run))}"
            raise ValueError(f"the run has not ended, so it recommends nothing yet: {command}")
        if not history.recommended:
            raise ValueError(
                "the run recommends no model: none keeps the constraints or dominates the reference point, as its "
                "report says; choose any of its trials by --trial"
            )
        if not 1 <= point <= len(history.recommended):
            raise ValueError(
                f"the run recommends points 1..{len(history.recommended)}, got {point}; see its report.html"
            )
        trial = history.recommended[point - 1]
    if trial is None or trial not in history.trials:
        raise ValueError(f"the run has trials 0..{len(history.trials) - 1}, got {trial}")
    options = source or settings["config"]["source"]
    family = open_family(options, trust_remote_code=bool(settings["config"]["model"]["trust_remote_code"]))
    files = settings.get("identity", {}).get("folders", {})
    if other := [
        name for name, folder in family.folders.items() if files.get(name, "") not in ("", companions(folder))
    ]:
        raise ValueError(
            f"the configuration or tokenizer of {', '.join(other)} is not the one that was searched, so the scores "
            "would not be the model's; put the old files back, or search again"
        )
    card = _card(history, settings, options, trial, family)
    recipe = history.trials[trial].recipe
    known = settings.get("identity", {}).get("sources")
    if adapter is not None:
        _refuse_changed(ResidentSources(family.sources, placement="disk"), known)

        def told(written: Written) -> str:
            return _adapter_card(card, written)

        return write_adapter(
            recipe,
            family.sources,
            to,
            base_model=str(options["base"]),
            revision=(options.get("revisions") or {}).get(BASE),
            beside=family.vocabulary.save_tokenizer if family.vocabulary.changes_tokenizer else None,
            card=told,
            **asdict(adapter),
        )
    pinned = {name: f"@{revision}" for name, revision in (options.get("revisions") or {}).items() if revision}
    paths = {BASE: f"{options['base']}{pinned.get(BASE, '')}"}
    for name, path in options["models"].items():
        own = f"{path}{pinned.get(name, '')}"
        # mergekit names an adapter after its base.
        paths[name] = f"{paths[BASE]}+{own}" if is_adapter(family.folders[name]) else own
    export_recipe(recipe, family, to, card=card, fingerprints=known, paths=paths)
    return None


@dataclass(frozen=True, slots=True)
class Adapter:
    """How a merge of adapters is written as one adapter: `max_rank` None keeps it exact."""

    max_rank: int | None = None
    dtype: torch.dtype = torch.float32


def export_recipe(
    recipe: Recipe,
    family: Family,
    to: Path,
    *,
    card: str,
    fingerprints: Mapping[str, str] | None = None,
    paths: Mapping[str, str] | None = None,
) -> None:
    """Writes the merged model into the new folder `to`: weights, config, tokenizer, recipe, card.

    With `paths`, folder or hub id of every source, also `mergekit.yaml` where mergekit can express the recipe; if it
    cannot, the card says why. Weights are read from disk and merged tensor by tensor, one shard in memory. Raises
    FileExistsError if the folder exists, ValueError if sources are not those with the given fingerprints.
    """
    if to.exists():
        raise FileExistsError(f"{to} exists; name a new folder")
    resident = ResidentSources(family.sources, placement="disk", model_type=family.model_type)
    resident.check(recipe)
    _refuse_changed(resident, fingerprints)
    stacked = stacked_config(family.config, origins(recipe), resident.alignment.n_layers)
    if stacked:
        _refuse_unloadable(family, stacked, {name: h.shape for name, h in resident.headers(recipe).items()})
    to.parent.mkdir(parents=True, exist_ok=True)
    _refuse_full(to.parent, sum(header.n_bytes for header in resident.headers(recipe).values()))
    unfinished = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
    try:
        _save_config(family, stacked, unfinished)
        _save_weights(resident, recipe, unfinished)
        (unfinished / "recipe.json").write_text(json.dumps(json.loads(recipe.to_json()), indent=1) + "\n")
        if paths is not None:
            card += _save_translation(recipe, resident, paths, unfinished, family.vocabulary)
        (unfinished / "README.md").write_text(card)
        publish(unfinished)
        unfinished.rename(to)
    except BaseException:
        shutil.rmtree(unfinished)
        raise


def _refuse_full(folder: Path, n_bytes: int) -> None:
    """Raises OSError if the file system of a folder has no room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise OSError(
            f"the model takes {gigabytes(n_bytes)}, and {folder.resolve()} has {gigabytes(free)} free; name another "
            "place, or make room"
        )


def _refuse_changed(resident: ResidentSources, fingerprints: Mapping[str, str] | None) -> None:
    changed = [name for name, known in (fingerprints or {}).items() if resident.fingerprints.get(name) != known]
    if changed:
        raise ValueError(
            f"the weights of {', '.join(changed)} are not those that were searched, so the scores would not be the "
            "model's; put the old weights back, or search again"
        )


def _refuse_unloadable(family: Family, stacked: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError if a model with the configuration of the stack has other tensors than the stack."""
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415 (slow to import)

    changed = {**stacked, "vocab_size": family.vocabulary.n_rows}
    config = AutoConfig.from_pretrained(family.base, trust_remote_code=family.trust_remote_code, **changed)
    auto: Any = AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(config, trust_remote_code=family.trust_remote_code)
    try:
        bind(model, shapes)
    except ValueError as fault:
        raise ValueError(f"no configuration of this architecture describes the stack: {fault}") from fault


def _save_config(family: Family, stacked: Mapping[str, Any], folder: Path) -> None:
    """The base's files, with the depth and the vocabulary of the merged model; `stacked` is what its stack changes."""
    vocabulary = family.vocabulary
    for pattern in CONFIGS if vocabulary.changes_tokenizer else (*CONFIGS, *TOKENIZERS):
        for path in family.base.glob(pattern):
            if path.is_dir():
                shutil.copytree(path, folder / path.name)
            else:
                shutil.copy(path, folder / path.name)
    if vocabulary.changes_tokenizer:
        vocabulary.save_tokenizer(folder)
    config = json.loads((folder / "config.json").read_text())
    for path in family.base.glob("*.py") if "auto_map" in config else ():
        shutil.copy(path, folder / path.name)
    config.update(stacked)
    config["vocab_size"] = vocabulary.n_rows
    first, *others = vocabulary.eos_token_ids or (None,)
    ends = {} if first is None else {"eos_token_id": [first, *others] if others else first}
    (folder / "config.json").write_text(json.dumps({**config, **ends}, indent=2) + "\n")
    generation = folder / "generation_config.json"
    if ends and generation.is_file():
        generation.write_text(json.dumps({**json.loads(generation.read_text()), **ends}, indent=2) + "\n")


def _save_weights(resident: ResidentSources, recipe: Recipe, folder: Path) -> None:
    """The merged tensors in files of at most SHARD_BYTES, with an index if there are several."""
    sizes = {name: header.n_bytes for name, header in resident.headers(recipe).items()}
    shards: list[list[str]] = [[]]
    filled = 0
    for name, n_bytes in sizes.items():
        if shards[-1] and filled + n_bytes > SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += n_bytes
    files = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    files = files if len(files) > 1 else ["model.safetensors"]
    merged = resident.tensors(recipe)
    weight_map: dict[str, str] = {}
    for file, names in zip(files, shards, strict=True):
        state = {name: tensor.contiguous().cpu() for name, tensor in islice(merged, len(names))}
        broken = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
        if broken:
            raise ValueError(f"merging gives NaN or infinity in {', '.join(broken[:4])}; this recipe makes no model")
        save(state, folder / file)
        weight_map.update(dict.fromkeys(state, file))
    if len(files) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _save_translation(
    recipe: Recipe, resident: ResidentSources, paths: Mapping[str, str], folder: Path, vocabulary: Vocabulary
) -> str:
    """Writes `mergekit.yaml` if there can be one; returns what the card says about it."""
    dtype = str(resident.stored_dtype).removeprefix("torch.")
    found = to_yaml(recipe, paths, resident.alignment, dtype=dtype, writers=resident.writers)
    if found.text is None:
        return "\nmergekit cannot express this recipe: " + "; ".join(found.faults) + ".\n"
    (folder / "mergekit.yaml").write_text(found.text)
    notes = "".join(f" {note}." for note in found.notes)
    what = "the same merge" if vocabulary.identical else "the same merge of the layers"
    if not vocabulary.identical:
        notes += (
            " The vocabularies of the sources differ: automerge puts the rows of embeddings by token, mergekit by "
            "number, unless its tokenizer_source says otherwise, so that its embeddings are not these."
        )
    if vocabulary.template is not None:
        notes += f" The chat template of {vocabulary.template.source} is not in it."
    return f"\n`mergekit.yaml` is {what} as a mergekit configuration.{notes}\n"


def _card(history: History, settings: Mapping[str, Any], source: Mapping[str, Any], trial: int, family: Family) -> str:
    """The model card: what was merged, how, and what it scored."""
    chosen = history.trials[trial]
    methods = sorted({fusion.method for _, fusion in chosen.recipe.fusions()})
    tested = history.tests.get(trial, {})
    rows = [f"| {task} | {_share(chosen.results.get(task))} | {_share(tested.get(task))} |" for task in history.tasks]
    for objective in history.objectives:
        if objective.kind == "cost":
            value = f"{chosen.costs.get(objective.name, float('nan')):g}"
            rows.append(f"| {objective.name} | {value} | {value} |")
    versions = settings.get("versions", {})
    hashes = settings.get("identity", {}).get("sources", {})
    models = "\n".join(
        f"- {name}: `{path}` ({_kind(family.folders[name])}, fingerprint `{hashes.get(name)}`)"
        for name, path in source["models"].items()
    )
    vocabulary = "".join(f"\n- {line}" for line in family.vocabulary.summary)
    vocabulary = f"\nVocabulary:{vocabulary}\n" if vocabulary else ""
    return f"""---
library_name: transformers
tags: [merge, automerge]
---
# A merge found by automerge

Base: `{source["base"]}` (fingerprint `{hashes.get(BASE)}`). Sources:
{models}
{vocabulary}
Methods: {", ".join(methods)}. The exact recipe, slot by slot, is in `recipe.json` (id `{chosen.recipe.id}`).
It is trial {trial} of a search with seed {settings.get("seed")} by automerge {versions.get("automerge", "?")}.

| task or cost | search items | test items |
|---|---|---|
{chr(10).join(rows)}

Scores are percentages with 95 % Wilson intervals. Test items were not seen by the search. The licences of the base
and of every source apply to this model.
"""


def _adapter_card(card: str, written: Written) -> str:
    """The card of the merge as that of an adapter, which is not to the last bit what was scored."""
    return card.replace("library_name: transformers", "library_name: peft") + (
        f"\nThis folder is a LoRA adapter of rank {written.rank}. Its change of the base's weights differs from that "
        f"of the merge by {100 * written.error:.2g} % (relative Frobenius norm). The scores above are those of the "
        "merged weights rounded to the base's stored dtype.\n"
    )


def _kind(folder: Path) -> str:
    return "adapter" if is_adapter(folder) else "checkpoint"


def _share(result: Result | None) -> str:
    if result is None:
        return "not evaluated"
    lower, upper = interval(result.total, result.n)
    return f"{100 * result.mean:.1f} ({100 * lower:.1f}-{100 * upper:.1f}), n = {result.n}"
