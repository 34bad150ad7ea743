from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automerge.benchmark import load
from automerge.benchmark.folder import METADATA, REPORT, read_json, write_json, write_sums
from automerge.benchmark.simulation import Simulator, assemble, fingerprint
from automerge.history import History
from automerge.log import LOG, RunLog
from automerge.parts import search
from automerge.recipe import Fusion, Input, Recipe, uniform
from automerge.records import Constraint, Objective, Orders, Query, Slice, Split
from automerge.report import write_report
from tests.benchmark.simulated import SMM, VIRTUAL, make_benchmark, make_settings, run
from tests.simulation import contents

STRANGER = uniform(Fusion("ties", (Input("left", None, 0.3), Input("right", None, 0.3)), (("density", 0.5),)), 4)
"""A recipe that no space here holds and no run measured."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark with models of search and test items, and of which models break."""
    return make_benchmark(tmp_path_factory.mktemp("benchmark") / "made")


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of a space that holds no source, without models of test items."""
    return make_benchmark(tmp_path_factory.mktemp("benchmark") / "outside", spec=SMM, tested=False)


def orders(seed: int = 0) -> Orders:
    """Random orders of all items of the handmade benchmark."""
    rng = np.random.default_rng(seed)
    sizes: dict[tuple[str, Split], int] = {
        ("math", "search"): 60,
        ("code", "search"): 50,
        ("math", "test"): 40,
        ("code", "test"): 40,
    }
    return {place: rng.permutation(n) for place, n in sizes.items()}


def whole(recipe: Recipe, split: Split, task: str = "math", start: int = 0, stop: int = 40) -> Query:
    return Query(recipe, (Slice(task, split, start, stop),))


@pytest.mark.parametrize("split", ["search", "test"])
def test_a_model_answers_as_the_benchmark_says_whatever_the_order_and_the_slices(folder: Path, split: Split) -> None:
    b = load(folder)
    X = b.space.sample(6, np.random.default_rng(3))
    truth = b.respond(X, "math", split, np.arange(40), seed=7)
    for order_seed in (0, 1):
        known = orders(order_seed)
        simulator = Simulator(b, known, seed=7)
        for x, row in zip(X, truth, strict=True):
            if b.is_broken(x, 7)[0]:
                continue
            answers: dict[int, float] = {}
            for start, stop in ((0, 15), (15, 40)):
                (scores,) = simulator(whole(b.space.decode(x), split, start=start, stop=stop)).scores
                assert list(scores.items) == known["math", split][start:stop].tolist()
                answers |= dict(zip(scores.items, scores.values, strict=True))
            assert all(answers[item] == row[item] for item in answers if item < 40)


def test_seconds_and_costs_are_those_of_the_benchmark(folder: Path) -> None:
    b = load(folder)
    x = b.space.sample(1, np.random.default_rng(0))[0]
    query = Query(b.space.decode(x), (Slice("math", "search", 0, 20), Slice("code", "search", 0, 10)))
    answer = Simulator(b, orders(), seed=0)(query)
    told = b.seconds(x)
    assert answer.seconds == pytest.approx({"merge": told.merge[0], "forward": 30 * told.item[0]})
    assert answer.costs == {name: values[0] for name, values in b.space.costs(x[None]).items()}


def test_models_break_as_the_benchmark_says_and_references_never(folder: Path) -> None:
    b = load(folder)
    simulator = Simulator(b, orders(), seed=2)
    X = b.space.sample(60, np.random.default_rng(5))
    statuses = [simulator(whole(b.space.decode(x), "search")).status for x in X]
    assert [status == "invalid" for status in statuses] == b.is_broken(X, 2).tolist()
    assert {"ok", "invalid"} == set(statuses)
    for seed in range(20):
        simulator = Simulator(b, orders(), seed=seed)
        assert {simulator(whole(each.recipe, "search")).status for each in b.reference_configs} == {"ok"}


def test_references_outside_the_space_answer_with_their_measured_rates_and_nothing_else_does(outside: Path) -> None:
    b = load(outside)
    known = [each for each in b.reference_configs if each.genotype is None]
    assert "base" in {each.name for each in known}
    rights = []
    for seed in range(30):
        simulator = Simulator(b, orders(), seed=seed)
        answer = simulator(whole(known[0].recipe, "search", stop=60))
        assert answer.costs == known[0].costs
        assert answer.seconds["merge"] > 0
        rights.append(np.mean(answer.scores[0].values))
    # 30 of 60 were right when it was measured; 1800 answers have a standard error of at most 0.012.
    assert np.mean(rights) == pytest.approx(0.5, abs=0.04)
    assert simulator.expected(known[0].recipe) == {"math": 30 / 60, "code": 9 / 40}
    with pytest.raises(ValueError, match=r"knows the models of its space and the references .* is none of them"):
        simulator(whole(STRANGER, "search"))


def test_a_reference_outside_the_space_that_broke_or_was_not_measured_is_invalid_and_a_source_refused(
    outside: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(outside, tmp_path / "copy"))
    metadata = read_json(copy, METADATA)
    told = next(each for each in metadata["references"] if each["kind"] != "source")
    assert told["genotype"] is None
    recipe = Recipe.from_json(json.dumps(told["recipe"]))
    lost = {"results": {**told["results"], "math": {"search": None, "test": None}}}
    for change, reason in (
        ({"status": "invalid"}, "was invalid in the benchmark's own runs"),
        (lost, "was not measured on math in the benchmark's own runs"),
    ):
        _change_reference(copy, metadata, told["name"], change)
        answer = Simulator(load(copy), orders(), seed=0)(whole(recipe, "search"))
        assert (answer.status, answer.scores, answer.reason) == ("invalid", (), f"{told['name']} {reason}")
        with RunLog(run(make_settings(copy), tmp_path / reason) / LOG, read_only=True) as log:
            history = History.of(log)
        assert history.recommended
        assert [number for number in history.references if history.trials[number].status != "ok"] == [
            number for number in history.references if history.trials[number].recipe.id == recipe.id
        ]
        _change_reference(copy, metadata, "left", change)
        with pytest.raises(ValueError, match=f"benchmark.path: left {reason}"):
            assemble(make_settings(copy))


def _change_reference(folder: Path, metadata: dict[str, Any], name: str, change: dict[str, Any]) -> None:
    changed = [{**each, **(change if each["name"] == name else {})} for each in metadata["references"]]
    write_json(folder, METADATA, {**metadata, "references": changed})


def test_a_benchmark_without_checksums_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "SHA256SUMS").unlink()
    with pytest.raises(FileNotFoundError, match="has no SHA256SUMS, so it is no whole benchmark; export or copy"):
        assemble(make_settings(copy))


def test_without_models_of_test_items_these_are_other_items_with_the_expected_scores_of_search_items(
    outside: Path,
) -> None:
    b = load(outside)
    assert b.splits == ("search",)
    x = b.space.sample(1, np.random.default_rng(1))[0]
    recipe = b.space.decode(x)
    shares, same = [], []
    for seed in range(40):
        known = orders()
        known["math", "test"] = known["math", "search"] = np.arange(40)
        answers = [Simulator(b, known, seed=seed)(whole(recipe, split)) for split in ("search", "test")]
        if {answer.status for answer in answers} == {"ok"}:
            searched, tested = (np.array(answer.scores[0].values) for answer in answers)
            shares.append(tested.mean())
            same.append((searched == tested).mean())
    p = b.mean(x, "search")["math"][0]
    assert np.mean(shares) == pytest.approx(p, abs=0.08)
    assert np.mean(same) < 0.95
    assert set(assemble(make_settings(outside)).facts["benchmark"]["untested"]) == {"code", "math"}


def test_a_search_has_the_benchmarks_own_objectives_constraints_and_rungs_unless_told_otherwise(
    tmp_path: Path,
) -> None:
    bound = {"name": "math", "sense": ">=", "bound": 0.1, "kind": "task"}
    objectives = [
        {"name": "math", "kind": "task", "weights": []},
        {"name": "code", "kind": "task", "weights": []},
        {"name": "parameters", "kind": "cost", "weights": []},
    ]
    folder = make_benchmark(tmp_path / "made", changes={"constraints": [bound], "objectives": objectives})
    parts = assemble(make_settings(folder))
    assert parts.objectives == (Objective("math"), Objective("code"), Objective("parameters", "cost"))
    assert parts.constraints == (Constraint("math", ">=", 0.1, "task"),)
    assert parts.ladder.rungs == (6, 20, 60)
    # Seeds of items go by the number of a task.
    assert list(parts.tasks) == ["math", "code"]
    assert {name: task.size("test") for name, task in parts.tasks.items()} == {"math": 40, "code": 40}
    changed = assemble(
        make_settings(
            folder,
            weights={"math": 3, "code": 1},
            costs=["layers"],
            constraints=["layers <= 4"],
            fidelity={"min": None, "max": 30, "eta": 3},
        )
    )
    assert changed.objectives[0].shares == (("math", 0.75), ("code", 0.25))
    assert changed.objectives[1:] == (Objective("layers", "cost"),)
    assert changed.constraints == (Constraint("layers", "<=", 4.0),)
    assert changed.ladder.rungs == (30,)
    assert assemble(make_settings(folder, costs=[], constraints=[])).objectives == parts.objectives[:2]


def test_all_faults_of_the_settings_are_listed_together(folder: Path) -> None:
    wrong = make_settings(folder, task={"x": 1}, surprise=1, runner={**VIRTUAL, "speed": 2})
    wrong["benchmark"] = {"path": None, "seed": -1}
    with pytest.raises(ValueError, match="unknown key `surprise`") as caught:
        assemble(wrong)
    for part in ("leave task out", "benchmark.path: expected the folder", "benchmark.seed: expected", "options speed"):
        assert part in str(caught.value)
    wrong = make_settings(folder, weights={"math": 1}, constraints=["nothing <= 3"])
    with pytest.raises(ValueError, match="there is no task or cost 'nothing'") as caught:
        assemble(wrong)
    assert "got none for code" in str(caught.value)
    with pytest.raises(FileNotFoundError, match="automerge benchmark export"):
        assemble(make_settings(Path("nowhere")))


def test_costs_and_minutes_that_the_benchmark_does_not_know_are_refused(tmp_path: Path) -> None:
    folder = make_benchmark(tmp_path / "made")
    content = json.loads((folder / "metadata.json").read_text())
    content["models"] = {name: file for name, file in content["models"].items() if not name.startswith("seconds")}
    write_json(folder, "metadata.json", content)
    settings = make_settings(folder, budget={"trials": None, "items": None, "minutes": 1})
    with pytest.raises(ValueError, match=r"budget\.minutes: the runs of the benchmark told no times"):
        assemble(settings)
    encoder = json.loads((folder / "encoder.json").read_text())
    write_json(folder, "encoder.json", {**encoder, "measures": {**encoder["measures"], "parameters": []}})
    settings = make_settings(folder, costs=["parameters"], constraints=["parameters <= 5"])
    with pytest.raises(ValueError, match="does not know 'parameters', only layers") as told:
        assemble(settings)
    assert {"costs", "constraints"} <= {line.split(":")[0].strip(" -") for line in str(told.value).splitlines()}
    content["models"] = {}
    write_json(folder, "metadata.json", content)
    with pytest.raises(ValueError, match="has no models: its runs had too few trials"):
        assemble(make_settings(folder))


def test_a_simulated_run_leaves_the_log_and_the_report_of_a_search_and_says_what_it_is(
    folder: Path, tmp_path: Path
) -> None:
    path = run(make_settings(folder), tmp_path / "run")
    findings = write_report(path)
    assert findings.recommended
    assert findings.simulated.startswith("Simulated: every score is that of the surrogate benchmark handmade 1.0.0")
    assert findings.simulated in (path / "report.html").read_text()
    assert "automerge export" not in (path / "report.html").read_text()
    assert json.loads((path / "pareto.json").read_text())["simulated"] == findings.simulated
    wall = findings.figures["wall_seconds"]
    told = sum(sum(row.evaluation.seconds.values()) for row in findings.history.evaluations)
    assert wall == pytest.approx(told, rel=1e-6)


def times(path: Path) -> list[float]:
    with RunLog(path, read_only=True) as log:
        return [row.wall for row in log.evaluations()]


@pytest.mark.parametrize("n_steps", [4, 11, 17])
def test_a_run_of_several_virtual_workers_stopped_anywhere_ends_as_an_uninterrupted_one(
    folder: Path, tmp_path: Path, n_steps: int
) -> None:
    settings = make_settings(folder, runner={**VIRTUAL, "n_workers": 3})
    uninterrupted = run(settings, tmp_path / "whole") / LOG
    run(settings, tmp_path / "stopped", n_steps)
    stopped = run(settings, tmp_path / "stopped") / LOG
    assert contents(stopped) == contents(uninterrupted)
    assert times(stopped) == pytest.approx(times(uninterrupted), abs=1e-9)


def test_several_workers_take_less_virtual_time_for_as_many_trials(folder: Path, tmp_path: Path) -> None:
    seconds = {}
    for n_workers in (1, 4):
        settings = make_settings(folder, runner={**VIRTUAL, "n_workers": n_workers})
        with RunLog(run(settings, tmp_path / str(n_workers)) / LOG, read_only=True) as log:
            rows = [row for row in log.evaluations() if row.phase == "search"]
        seconds[n_workers] = (sum(row.wall for row in rows), sum(sum(r.evaluation.seconds.values()) for r in rows))
    assert seconds[1][0] == pytest.approx(seconds[1][1])
    assert seconds[4][1] / 4 <= seconds[4][0] < 0.5 * seconds[4][1]


def test_a_run_is_resumed_if_only_what_is_told_of_the_benchmark_changed(tmp_path: Path) -> None:
    folder = make_benchmark(tmp_path / "made")
    settings = make_settings(folder, budget={"trials": 3, "items": None, "minutes": None})
    path = run(settings, tmp_path / "run")
    before = fingerprint(folder)
    write_json(folder, REPORT, {"tasks": {}})
    (folder / "stray.txt").touch()
    write_sums(folder, [REPORT])
    assert fingerprint(folder) == before
    moved = folder.rename(tmp_path / "moved")
    settings = {**settings, "benchmark": {"path": str(moved), "seed": 0}}
    with RunLog(path / LOG) as log:
        assert all(step.resumed for step in search(settings, assemble(settings), log))
        items = json.loads((moved / "items.json").read_text())
        items["math"]["search"]["difficulties"][0] += 1
        write_json(moved, "items.json", items)
        write_sums(moved)
        with pytest.raises(ValueError, match=r"benchmark: .* in the log, .* now .its content has changed"):
            next(search(settings, assemble(settings), log))
        other: dict[str, Any] = {**settings, "benchmark": {"path": str(moved), "seed": 1}}
        with pytest.raises(ValueError, match=r"benchmark\.seed: 0 in the log, 1 now"):
            next(search(other, assemble(other), log))


def test_searches_with_several_seeds_live_in_one_world(folder: Path, tmp_path: Path) -> None:
    seen: dict[tuple[str, str, int], float] = {}
    n_again = 0
    for seed in (0, 1):
        with RunLog(run(make_settings(folder, seed=seed), tmp_path / str(seed)) / LOG, read_only=True) as log:
            history = History.of(log)
        for row in history.evaluations:
            for part in row.evaluation.scores:
                for item, value in zip(part.items, part.values, strict=True):
                    key = (history.trials[row.trial].recipe.id, f"{part.slice.task}/{part.slice.split}", item)
                    n_again += key in seen
                    assert seen.setdefault(key, value) == value
    assert n_again > 500


def test_a_simulated_run_does_without_torch(folder: Path) -> None:
    code = (
        "import json, sys\n"
        "from automerge.benchmark.simulation import assemble\n"
        "from automerge.report.page import write_page\n"
        "assemble(json.loads(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, json.dumps(make_settings(folder))], check=True)
