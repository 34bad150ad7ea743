"""Recipes that a search starts from: mergekit configurations, `recipe.json` of earlier exports, and earlier runs.

Each becomes a genotype of the space, so it is evaluated with the references and bred from like them::

    paths = ["best.yaml", "old/recipe.json", "runs/first"]
    starts, faults = read_starts(paths, options, family, alignment, space, tasks=["sums"], limit=2)
    starts     # {"best": array([...]), "recipe": array([...]), "first #12": array([...]), "first #31": array([...])}

Of a run only the recipes are taken: its items come in another order, and the log of a search is to hold every score
that it used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge import mergekit
from automerge.alignment import Alignment
from automerge.family import Family
from automerge.history import History, eligible
from automerge.log import LOG, RunLog
from automerge.pareto import best_first
from automerge.protocols import Space
from automerge.recipe import BASE, Recipe
from automerge.records import REFERENCE, Trial, genotype_key
from automerge.scaling import writers
from automerge.stacking import origins

YAML = (".yaml", ".yml")
JSON = ".json"
DATABASE = ".db"

Starts = dict[str, NDArray[np.float64]]
"""Canonical genotypes by the name that reports use."""


def path_faults(paths: Any) -> list[str]:
    """What is wrong with the list of files and run folders itself, before any is read."""
    if paths is None:
        return []
    if not isinstance(paths, Sequence) or isinstance(paths, str):
        return [f"start: expected a list of files, got {paths!r}; write start=[{paths}]"]
    found = []
    for path in paths:
        local = Path(str(path)).expanduser()
        if local.is_dir():
            if not (local / LOG).is_file():
                found.append(f"start: {path} is no run folder of automerge: it has no {LOG}")
        elif local.suffix not in (*YAML, JSON, DATABASE):
            found.append(
                f"start: {path} is neither a mergekit YAML (.yaml, .yml) nor a recipe (.json) nor the folder of a run"
            )
        elif not local.is_file():
            found.append(f"start: there is no file {path}; relative paths begin at {Path.cwd()}")
    return found


def read_starts(
    paths: Sequence[str],
    options: Mapping[str, Any],
    family: Family,
    alignment: Alignment,
    space: Space,
    *,
    tasks: Collection[str],
    limit: int,
) -> tuple[Starts, list[str]]:
    """The recipes of these files and runs in the space, by name, and a message for every path that has none there.

    A file's recipe has its stem for a name, a run's have the name of its folder and their number in the log. At most
    `limit` are taken from a run: those that it recommends, then the best by their scores less a standard error. A run
    has to share one of the `tasks`. `options` are the `source` section of the settings, by whose paths a YAML may name
    its models.
    """
    starts: Starts = {}
    faults = []
    spelled = {BASE: str(options["base"]), **{name: str(path) for name, path in options["models"].items()}}
    references = space.references()
    for path in paths:
        file = Path(path).expanduser()
        try:
            if file.is_dir() or file.suffix == DATABASE:
                known = [each.genotype for each in references.values() if each.genotype is not None]
                log = (file / LOG if file.is_dir() else file).resolve()
                held = _held(_merges(log, family, tasks), space, [*known, *starts.values()], limit)
                for name, genotype in held.items():
                    starts[_distinct(f"{log.parent.name} {name}", {*references, *starts})] = genotype
                continue
            text = file.read_text(encoding="utf-8")
            recipe = Recipe.from_json(text) if file.suffix == JSON else _translated(text, spelled, family, alignment)
            _refuse_gaps(recipe, alignment)
            starts[_distinct(file.stem, {*references, *starts})] = space.encode(recipe)
        except (ValueError, OSError) as fault:
            faults.append(f"start {path}: {fault}".replace("\n", "\n  "))
    return starts, faults


def _merges(log: Path, family: Family, tasks: Collection[str]) -> list[Trial]:
    """The evaluated merges of a run, the best first. Raises ValueError for a run that says nothing about this one."""
    with RunLog(log, read_only=True) as opened:
        history = History.of(opened)
        layout = opened.settings().get("layout")
    if layout is None:
        raise ValueError("it searched a benchmark that does not tell its sources; start from runs of models")
    names = layout["sources"]
    own = [source.name for source in family.sources if source.name != BASE]
    if strangers := [name for name in names if name not in own]:
        raise ValueError(
            f"it merged {', '.join(names)}, but this run has {', '.join(own)}; add {', '.join(strangers)} to "
            "source.models under these names, or export the models that you want to start from"
        )
    if not set(history.tasks) & set(tasks):
        raise ValueError(
            f"its tasks were {', '.join(history.tasks)}, but this run has {', '.join(tasks)}; what was best there says "
            "nothing here, so start from a run that shares a task"
        )
    found = list(_best_first(history))
    if not found:
        raise ValueError("it has not evaluated any merge yet; let it go on first, or leave it out")
    return found


def _held(trials: Sequence[Trial], space: Space, known: Sequence[NDArray[np.float64]], limit: int) -> Starts:
    """The genotypes of the first trials that the space can hold and that are not known, by the trials' numbers."""
    seen = {genotype_key(genotype) for genotype in known}
    found: Starts = {}
    faults: list[str] = []
    for trial in trials:
        if len(found) == limit:
            break
        try:
            genotype = space.encode(trial.recipe)
        except ValueError as fault:
            faults.append(f"#{trial.id}: {fault}")
            continue
        if genotype_key(genotype) not in seen:
            seen.add(genotype_key(genotype))
            found[f"#{trial.id}"] = genotype
    if len(faults) == len(trials):
        raise ValueError(f"the space can hold none of its {len(trials)} merges, of which the best is {faults[0]}")
    return found


def _best_first(history: History) -> Iterator[Trial]:
    """The evaluated merges: those recommended, then the others that may be, then those that may not."""
    merges = {
        number: trial
        for number, trial in history.trials.items()
        if trial.status == "ok"
        and np.isfinite(trial.values(history.objectives)).all()
        and (trial.origin["operator"] != REFERENCE or trial.origin["kind"] == "given")
    }
    yield from (merges[number] for number in history.recommended if number in merges)
    others = [trial for number, trial in merges.items() if number not in history.recommended]
    for kept in (True, False):
        group = [trial for trial in others if eligible(trial, history.constraints) == kept]
        # A standard error is taken off, so that a lucky short evaluation does not outrank a long one.
        points = np.array([trial.values(history.objectives, caution=1.0) for trial in group])
        yield from (group[index] for index in best_first(points.reshape(len(group), len(history.objectives))))


def _translated(text: str, spelled: Mapping[str, str], family: Family, alignment: Alignment) -> Recipe:
    """The recipe of a mergekit configuration, its models found among the sources."""
    matches = {model: _matches(model, spelled, family.folders) for model in mergekit.models(text)}
    faults = []
    for model, names in matches.items():
        if not names:
            listed = ", ".join(f"{name} ({path})" for name, path in spelled.items())
            faults.append(f"model {model} is none of the sources {listed}; write a source's name in its place")
        elif len(names) > 1:
            faults.append(f"model {model} could be {' or '.join(names)}; write the source's name in its place")
    if faults:
        raise ValueError("\n  - ".join(["its models are not all known:", *faults]))
    ends = writers(alignment.locals, family.model_type)
    return mergekit.from_yaml(text, {model: names[0] for model, names in matches.items()}, alignment, ends)


def _matches(model: str, spelled: Mapping[str, str], folders: Mapping[str, Path]) -> list[str]:
    """Names of the sources that a YAML may mean: by name, by path as given, by folder, by the end of the path."""
    local = Path(model).expanduser()
    rules: tuple[Callable[[str], bool], ...] = (
        lambda name: name == model,
        lambda name: spelled[name] == model,
        lambda name: local.is_dir() and local.resolve() == folders[name],
        lambda name: local.name in (Path(spelled[name]).name, folders[name].name),
    )
    found = ([name for name in spelled if rule(name)] for rule in rules)
    return next((names for names in found if names), [])


def _refuse_gaps(recipe: Recipe, alignment: Alignment) -> None:
    """Raises ValueError for a recipe that says nothing of tensors which its layers have."""
    gaps = [
        f"{slot} of layer {depth}"
        for depth, (layer, origin) in enumerate(zip(recipe.layers, origins(recipe), strict=True))
        for source_layer, slot in alignment.slots
        if source_layer == origin and slot not in dict(layer.components)
    ]
    if gaps:
        rest = f" and {len(gaps) - 1} more" if len(gaps) > 1 else ""
        raise ValueError(f"it does not say what the {gaps[0]} is made of{rest}; give every component a fusion")


def _distinct(name: str, taken: Collection[str]) -> str:
    """The name, with a number in brackets if it is taken."""
    found, number = name, 2
    while found in taken:
        found, number = f"{name} ({number})", number + 1
    return found
