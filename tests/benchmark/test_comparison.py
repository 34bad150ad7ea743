from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from automerge.benchmark import comparison, load
from automerge.benchmark.comparison import Comparison, Run, compare, halving_items
from automerge.benchmark.comparison_figures import markdown, rows, write_figures
from automerge.benchmark.simulation import assemble
from automerge.history import History
from automerge.log import LOG, RunLog
from automerge.pareto import hypervolume
from tests.benchmark.simulated import EVOLUTION, RANDOM, VIRTUAL, make_benchmark, make_settings

BUDGET = {"trials": None, "items": 600, "minutes": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_benchmark(tmp_path_factory.mktemp("benchmark") / "made", breaks=False)


def contestants(folder: Path, **changes: Any) -> dict[str, dict[str, Any]]:
    return {
        name: make_settings(folder, optimizer=optimizer, budget=BUDGET, **changes)
        for name, optimizer in (("evolution", EVOLUTION), ("random_search", RANDOM))
    }


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison, list[str]]:
    """A comparison of two optimizers with two seeds, its folder, and what was told of its runs."""
    to = tmp_path_factory.mktemp("comparison")
    told: list[str] = []
    return to, compare(contestants(folder), [0, 1], to, tell=told.append), told


def run_of(optimizer: str, seed: int, values: list[float], gain: float) -> Run:
    steps = np.arange(len(values), dtype=np.float64)
    return Run(optimizer, seed, 100 * steps, 60 * steps, np.array(values), 0.5 + gain, 0.5, 10 * len(values))


def made(finals: dict[str, list[float]], values: dict[str, list[float]] | None = None) -> Comparison:
    """A comparison whose gains at the end are these, by seed."""
    known = values or {name: [0.1, 0.2, 0.4] for name in finals}
    runs = tuple(
        run_of(name, seed, known[name], gain) for name, gains in finals.items() for seed, gain in enumerate(gains)
    )
    n_seeds = len(next(iter(finals.values())))
    return Comparison("made 1.0.0", tuple(finals), tuple(range(n_seeds)), 200, "hypervolume", 1, runs)


def test_every_optimizer_searches_with_every_seed_and_leaves_a_log(
    finished: tuple[Path, Comparison, list[str]],
) -> None:
    to, found, told = finished
    assert {(run.optimizer, run.seed) for run in found.runs} == {
        (name, seed) for name in ("evolution", "random_search") for seed in (0, 1)
    }
    assert len(told) == 4
    assert told[0].startswith("1 of 4: evolution with seed 0")
    for run in found.runs:
        assert (to / "runs" / f"{run.optimizer}-{run.seed}" / LOG).is_file()
        assert len(run.items) == len(run.seconds) == len(run.values)
        # The last evaluation may go beyond the budget.
        assert 600 <= run.items[-1] < 700
        assert run.items[0] == run.seconds[0] == 0
        assert (np.diff(run.values) >= 0).all()
    stored = json.loads((to / "results.json").read_text())
    assert stored["settings"]["evolution"]["optimizer"] == EVOLUTION
    assert [run["final"] for run in stored["runs"]] == [run.final for run in found.runs]


def test_curves_are_those_of_the_logs_and_seeds_are_paired(finished: tuple[Path, Comparison, list[str]]) -> None:
    to, found, _ = finished
    for run in found.runs:
        with RunLog(to / "runs" / f"{run.optimizer}-{run.seed}" / LOG, read_only=True) as log:
            history = History.of(log)
        after = {
            items: volume
            for (items, volume), row in zip(history.trajectory(), history.evaluations, strict=False)
            if row.phase != "verify"
        }
        assert dict(zip(run.items, run.values, strict=True)) == after
        walls = [row.wall for row in history.evaluations if row.phase == "search"]
        assert run.seconds[-1] == pytest.approx(sum(walls))
    # References answer alike in all runs of a seed.
    begun = {(run.seed, run.values[0]) for run in found.runs}
    assert len(begun) == len(found.seeds)


def test_what_is_recommended_is_judged_by_its_expected_scores(
    folder: Path, finished: tuple[Path, Comparison, list[str]]
) -> None:
    to, found, _ = finished
    b = load(folder)
    sources = np.array([each.genotype for each in b.reference_configs if each.kind == "source"])
    worst = np.array([b.mean(sources, "test")[task] for task in ("math", "code")])
    point = worst.min(axis=1) - 0.1 * (worst.max(axis=1) - worst.min(axis=1))
    for run in found.runs:
        with RunLog(to / "runs" / f"{run.optimizer}-{run.seed}" / LOG, read_only=True) as log:
            history = History.of(log)
        for numbers, value in ((history.recommended, run.final), (history.references, run.references)):
            means = b.mean(np.array([history.trials[number].genotype for number in numbers]), "test")
            assert value == pytest.approx(hypervolume(np.stack([means["math"], means["code"]], axis=1), point))
        assert run.gain == pytest.approx(run.final - run.references)
    assert len({run.references for run in found.runs}) == 1


def test_finished_runs_are_kept_and_stopped_ones_go_on(
    folder: Path, finished: tuple[Path, Comparison, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    to, found, _ = finished
    figures = to / "runs" / "evolution-1" / "figures.json"
    before = figures.read_text()
    figures.unlink()
    told: list[str] = []
    again = compare(contestants(folder), [0, 1], to, tell=told.append)
    assert told == ["1 of 1: evolution with seed 1"]
    assert figures.read_text() == before
    assert [run.final for run in again.runs] == [run.final for run in found.runs]
    monkeypatch.setattr(comparison, "_work", lambda job: pytest.fail(f"{job.name} was run again"))
    compare(contestants(folder), [0, 1], to)


def test_a_folder_of_other_settings_is_refused(folder: Path, finished: tuple[Path, Comparison, list[str]]) -> None:
    to, _, _ = finished
    with pytest.raises(ValueError, match="name a new folder") as caught:
        compare(contestants(folder, runner={**VIRTUAL, "n_workers": 2}), [0], to)
    assert "evolution with seed 0: runner.n_workers: 1 in the log, 2 now" in str(caught.value)
    for seeds, jobs in (([0], 0), ([], 1)):
        with pytest.raises(ValueError, match="expected optimizers, seeds and jobs from 1"):
            compare(contestants(folder), seeds, to, jobs=jobs)


def test_a_run_that_fails_is_told_with_its_reason_after_all_others_are_done(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from automerge.optimizers.evolution import Evolution

    def fail(_: Evolution) -> None:
        raise RuntimeError("no idea")

    monkeypatch.setattr(Evolution, "ask", fail)
    with pytest.raises(ValueError, match="evolution with seed 0: RuntimeError: no idea"):
        compare(contestants(folder), [0], tmp_path)
    assert "no idea" in (tmp_path / "runs" / "evolution-0" / "fault.txt").read_text()
    assert (tmp_path / "runs" / "random_search-0" / "figures.json").is_file()
    monkeypatch.undo()
    assert len(compare(contestants(folder), [0], tmp_path).runs) == 2
    assert not (tmp_path / "runs" / "evolution-0" / "fault.txt").exists()


def test_one_objective_has_its_best_score(folder: Path, tmp_path: Path) -> None:
    settings = make_settings(folder, optimizer=RANDOM, budget=BUDGET, weights={"math": 1, "code": 1})
    found = compare({"random_search": settings}, [0], tmp_path)
    assert found.what == "best score, weighted mean"
    with RunLog(tmp_path / "runs" / "random_search-0" / LOG, read_only=True) as log:
        history = History.of(log)
    full = [
        trial.values(history.objectives)[0]
        for trial in history.trials.values()
        if trial.status == "ok" and trial.n_items == 60
    ]
    (run,) = found.runs
    assert run.values[-1] <= max(full)
    means = load(folder).mean(history.trials[history.recommended[0]].genotype, "test")
    assert run.final == pytest.approx((means["math"][0] + means["code"][0]) / 2)


def test_a_benchmark_in_the_home_folder_is_found(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    settings = {**contestants(Path("~") / folder.name)["random_search"], "budget": {**BUDGET, "items": 60}}
    assert len(compare({"random_search": settings}, [0], tmp_path).runs) == 1


def test_the_budget_in_items_is_what_successive_halving_takes(folder: Path) -> None:
    parts = assemble(make_settings(folder))
    # Rungs of 6, 20 and 60 items; code has 50. A third goes on to each next rung.
    by_hand = 90 * (6 + 6) + 30 * (14 + 14) + 10 * (40 + 30)
    assert halving_items(parts, 90) == by_hand


def test_curves_hold_a_value_until_the_next_evaluation_and_after_the_end() -> None:
    found = made({"a": [0.1]}, {"a": [0.1, 0.2, 0.4]})
    places = np.array([0.0, 99.0, 100.0, 150.0, 200.0])
    assert found.over_items("a", places)[0] == pytest.approx([0, 0, 0.1, 0.1, 0.3])
    assert found.over_seconds("a", np.array([59.0, 60.0, 1000.0]))[0] == pytest.approx([0, 0.1, 0.3])


def test_the_table_has_the_best_on_top_with_students_intervals_of_paired_differences() -> None:
    finals = {"low": [0.1, 0.2, 0.1], "high": [0.3, 0.5, 0.4], "middle": [0.2, 0.3, 0.35]}
    found = made(finals)
    table = rows(found)
    assert [row[0] for row in table[1:]] == ["high", "middle", "low"]
    header = table[0]
    place = {name: number for number, name in enumerate(header)}
    differences = np.array(finals["low"]) - np.array(finals["high"])
    half = t.ppf(0.975, 2) * differences.std(ddof=1) / np.sqrt(3)
    assert table[3][place["minus the best"]] == f"{differences.mean():+.4f} ± {half:.4f}"
    assert table[1][place["minus the best"]] == "-"
    assert [row[place["rank"]] for row in table[1:]] == ["1.00", "2.00", "3.00"]
    assert table[1][place["100 %"]] == "0.3000"
    assert table[1][place["virtual minutes"]] == "2"
    brief = rows(found, brief=True)
    assert all(len(row) == 6 for row in brief)
    text = markdown(found)
    assert text.count("\n| ") == 4
    assert "Surrogate benchmark made 1.0.0, not models" in text


def test_figures_are_drawn_for_few_and_for_many(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    write_figures(made({"a": [0.1]}), tmp_path / "one")
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"comparison.png", "comparison.md"}
    (tmp_path / "many").mkdir()
    write_figures(made({f"optimizer {k}": [0.1 * k, 0.05 * k + 0.1] for k in range(12)}), tmp_path / "many")
    assert (tmp_path / "many" / "ranks.png").stat().st_size > 5000
    assert (tmp_path / "many" / "comparison.png").stat().st_size > 5000
