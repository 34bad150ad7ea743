"""The exported folder: whole or not at all, the same for the same runs, and answering as the runs did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from automerge.benchmark import export, load
from automerge.benchmark.export import export_benchmark
from automerge.benchmark.fit import MINIMUM
from automerge.benchmark.folder import METADATA, SUMS, check_sums, read_json
from automerge.log import LOG, RunLog
from automerge.records import Query
from automerge.references import outside
from automerge.spaces.lfs import LayerwiseFusion
from tests import toy
from tests.benchmark.example import EVOLUTION, N_ITEMS, SPACE, example_run, truth


def test_the_folder_holds_what_it_should_in_open_formats(example_exported: Path) -> None:
    check_sums(example_exported)
    named = {line.partition("  ")[2] for line in (example_exported / SUMS).read_text().splitlines()}
    found = {path.relative_to(example_exported).as_posix() for path in example_exported.rglob("*") if path.is_file()}
    assert named == found - {SUMS}
    assert {path.suffix for path in example_exported.rglob("*") if path.is_file()} == {
        *(".json", ".md", "", ".gz", ".npz", ".parquet")
    }
    metadata = read_json(example_exported, METADATA)
    assert set(metadata["models"]) == {
        *("a.search", "a.test", "b.search", "b.test", "broken", "seconds.item", "seconds.merge")
    }
    assert set(metadata["models"].values()) <= named
    assert metadata["name"] == "example"
    assert metadata["n_trials"] == sum(run["n_trials"] for run in metadata["runs"]) == 144
    assert metadata["costs"] == ["layers", "parameters"]
    assert metadata["nearness"] in named


def test_tasks_are_told_with_the_items_that_are_known(example_exported: Path) -> None:
    metadata = read_json(example_exported, METADATA)
    items = read_json(example_exported, "items.json")
    for task in "ab":
        told = metadata["tasks"][task]
        assert told["splits"] == ["search", "test"]
        assert told["binary"] is True
        assert told["fingerprint"] == task
        assert told["chance"] is None
        assert 60 < told["sizes"]["search"] < told["sizes"]["test"] == N_ITEMS
        for split, size in told["sizes"].items():
            known = items[task][split]
            assert known["rows"] == list(range(size))
            assert len(set(known["ids"])) == len(known["difficulties"]) == size


def test_items_that_are_easy_in_the_simulator_are_told_as_easy(example_exported: Path) -> None:
    known = read_json(example_exported, "items.json")["a"]["test"]
    # An item is answered rightly by models whose expected score is above its own number.
    numbers = np.random.default_rng([0, True]).random(N_ITEMS)[known["ids"]]
    order = np.argsort(numbers)
    assert np.corrcoef(np.argsort(order), np.argsort(np.argsort(-np.array(known["difficulties"]))))[0, 1] > 0.8


def test_the_benchmark_predicts_models_that_were_never_measured(example_exported: Path) -> None:
    benchmark = load(example_exported, verify=True)
    fresh = benchmark.space.sample(200, np.random.default_rng(5))
    real = [truth(Query(benchmark.space.decode(x), ())) for x in fresh]
    for task, found in benchmark.mean(fresh).items():
        assert np.corrcoef(found, [each[task] for each in real])[0, 1] > 0.7
    assert benchmark.splits == ("search", "test")
    assert benchmark.query(fresh[0], n_items=10, seed=1).items == 20


def test_genes_are_described_for_other_languages(example_exported: Path) -> None:
    genes = read_json(example_exported, "space.json")["genes"]
    space = load(example_exported).space
    for told, gene in zip(genes, space.genes, strict=True):
        assert (told["name"], told["role"], told["depth"], told["component"]) == (
            *(gene.name, gene.role, gene.depth, gene.component),
        )
        assert (told["choices"] is None) == (gene.n_choices == 0)
        value = space.genotype({gene.name: told["default"]})[space.genes.index(gene)]
        assert value == gene.default
        if told["choices"]:
            assert len(told["choices"]) == gene.n_choices


def test_the_best_measured_values_are_those_at_full_fidelity(
    example_folders: list[Path], example_exported: Path
) -> None:
    best = read_json(example_exported, METADATA)["best"]
    table = load(example_exported).table()
    full = table[(table["status"] == "ok") & (table["n.a.search"] == 60)]
    assert best["a"] == (full["k.a.search"] / 60).max()


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    folder = example_run(tmp_path / "run", trials=30)
    for name in ("first", "second"):
        export_benchmark([folder], tmp_path / name / "benchmark")
    first, second = (
        dict(line.split("  ")[::-1] for line in (tmp_path / name / "benchmark" / SUMS).read_text().splitlines())
        for name in ("first", "second")
    )
    differing = {name for name in first if first[name] != second[name]}
    assert first.keys() == second.keys()
    # Their names come from their folders.
    assert differing == {METADATA, "CARD.md"}
    assert read_json(tmp_path / "second" / "benchmark", METADATA)["name"] == "second"


def test_too_few_trials_give_data_without_models_and_say_so(tmp_path: Path) -> None:
    folder = example_run(tmp_path / "run", trials=5)
    quality = export_benchmark([folder], tmp_path / "few", name="called")
    assert quality["a"].keys() == {"n_trials", "r2", "rmse", "kendall_tau", "r2_ceiling"}
    assert 0 < quality["a"]["n_trials"] < MINIMUM
    assert np.isnan(quality["a"]["r2"])
    metadata = read_json(tmp_path / "few", METADATA)
    assert metadata["models"] == {}
    assert metadata["name"] == "called"
    assert metadata["tasks"]["a"]["splits"] == []
    figures = json.loads((tmp_path / "few" / "report.json").read_text())["tasks"]["a"]["search"]
    assert figures == {"n_models": quality["a"]["n_trials"], "rows": quality["a"]["n_trials"]}
    assert "too few models were measured" in (tmp_path / "few" / "CARD.md").read_text()
    assert len(load(tmp_path / "few").table()) == metadata["n_trials"]
    with pytest.raises(ValueError, match="no model of a, b"):
        load(tmp_path / "few").query(load(tmp_path / "few").space.sample(1, np.random.default_rng(0)))


def test_a_run_that_saw_only_references_outside_the_space_is_exported_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LayerwiseFusion, "references", lambda s: outside(s.sources, s.n_layers, s.strengths))
    folder = example_run(tmp_path / "run", trials=1, steps=5)
    quality = export_benchmark([folder], tmp_path / "benchmark")
    assert quality["a"]["n_trials"] == 0
    benchmark = load(tmp_path / "benchmark", verify=True)
    assert benchmark.table().empty
    assert benchmark.metadata["nearness"] is None
    with pytest.raises(ValueError, match="measured fewer than two different ones in the space; export it from more"):
        _ = benchmark.nearness
    assert [each.name for each in benchmark.reference_configs][:3] == ["base", "left", "right"]
    assert read_json(tmp_path / "benchmark", METADATA)["best"] == {"a": None, "b": None}


def test_an_older_benchmark_is_replaced_and_other_folders_never(tmp_path: Path) -> None:
    folder = example_run(tmp_path / "run", trials=2)
    export_benchmark([folder], tmp_path / "new" / "benchmark")
    export_benchmark([folder], tmp_path / "new" / "benchmark", name="newer")
    assert read_json(tmp_path / "new" / "benchmark", METADATA)["name"] == "newer"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["benchmark"]
    (tmp_path / "new" / "benchmark" / "mine.txt").touch()
    with pytest.raises(FileExistsError, match=r"not the benchmark's, .*: mine\.txt; move them away"):
        export_benchmark([folder], tmp_path / "new" / "benchmark")
    assert (tmp_path / "new" / "benchmark" / "mine.txt").exists()
    (tmp_path / "precious").mkdir()
    with pytest.raises(FileExistsError, match="is no surrogate benchmark; name a new folder"):
        export_benchmark([folder], tmp_path / "precious")


def test_too_few_trials_never_replace_models(tmp_path: Path, example_exported: Path) -> None:
    few = example_run(tmp_path / "run", trials=2)
    to = Path(shutil.copytree(example_exported, tmp_path / "whole"))
    with pytest.raises(FileExistsError, match=r"with models, and of these runs too few .* export more runs together"):
        export_benchmark([few], to)
    check_sums(to)
    assert read_json(to, METADATA)["models"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("failing", ["write_sums", "_replace"])
def test_a_full_disk_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    folder = example_run(tmp_path / "run", trials=2)
    export_benchmark([folder], tmp_path / "new" / "benchmark")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, failing, full)
    for place in ("new", "never"):
        with pytest.raises(OSError, match="No space left"):
            export_benchmark([folder], tmp_path / place / "benchmark")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["benchmark"]
    assert list((tmp_path / "never").iterdir()) == []
    check_sums(tmp_path / "new" / "benchmark")


def test_a_folder_that_cannot_be_put_in_place_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = example_run(tmp_path / "run", trials=2)
    export_benchmark([folder], tmp_path / "new" / "benchmark")
    rename = Path.rename

    def refusing(self: Path, target: Path) -> Path:
        if self.name.startswith(".") and not self.name.endswith(".old"):
            raise OSError("refused")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(OSError, match="refused"):
        export_benchmark([folder], tmp_path / "new" / "benchmark")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["benchmark"]
    check_sums(tmp_path / "new" / "benchmark")


def test_chance_is_what_the_log_tells_or_the_task_where_its_data_are(tmp_path: Path) -> None:
    rows = {"path": str(toy.write_jsonl(tmp_path / "rows.jsonl", toy.copy_rows(5, 0)))}
    choosing = {
        "_target_": "automerge.tasks.multiple_choice.MultipleChoice",
        "search": rows,
        "test": rows,
        "prompt": "{{ prompt }}",
        "choices": "choices",
        "label": "label",
    }
    lost = {**choosing, "search": {"path": str(tmp_path / "gone.jsonl")}}
    config = {"space": SPACE, "optimizer": EVOLUTION, "task": {"a": choosing, "b": lost}}
    folder = example_run(tmp_path / "built", trials=2, config=config)
    export_benchmark([folder], tmp_path / "benchmark")
    tasks = read_json(tmp_path / "benchmark", METADATA)["tasks"]
    assert (tasks["a"]["chance"], tasks["b"]["chance"]) == (0.5, None)
    with RunLog(folder / LOG) as log:
        log.write_settings({"chances": {"a": 0.1, "b": 0.2}})
    export_benchmark([folder], tmp_path / "benchmark")
    tasks = read_json(tmp_path / "benchmark", METADATA)["tasks"]
    assert (tasks["a"]["chance"], tasks["b"]["chance"]) == (0.1, 0.2)
