import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from automerge.sources.checkpoint import INDEX, SINGLE, CheckpointSource


def test_tensors_and_shapes_are_those_of_the_file_in_its_dtype(llama: dict[str, Path]) -> None:
    source = CheckpointSource("left", str(llama["left"]))
    expected = load_file(llama["left"] / "model.safetensors")
    assert source.shapes == {name: tuple(tensor.shape) for name, tensor in expected.items()}
    assert all(torch.equal(source.tensor(name), tensor) for name, tensor in expected.items())
    assert {source.tensor(name).dtype for name in expected} == {torch.bfloat16}
    assert source.dtypes == dict.fromkeys(expected, torch.bfloat16)
    assert {source.low_rank(name) for name in expected} == {None}


def test_sharded_checkpoints_are_read_and_missing_shards_named(llama: dict[str, Path], tmp_path: Path) -> None:
    whole = load_file(llama["left"] / "model.safetensors")
    names = sorted(whole)
    halves = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, members in halves.items():
        save_file({name: whole[name] for name in members}, tmp_path / file)
    weight_map = {name: file for file, members in halves.items() for name in members}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    source = CheckpointSource("sharded", str(tmp_path))
    assert all(torch.equal(source.tensor(name), whole[name]) for name in names)
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"files that are missing: two\.safetensors"):
        CheckpointSource("sharded", str(tmp_path))


def test_one_file_comes_before_an_index_that_saving_anew_left_behind(llama: dict[str, Path], tmp_path: Path) -> None:
    """As in `transformers`, which would load the live model from it."""
    shutil.copy(llama["left"] / SINGLE, tmp_path / SINGLE)
    shutil.copy(llama["right"] / SINGLE, tmp_path / "old.safetensors")
    expected = load_file(tmp_path / SINGLE)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(expected, "old.safetensors")}))
    source = CheckpointSource("again", str(tmp_path))
    assert all(torch.equal(source.tensor(name), tensor) for name, tensor in expected.items())


def test_an_index_counts_and_names_what_its_files_lack(llama: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(llama["left"] / SINGLE, tmp_path / "one.safetensors")
    first, *others = load_file(tmp_path / "one.safetensors")
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(others, "one.safetensors")}))
    assert CheckpointSource("some", str(tmp_path)).shapes.keys() == {*others}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys([first, "gone"], "one.safetensors")}))
    with pytest.raises(ValueError, match="names tensors that its files do not hold: gone; copy or"):
        CheckpointSource("lost", str(tmp_path)).shapes  # noqa: B018 (reading it raises)


def test_damaged_files_are_named_with_the_remedy(llama: dict[str, Path], tmp_path: Path) -> None:
    content = (llama["left"] / SINGLE).read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    for damaged in (content[: len(content) // 2], pointer, b""):
        (tmp_path / SINGLE).write_bytes(damaged)
        with pytest.raises(OSError, match=r"model\.safetensors is no whole safetensors file .*git lfs pull"):
            CheckpointSource("damaged", str(tmp_path))


def test_unknown_tensors_are_refused_by_name(llama: dict[str, Path]) -> None:
    with pytest.raises(KeyError, match="source 'left' has no tensor 'nothing'"):
        CheckpointSource("left", str(llama["left"])).tensor("nothing")
    with pytest.raises(KeyError, match="source 'left' has no tensor 'nothing'"):
        CheckpointSource("left", str(llama["left"])).low_rank("nothing")


def test_folders_without_safetensors_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="it has no weights"):
        CheckpointSource("empty", str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(FileNotFoundError, match="which are pickles and never opened"):
        CheckpointSource("pickled", str(tmp_path))


def test_missing_folders_and_unreachable_hub_ids_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give an existing folder or a hub id"):
        CheckpointSource("none", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="'nobody/nothing' is no local folder, and the hub did not give it"):
        CheckpointSource("none", "nobody/nothing")
