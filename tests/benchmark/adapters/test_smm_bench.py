"""SMM-Bench's signatures, over benchmarks of ours and over folders in its format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest

from automerge.benchmark import Benchmark, load
from automerge.benchmark.adapters.smm_bench import Mode, SmmDataFlowFunction, SmmParameterFunction
from tests.benchmark.handmade import handmade

RNG = np.random.default_rng(0)
PS = {"_target_": "automerge.spaces.smm_ps.SmmParameterSpace"}
DFS = {"_target_": "automerge.spaces.smm_dfs.SmmDataFlowSpace"}
WEIGHTS = RNG.random((40, 64))
CHOICES, SCALES = RNG.integers(0, 3, (40, 32)), RNG.uniform(0.4, 1.5, (40, 63))


def published(folder: Path, n_entries: int) -> dict[str, Any]:
    """A folder as SMM-Bench ships: cross-validated boosters of both accuracies, as LightGBM itself writes them."""
    folder.mkdir()
    X = RNG.uniform(0, 1.5, (120, n_entries))
    found: dict[str, Any] = {}
    for mode, lift in (("train_acc", 0.0), ("test_acc", -0.4)):
        # Some predictions lie outside [0, 1], to which they are to be clipped.
        data = lightgbm.Dataset(X, label=2 * X[:, 0] + lift, params={"verbosity": -1})
        options = {"verbosity": -1, "num_threads": 1}
        validated: dict[str, Any] = lightgbm.cv(options, data, 8, nfold=3, stratified=False, return_cvbooster=True)
        found[mode] = validated["cvbooster"]
        found[mode].save_model(folder / f"{mode}_ja_best_model.json")
    (folder / "label.json").write_text(json.dumps({"x": [f"x{k}" for k in range(n_entries)]}))
    return found


def one_task(folder: Path, spec: dict[str, str]) -> Benchmark:
    """A benchmark of 6 layers; SMM-Bench has 32."""
    return load(
        handmade(folder, spec=spec, layout={"sources": ["a", "b"], "n_layers": 6}, tasks=("math",), truth=level)
    )


def level(_: object, X: np.ndarray) -> dict[str, np.ndarray]:
    return {"math": np.clip(X[:, :6].mean(axis=1) / 2, 0.05, 0.95)}


def test_a_benchmark_of_weights_is_called_like_smm_bench(tmp_path: Path) -> None:
    b = one_task(tmp_path / "ps", PS)
    f_ps = SmmParameterFunction.of(b)
    assert (f_ps.D, f_ps.L, f_ps.n_source_model) == (12, 6, 2)
    x = WEIGHTS[:, :12]
    expected = b.mean(x)["math"] * (1 - b.chance_broken(x))
    assert np.array_equal(f_ps(x), expected)
    assert f_ps(x[3]) == expected[3]
    assert isinstance(f_ps(x[3].tolist()), float)
    tested = b.mean(x, "test")["math"] * (1 - b.chance_broken(x))
    assert np.array_equal(f_ps(x, mode="test_acc"), tested)
    assert np.array_equal(f_ps(3 * x - 1), f_ps(np.clip(3 * x - 1, 0, 1)))


def test_a_benchmark_of_stacks_is_called_like_smm_bench(tmp_path: Path) -> None:
    b = one_task(tmp_path / "dfs", DFS)
    f_dfs = SmmDataFlowFunction.of(b, "math")
    assert (f_dfs.D, f_dfs.D_c, f_dfs.D_x, f_dfs.num_categories, f_dfs.n_source_model) == (17, 6, 11, 3, 2)
    c, x = CHOICES[:, :6], SCALES[:, :11]
    X = np.c_[c, x]
    expected = b.mean(X)["math"] * (1 - b.chance_broken(X))
    assert np.array_equal(f_dfs(c, x), expected)
    assert f_dfs(c[2], x[2], mode="train_acc") == expected[2]
    assert np.array_equal(f_dfs(c, 9 * x), f_dfs(c, np.clip(9 * x, 0.4, 1.5)))


@pytest.mark.parametrize("mode", ["train_acc", "test_acc"])
def test_folders_of_smm_bench_answer_as_their_boosters_do(tmp_path: Path, mode: Mode) -> None:
    """SMM-Bench's answer: the mean of the folds, clipped."""
    boosters = published(tmp_path / "ps", 64)[mode]
    expected = np.clip(np.mean(boosters.predict(WEIGHTS), axis=0), 0, 1)
    assert (expected == 1).any()
    assert SmmParameterFunction.read(tmp_path / "ps")(WEIGHTS, mode) == pytest.approx(expected, abs=1e-12)
    boosters = published(tmp_path / "dfs", 95)[mode]
    expected = np.clip(np.mean(boosters.predict(np.c_[CHOICES, SCALES]), axis=0), 0, 1)
    found = SmmDataFlowFunction.read(tmp_path / "dfs")(CHOICES, SCALES, mode)
    assert found == pytest.approx(expected, abs=1e-12)


def test_missing_and_damaged_files_raise(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"it has no train_acc_ja_best_model.json and no test_acc"):
        SmmParameterFunction.read(tmp_path)
    folder = tmp_path / "ps"
    published(folder, 64)
    (folder / "label.json").write_text('{"x": ["only"]}')
    with pytest.raises(ValueError, match=r"expected boosters of the 1 entries that label.json names, got 64"):
        SmmParameterFunction.read(folder)
    for content in ("{", '{"models": []}', '{"boosters": ["tree"]}', '{"boosters": [3]}'):
        (folder / "train_acc_ja_best_model.json").write_text(content)
        with pytest.raises(ValueError, match=r"is not as SMM-Bench writes it .* download it again"):
            SmmParameterFunction.read(folder)
    (folder / "train_acc_ja_best_model.json").write_text('{"boosters": []}')
    with pytest.raises(ValueError, match="expected boosters of the 1 entries"):
        SmmParameterFunction.read(folder)
    (folder / "test_acc_ja_best_model.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"it has no test_acc_ja_best_model\.json"):
        SmmParameterFunction.read(folder)


def test_wrong_calls_raise(tmp_path: Path) -> None:
    published(tmp_path / "ps", 64)
    published(tmp_path / "dfs", 95)
    f_ps, f_dfs = SmmParameterFunction.read(tmp_path / "ps"), SmmDataFlowFunction.read(tmp_path / "dfs")
    with pytest.raises(ValueError, match="expected a mode of train_acc, test_acc, got 'validation'"):
        f_ps(WEIGHTS, mode="validation")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected x as finite numbers of shape \(64,\) or \(n, 64\)"):
        f_ps(WEIGHTS[:, 1:])
    with pytest.raises(ValueError, match="expected x as finite numbers"):
        f_ps(WEIGHTS * np.nan)
    with pytest.raises(ValueError, match=r"choices are 0, 1 or 2, got \[3.0\]"):
        f_dfs(CHOICES + 1, SCALES)
    with pytest.raises(ValueError, match="expected as many rows of c as of x, got 3 and 2"):
        f_dfs(CHOICES[:3], SCALES[:2])
    with pytest.raises(ValueError, match="is it a data-flow benchmark"):
        SmmParameterFunction.read(tmp_path / "dfs")
    with pytest.raises(ValueError, match="is it a benchmark of the parameter space"):
        SmmDataFlowFunction.read(tmp_path / "ps")


def test_benchmarks_of_other_spaces_and_tasks_are_refused(tmp_path: Path) -> None:
    two = load(handmade(tmp_path / "ps", spec=PS, truth=lambda _, X: {"math": X[:, 0], "code": X[:, 1]}))
    with pytest.raises(ValueError, match="SMM-Bench has one task: name one of math, code, got None"):
        SmmParameterFunction.of(two)
    with pytest.raises(ValueError, match="name one of math, code, got 'physics'"):
        SmmParameterFunction.of(two, "physics")
    assert SmmParameterFunction.of(two, "code")(np.full(8, 0.5)) > 0
    with pytest.raises(ValueError, match="of the space SmmParameterSpace; export runs of space=smm_dfs"):
        SmmDataFlowFunction.of(two)
    lfs = load(handmade(tmp_path / "lfs"))
    with pytest.raises(ValueError, match="of the space LayerwiseFusion; export runs of space=smm_ps"):
        SmmParameterFunction.of(lfs)
