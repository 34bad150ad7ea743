"""Files that a search starts from: found, read, and their models matched with the sources."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from automerge.alignment import align
from automerge.family import Family
from automerge.log import RunLog, TrialRow
from automerge.recipe import BASE, Fusion, Input, OutputLayer, Recipe, uniform
from automerge.records import REFERENCE, Evaluation, Scores, Slice
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

    def found(*paths: Path, tasks: Sequence[str] = ("a",), limit: int = 8) -> tuple[Starts, list[str]]:
        texts = [str(path) for path in paths]
        return read_starts(texts, options, family, align(family.sources), space, tasks=tasks, limit=limit)

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
    missing, odd, bare = path_faults(["nowhere.json", "weights.safetensors", str(tmp_path)])
    assert missing == f"start: there is no file nowhere.json; relative paths begin at {Path.cwd()}"
    assert odd == (
        "start: weights.safetensors is neither a mergekit YAML (.yaml, .yml) nor a recipe (.json) nor "
        "the folder of a run"
    )
    assert bare == f"start: {tmp_path} is no run folder of automerge: it has no run.db"
    (tmp_path / "run.db").touch()
    assert path_faults([str(tmp_path), str(tmp_path / "run.db")]) == []


def mixed(weight: float) -> Recipe:
    return uniform(toy.fused("task_arithmetic", ("left", weight), ("right", 0.4)), toy.N_LAYERS)


LEFT = uniform(toy.fused("passthrough", ("left", 1.0)), toy.N_LAYERS)

TRIALS: Mapping[int, tuple[Recipe, Mapping[str, Any], int, int]] = {
    0: (LEFT, {"operator": REFERENCE, "name": "left", "kind": "source"}, 40, 39),
    1: (mixed(0.1), {"operator": REFERENCE, "name": "mine", "kind": "given"}, 40, 10),
    2: (mixed(0.2), {"operator": "sample"}, 40, 24),
    3: (mixed(0.3), {"operator": "sample"}, 40, 30),
    4: (mixed(0.4), {"operator": "sample"}, 10, 8),
    5: (mixed(1.8), {"operator": "sample"}, 40, 32),
    6: (mixed(0.6), {"operator": "sample"}, 40, 36),
}
"""Recipe, origin, items and right ones: #4 has a higher mean than #3 by luck, #5 is beyond the space."""


def write_run(
    folder: Path, *, sources: Sequence[str] = ("left", "right"), task: str = "a", trials: Sequence[int] = tuple(TRIALS)
) -> Path:
    """An earlier run that recommends #2 and may not recommend #6."""
    folder.mkdir(parents=True)
    with RunLog(folder / "run.db") as log:
        log.write_settings(
            {
                "objectives": [{"name": task, "kind": "task"}],
                "constraints": [{"name": "layers", "sense": "<=", "bound": 3, "kind": "cost"}],
                "reference_point": [0.0],
                "layout": {"sources": list(sources), "n_layers": toy.N_LAYERS},
                "recommended": [2],
            }
        )
        for number in trials:
            recipe, origin, n, right = TRIALS[number]
            part = Slice(task, "search", 0, n)
            scores = Scores(part, tuple(range(n)), tuple([1.0] * right + [0.0] * (n - right)))
            costs = {"layers": 4.0 if number == 6 else 3.0}
            log.write_evaluation(
                TrialRow(number, recipe.id, np.zeros(0), recipe, origin),
                phase="search",
                slices=[part],
                evaluation=Evaluation("ok", (scores,), costs=costs),
                wall=1.0,
            )
    return folder


def test_a_run_gives_what_it_recommends_then_the_best_by_cautious_scores_then_what_broke_its_constraints(
    read: Reader, space: LayerwiseFusion, tmp_path: Path
) -> None:
    """No source, which is evaluated anyway, and nothing that the space cannot hold."""
    starts, faults = read(write_run(tmp_path / "first"))
    assert faults == []
    assert list(starts) == ["first #2", "first #3", "first #4", "first #1", "first #6"]
    for name, genotype in starts.items():
        assert space.decode(genotype) == TRIALS[int(name.split("#")[1])][0]


def test_no_more_than_the_limit_come_from_each_run_and_none_twice(read: Reader, tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two")
    assert list(read(one, two / "run.db", limit=2)[0]) == ["one #2", "one #3", "two #4", "two #1"]
    file = tmp_path / "best.json"
    file.write_text(mixed(0.2).to_json())
    assert list(read(file, one, limit=1)[0]) == ["best", "one #3"]


def test_runs_that_say_nothing_here_are_told(
    read: Reader, llama: dict[str, Path], space: LayerwiseFusion, tmp_path: Path
) -> None:
    runs = [
        write_run(tmp_path / "sources", sources=("left", "middle")),
        write_run(tmp_path / "tasks", task="b"),
        write_run(tmp_path / "new", trials=[0]),
        write_run(tmp_path / "beyond", trials=[0, 5]),
    ]
    (tmp_path / "begun").mkdir()
    RunLog(tmp_path / "begun" / "run.db").close()
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "run.db").touch()
    starts, faults = read(*runs, tmp_path / "begun", tmp_path / "none")
    assert starts == {}
    expected = (
        "it merged left, middle, but this run has left, right; add middle to source.models",
        "its tasks were b, but this run has a;",
        "it has not evaluated any merge yet",
        "the space can hold none of its 1 merges, of which the best is #5: ",
        "the run ended before its sources were evaluated",
        "has log version 0",
    )
    for fault, part in zip(faults, expected, strict=True):
        assert part in fault
