"""Recipes that a search starts from: mergekit configurations, and the `recipe.json` of earlier exports.

Each becomes a genotype of the space, so it is evaluated with the references and bred from like them::

    starts, faults = read_starts(["best.yaml", "old/recipe.json"], options, family, alignment, space)
    starts     # {"best": array([...]), "recipe": array([...])}
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge import mergekit
from automerge.alignment import Alignment
from automerge.family import Family
from automerge.protocols import Space
from automerge.recipe import BASE, Recipe
from automerge.scaling import writers
from automerge.stacking import origins

YAML = (".yaml", ".yml")
JSON = ".json"

Starts = dict[str, NDArray[np.float64]]
"""Canonical genotypes by the name that reports use."""


def path_faults(paths: Any) -> list[str]:
    """What is wrong with the list of files itself, before any is read."""
    if paths is None:
        return []
    if not isinstance(paths, Sequence) or isinstance(paths, str):
        return [f"start: expected a list of files, got {paths!r}; write start=[{paths}]"]
    found = []
    for path in paths:
        if Path(str(path)).suffix not in (*YAML, JSON):
            found.append(f"start: {path} is neither a mergekit YAML (.yaml, .yml) nor a recipe (.json)")
        elif not Path(str(path)).expanduser().is_file():
            found.append(f"start: there is no file {path}; relative paths begin at {Path.cwd()}")
    return found


def read_starts(
    paths: Sequence[str], options: Mapping[str, Any], family: Family, alignment: Alignment, space: Space
) -> tuple[Starts, list[str]]:
    """The recipes of these files in the space, by the files' stems, and a message for every file that has none there.

    `options` are the `source` section of the settings, by whose paths a YAML may name its models.
    """
    starts: Starts = {}
    faults = []
    spelled = {BASE: str(options["base"]), **{name: str(path) for name, path in options["models"].items()}}
    references = space.references()
    for path in paths:
        file = Path(path).expanduser()
        try:
            text = file.read_text(encoding="utf-8")
            recipe = Recipe.from_json(text) if file.suffix == JSON else _translated(text, spelled, family, alignment)
            _refuse_gaps(recipe, alignment)
            starts[_distinct(file.stem, {*references, *starts})] = space.encode(recipe)
        except (ValueError, OSError) as fault:
            faults.append(f"start {path}: {fault}".replace("\n", "\n  "))
    return starts, faults


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
