"""Real and simulated curves compared; curves whose answers are known, and searches on a tiny benchmark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import sem

from automerge.benchmark import trajectories
from automerge.benchmark.dataset import read_runs
from automerge.benchmark.trajectories import Curve, chosen, comparable, compared, measure, refuse_others, simulate
from automerge.history import History
from automerge.log import LOG, RunLog
from automerge.parts import search
from tests.benchmark.example import EVOLUTION, RANDOM, example_benchmark, example_run
from tests.benchmark.simulated import make_benchmark, make_settings


def curves(finals: dict[str, list[float]]) -> list[Curve]:
    """A curve of two steps for every final value."""
    return [
        Curve(name, seed, np.array([0, 10, 20]), np.array([0.0, value / 2, value]))
        for name, values in finals.items()
        for seed, value in enumerate(values)
    ]


REAL = {"a": [1.0, 1.2, 1.1], "b": [2.0, 2.2, 2.4], "c": [3.0, 3.1, 3.5]}


def test_a_benchmark_that_repeats_reality_ranks_alike_without_a_gap() -> None:
    found = compared(curves(REAL), curves(REAL))
    assert found["rank_correlation"] == found["tau"] == pytest.approx(1)
    assert found["within_two_errors"] == 1
    assert [each["gap"] for each in found["optimizers"].values()] == [0, 0, 0]


def test_gaps_count_in_standard_errors_of_the_difference() -> None:
    simulated = {"a": [1.0, 1.2, 1.1], "b": [4.0, 4.1, 4.2, 4.3], "c": [3.0, 3.4, 3.2]}
    found = compared(curves(REAL), curves(simulated))
    b = found["optimizers"]["b"]
    error = np.hypot(sem(REAL["b"]), sem(simulated["b"]))
    assert (b["real"], b["real_error"], b["real_seeds"]) == pytest.approx((2.2, sem(REAL["b"]), 3))
    assert (b["simulated"], b["simulated_error"], b["simulated_seeds"]) == pytest.approx((4.15, sem(simulated["b"]), 4))
    assert b["gap"] == pytest.approx(4.15 - 2.2)
    assert b["gap_in_errors"] == pytest.approx((4.15 - 2.2) / error)
    assert found["within_two_errors"] == pytest.approx(2 / 3)
    # The simulated order is a, c, b: of three pairs one is turned round.
    assert found["tau"] == pytest.approx(1 / 3)
    assert found["rank_correlation"] == pytest.approx(0.5)


def test_mean_curves_hold_each_value_until_the_next_evaluation() -> None:
    found = compared(curves(REAL), curves(REAL))
    curve = found["optimizers"]["a"]["curve"]
    assert curve["items"] == [float(n) for n in range(21)]
    assert curve["real"] == pytest.approx([0.0] * 10 + [0.55] * 10 + [1.1])
    late = Curve("a", 0, np.array([5, 8]), np.array([1.0, 2.0]))
    assert late.at(np.array([0.0, 5.0, 7.9, 8.0, 99.0])).tolist() == [0, 1, 1, 2, 2]


def test_what_cannot_be_told_is_none() -> None:
    found = compared(curves({"a": [1.0], "b": [2.0]}), curves({"a": [1.0], "b": [2.0], "c": [3.0]}))
    assert set(found["optimizers"]) == {"a", "b"}
    assert found["rank_correlation"] is found["tau"] is found["within_two_errors"] is None
    assert found["optimizers"]["a"]["real_error"] is None
    assert compared([], [])["optimizers"] == {}
    equal = {name: [1.0, 2.0] for name in "abc"}
    assert compared(curves(equal), curves(REAL))["rank_correlation"] is None


def told(optimizer: str, seed: int, trials: int = 40, start: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "optimizer": optimizer,
        "seed": seed,
        "reference_point": [0.0, 0.0],
        "settings": {"fidelity": {"min": 1}, "budget": {"trials": trials}, "report": {}, "start": list(start)},
    }


def test_runs_of_the_scale_that_most_optimizers_have_are_compared() -> None:
    many = [told(name, seed) for name in "abc" for seed in range(2)]
    other = [told("a", seed, trials=90) for seed in range(9)]
    assert comparable([*other, *many]) == many
    assert comparable([*many, told("d", 0)]) == many
    assert comparable([*many, told("a", 7, start=("mine",))]) == many
    assert comparable([told("a", 0), told("b", 0)]) == comparable([]) == []


def test_only_runs_of_named_optimizers_are_chosen() -> None:
    runs = [told(name, seed) for name in ("a", "b", "c") for seed in range(2)]
    assert chosen([*runs, told("d", 0)]) == runs
    assert chosen(runs, ["c", "a"]) == [*runs[:2], *runs[4:]]
    assert chosen(runs, []) == []
    with pytest.raises(ValueError, match="expected those with 2 comparable runs, a, b, c; got d"):
        chosen([*runs, told("d", 0)], ["d", "a"])
    with pytest.raises(ValueError, match="expected none, as no runs compare; got a"):
        chosen([told("a", 0)], ["a"])


def test_optimizers_that_cannot_be_built_here_are_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = {"_target_": "automerge.optimizers.gone.Gone"}
    runs = [told(name, seed) for name in ("evolution", "gone") for seed in range(2)]
    for number, run in enumerate(runs):
        run["name"] = str(number)
        run["settings"]["optimizer"] = EVOLUTION if run["optimizer"] == "evolution" else missing
    rows = pd.DataFrame([{"run": run["name"], "items": 5, "hypervolume": 0.25} for run in runs])
    repeated = []

    def simulated(_: Path, run: dict[str, Any], to: Path) -> Curve:
        repeated.append(to)
        return Curve(run["optimizer"], run["seed"], np.array([5]), np.array([0.5]))

    monkeypatch.setattr(trajectories, "simulate", simulated)
    monkeypatch.setattr(trajectories, "fingerprint", lambda _: "made")
    found = measure(tmp_path, runs, rows, tmp_path)
    assert repeated == [tmp_path / "0", tmp_path / "1"]
    assert set(found["optimizers"]) == {"evolution"}
    assert set(found["left_out"]) == {"gone"}
    assert "No module named 'automerge.optimizers.gone'" in found["left_out"]["gone"]
    assert measure(tmp_path, runs[2:], rows, tmp_path)["optimizers"] == {}
    assert measure(tmp_path, [], rows, tmp_path) == {}


def shown(folder: Path) -> tuple[Path, dict[str, Any]]:
    """A benchmark in this folder, and a short run of it as its metadata tell it."""
    benchmark = make_benchmark(folder / "made", breaks=False, tested=False)
    run = told("random_search", 3)
    run["name"] = "runs/random_search-3"
    settings = make_settings(benchmark)
    run["settings"] = {
        "optimizer": RANDOM,
        "fidelity": {"min": 6, "max": 60, "eta": 3},
        "budget": {"trials": 6, "items": None, "minutes": None},
        "report": settings["report"],
        "start": [],
    }
    return benchmark, run


def test_a_repeated_search_is_kept_and_one_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark, run = shown(tmp_path)
    whole = simulate(benchmark, run, tmp_path / "whole")

    def stopped(*given: Any) -> Iterator[Any]:
        yield from islice(search(*given), 5)
        raise KeyboardInterrupt

    monkeypatch.setattr(trajectories, "search", stopped)
    with pytest.raises(KeyboardInterrupt):
        simulate(benchmark, run, tmp_path / "stopped")
    with RunLog(tmp_path / "stopped" / LOG, read_only=True) as log:
        n_stopped = len(log.evaluations())
    monkeypatch.setattr(trajectories, "search", search)
    again = simulate(benchmark, run, tmp_path / "stopped")
    with RunLog(tmp_path / "stopped" / LOG, read_only=True) as log:
        assert 0 < n_stopped < len(log.evaluations())
    assert (again.items == whole.items).all()
    assert (again.hypervolume == whole.hypervolume).all()
    # What is finished is read, by whatever name the benchmark is found.
    monkeypatch.setattr(trajectories, "search", stopped)
    monkeypatch.chdir(tmp_path)
    assert (simulate(Path("made"), run, tmp_path / "stopped").items == whole.items).all()


def test_searches_of_other_settings_versions_or_benchmarks_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark, run = shown(tmp_path)
    searches = tmp_path / "searches"
    refuse_others(benchmark, [run], searches)
    simulate(benchmark, run, searches / run["name"])
    refuse_others(benchmark, [run], searches)
    for other in ({**run, "seed": 4}, {**run, "reference_point": [0.1, 0.0]}):
        with pytest.raises(ValueError, match="such as runs/random_search-3; name a new folder"):
            refuse_others(benchmark, [other], searches)
    with pytest.raises(ValueError, match="name a new folder"):
        simulate(benchmark, {**run, "seed": 4}, searches / run["name"])
    with monkeypatch.context() as context:
        context.setattr(trajectories, "versions", lambda: {"automerge": "9"})
        with pytest.raises(ValueError, match="such as runs/random_search-3; name a new folder"):
            refuse_others(benchmark, [run], searches)
    monkeypatch.setattr(trajectories, "fingerprint", lambda _: "other")
    with pytest.raises(ValueError, match="such as runs/random_search-3; name a new folder"):
        refuse_others(benchmark, [run], searches)
    monkeypatch.undo()
    (searches / run["name"] / "curve.json").unlink()
    with pytest.raises(ValueError, match="such as runs/random_search-3; name a new folder"):
        refuse_others(benchmark, [run], searches)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file; name a new folder"):
        refuse_others(benchmark, [run], tmp_path / "file")


def test_a_search_that_raises_is_named_and_leaves_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark, run = shown(tmp_path)

    def broken(*_: Any) -> None:
        raise KeyError("gone")

    monkeypatch.setattr(trajectories, "assemble", broken)
    with pytest.raises(RuntimeError, match=r"runs/random_search-3 could not be repeated \(KeyError: 'gone'\)"):
        measure(benchmark, [run], pd.DataFrame(), tmp_path / "searches")
    assert "KeyError: 'gone'" in (tmp_path / "searches" / run["name"] / "fault.txt").read_text()


@pytest.mark.slow
def test_runs_are_repeated_on_the_benchmark_above_their_own_reference_points(tmp_path: Path) -> None:
    benchmark = example_benchmark(tmp_path)
    runs = [
        example_run(tmp_path / f"again/{name}-{seed}", optimizer=optimizer, seed=seed, trials=12, breaks=False)
        for name, optimizer in {"evolution": None, "random": RANDOM}.items()
        for seed in (7, 8)
    ]
    searches, data = tmp_path / "searches", read_runs(runs)
    found = measure(benchmark, data.runs, data.trajectories, searches, jobs=2)
    logs = {path: path.stat().st_mtime_ns for path in searches.rglob(LOG)}
    assert len(logs) == 4
    assert measure(benchmark, data.runs, data.trajectories, searches) == found
    assert {path: path.stat().st_mtime_ns for path in searches.rglob(LOG)} == logs
    assert json.loads(json.dumps(found)) == found
    assert found["scale"] == "trials 12, min 12, max 60, eta 3"
    for name, label in {"evolution": "evolution", "random": "random_search"}.items():
        finals = []
        for seed in (7, 8):
            with RunLog(tmp_path / f"again/{name}-{seed}" / LOG, read_only=True) as log:
                finals.append(History.of(log).trajectory()[-1][1])
        figures = found["optimizers"][label]
        assert figures["real"] == pytest.approx(np.mean(finals))
        assert figures["simulated_seeds"] == 2
        # Of the same volume: the truth lies within .3 and .9 in both tasks.
        assert 0 < figures["simulated"] < 0.36
