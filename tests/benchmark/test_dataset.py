"""What runs measured, joined: against the logs themselves, read here once more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automerge.benchmark.dataset import Dataset, read_exported, read_runs
from automerge.history import History
from automerge.log import LOG, RunLog
from automerge.recipe import Recipe
from automerge.references import outside
from automerge.spaces.lfs import LayerwiseFusion
from tests.benchmark.example import (
    ITEM_SECONDS,
    LAYOUT,
    MERGE_SECONDS,
    RANDOM,
    SPACE,
    example_run,
)


@pytest.fixture(scope="module")
def runs(example_folders: list[Path]) -> list[Path]:
    return example_folders


@pytest.fixture(scope="module")
def dataset(runs: list[Path]) -> Dataset:
    return read_runs(runs)


def test_every_trial_of_every_run_is_a_row(runs: list[Path], dataset: Dataset) -> None:
    rows = iter(range(len(dataset.frame)))
    for run in runs:
        with RunLog(run / LOG, read_only=True) as log:
            for trial in log.trials():
                row = dataset.frame.iloc[next(rows)]
                assert (row["run"], row["trial"], row["recipe"]) == (run.name, trial.id, trial.recipe_id)
                assert row["operator"] == trial.origin["operator"]
                assert row.filter(like="gene.").tolist() == trial.genotype.tolist()
    assert next(rows, None) is None
    assert dataset.frame["optimizer"].unique().tolist() == ["evolution", "random_search"]
    assert dataset.frame.groupby("run")["seed"].unique().tolist() == [[0], [1], [2]]
    assert np.array_equal(dataset.features, dataset.space.features(dataset.genotypes))
    assert len(dataset.input_names) == dataset.inputs.shape[1] == len(set(dataset.input_names))


def test_evaluations_of_a_trial_add_up_by_split(runs: list[Path], dataset: Dataset) -> None:
    first = 0
    promoted = 0
    for run in runs:
        with RunLog(run / LOG, read_only=True) as log:
            expected: dict[tuple[int, str, str], list[tuple[int, float]]] = {}
            for row in log.evaluations():
                for part in row.evaluation.scores:
                    place = (first + row.trial, part.slice.task, part.slice.split)
                    promoted += place in expected
                    expected.setdefault(place, []).extend(zip(part.items, part.values, strict=True))
            first += len(log.trials())
        for (number, task, split), pairs in expected.items():
            found = dataset.responses[number, task, split]  # type: ignore[index]
            assert list(zip(found.items.tolist(), found.scores.tolist(), strict=True)) == pairs
            assert dataset.frame[f"k.{task}.{split}"][number] == sum(score for _, score in pairs)
            assert dataset.frame[f"n.{task}.{split}"][number] == len(pairs)
    assert promoted > 0
    total = dataset.frame[[f"n.{task}.{split}" for task in "ab" for split in ("search", "test")]].to_numpy().sum()
    assert total == sum(len(found.items) for found in dataset.responses.values())


def test_broken_trials_are_kept_with_their_reason(dataset: Dataset) -> None:
    broken = dataset.frame[dataset.frame["status"] != "ok"]
    assert len(broken) > 5
    assert set(broken["status"]) == {"invalid"}
    assert set(broken["reason"]) == {"this one is broken"}
    assert (broken["items.timed"] == 0).all()
    assert broken["seconds.merge"].isna().all()


def test_times_are_those_of_one_merge_and_of_the_items(dataset: Dataset) -> None:
    timed = dataset.frame[dataset.frame["items.timed"] > 0]
    assert set(timed["seconds.merge"].round(9)) == {MERGE_SECONDS, MERGE_SECONDS / 2}
    assert (timed["seconds.items"] / timed["items.timed"]).to_numpy() == pytest.approx(ITEM_SECONDS)
    n = timed[[f"n.{task}.{split}" for task in "ab" for split in ("search", "test")]].sum(axis=1)
    assert timed["items.timed"].tolist() == n.tolist()


def test_known_items_begin_with_the_first_runs_order(runs: list[Path], dataset: Dataset) -> None:
    orders = []
    for run in runs:
        with RunLog(run / LOG, read_only=True) as log:
            orders.append(log.orders())
    for place, known in dataset.items.items():
        assert known[: len(orders[0][place])].tolist() == orders[0][place].tolist()
        assert set(known.tolist()) == {item for own in orders for item in own[place].tolist()}
        assert len(set(known.tolist())) == len(known)
    assert len(dataset.items["a", "search"]) > len(orders[0]["a", "search"])


def test_items_of_a_reference_count_once_over_all_runs(dataset: Dataset) -> None:
    left = next(each for each in dataset.references if each["name"] == "left")
    known = dataset.items["a", "search"]
    answers: dict[int, float] = {}
    for row in np.flatnonzero(dataset.frame["recipe"] == _recipe_id(left)):
        found = dataset.responses[int(row), "a", "search"]
        answers.update(zip(found.items.tolist(), found.scores.tolist(), strict=True))
    assert left["results"]["a"]["search"] == [sum(answers.values()), len(known)]
    assert left["results"]["a"]["test"][1] == len(dataset.items["a", "test"])
    assert [each["name"] for each in dataset.references[:3]] == ["base", "left", "right"]
    assert left["kind"] == "source"
    assert left["costs"]["parameters"] == 300


def test_trajectories_are_those_of_the_histories(runs: list[Path], dataset: Dataset) -> None:
    for run, told in zip(runs, dataset.runs, strict=True):
        own = dataset.trajectories[dataset.trajectories["run"] == run.name]
        with RunLog(run / LOG, read_only=True) as log:
            history = History.of(log)
        points = list(zip(own["items"].tolist(), own["hypervolume"].tolist(), strict=True))
        assert points == history.trajectory()
        walls = [row.wall for row in history.evaluations if row.phase != "test"]
        assert own["seconds"].to_numpy() == pytest.approx(np.cumsum(walls))
        assert told["name"] == run.name
        assert told["items"] == points[-1][0]
        assert told["reference_point"] == history.reference_point.tolist()


def test_an_exported_dataset_is_the_same_again(dataset: Dataset, example_exported: Path) -> None:
    again = read_exported(example_exported)
    assert again.frame.equals(dataset.frame)
    assert again.trajectories.equals(dataset.trajectories)
    assert again.genotypes.tobytes() == dataset.genotypes.tobytes()
    assert np.array_equal(again.features, dataset.features)
    assert again.tasks == dataset.tasks
    assert list(again.responses) == list(dataset.responses)
    for place, expected in dataset.responses.items():
        found = again.responses[place]
        assert [each.dtype for each in found] == [np.int32, np.float32]
        assert found.items.tolist() == expected.items.tolist()
        assert found.scores.tolist() == expected.scores.tolist()
    assert {place: rows.tolist() for place, rows in again.items.items()} == {
        place: rows.tolist() for place, rows in dataset.items.items()
    }
    assert again.references == dataset.references
    assert again.runs == dataset.runs
    assert again.settings["config"]["space"] == SPACE
    assert again.settings["layout"] == LAYOUT


def test_optimizers_of_one_module_are_told_apart_by_their_options(tmp_path: Path) -> None:
    chosen = [RANDOM, {**RANDOM, "tied": True}, None]
    folders = [example_run(tmp_path / f"run-{k}", optimizer=optimizer, trials=2) for k, optimizer in enumerate(chosen)]
    frame = read_runs(folders).frame
    names = ["random_search tied=false", "random_search tied=true", "evolution"]
    assert frame["optimizer"].unique().tolist() == names
    assert read_runs(folders[:1]).frame["optimizer"].unique().tolist() == ["random_search"]


def test_runs_of_other_problems_are_refused_with_every_difference(runs: list[Path], tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "config": {"space": {**SPACE, "strengths": [0.7]}, "optimizer": RANDOM},
        "identity": {"sources": {"left": "1", "right": "3"}, "tasks": {"a": "a", "b": "b"}},
    }
    other = example_run(tmp_path / "other", trials=2, **changes)
    with pytest.raises(ValueError, match="only runs of one problem can be joined") as fault:
        read_runs([runs[0], other])
    lines = str(fault.value).splitlines()[1:]
    assert any("space.strengths is [0.7], not [0.5] as in" in line for line in lines)
    assert any("content of sources.right is '3', not '2' as in" in line for line in lines)
    assert len(lines) == 2


def test_folders_that_cannot_be_joined_are_named(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the folders of one or more runs, got none"):
        read_runs([])
    with pytest.raises(ValueError, match=r"some were named twice: .*evolution-0"):
        read_runs([runs[0], runs[1], runs[0].parent / "evolution-1" / ".." / "evolution-0"])
    with pytest.raises(FileNotFoundError, match="no log at"):
        read_runs([tmp_path])
    simulated = example_run(tmp_path / "simulated", trials=2, benchmark={"name": "other"})
    with pytest.raises(ValueError, match=r"is a simulated run.*name runs that merged models"):
        read_runs([simulated])
    (tmp_path / "begun").mkdir()
    RunLog(tmp_path / "begun" / LOG).close()
    with pytest.raises(ValueError, match="begun stopped before it began; start it again"):
        read_runs([tmp_path / "begun"])


def test_references_outside_the_space_are_known_and_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LayerwiseFusion, "references", lambda s: outside(s.sources, s.n_layers, s.strengths))
    dataset = read_runs([example_run(tmp_path / "run", trials=5, breaks=False)])
    assert len(dataset.frame) == len(dataset.genotypes) == 5
    assert "reference" not in set(dataset.frame["operator"])
    assert {row for row, _, _ in dataset.responses} == set(range(5))
    assert len(dataset.references) == 5
    assert all(each["genotype"] is None for each in dataset.references)
    assert all(each["results"]["a"]["test"][1] == 120 for each in dataset.references)


def test_a_log_without_measures_tells_the_norms_by_its_task_vectors(tmp_path: Path) -> None:
    slots = [[layer, "attention", [4.0, 0.0, 0.0, 1.0 + layer, 0.0, 1.0]] for layer in range(4)]
    vectors = {"sources": ["left", "right"], "slots": slots}
    folder = example_run(tmp_path / "run", trials=2, measures=None, task_vectors=vectors)
    with RunLog(folder / LOG) as log:
        log._connection.execute("DELETE FROM settings WHERE key = 'measures'")
    dataset = read_runs([folder])
    assert dataset.measures is not None
    assert dataset.measures.norms[3, "attention"].tolist() == [1.0, 0.5]
    assert dataset.measures.parameters == {}


def _recipe_id(reference: Any) -> str:
    return Recipe.from_json(json.dumps(reference["recipe"])).id
