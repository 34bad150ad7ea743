"""Files that a search starts from: found, read, and their models matched with the sources."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from automerge.alignment import align
from automerge.family import Family
from automerge.recipe import BASE, Fusion, Input, OutputLayer, uniform
from automerge.spaces.lfs import LayerwiseFusion
from automerge.start import Starts, path_faults, read_starts
from tests import toy

MIXED = uniform(toy.fused("task_arithmetic", ("left", 0.6), ("right", 0.4)), toy.N_LAYERS)

Reader = Callable[..., tuple[Starts, list[str]]]


@pytest.fixture
def space() -> LayerwiseFusion:
    return LayerwiseFusion(sources=["left", "right"], n_layers=toy.N_LAYERS, strengths=[0.5])


@pytest.fixture
def read(llama: dict[str, Path], space: LayerwiseFusion) -> Reader:
    """Reads start files in a run on the toy Llamas."""
    family = toy.family_of(llama)
    return reader(family, llama, space)


def reader(family: Family, folders: dict[str, Path], space: LayerwiseFusion) -> Reader:
    options = {"base": str(folders[BASE]), "models": {k: str(v) for k, v in folders.items() if k != BASE}}

    def found(*paths: Path) -> tuple[Starts, list[str]]:
        return read_starts([str(path) for path in paths], options, family, align(family.sources), space)

    return found


def task_arithmetic(base: str, left: str, right: str) -> dict[str, Any]:
    """A mergekit configuration of MIXED."""
    return {
        "merge_method": "task_arithmetic",
        "base_model": base,
        "models": [
            {"model": left, "parameters": {"weight": 0.6}},
            {"model": right, "parameters": {"weight": 0.4}},
        ],
        "dtype": "bfloat16",
    }


def write(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_configuration_and_a_recipe_of_the_same_merge_are_the_same_genotype(
    read: Reader, space: LayerwiseFusion, llama: dict[str, Path], tmp_path: Path
) -> None:
    paths = {name: str(folder) for name, folder in llama.items()}
    best = write(tmp_path / "best.yaml", task_arithmetic(paths[BASE], paths["left"], paths["right"]))
    exported = tmp_path / "recipe.json"
    exported.write_text(json.dumps(json.loads(MIXED.to_json()), indent=1))
    starts, faults = read(best, exported)
    assert faults == []
    assert list(starts) == ["best", "recipe"]
    assert (starts["best"] == starts["recipe"]).all()
    assert space.decode(starts["best"]) == MIXED


def test_names_are_stems_made_unique(read: Reader, tmp_path: Path) -> None:
    files = [tmp_path / "one" / "recipe.json", tmp_path / "two" / "recipe.json", tmp_path / "left.json"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text(MIXED.to_json())
    starts, _ = read(*files)
    assert list(starts) == ["recipe", "recipe (2)", "left (2)"]


@pytest.mark.parametrize(
    "spelled",
    [
        ("base", "left"),
        ("{folder}/base", "{folder}/left"),
        ("{folder}/other/../base", "{link}"),
        ("org/base", "/somewhere/else/left"),
    ],
    ids=["by name", "as given", "by folder", "by last part"],
)
def test_models_are_the_sources_that_they_name(
    read: Reader, space: LayerwiseFusion, llama: dict[str, Path], tmp_path: Path, spelled: tuple[str, str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(llama["left"])
    folder = llama[BASE].parent
    (folder / "other").mkdir(exist_ok=True)
    base, left = (name.format(folder=folder, link=link) for name in spelled)
    starts, faults = read(write(tmp_path / "a.yml", task_arithmetic(base, left, "right")))
    assert faults == []
    assert space.decode(starts["a"]) == MIXED


def test_models_that_are_unknown_or_could_be_several_are_told(
    llama: dict[str, Path], space: LayerwiseFusion, tmp_path: Path
) -> None:
    family = {name: tmp_path / name / "checkpoint" for name in llama}
    for name, folder in family.items():
        shutil.copytree(llama[name], folder)
    content = task_arithmetic(str(family[BASE]), "org/checkpoint", "stranger")
    starts, faults = reader(toy.family_of(family), family, space)(write(tmp_path / "a.yaml", content))
    assert starts == {}
    assert len(faults) == 1
    assert f"start {tmp_path / 'a.yaml'}: its models are not all known" in faults[0]
    assert "model org/checkpoint could be base or left or right; write the source's name in its place" in faults[0]
    assert "model stranger is none of the sources base (" in faults[0]


def test_what_cannot_be_read_or_held_is_told_for_every_file(read: Reader, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"layers": []}')
    partial = tmp_path / "partial.json"
    layers = (OutputLayer(MIXED.layers[0].components[:2]), *MIXED.layers[1:])
    partial.write_text(type(MIXED)(layers, MIXED.outer).to_json())
    text = tmp_path / "text.yaml"
    text.write_text("a: [")
    averaging = write(tmp_path / "ties.yaml", {**task_arithmetic("base", "left", "right"), "merge_method": "ties"})
    strange = write(tmp_path / "sce.yaml", {**task_arithmetic("base", "left", "right"), "merge_method": "sce"})
    good = tmp_path / "good.json"
    good.write_text(MIXED.to_json())
    latin = tmp_path / "latin.json"
    latin.write_bytes(b"\xe9")
    starts, faults = read(broken, partial, text, averaging, strange, good, latin)
    assert list(starts) == ["good"]
    expected = (
        "broken.json: this is not a recipe as Recipe.to_json writes it",
        "partial.json: it does not say what the other of layer 0 is made of; give every component a fusion",
        "text.yaml: this is no YAML",
        "set normalize: false (0.attention: 1, 0.mlp: 1, 0.other: 1, 1.attention: 1 and 6 more)",
        "add them to space.methods (0.attention: sce",
        "latin.json: 'utf-8' codec can't decode",
    )
    assert len(faults) == len(expected)
    for fault, part in zip(faults, expected, strict=True):
        assert part in fault
    # Lines after the first are indented, since each fault is an item of a list.
    assert all(line.startswith("  ") for fault in faults for line in fault.splitlines()[1:])


def test_a_genotype_is_canonical(read: Reader, space: LayerwiseFusion, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    unscaled = Fusion("linear", (Input("right", None, 3.0), Input("left", None, 1.0)))
    file.write_text(uniform(unscaled, toy.N_LAYERS).to_json())
    x = read(file)[0]["a"]
    assert (space.repair(x[None])[0] == x).all()
    assert [read.weight for read in space.decode(x).outer.inputs] == [0.25, 0.75]
    assert x.dtype == np.float64


def test_lists_of_files_are_checked_before_any_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").touch()
    assert path_faults(None) == path_faults([]) == path_faults([str(tmp_path / "a.yaml")]) == []
    assert path_faults("a.yaml") == ["start: expected a list of files, got 'a.yaml'; write start=[a.yaml]"]
    missing, odd = path_faults(["nowhere.json", "weights.safetensors"])
    assert missing == f"start: there is no file nowhere.json; relative paths begin at {Path.cwd()}"
    assert odd == "start: weights.safetensors is neither a mergekit YAML (.yaml, .yml) nor a recipe (.json)"
