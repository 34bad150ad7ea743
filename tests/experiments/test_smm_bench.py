"""The study of benchmarks as it is started: what is composed, found, taken in and reported."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from automerge.benchmark.trajectories import Curve
from automerge.check.settings import settings_faults
from automerge.composition import composed
from experiments.smm_bench import collection, study
from experiments.smm_bench.__main__ import main, parser
from experiments.smm_bench.problems import COMPARED, PROBLEMS, SHARES, STUDIED, Scale, existing
from experiments.smm_bench.worker import DONE, FAULT, Job, work
from tests.benchmark.example import EVOLUTION, RANDOM, example_run

SCALE = Scale(trials=10, items=12, test_items=5)


def jobs(problems: list[str], n_seeds: int = 1) -> list[Job]:
    return collection.jobs(Path("runs"), SCALE, problems=problems, seeds=range(n_seeds))


@pytest.mark.parametrize(
    "job", [*jobs(["zoo-ps"]), *(jobs([name])[0] for name in PROBLEMS if name != "zoo-ps")], ids=lambda job: job.name
)
def test_runs_that_collect_data_are_composed_without_fault(job: Job) -> None:
    settings = composed(job.overrides)
    assert settings_faults(settings) == []
    optimizer = job.folder.name.rpartition("-")[0]
    assert settings["budget"] == {"trials": 10 * SHARES[optimizer], "items": None, "minutes": None}
    assert settings["fidelity"] == {"min": 12, "max": 12, "eta": 3}
    assert settings["report"]["test_trials"] == "all"
    assert settings["model"]["threads"] == 1


def test_simulated_runs_are_composed_without_fault_and_have_the_scale_of_the_real_ones() -> None:
    (job, *others) = study.simulated_jobs(Path("runs"), SCALE, Path("benchmarks"), [100])
    simulated = composed(job.overrides)
    real = composed(study.real_jobs(Path("runs"), SCALE, [100])[0].overrides)
    assert settings_faults(simulated) == []
    assert simulated["benchmark"]["path"] == "benchmarks/zoo-ps"
    for key in ("optimizer", "budget", "fidelity", "seed"):
        assert simulated[key] == real[key]
    assert len({job.folder, *(each.folder for each in others)}) == 2 * len(COMPARED)


def test_the_default_scale_collects_five_thousand_trials_of_every_problem() -> None:
    options = parser().parse_args(["collect"])
    found = collection.jobs(Path("runs"), Scale(), problems=options.problems, seeds=range(options.seeds))
    trials = Counter[str]()
    for job in found:
        (budget,) = (each for each in job.overrides if each.startswith("budget.trials="))
        trials[job.folder.parent.name] += int(budget.partition("=")[2])
    assert trials.keys() == PROBLEMS.keys()
    assert min(trials.values()) >= 5000
    assert len({job.folder for job in found}) == len(found)


def test_finished_runs_of_the_other_study_are_taken_in_by_problem_without_ablations(tmp_path: Path) -> None:
    ablations = ("lfs-2/bayes_evolution_racing-5", "lfs-2/bayes_evolution_no_longer-5")
    for name in ("lfs-2/tpe-5", "lfs-2/evolution-6", *ablations, "smm_ps/tpe-5", "lfs-3/tpe-5"):
        (tmp_path / name).mkdir(parents=True)
        if not name.endswith("6"):
            (tmp_path / name / "figures.json").touch()
    assert existing([tmp_path], "zoo-lfs") == [tmp_path / "lfs-2/tpe-5"]
    assert existing([tmp_path], "zoo-ps") == [tmp_path / "smm_ps/tpe-5"]
    assert existing([tmp_path], "zoo-dis") == existing([], "zoo-lfs") == []
    with pytest.raises(ValueError, match="expected PROBLEM/OPTIMIZER-SEED folders"):
        existing([tmp_path / "lfs-2/evolution-6"], "zoo-lfs")


def test_only_finished_runs_become_a_benchmark(tmp_path: Path) -> None:
    own = tmp_path / SCALE.name / collection.COLLECTED / "zoo-ps"
    for name in ("tpe-0", "tpe-1", "space_filling-0", "other-0"):
        (own / name).mkdir(parents=True)
    with pytest.raises(ValueError, match="`collect` first, with the same options"):
        collection.collected(tmp_path, SCALE, "zoo-ps")
    for name in ("tpe-1", "space_filling-0", "other-0"):
        (own / name / DONE).touch()
    assert collection.collected(tmp_path, SCALE, "zoo-ps") == [own / "space_filling-0", own / "tpe-1"]
    assert collection.collected(tmp_path, SCALE, "zoo-ps", ["space_filling"]) == [own / "space_filling-0"]


def test_an_optimizer_without_a_finished_run_is_not_left_out_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / SCALE.name / collection.COLLECTED / "zoo-lfs"
    for name in ("tpe-0", "tpe-1", "sep_cma-0", "sep_cma-1", "evolution-0"):
        (own / name).mkdir(parents=True)
    (own / "tpe-1" / DONE).touch()
    (own / "sep_cma-0" / FAULT).touch()
    monkeypatch.setattr(collection, "export", lambda *_, **__: {})
    arguments = ["export", "--problems", "zoo-lfs", "--folder", str(tmp_path), "--to", str(tmp_path / "out")]
    arguments += ["--trials", "10", "--items", "12", "--test-items", "5"]
    assert main(arguments) == 2
    fault = capsys.readouterr().err
    assert "no run of zoo-lfs/sep_cma is finished" in fault
    assert "--partial" in fault
    assert main([*arguments, "--partial"]) == 0
    printed = capsys.readouterr().out
    assert "zoo-lfs: " in printed
    assert "tpe 1 of 2" in printed
    assert "sep_cma 0 of 2" in printed
    assert "bayes_evolution 0 of 0" in printed


def test_a_run_that_raises_is_told_and_leaves_its_traceback(tmp_path: Path) -> None:
    job = Job(("optimizer=no_such_optimizer",), tmp_path / "run")
    assert "no_such_optimizer" in work(job)
    assert "Traceback" in (job.folder / FAULT).read_text()
    assert not job.finished


def test_missing_benchmarks_and_runs_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, message in (("study", "run `collect` and `export` first"), ("report", "run `study` first")):
        assert main([command, "--folder", str(tmp_path), "--to", str(tmp_path)]) == 2
        assert message in capsys.readouterr().err


def make_curves(finals: dict[str, list[float]]) -> list[Curve]:
    return [
        Curve(name, 100 + seed, np.array([0, 50]), np.array([0.0, value]))
        for name, values in finals.items()
        for seed, value in enumerate(values)
    ]


REAL = {"sep_cma": [3.0, 3.2], "pymoo_de": [2.0, 2.4], "tpe": [1.0, 1.2], "bayes_evolution": [4.0, 4.4]}


def test_tables_tell_means_paired_differences_and_orders() -> None:
    simulated = {**REAL, "tpe": [3.5, 3.7, 3.9]}
    found = dict(zip(study.WORLDS, map(make_curves, (REAL, simulated, REAL)), strict=True))
    lines = {line.split(" | ")[0].strip("| "): line for line in study.table(found).splitlines()}
    assert "| 2.2000 (0.2000), n = 2 | +0.9000 [-0.3706, +2.1706] 2/2 |" in lines["pymoo_de"]
    assert "| 3.7000 (0.1155), n = 3 | -0.5000 [" in lines["tpe"]
    rows = {line.split(" | ")[0].strip("| "): line for line in study.agreement(found).splitlines()}
    assert rows["real"].startswith("| real | - | - | bayes_evolution, sep_cma, pymoo_de, tpe")
    # tpe goes from the last place of four to the second: 1 - 6 (4 + 1 + 1) / (4 x 15).
    assert rows["zoo-ps"].startswith("| zoo-ps | 0.40 | 0.75 | bayes_evolution, tpe, sep_cma, pymoo_de")
    assert rows["zoo-ps-random"].startswith("| zoo-ps-random | 1.00 | 1.00 |")


def test_the_report_is_of_all_finished_runs_above_one_reference_point(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scale = replace(Scale(), trials=6)
    for world in study.WORLDS:
        for name, optimizer in (("sep_cma", EVOLUTION), ("tpe", RANDOM)):
            run = tmp_path / scale.name / "study" / world / f"{name}-100"
            example_run(run, trials=6, breaks=False, optimizer=optimizer)
            (run / DONE).touch()
    assert main(["report", "--trials", "6", "--folder", str(tmp_path), "--report-to", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["worlds"][STUDIED]["optimizers"]["tpe"]["gap"] == 0
    assert results["finals"]["real"].keys() == {"sep_cma", "tpe"}
    assert (tmp_path / "out" / "hypervolume.png").stat().st_size > 10_000
    assert "| tpe |" in capsys.readouterr().out
