"""The surrogate benchmark of a simulated run, whose truth is known."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from automerge import cli
from automerge.benchmark.fit import MINIMUM, export_benchmark
from automerge.benchmark.surrogate import Surrogate
from automerge.log import RunLog
from automerge.references import outside
from automerge.spaces.lfs import LayerwiseFusion
from tests.simulation import make_search

Exported = tuple[Path, dict[str, dict[str, float]]]


def run(folder: Path, trials: int, n_steps: int | None = None) -> Path:
    """A simulated run with the settings that a benchmark needs, finished or stopped after some evaluations."""
    folder.mkdir()
    with RunLog(folder / "run.db") as log:
        search, _ = make_search(log, trials=trials)
        for _ in islice(search.run(), n_steps):
            pass
        space = {"_target_": "automerge.spaces.lfs.LayerwiseFusion", "granularity": 2, "strengths": [0.5]}
        log.write_settings({"config": {"space": space}, "layout": {"sources": ["left", "right"], "n_layers": 4}})
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, float]]]:
    folder = run(tmp_path_factory.mktemp("benchmark") / "run", trials=150)
    return folder / "benchmark", export_benchmark(folder, folder / "benchmark")


def test_cross_validated_quality_is_high_on_a_smooth_truth(exported: Exported) -> None:
    _, quality = exported
    for figures in quality.values():
        assert figures["kendall_tau"] > 0.5
        assert 0.4 < figures["r2"] < 1.0
        assert 0.4 < figures["r2_ceiling"] < 1.0


def test_the_folder_holds_models_data_and_quality_in_open_formats(exported: Exported) -> None:
    folder, quality = exported
    assert json.loads((folder / "report.json").read_text())["a"]["r2"] == pytest.approx(quality["a"]["r2"])
    table = pd.read_parquet(folder / "data" / "evaluations.parquet")
    assert len(table) == quality["a"]["n_trials"]
    assert (table["n.a"] >= table["k.a"]).all()
    assert len(list((folder / "models").glob("a.search.*.txt"))) == 10


def test_the_surrogate_read_back_predicts_scores_from_features(exported: Exported) -> None:
    folder, _ = exported
    surrogate = Surrogate(folder)
    table = pd.read_parquet(folder / "data" / "evaluations.parquet")
    predicted = surrogate.mean(table[list(surrogate.features)].to_numpy())["a"]
    assert ((predicted > 0) & (predicted < 1)).all()
    assert np.corrcoef(predicted, table["k.a"] / table["n.a"])[0, 1] > 0.8
    with pytest.raises(ValueError, match="features a row, got 3"):
        surrogate.mean(np.zeros((2, 3)))


def test_reading_needs_no_torch(exported: Exported) -> None:
    folder, _ = exported
    code = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "botorch", "pymoo", "ConfigSpace", "transformers"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
from automerge.benchmark.surrogate import Surrogate
Surrogate({str(folder)!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_too_few_trials_give_no_models_and_say_so(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", trials=5)
    quality = export_benchmark(folder, tmp_path / "benchmark")
    assert quality["a"]["n_trials"] < MINIMUM
    assert np.isnan(quality["a"]["r2"])
    with pytest.raises(FileNotFoundError, match="its run had too few trials"):
        Surrogate(tmp_path / "benchmark")


def test_the_command_line_says_why_there_are_no_models(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tmp_path / "run", trials=5)
    cli.main(["benchmark", str(folder)])
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == f"fewer than 30 trials of a, b: {folder / 'benchmark'} holds a table of them, but no models"
    cli.main(["benchmark", str(exported[0].parent), "--to", str(tmp_path / "again")])
    assert "fewer than" not in capsys.readouterr().out


def test_references_outside_the_space_are_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LayerwiseFusion, "references", lambda s: outside(s.sources, s.n_layers, s.strengths))
    folder = run(tmp_path / "run", trials=5)
    quality = export_benchmark(folder, tmp_path / "benchmark")
    assert quality["a"]["n_trials"] == 5
    table = pd.read_parquet(tmp_path / "benchmark" / "data" / "evaluations.parquet")
    assert len(table) == 5
    assert "reference" not in set(table["operator"])
    assert table.filter(like="feature.").notna().all(axis=None)


def test_a_run_that_saw_only_references_outside_the_space_has_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LayerwiseFusion, "references", lambda s: outside(s.sources, s.n_layers, s.strengths))
    folder = run(tmp_path / "run", trials=5, n_steps=5)
    quality = export_benchmark(folder, tmp_path / "benchmark")
    assert quality["b"]["n_trials"] == 0
    assert pd.read_parquet(tmp_path / "benchmark" / "data" / "evaluations.parquet").empty
    assert json.loads((tmp_path / "benchmark" / "metadata.json").read_text())["n_items"] == {"a": 120, "b": 120}


def test_other_folders_are_never_replaced(exported: Exported, tmp_path: Path) -> None:
    folder, _ = exported
    (tmp_path / "precious").mkdir()
    with pytest.raises(FileExistsError, match="is no surrogate benchmark; name a new folder"):
        export_benchmark(folder.parent, tmp_path / "precious")


def test_folders_that_are_no_benchmark_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"it has no metadata\.json"):
        Surrogate(tmp_path)
