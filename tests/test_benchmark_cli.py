"""What `automerge benchmark` does, seen from the command line; benchmarks are made by hand, so no model runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from automerge import cli
from tests.benchmark.example import example_run
from tests.benchmark.simulated import make_benchmark


def test_a_benchmark_of_too_few_trials_is_exported_and_said_to_hold_no_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "few"
    cli.main(["benchmark", "export", str(example_run(tmp_path / "run", trials=3)), "--to", str(to)])
    assert f"{to} holds the data of these runs, but no models of all its tasks" in capsys.readouterr().out
    assert (to / "data" / "evaluations.parquet").is_file()


def test_optimizers_are_compared_on_a_benchmark_and_wrong_options_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_benchmark(tmp_path / "made", breaks=False, tested=False)
    compared = ["benchmark", "compare", "made", "optimizers=[random_search,uniform_grid]", "seeds=2", "--to", "found"]
    cli.main([*compared, "trials=6", "workers=2", "report.verify=1"])
    said = capsys.readouterr().out
    assert "4 of 4: uniform_grid with seed 1" in said
    assert "2 workers" in said
    assert {path.name for path in (tmp_path / "found").iterdir()} == {
        "comparison.md",
        "comparison.png",
        "results.json",
        "runs",
    }
    for wrong, words in (
        ("seeds=0", "seeds: expected a whole number from 1"),
        ("optimizers=tpe", "different names"),
        ("budget.items=50", "budget.items=50: write trials=N"),
        ("+budget={trials: 5}", "write trials=N"),
        ("seed=3", "seed=3: write seeds=N"),
        ("runner=serial", "runner=serial: write workers=N"),
        ("runner.n_workers=3", "write workers=N"),
        ("benchmark.path=other", "write the folder as the argument DIR"),
    ):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["benchmark", "compare", "made", wrong, "--to", "found"])
        assert words in capsys.readouterr().err
    for command, words in (
        (["benchmark"], "automerge benchmark export | validate | compare"),
        (["benchmark", "compare", "made", "optimizers=[nothing]", "--to", "x"], "Could not find 'optimizer/nothing'"),
    ):
        with pytest.raises(SystemExit, match="2"):
            cli.main(command)
        assert words in capsys.readouterr().err


def test_a_validation_that_cannot_be_done_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "few"
    cli.main(["benchmark", "export", str(example_run(tmp_path / "run", trials=3)), "--to", str(to)])
    for options, words in (
        (["--optimizers", "tpe"], "optimizers: expected none, as no runs compare; got tpe"),
        (["--jobs", "0"], "jobs: expected a whole number from 1, got 0"),
    ):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["benchmark", "validate", str(to), *options])
        assert words in " ".join(capsys.readouterr().err.split())
    assert "validation" not in json.loads((to / "report.json").read_text())
