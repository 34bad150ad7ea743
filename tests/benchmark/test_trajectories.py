"""Real and simulated curves compared; curves whose answers are known, and searches on a tiny benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import sem

from automerge.benchmark import trajectories
from automerge.benchmark.dataset import read_runs
from automerge.benchmark.trajectories import Curve, chosen, comparable, compared, measure, simulate
from automerge.history import History
from automerge.log import LOG, RunLog
from tests.benchmark.example import EVOLUTION, RANDOM, example_benchmark, example_run


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
        "settings": {"fidelity": {"min": 1}, "budget": {"trials": trials}, "start": list(start)},
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
    found = measure(tmp_path, runs, rows, tmp_path)
    assert repeated == [tmp_path / "0", tmp_path / "1"]
    assert set(found["optimizers"]) == {"evolution"}
    assert set(found["left_out"]) == {"gone"}
    assert "No module named 'automerge.optimizers.gone'" in found["left_out"]["gone"]
    assert measure(tmp_path, runs[2:], rows, tmp_path)["optimizers"] == {}
    assert measure(tmp_path, [], rows, tmp_path) == {}


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
    # What lies there tells of this benchmark and these settings only.
    first = data.runs[0]
    with pytest.raises(ValueError, match="another benchmark or with other settings; name a new folder"):
        simulate(benchmark, {**first, "seed": 9}, searches / first["name"])
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
