import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from automerge.folders import DTYPES, companions, headers


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_headers_tell_shape_and_dtype_without_loading(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"x": torch.zeros(2, 3, dtype=dtype), "y": torch.zeros((), dtype=dtype)}, tmp_path / "file")
    assert headers(tmp_path / "file") == {"x": ((2, 3), dtype), "y": ((), dtype)}


def test_dtypes_that_no_model_is_computed_in_are_refused(tmp_path: Path) -> None:
    save_arrays({"x": np.zeros(2, dtype=np.uint16)}, tmp_path / "file")
    with pytest.raises(ValueError, match=r"x is stored as U16, .*; save the model in a floating-point dtype"):
        headers(tmp_path / "file")


def test_what_lies_beside_the_weights_is_known_by_names_and_bytes(tmp_path: Path) -> None:
    files = {"config.json": "{}", "tokenizer.json": "{}", "vocab.txt": "a", "model.py": "", "model.safetensors": "x"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    before = companions(tmp_path)
    shutil.copytree(tmp_path, tmp_path / "elsewhere")
    assert companions(tmp_path / "elsewhere") == before
    (tmp_path / "model.safetensors").write_text("other weights, which are known by themselves")
    (tmp_path / "README.md").write_text("says nothing")
    assert companions(tmp_path) == before
    for name in ("config.json", "tokenizer.json", "vocab.txt", "model.py"):
        (tmp_path / name).write_text("changed")
        assert companions(tmp_path) != before
        (tmp_path / name).write_text(files[name])
    (tmp_path / "vocab.txt").rename(tmp_path / "vocab2.txt")
    assert companions(tmp_path) != before
