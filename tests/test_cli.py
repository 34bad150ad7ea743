"""The command line as users run it, in processes of its own and on the embedded zoo."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from automerge import cli, components, zoo
from automerge.composition import composed
from automerge.export.model import export_run
from automerge.history import History
from automerge.log import LOG, RunLog
from automerge.measures import measure
from automerge.merge import ResidentSources
from automerge.protocols import Measures
from automerge.task_vectors import TaskVectors
from tests import toy
from tests.benchmark.example import example_run
from tests.benchmark.simulated import RANDOM, make_benchmark, run
from tests.test_run import make_settings, search


def automerge(*arguments: str, cwd: Path, code: int = 0) -> str:
    """What the command prints, both streams; its exit status must be `code`."""
    done = subprocess.run(
        [sys.executable, "-m", "automerge.cli", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_help_and_unknown_commands_tell_the_usage(tmp_path: Path) -> None:
    assert "automerge search experiment=demo" in automerge("--help", cwd=tmp_path)
    assert "automerge search experiment=demo" in automerge("serach", cwd=tmp_path, code=2)


def test_faults_are_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    text = automerge("search", "space.granularity=0", "+optimizer.speed=3", "hydra.run.dir=mine", cwd=tmp_path, code=2)
    assert (tmp_path / "mine").is_dir(), "a folder that the user named stays"
    assert "unknown options speed" in text
    assert "choose an experiment" in text or "name at least one task" in text
    assert "Traceback" not in text
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text('# @package _global_\nextract: "####\\s*"\n')
    text = automerge("search", "--config-dir", str(tmp_path), "experiment=mine", cwd=tmp_path, code=2)
    assert "mine.yaml is no YAML" in text
    assert "Traceback" not in text
    (tmp_path / "experiment" / "mine.yaml").write_text("optimizer: evolution\n")
    text = automerge("search", "--config-dir", str(tmp_path), "experiment=mine", cwd=tmp_path, code=2)
    assert "the first line of a file in the folder `experiment` must be `# @package _global_`" in text
    text = automerge("check", "experiment=demo", "-c", "job", cwd=tmp_path)
    assert "strengths" in text  # Hydra's own option shows the settings
    text = automerge("search", "experiment=smoke", "optimizer.batchs=3", cwd=tmp_path, code=2)
    assert "there is no setting optimizer.batchs; did you mean optimizer.batch? optimizer has aspiration, batch" in text
    assert "Traceback" not in text
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob(".hydra"))
    for command in (["search", "--resume", "nowhere"], ["report", "nowhere"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main(command)


@pytest.mark.slow
def test_a_run_of_the_zoo_is_resumed_from_anywhere_and_keeps_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    few = ("experiment=smoke", "task=zoo_recall", "budget.trials=2", "fidelity.max=30", "report.test_items=30")
    short = (*few, "optimizer=random_search")
    automerge("search", *short, "hydra.run.dir=run", cwd=tmp_path)
    before = (tmp_path / "run" / "pareto.csv").read_text()
    said = automerge("search", *short, "seed=5", "hydra.run.dir=run", cwd=tmp_path, code=2)
    assert "seed: 0 in the log, 5 now" in said.replace("\n", " ")
    monkeypatch.chdir(tmp_path / "elsewhere")
    cli.main(["search", "--resume", "../run"])
    assert (tmp_path / "run" / "pareto.csv").read_text() == before
    said = automerge("search", "--resume", str(tmp_path / "run"), "budget.trials=8", cwd=tmp_path, code=2)
    assert "budget.trials: 2 in the log, 8 now" in said
    assert f"start a new run with 'start=[\"{tmp_path / 'run'}\"]'" in said
    cli.main(["export", "../run", "--trial", "3", "--to", "model"])
    assert (tmp_path / "elsewhere" / "model" / "model.safetensors").is_file()


def test_a_report_is_written_even_where_the_benchmark_of_a_run_must_not_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = example_run(tmp_path / "run", trials=3)
    (path / "benchmark").mkdir()
    monkeypatch.setattr(cli, "_assemble", lambda *_: SimpleNamespace(sources=SimpleNamespace(notes=())))
    monkeypatch.setattr(cli, "_estimate", lambda *_: SimpleNamespace(lines=list))
    monkeypatch.setattr(cli, "_warnings", lambda *_: [])
    monkeypatch.setattr("automerge.parts.search", lambda *_: iter(()))
    with pytest.raises(SystemExit, match="2"):
        cli.main(["search", "--resume", str(path)])
    assert (path / "report.html").is_file()
    assert "is no surrogate benchmark; name a new folder" in capsys.readouterr().err


def test_a_run_is_told_where_its_models_are_now(
    llama: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = {name: tmp_path / name for name in llama}
    for name, folder in llama.items():
        shutil.copytree(folder, family[name])
    settings = make_settings(tmp_path, family, budget={"trials": 2, "items": None, "minutes": None})
    search(settings, tmp_path / "run")
    family["left"].rename(tmp_path / "moved")
    run, to, here = str(tmp_path / "run"), str(tmp_path / "model"), f"source.models.left={tmp_path / 'moved'}"
    for command in (["search", "--resume", run], ["export", run, "--trial", "3", "--to", to]):
        with pytest.raises(SystemExit, match="2"):
            cli.main(command)
        told = f"say where it is now: automerge {' '.join(command)} source.models.left=PATH"
        assert told in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        cli.main(["export", run, "--trial", "3", "--to", to, "model.device=cpu"])
    assert "an export can be told only where models are, as source.base=DIR" in capsys.readouterr().err
    cli.main(["export", run, here, "--trial", "3", "--to", to])
    assert (tmp_path / "model" / "model.safetensors").is_file()
    cli.main(["search", "--resume", run, here, "model.batch_tokens=512"])
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_run_goes_on_with_the_norms_of_its_log_which_other_devices_may_round_otherwise(
    llama: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = {"_target_": "automerge.optimizers.bayes_evolution.BayesEvolution", "n_initial": 4}
    short: dict[str, Any] = {"optimizer": optimizer, "budget": {"trials": 12, "items": None, "minutes": None}}
    settings = make_settings(tmp_path, llama, **short)
    before = search(settings, tmp_path / "run")

    def elsewhere(sources: ResidentSources, vectors: TaskVectors) -> Measures:
        found = measure(sources, vectors)
        return replace(found, norms={slot: norms * [0.2, 5.0] for slot, norms in found.norms.items()})

    monkeypatch.setattr("automerge.run.measure", elsewhere)
    with pytest.raises(ValueError, match=r"of the log (has recipe|\(.*is not what these settings ask for)"):
        search(settings, tmp_path / "run")
    cli.main(["search", "--resume", str(tmp_path / "run")])
    with RunLog(tmp_path / "run" / LOG, read_only=True) as log:
        assert History.of(log).trials.keys() == before.trials.keys()


def test_a_run_that_another_process_goes_on_with_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = example_run(tmp_path / "run")
    monkeypatch.setattr(cli, "_assemble", lambda *_: pytest.fail("the parts were loaded"))
    with RunLog(folder / LOG), pytest.raises(SystemExit, match="2"):
        cli.main(["search", "--resume", str(folder)])
    assert "another process is writing" in capsys.readouterr().err.replace("\n", " ")


def test_searching_on_a_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_benchmark(tmp_path / "made", breaks=False, tested=False)
    settings = composed(["problem=benchmark", "benchmark.path=made", "optimizer=evolution", "budget.trials=5"])
    run({**settings, "optimizer": RANDOM}, tmp_path / "run", 12)
    with RunLog(tmp_path / "run" / LOG, read_only=True) as log:
        n_logged = len(log.evaluations())
    cli.main(["search", "--resume", "run"])
    with RunLog(tmp_path / "run" / LOG, read_only=True) as log:
        assert len(log.evaluations()) > n_logged == 12
    said = capsys.readouterr().out
    assert "simulated: the surrogate benchmark handmade 1.0.0, fitted on 300 models, answers" in said
    assert "it has no model of the test items of " in said
    assert "Simulated: every score is that of the surrogate benchmark" in said
    assert "automerge export" not in said
    assert not (tmp_path / "run" / "benchmark").exists()
    for command in (["export", "run", "--point", "1", "--to", "x"], ["benchmark", "export", "run", "--to", "x"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main(command)
        assert "run is a simulated run: " in capsys.readouterr().err


def test_a_run_of_several_that_fails_does_not_keep_the_others_from_running(tmp_path: Path) -> None:
    several = ("-m", "budget.trials=0,-1", "start=[/runs/one]")
    said = automerge("search", "problem=benchmark", "benchmark.path=gone", *several, cwd=tmp_path, code=2)
    for trials in (0, -1):
        assert f"budget.trials: expected a whole number from 1, got {trials}" in said
    assert "error: 2 of these runs ended with an error, told above:" in said
    assert "  - problem=benchmark benchmark.path=gone budget.trials=-1 start=[/runs/one]" in said
    left = [path.name for path in (tmp_path / "runs" / "benchmark").glob("*/*")]
    assert left == ["multirun.yaml"], "runs that did not begin leave no folder, and paths in overrides make none within"


def test_a_run_that_recommends_nothing_is_reported_and_told_so_by_the_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "task=[zoo_sort] once"
    example_run(folder)
    with RunLog(folder / LOG) as log:
        log.write_settings({"recommended": []})
    cli.main(["report", str(folder)])
    assert f"report: {folder / 'report.html'}" in capsys.readouterr().out
    with pytest.raises(ValueError, match="the run recommends no model"):
        export_run(folder, tmp_path / "model", point=1)


def test_a_report_that_cannot_have_its_baseline_is_written_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example_run(tmp_path / "run")
    with RunLog(tmp_path / "run" / LOG) as log:
        config = log.settings()["config"]
        log.write_settings({"config": {**config, "report": {**config["report"], "baseline": str(tmp_path / "gone")}}})
    cli.main(["report", str(tmp_path / "run")])
    said = " ".join(capsys.readouterr().out.split())
    assert "warning: the report is without its baseline: " in said
    assert (tmp_path / "run" / "report.html").is_file()
    with pytest.raises(SystemExit, match="2"):
        cli.main(["report", str(tmp_path / "run"), "--baseline", str(tmp_path / "gone")])


@pytest.mark.slow
def test_one_objective_ends_with_its_differences_and_an_impossible_bound_with_words(tmp_path: Path) -> None:
    short = ("experiment=smoke", "task=zoo_recall", "budget.trials=2", "fidelity.max=30", "report.test_items=30")
    said = automerge("search", *short, "hydra.run.dir=one", cwd=tmp_path)
    assert "best uniform merge" in said or "best other uniform merge" in said
    assert re.search(r"On test items (the recommended model|no recommended model)", said)
    assert "--point 1" in said
    said = automerge("search", *short, "constraints=['layers <= 3']", "hydra.run.dir=none", cwd=tmp_path)
    assert "warning: none of " in said
    assert "keeps all constraints (layers <= 3), so none is recommended" in said
    assert "--point 1" not in said


def test_targets_outside_automerge_are_never_imported() -> None:
    (fault,) = components.faults("task.x", {"_target_": "os.system", "command": "true"})
    assert "must lie inside automerge" in fault
    with pytest.raises(ValueError, match="must lie inside automerge"):
        components.build({"_target_": "os.system", "command": "true"})


def test_zoo_paths_exist_and_unknown_ones_are_refused() -> None:
    for path in ("models/base", "tasks/sort/search.jsonl"):
        assert Path(zoo.path(path)).exists()
    with pytest.raises(FileNotFoundError, match="nothing"):
        zoo.path("models/nothing")


@pytest.mark.slow
def test_an_experiment_of_ones_own_runs_exports_and_sweeps(
    tmp_path: Path, llama: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, name in ((0, "search"), (1, "test")):
        toy.write_jsonl(tmp_path / f"{name}.jsonl", toy.copy_rows(50, seed))
    mine = {
        "defaults": [{"override /fidelity": "full"}, {"override /optimizer": "random_search"}, "_self_"],
        "source": {
            "base": str(llama["base"]),
            "models": {name: str(llama[name]) for name in ("left", "right")},
        },
        "task": {
            "first": {
                "_target_": "automerge.tasks.multiple_choice.MultipleChoice",
                "search": {"path": str(tmp_path / "search.jsonl")},
                "test": {"path": str(tmp_path / "test.jsonl")},
                "prompt": "{{ prompt }}",
            }
        },
        "space": {"granularity": 2, "strengths": [0.5]},
        "budget": {"trials": 6},
    }
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# @package _global_\n" + OmegaConf.to_yaml(OmegaConf.create(mine)))
    search = ("search", "--config-dir", str(tmp_path / "conf"), "experiment=mine")
    said = automerge("check", *search[1:], cwd=tmp_path)
    assert "all is well: 2 sources beside the base, 3 layers" in said.replace("\n", " ")
    assert {path.name for path in tmp_path.iterdir()} == {"conf", "search.jsonl", "test.jsonl"}

    said = automerge(*search, "hydra.run.dir=one", cwd=tmp_path)
    assert "search: 100%" in said
    assert (tmp_path / "one" / "report.html").is_file()
    assert (tmp_path / "one" / "benchmark" / "metadata.json").is_file()
    monkeypatch.chdir(tmp_path)
    cli.main(["export", "one", "--point", "1", "--to", "model"])
    assert (tmp_path / "model" / "model.safetensors").is_file()

    automerge(*search, "-m", "seed=0,1", cwd=tmp_path)
    many = list((tmp_path / "runs" / "mine").glob("*/*/run.db"))
    assert {path.parent.name for path in many} == {"seed=0", "seed=1"}
    cli.main(["report", "one", "--baseline", str(many[0].parent)])
    assert "runs/mine" in (tmp_path / "one" / "report.html").read_text()
