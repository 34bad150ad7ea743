"""The study of optimizers as it is started: what is composed, run, resumed and reported."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automerge.components import build
from automerge.composition import composed
from automerge.evaluate import Evaluator
from automerge.fidelity import Ladder
from automerge.records import Evaluation, Objective, Query
from experiments.optimizers import figures
from experiments.optimizers.__main__ import FOLDER, RECORD, TABLES, jobs, main, parser
from experiments.optimizers.checkpoints import GRID, SHARES
from experiments.optimizers.contestants import ABLATIONS, CONTESTANTS, RIVALS
from experiments.optimizers.problems import PROBLEMS, Scale
from experiments.optimizers.record import as_json, recorded
from experiments.optimizers.results import Results
from experiments.optimizers.worker import ASKS, FAULT, FIGURES, Job, TimedOptimizer, work
from tests.conformance.members import lfs

TINY = Scale(trials=12, least=2, most=20, test_items=12)


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_are_composed_with_their_tasks_rungs_and_budget(name: str) -> None:
    problem = PROBLEMS[name]
    settings = composed(Scale().overrides(problem))
    assert len(settings["task"]) == problem.n_tasks
    assert settings["budget"] == {"trials": None, "items": 15422 * problem.n_tasks, "minutes": None}
    assert settings["fidelity"] == {"min": 30, "max": 300, "eta": 3}
    assert settings["model"]["threads"] == 1


@pytest.mark.parametrize("name", CONTESTANTS)
def test_contestants_are_optimizers_with_the_rungs_of_the_study(name: str) -> None:
    scale, space = Scale(), lfs()
    settings = composed([*scale.overrides(PROBLEMS["lfs-2"]), *CONTESTANTS[name].at(scale.rungs[0])])
    ladder = Ladder(minimum=30, maximum=300)
    objectives = [Objective("a"), Objective("b")]
    optimizer = build(settings["optimizer"], space=space, objectives=objectives, ladder=ladder, constraints=(), seed=0)
    timed = TimedOptimizer(optimizer)
    timed.count_above(np.zeros(2))
    first = timed.ask()
    assert first.stop in ladder.rungs
    assert first.genotype.shape == (len(space.genes),)


def test_the_budget_is_what_halving_takes() -> None:
    """200 trials to 33 items, 66 of them to 100, 22 to 300."""
    scale = Scale(trials=200, least=30, most=300)
    assert scale.rungs == (33, 100, 300)
    assert scale.budget(PROBLEMS["single"]) == 200 * 33 + 66 * 67 + 22 * 200
    assert scale.budget(PROBLEMS["lfs-3"]) == 3 * scale.budget(PROBLEMS["single"])


def test_seeds_complete_together() -> None:
    options = parser().parse_args(
        ["run", "--seeds", "2", "--problems", "lfs-2", "single", "--optimizers", "evolution", "random_search"]
    )
    found = jobs(options, Scale())
    assert [job.seed for job in found] == [5] * 4 + [6] * 4
    assert Counter((job.problem, job.optimizer) for job in found[:4]) == Counter(
        (problem, optimizer) for problem in ("lfs-2", "single") for optimizer in ("evolution", "random_search")
    )
    assert len({job.folder for job in found}) == 8


def make_job(folder: Path, optimizer: str) -> Job:
    overrides = (*TINY.overrides(PROBLEMS["lfs-2"]), f"optimizer={optimizer}")
    runs = folder / TINY.name / "lfs-2"
    return Job("lfs-2", optimizer, 0, overrides, runs / f"{optimizer}-0", folder / "scores.db")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny finished run."""
    folder = tmp_path_factory.mktemp("runs")
    assert work(make_job(folder, "random_search")) == ""
    return folder


@pytest.mark.slow
def test_a_run_tells_what_it_found_and_what_it_took(finished: Path) -> None:
    job = make_job(finished, "random_search")
    figures = json.loads((job.folder / FIGURES).read_text())
    assert job.finished
    assert figures["budget"] == (12 * 2 + 4 * 4 + 1 * 14) * 2
    assert figures["items_nested"] >= figures["budget"]
    assert figures["items_full"] >= figures["items_nested"]
    assert [point["share"] for point in figures["checkpoints"]] == [0, 0.1, 0.25, 0.5, 0.75, 1]
    for point in (*figures["checkpoints"], figures["final"]):
        assert point["gain"] == pytest.approx(point["hypervolume"] - figures["references"])
    assert figures["references"] >= figures["sources"] > 0
    asks = json.loads((job.folder / ASKS).read_text())
    assert len(asks) == figures["n_asks"] >= figures["n_trials"]
    assert sum(asks) == pytest.approx(figures["ask_seconds"])


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_from_its_log(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(finished, "random_search")
    before = json.loads((job.folder / FIGURES).read_text())
    (job.folder / FIGURES).unlink()
    assert not job.finished
    before_seconds = before.pop("seconds"), before.pop("seconds_evaluating")

    def refuse(self: Evaluator, query: Query) -> Evaluation:
        raise AssertionError("everything is in the log and in the store")

    monkeypatch.setattr(Evaluator, "__call__", refuse)
    assert work(job) == ""
    after = json.loads((job.folder / FIGURES).read_text())
    assert (after.pop("seconds"), after.pop("seconds_evaluating")) == before_seconds
    measured = {"ask_seconds", "ask_median", "ask_worst", "tell_seconds", "machine"}
    assert {key: after[key] for key in after.keys() - measured} == {
        key: before[key] for key in before.keys() - measured
    }


def test_a_run_that_raises_is_told_and_leaves_its_traceback(tmp_path: Path) -> None:
    job = make_job(tmp_path, "no_such_optimizer")
    assert "no_such_optimizer" in work(job)
    assert "Traceback" in (job.folder / FAULT).read_text()
    assert not job.finished


@pytest.mark.slow
def test_the_report_writes_results_and_figures(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scale = ["--trials", "12", "--min-items", "2", "--max-items", "20", "--test-items", "12"]
    focus = ["--focus", "random_search"]
    assert main(["report", *scale, *focus, "--runs", str(finished), "--to", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert [(run["problem"], run["optimizer"], run["seed"]) for run in results["runs"]] == [
        ("lfs-2", "random_search", 0)
    ]
    assert "torch" in results["machines"][0]["versions"]
    assert (tmp_path / "hypervolume.png").stat().st_size > 10_000
    row = "| lfs-2 | random_search | 1 |"
    assert row in capsys.readouterr().out
    assert row in (tmp_path / "tables.md").read_text()


def finished_elsewhere(optimizer: str, **figures: Any) -> dict[str, Any]:
    """The figures of a run of the study that was made on another machine."""
    gains = [{"share": share, "n_models": 2, "hypervolume": 0.2 + share, "gain": share} for share in SHARES]
    return {
        "problem": "lfs-2",
        "optimizer": optimizer,
        "seed": 5,
        "budget": 30844,
        "sources": 0.1,
        "references": 0.2,
        "reference_point": [0.2, 0.3],
        "checkpoints": gains,
        "final": {"n_models": 2, "hypervolume": 0.3, "gain": 0.1},
        "trajectory": [0.3] * len(GRID),
        "n_trials": 200,
        "statuses": {"ok": 200},
        "machine": {"processor": f"that of {optimizer}"},
        **figures,
    }


def write_record(path: Path, *runs: dict[str, Any], scale: Scale | None = None) -> Path:
    path.write_text(as_json(runs, scale or Scale(), None))
    return path


def test_runs_of_a_record_are_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = write_record(tmp_path / "results.json", finished_elsewhere("evolution"), finished_elsewhere("tpe"))
    wanted = ["--problems", "lfs-2", "--optimizers", "evolution", "tpe", "--seeds", "1"]
    assert main(["run", "--runs", str(tmp_path), "--record", str(record), *wanted]) == 0
    assert "0 of 2 runs to do" in capsys.readouterr().out


def test_a_record_gives_its_runs_back_with_their_machines(tmp_path: Path) -> None:
    runs = [finished_elsewhere("evolution"), finished_elsewhere("tpe")]
    assert recorded(write_record(tmp_path / "results.json", *runs), Scale()) == runs


def test_a_run_of_the_folder_takes_the_place_of_a_recorded_one(tmp_path: Path) -> None:
    folder = tmp_path / "lfs-2" / "evolution-5"
    folder.mkdir(parents=True)
    (folder / FIGURES).write_text(json.dumps(finished_elsewhere("evolution", n_trials=150)))
    found = Results.read(tmp_path, [finished_elsewhere("evolution"), finished_elsewhere("tpe")])
    assert [(run["optimizer"], run["n_trials"]) for run in found.runs] == [("evolution", 150), ("tpe", 200)]


def test_a_record_of_another_scale_or_none_at_all_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_record(tmp_path / "other.json", finished_elsewhere("tpe"), scale=Scale(trials=500))
    strange = tmp_path / "strange.json"
    strange.write_text("[]")
    for record, complaint in (
        (other, "'trials': 500"),
        (strange, "no results.json of this study"),
        (tmp_path / "missing.json", "missing.json is no results.json of this study (FileNotFoundError"),
    ):
        assert main(["run", "--runs", str(tmp_path / "runs"), "--record", str(record)]) == 2
        assert complaint in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_report_does_not_take_the_place_of_one_with_runs_that_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = write_record(tmp_path / "results.json", finished_elsewhere("evolution"), finished_elsewhere("tpe"))
    before = written.read_text()
    own = write_record(tmp_path / "own.json", finished_elsewhere("tpe"))
    arguments = ["report", "--runs", str(tmp_path / "runs"), "--to", str(tmp_path)]
    assert main([*arguments, "--record", str(own)]) == 2
    assert f"('lfs-2', 'evolution', 5); keep them with --record {written}" in capsys.readouterr().err
    assert main([*arguments, "--trials", "500", "--record", str(own)]) == 2
    assert written.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.json", "results.json"]


@pytest.mark.parametrize("key", ["references", "sources", "reference_point"])
def test_runs_with_other_references_are_not_compared(tmp_path: Path, key: str) -> None:
    found = finished_elsewhere("tpe")
    changed = {key: (np.array(found[key]) + 0.001).tolist()}
    with pytest.raises(ValueError, match=f"their {key.replace('_', ' ')} differ"):
        Results.read(tmp_path, [finished_elsewhere("evolution"), {**found, **changed}])
    # Of another seed they may.
    Results.read(tmp_path, [finished_elsewhere("evolution"), {**found, **changed, "seed": 6}])


def test_the_whole_study_ends_with_the_best_four_at_a_larger_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []
    for name in ("draw_hypervolumes", "draw_ranks"):
        monkeypatch.setattr(figures, name, lambda *arguments: drawn.append(arguments[-1]))
    (model,) = [
        run
        for run in recorded(FOLDER / RECORD, Scale())
        if (run["problem"], run["optimizer"], run["seed"]) == ("lfs-2", "evolution", 5)
    ]

    def measured(gain: float, **where: Any) -> dict[str, Any]:
        return {**model, **where, "final": {**model["final"], "gain": gain}}

    worst_first = [*ABLATIONS, *reversed(RIVALS)]
    runs = [
        measured(gain, problem=problem, optimizer=optimizer, seed=seed)
        for problem in PROBLEMS
        for gain, optimizer in enumerate(worst_first)
        for seed in (5, 6)
    ]
    (tmp_path / "500_trials").mkdir()
    write_record(tmp_path / RECORD, *runs)
    best = [run for run in runs if run["optimizer"] in RIVALS[:4]]
    write_record(tmp_path / "500_trials" / RECORD, *best, scale=Scale(trials=500))
    assert main(["all", "--runs", str(tmp_path / "runs"), "--to", str(tmp_path), "--seeds", "2"]) == 0
    said = capsys.readouterr().out
    assert said.count(f"0 of {len(worst_first) * 2} runs to do") == len(PROBLEMS)
    assert said.count(f"0 of {4 * 2} runs to do") == len(PROBLEMS)
    for folder, names in ((tmp_path, worst_first), (tmp_path / "500_trials", RIVALS[:4])):
        table = (folder / TABLES).read_text()
        assert all(f"| dis-3 | {name} | 2 |" in table for name in names)
        assert folder / "hypervolume.png" in drawn


def test_a_report_of_nothing_says_how_to_begin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--runs", str(tmp_path)]) == 2
    assert "start `run` with the same options first" in capsys.readouterr().err


def test_the_tables_in_the_readme_are_those_that_the_report_wrote() -> None:
    written = {line for path in (FOLDER, FOLDER / "500_trials") for line in (path / TABLES).read_text().splitlines()}
    told = [line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith("|")]
    assert told
    assert [line for line in told if line not in written] == []
