"""A whole run on models that are not the zoo, and every fault that is found before one starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from automerge import components, methods, run
from automerge.benchmark.export import export_benchmark
from automerge.benchmark.fit import MINIMUM
from automerge.export.model import export_run
from automerge.history import History
from automerge.log import LOG, RunLog
from automerge.records import Proposal
from automerge.report import write_report
from tests import adapters, toy


def make_settings(folder: Path, family: dict[str, Path], **changes: Any) -> dict[str, Any]:
    """Settings as `conf/config.yaml` has them, for a toy family and two toy tasks."""
    search = toy.write_jsonl(folder / "search.jsonl", toy.copy_rows(60, 0))
    test = toy.write_jsonl(folder / "test.jsonl", toy.copy_rows(40, 1))
    data = {"search": {"path": str(search)}, "test": {"path": str(test)}, "prompt": "{{ prompt }}"}
    settings = {
        "seed": 0,
        "source": {"base": str(family["base"]), "models": {k: str(v) for k, v in family.items() if k != "base"}},
        "task": {
            "choose": {"_target_": "automerge.tasks.multiple_choice.MultipleChoice", **data},
            "last": {
                "_target_": "automerge.tasks.multiple_choice.MultipleChoice",
                **{**data, "prompt": "{{ prompt[::-1] }}"},
            },
        },
        "space": {"_target_": "automerge.spaces.lfs.LayerwiseFusion", "strengths": [0.5]},
        "optimizer": {"_target_": "automerge.optimizers.evolution.Evolution", "n_initial": 8},
        "runner": {"_target_": "automerge.runners.serial.SerialRunner"},
        "fidelity": {"min": 20, "max": None, "eta": 3},
        "budget": {"trials": 35, "items": None, "minutes": None},
        "costs": [],
        "start": [],
        "model": {
            "device": "cpu",
            "dtype": "auto",
            "batch_tokens": 4096,
            "threads": None,
            "trust_remote_code": False,
            "placement": "auto",
            "compile": "auto",
        },
        "report": {"verify": 3, "recommend": 3, "test_items": None, "baseline": None},
    }
    return {**settings, **changes}


def search(settings: dict[str, Any], folder: Path) -> History:
    """The history of a whole run in this folder."""
    folder.mkdir(exist_ok=True)
    parts = run.assemble(settings)
    with RunLog(folder / LOG) as log:
        for _ in run.search(settings, parts, log):
            pass
        return History.of(log)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, qwen2: dict[str, Path]) -> tuple[Path, History]:
    """A finished run on toy Qwen2 models with tied embeddings."""
    folder = tmp_path_factory.mktemp("run")
    history = search(make_settings(folder, qwen2), folder / "run")
    return folder / "run", history


def test_a_run_on_foreign_models_leaves_log_report_and_benchmark(finished: tuple[Path, History]) -> None:
    folder, history = finished
    assert len(history.trials) >= 35
    write_report(folder)
    quality = export_benchmark([folder], folder / "benchmark")
    assert all(
        (folder / name).stat().st_size > 0 for name in ("pareto.csv", "pareto.json", "report.html", "report.png")
    )
    assert set(quality) == {"choose", "last"}
    assert quality["choose"]["n_trials"] >= MINIMUM
    assert np.isfinite(quality["choose"]["kendall_tau"])
    with RunLog(folder / LOG, read_only=True) as log:
        versions = log.settings()["versions"]
    assert versions["torch"] == torch.__version__
    assert {"botorch", "gpytorch", "smac", "ConfigSpace", "optuna", "cmaes", "cma"} <= versions.keys()


def assert_exports_score_as_logged(folder: Path, history: History, to: Path) -> set[str]:
    """Exports every merge that was tested, asks it item by item as plain transformers loads it; gives the methods."""
    rows = toy.copy_rows(40, 1)
    tested = {row.trial for row in history.evaluations if row.phase == "test"}
    merged = [trial for trial in sorted(tested) if len(history.trials[trial].recipe.sources) > 1]
    for trial in merged:
        export_run(folder, to / f"trial{trial}", trial=trial)
        model = AutoModelForCausalLM.from_pretrained(to / f"trial{trial}", dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(to / f"trial{trial}")
        logged = {
            part.slice.task: part
            for row in history.evaluations
            if row.trial == trial and row.phase == "test"
            for part in row.evaluation.scores
        }
        for task, turn in (("choose", 1), ("last", -1)):
            scores = []
            for item in logged[task].items:
                with torch.inference_mode():
                    ids = tokenizer(rows[item]["prompt"][::turn], return_tensors="pt")["input_ids"]
                    logits = model(input_ids=ids).logits[0, -1]
                first, last = (tokenizer(choice)["input_ids"][0] for choice in rows[item]["choices"])
                right, wrong = float(logits[first]), float(logits[last])
                scores.append(0.5 if right == wrong else float(right > wrong))
            assert tuple(scores) == logged[task].values
    return {fusion.method for trial in merged for _, fusion in history.trials[trial].recipe.fusions()}


def test_every_exported_model_scores_item_by_item_as_logged_with_plain_transformers(
    finished: tuple[Path, History], tmp_path: Path
) -> None:
    assert len(assert_exports_score_as_logged(*finished, tmp_path)) > 3


def test_so_do_merges_of_adapters_and_models_with_new_tokens_by_any_method(
    qwen2: dict[str, Path], tmp_path: Path
) -> None:
    base = qwen2["base"]
    adapters.make_adapter(base, tmp_path / "tuned", lora_alpha=1, target_modules=["q_proj", "down_proj"])
    grown = toy.with_new_token(tmp_path / "grown", base, "<new>", seed=1, kind="qwen2")
    family = {"base": base, "left": qwen2["left"], "tuned": tmp_path / "tuned", "grown": grown}
    names = [name for name in methods.names() if name != "passthrough"]
    space = {"_target_": "automerge.spaces.lfs.LayerwiseFusion", "strengths": [0.5], "methods": names}
    budget = {"trials": 15, "items": None, "minutes": None}
    history = search(make_settings(tmp_path, family, space=space, budget=budget), tmp_path / "run")
    assert {trial.status for trial in history.trials.values()} == {"ok"}
    # Slerp and nuslerp join two sources, so with three they have no uniform merge.
    assert assert_exports_score_as_logged(tmp_path / "run", history, tmp_path) >= {*names} - {"slerp", "nuslerp"}


def test_an_export_is_an_ordinary_folder_with_card_and_recipe(finished: tuple[Path, History], tmp_path: Path) -> None:
    folder, history = finished
    export_run(folder, tmp_path / "model", point=1)
    recipe = history.trials[history.recommended[0]].recipe
    assert json.loads((tmp_path / "model" / "recipe.json").read_text()) == json.loads(recipe.to_json())
    card = (tmp_path / "model" / "README.md").read_text()
    assert recipe.id in card
    assert "choose" in card
    assert not list(tmp_path.glob(".model*"))
    with pytest.raises(FileExistsError, match="name a new folder"):
        export_run(folder, tmp_path / "model", point=1)
    with pytest.raises(ValueError, match=r"recommends points 1\.\.\d+, got 99"):
        export_run(folder, tmp_path / "other", point=99)


def test_an_export_that_fails_leaves_no_folder(
    finished: tuple[Path, History], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("automerge.export.model.save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        export_run(finished[0], tmp_path / "model", point=1)
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_on_in_its_folder_and_refuses_other_settings(
    finished: tuple[Path, History], qwen2: dict[str, Path], tmp_path: Path
) -> None:
    folder, _ = finished
    settings = make_settings(folder.parent, qwen2)
    parts = run.assemble(settings)
    with RunLog(folder / LOG) as log:
        assert all(step.resumed for step in run.search(settings, parts, log))
        settings["budget"] = {"trials": 99, "items": None, "minutes": None}
        with pytest.raises(ValueError, match=r"budget\.trials: 35 in the log, 99 now"):
            next(run.search(settings, parts, log))


def test_costs_and_a_single_task_are_searched_by_the_same_code(llama: dict[str, Path], tmp_path: Path) -> None:
    settings = make_settings(tmp_path, llama, costs=["parameters"])
    del settings["task"]["last"]
    settings["budget"] = {"trials": None, "items": 400, "minutes": None}
    settings["optimizer"] = {"_target_": "automerge.optimizers.random_search.RandomSearch"}
    history = search(settings, tmp_path / "run")
    assert [objective.name for objective in history.objectives] == ["choose", "parameters"]
    assert history.recommended
    write_report(tmp_path / "run")


def test_all_faults_of_the_settings_are_listed_together(llama: dict[str, Path], tmp_path: Path) -> None:
    settings = make_settings(tmp_path, llama, surprise=1, costs=["carbon"])
    settings["fidelity"] |= {"minimum": 3, "eta": None}
    settings["report"]["baseline"] = str(tmp_path / "nowhere")
    settings["task"]["last"]["search"] = {"pth": "x"}
    settings["task"]["choose"]["promt"] = "x"
    settings["optimizer"]["_target_"] = "os.system"
    settings["space"]["_target_"] = "automerge.spaces.lfs.Missing"
    settings["model"] |= {"device": "cuda:77", "dtype": "float8"}
    del settings["budget"]
    settings |= {"weights": {"choose": 0, "other": 1}, "start_limit": 0}
    settings["constraints"] = ["layers <= few", "carbon >= 3"]
    with pytest.raises(ValueError, match="the settings cannot be used") as caught:
        run.assemble(settings)
    for part in (
        "weights: unknown task 'other'; there are choose, last",
        "weights: expected all tasks, got none for last; weigh them, or leave them out of task",
        "weights.choose: expected a positive number, got 0",
        "start_limit: expected a whole number from 1, got 0",
        "constraints: 'layers <= few': expected a number after <=, got 'few'",
        "constraints: 'carbon >= 3': there is no task or cost 'carbon'; there are choose, last, layers, parameters",
        "unknown key `surprise`",
        "missing key `budget`",
        "fidelity.eta: expected a number above 1, got None",
        "is no run folder of automerge: it has no run.db",
        "fidelity: unknown key `minimum`; there are min, max, eta",
        "task.choose: unknown options promt",
        "optimizer: `_target_` must lie inside automerge, got 'os.system'",
        "space: `_target_` 'automerge.spaces.lfs.Missing' does not exist",
        "costs: unknown cost 'carbon'; there are layers, parameters",
        "model.device: 'cuda:77' cannot be used here",
        "model.dtype: expected one of auto, float32, bfloat16, float16, got 'float8'",
    ):
        assert part in str(caught.value)


def test_all_faults_of_tasks_and_sources_are_listed_together(llama: dict[str, Path], tmp_path: Path) -> None:
    settings = make_settings(tmp_path, llama)
    settings["source"]["models"]["left"] = str(tmp_path / "nowhere")
    settings["task"]["choose"]["search"] = {"path": str(tmp_path / "none.jsonl")}
    settings["task"]["last"]["test"] = settings["task"]["last"]["search"]
    settings["budget"] = {"trials": None, "items": None, "minutes": None}
    with pytest.raises(ValueError, match="this run cannot be used") as caught:
        run.assemble(settings)
    assert "source 'left': no model folder at" in str(caught.value)
    assert "task 'choose': no task file at" in str(caught.value)
    assert "60 of 60 test items are search items too" in str(caught.value)
    assert "budget: a budget needs a positive number of trials" in str(caught.value)


def test_weights_of_many_bytes_are_not_read_while_something_else_is_to_be_mended(
    llama: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(tmp_path, llama)
    settings["task"]["last"]["test"] = settings["task"]["last"]["search"]
    monkeypatch.setattr(run, "QUICK", 1000)
    monkeypatch.setattr(run, "ResidentSources", None)
    with pytest.raises(ValueError, match="test items are search items too") as caught:
        run.assemble(settings)
    assert "were not looked at yet: they are when the rest is mended" in str(caught.value)


def test_sources_of_another_vocabulary_or_shape_are_refused(
    llama: dict[str, Path], qwen2: dict[str, Path], tmp_path: Path
) -> None:
    settings = make_settings(tmp_path, {**llama, "right": qwen2["left"]})
    with pytest.raises(ValueError, match=r"'right' has 9 tensors that 'base' lacks") as caught:
        run.assemble(settings)
    assert "'right' lacks 1 tensors of 'base': lm_head.weight" in str(caught.value)
    other = toy.make_model(tmp_path / "other", seed=5)
    toy.make_tokenizer(extra="é").save_pretrained(other)
    settings = make_settings(tmp_path, {**llama, "right": other})
    with pytest.raises(
        ValueError, match="source 'right': it has 1 tokens in its core vocabulary that the base lacks: 'é'"
    ):
        run.assemble(settings)


def test_sources_trained_for_another_configuration_are_refused(llama: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(llama["right"], other)
    config = json.loads((other / "config.json").read_text())
    config["rms_norm_eps"] = 0.1
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"'right' was trained with another configuration .* rms_norm_eps 0\.1"):
        run.assemble(make_settings(tmp_path, {**llama, "right": other}))


def test_norms_of_a_log_are_taken_where_they_are_of_the_same_slots_and_sources(
    finished: tuple[Path, History], qwen2: dict[str, Path], tmp_path: Path
) -> None:
    log = tmp_path / LOG
    shutil.copyfile(finished[0] / LOG, log)
    with RunLog(log) as opened:
        stored = opened.settings()["measures"]
        opened.write_settings({"measures": {**stored, "norms": [[*slot, [9.0, 9.0]] for *slot, _ in stored["norms"]]}})
    both = make_settings(tmp_path, qwen2)
    norms = run.assemble(both, log=log).facts["measures"]["norms"]
    assert norms == [[*slot, [9.0, 9.0]] for *slot, _ in stored["norms"]]
    assert run.assemble(both, log=tmp_path / "none.db").facts["measures"] == stored
    one = make_settings(tmp_path, {name: qwen2[name] for name in ("base", "left")})
    assert run.assemble(one, log=log).facts["measures"] == run.assemble(one).facts["measures"]


def test_changed_weights_and_data_are_noticed_by_resume_and_export(llama: dict[str, Path], tmp_path: Path) -> None:
    family = {name: tmp_path / name for name in llama}
    for name, folder in llama.items():
        shutil.copytree(folder, family[name])
    settings = make_settings(tmp_path, family, budget={"trials": 3, "items": None, "minutes": None})
    history = search(settings, tmp_path / "run")
    assert history.recommended
    toy.write_jsonl(tmp_path / "test.jsonl", toy.copy_rows(40, 7))
    with RunLog(tmp_path / "run" / LOG) as log, pytest.raises(ValueError, match=r"tasks\.choose.*content has changed"):
        next(run.search(settings, run.assemble(settings), log))
    toy.write_jsonl(tmp_path / "test.jsonl", toy.copy_rows(40, 1))
    toy.make_model(family["left"], seed=99, like=family["base"])
    with RunLog(tmp_path / "run" / LOG) as log, pytest.raises(ValueError, match=r"sources\.left.*content has changed"):
        next(run.search(settings, run.assemble(settings), log))
    with pytest.raises(ValueError, match="the weights of left are not those that were searched"):
        export_run(tmp_path / "run", tmp_path / "model", point=1)


def test_a_run_goes_on_and_is_exported_after_its_models_and_data_have_moved(
    llama: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "old").mkdir()
    family = {name: tmp_path / "old" / name for name in llama}
    for name, folder in llama.items():
        shutil.copytree(folder, family[name])
    short: dict[str, Any] = {"budget": {"trials": 3, "items": None, "minutes": None}}
    settings = make_settings(tmp_path / "old", family, **short)
    before = search(settings, tmp_path / "run")

    (tmp_path / "old").rename(tmp_path / "new")
    moved = make_settings(tmp_path / "new", {name: tmp_path / "new" / name for name in llama}, **short)
    export_run(tmp_path / "run", tmp_path / "told", point=1, source=moved["source"])
    moved["model"] = {**moved["model"], "batch_tokens": 512}
    with RunLog(tmp_path / "run" / LOG) as log:
        assert all(step.resumed for step in run.search(moved, run.assemble(moved), log))
        assert History.of(log).recommended == before.recommended
        # From here on the log knows the new places.
        assert log.settings()["config"]["source"] == moved["source"]
        swapped = {name: moved["source"]["models"][name] for name in ("right", "left")}
        turned = {**moved, "source": {**moved["source"], "models": swapped}}
        with pytest.raises(
            ValueError, match=r"source\.models: \['left', 'right'\] in the log, \['right', 'left'\] now"
        ):
            next(run.search(turned, run.assemble(moved), log))
        other = {**moved, "source": {**moved["source"], "models": {"left": moved["source"]["models"]["right"]}}}
        with pytest.raises(ValueError, match=r"source\.models: \['left', 'right'\] in the log, \['left'\] now"):
            next(run.search(other, run.assemble(moved), log))
    export_run(tmp_path / "run", tmp_path / "known", point=1)
    written = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("told", "known")]
    assert written[0] == written[1]
    wrong = {**moved["source"], "base": moved["source"]["models"]["left"]}
    with pytest.raises(ValueError, match="the weights of base are not those that were searched"):
        export_run(tmp_path / "run", tmp_path / "wrong", point=1, source=wrong)


def test_a_run_of_links_keeps_their_names_and_notices_other_tokenizers_and_dtypes(
    llama: dict[str, Path], tmp_path: Path
) -> None:
    family = {name: tmp_path / name for name in llama}
    for name, folder in llama.items():
        shutil.copytree(folder, family[name])
    settings = make_settings(tmp_path, family, budget={"trials": 2, "items": None, "minutes": None})
    # As in the hub's cache, where files are links to what is named after its content.
    (tmp_path / "blob").write_bytes((tmp_path / "search.jsonl").read_bytes())
    (tmp_path / "search.jsonl").unlink()
    (tmp_path / "search.jsonl").symlink_to(tmp_path / "blob")
    search(settings, tmp_path / "run")
    with RunLog(tmp_path / "run" / LOG) as log:
        stored = log.settings()["config"]
        assert all(step.resumed for step in run.search(stored, run.assemble(stored), log))
        assert log.settings()["config"]["model"]["dtype"] == "float32"
        half = {**stored, "model": {**stored["model"], "dtype": "bfloat16"}}
        with pytest.raises(ValueError, match=r"model\.dtype: 'float32' in the log, 'bfloat16' now"):
            next(run.search(half, run.assemble(half), log))
        settings = {**stored, "model": {**stored["model"], "dtype": "auto"}}
        assert all(step.resumed for step in run.search(settings, run.assemble(settings), log))
        (family["left"] / "tokenizer_config.json").write_text("{}")
        with pytest.raises(ValueError, match=r"folders\.left: .* \(its content has changed\)"):
            next(run.search(stored, run.assemble(stored), log))
    with pytest.raises(ValueError, match="the configuration or tokenizer of left is not the one that was searched"):
        export_run(tmp_path / "run", tmp_path / "model", point=1)


def test_the_log_keeps_the_places_that_led_on_and_not_those_of_a_search_that_was_refused(
    llama: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(tmp_path, llama, budget={"trials": 2, "items": None, "minutes": None})
    search(settings, tmp_path / "run")
    other = {**settings, "model": {**settings["model"], "batch_tokens": 64}}
    parts = run.assemble(other)
    proposals = iter(parts.space.sample(9, np.random.default_rng(7)))
    monkeypatch.setattr(parts.optimizer, "ask", lambda: Proposal(next(proposals), 20, {"operator": "sample"}))
    with RunLog(tmp_path / "run" / LOG) as log:
        with pytest.raises(ValueError, match="but these settings propose"):
            list(run.search(other, parts, log))
        assert log.settings()["config"]["model"]["batch_tokens"] == 4096


def write_start(path: Path, folders: dict[str, Path], weight: float) -> Path:
    """A mergekit configuration of the toy family with other weights for the attention."""
    content = {
        "merge_method": "task_arithmetic",
        "base_model": str(folders["base"]),
        "models": [
            {
                "model": str(folders["left"]),
                "parameters": {"weight": [{"filter": "self_attn", "value": weight}, {"value": 0.4}]},
            },
            {"model": "right", "parameters": {"weight": 0.5}},
        ],
        "parameters": {"normalize": False},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_search_starts_from_given_recipes_and_is_resumed_with_them_from_anywhere(
    llama: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    best = write_start(tmp_path / "best.yaml", llama, 0.8)
    settings = make_settings(tmp_path, llama, start=["best.yaml"], budget={"trials": 4, "items": None, "minutes": None})
    history = search(settings, tmp_path / "run")
    (given,) = [trial for trial in history.references if history.trials[trial].origin["kind"] == "given"]
    recipe = history.trials[given].recipe
    attention = [fusion for (_, component), fusion in recipe.fusions() if component == "attention"]
    assert [read.weight for read in attention[0].inputs] == [0.8, 0.5]
    assert history.name(given) == "best"
    assert history.tests[given]["choose"].n == 40

    write_report(tmp_path / "run")
    content = json.loads((tmp_path / "run" / "pareto.json").read_text())
    (row,) = [point for point in content["points"] if point["kind"] == "given"]
    assert row["scores"]["choose"]["test"]["mean"] == pytest.approx(history.tests[given]["choose"].mean)
    assert "best" in (tmp_path / "run" / "report.html").read_text()

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with RunLog(tmp_path / "run" / LOG) as log:
        stored = log.settings()["config"]
        assert stored["start"] == [str(best)]
        assert all(step.resumed for step in run.search(stored, run.assemble(stored), log))
        write_start(best, llama, 0.9)
        with pytest.raises(ValueError, match=r"start: .* \(its content has changed\)"):
            next(run.search(stored, run.assemble(stored), log))
        best.write_text(f"# a remark changes nothing\n{write_start(best, llama, 0.8).read_text()}")
        assert all(step.resumed for step in run.search(stored, run.assemble(stored), log))

    # The exported recipe is a start of the next search.
    export_run(tmp_path / "run", tmp_path / "model", trial=given)
    again = make_settings(tmp_path, llama, start=[str(tmp_path / "model" / "recipe.json")])
    parts = run.assemble(again)
    assert parts.space.decode(parts.starts["recipe"]) == recipe


SHORT = {"trials": 6, "items": None, "minutes": None}


def test_a_weighted_mean_under_constraints_is_searched_reported_and_resumed(
    llama: dict[str, Path], tmp_path: Path
) -> None:
    settings = make_settings(
        tmp_path, llama, weights={"last": 1, "choose": 3}, constraints=["layers <= 3", "last >= 0.1"], budget=SHORT
    )
    history = search(settings, tmp_path / "run")
    (objective,) = history.objectives
    assert objective.shares == (("choose", 0.75), ("last", 0.25))
    assert [constraint.text for constraint in history.constraints] == ["layers <= 3", "last >= 0.1"]
    (best,) = history.recommended
    tested = history.tests[best]
    assert history.test_values(best) == pytest.approx([0.75 * tested["choose"].mean + 0.25 * tested["last"].mean])
    findings = write_report(tmp_path / "run")
    assert findings.headline is not None
    assert set(export_benchmark([tmp_path / "run"], tmp_path / "benchmark")) == {"choose", "last"}
    export_run(tmp_path / "run", tmp_path / "model", point=1)
    with RunLog(tmp_path / "run" / LOG) as log:
        stored = log.settings()["config"]
        assert all(step.resumed for step in run.search(stored, run.assemble(stored), log))
        for changes in ({"weights": {"choose": 1, "last": 1}}, {"constraints": ["layers <= 3"]}):
            with pytest.raises(ValueError, match=f"{next(iter(changes))}.* in the log"):
                next(run.search({**stored, **changes}, run.assemble({**stored, **changes}), log))


def test_a_log_of_an_earlier_version_is_resumed_with_what_the_keys_mean_that_it_lacks(
    llama: dict[str, Path], tmp_path: Path
) -> None:
    settings = make_settings(tmp_path, llama, budget=SHORT)
    search(settings, tmp_path / "run")
    now = {**settings, "weights": None, "constraints": [], "start_limit": 8}
    with RunLog(tmp_path / "run" / LOG) as log:
        stored = {key: value for key, value in log.settings()["config"].items() if key not in now.keys() - settings}
        log.write_settings({"config": stored})
        assert all(step.resumed for step in run.search(stored, run.assemble(stored), log))
        assert all(step.resumed for step in run.search(now, run.assemble(now), log))


def test_a_search_starts_from_an_earlier_run_and_evaluates_its_best_anew(
    llama: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = search(make_settings(tmp_path, llama, budget=SHORT), tmp_path / "first")
    settings = make_settings(tmp_path, llama, budget=SHORT, start=["first"], start_limit=2, seed=1)
    history = search(settings, tmp_path / "second")
    given = [trial for trial in history.references if history.trials[trial].origin["kind"] == "given"]
    assert len(given) == 2
    for trial in given:
        name, number = history.name(trial).split(" #")
        assert name == "first"
        assert history.trials[trial].recipe == first.trials[int(number)].recipe
        assert history.trials[trial].n_items == 60
    # A run folder is found from anywhere, and what it gives is part of the run's identity.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with RunLog(tmp_path / "second" / LOG) as log:
        stored = log.settings()["config"]
        assert stored["start"] == [str(tmp_path / "first")]
        assert all(step.resumed for step in run.search(stored, run.assemble(stored), log))
        with pytest.raises(ValueError, match=r"start_limit: 2 in the log, 1 now"):
            next(run.search({**stored, "start_limit": 1}, run.assemble({**stored, "start_limit": 1}), log))


def test_the_space_is_told_of_the_weights_and_optimizers_refuse_their_options_before_they_are_read(
    llama: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = run.assemble(make_settings(tmp_path, llama))
    X = parts.space.sample(2, np.random.default_rng(0))
    n_parameters = parts.sources.n_parameters(parts.space.decode(X[0]))
    assert parts.space.costs(X)["parameters"].tolist() == [n_parameters, n_parameters]

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the weights were read")

    def refuse(spec: dict[str, Any], **given: Any) -> Any:
        if "objectives" in given:
            raise ValueError("n_initial should be larger")
        return components.build(spec, **given)

    monkeypatch.setattr(run, "_resident", fail)
    monkeypatch.setattr("automerge.parts.build", refuse)
    with pytest.raises(ValueError, match="optimizer: n_initial should be larger"):
        run.assemble(make_settings(tmp_path, llama))


def test_faults_of_starts_are_listed_with_all_others(llama: dict[str, Path], tmp_path: Path) -> None:
    best = write_start(tmp_path / "best.yaml", llama, 1.8)
    settings = make_settings(tmp_path, llama, start=[str(best), str(tmp_path / "none.json")], surprise=1)
    with pytest.raises(ValueError, match="unknown key `surprise`") as caught:
        run.assemble(settings)
    assert f"start: there is no file {tmp_path / 'none.json'}" in str(caught.value)
    settings = make_settings(tmp_path, llama, start=[str(best)])
    settings["task"]["choose"]["search"] = {"path": str(tmp_path / "none.jsonl")}
    with pytest.raises(ValueError, match="task 'choose': no task file at") as caught:
        run.assemble(settings)
    assert f"  - start {best}: the LFS space cannot hold this recipe:\n    " in str(caught.value)
    assert "raise space.max_weight (0.attention: 1.8, 1.attention: 1.8, 2.attention: 1.8)" in str(caught.value)


def test_no_experiment_is_explained(llama: dict[str, Path], tmp_path: Path) -> None:
    settings = make_settings(tmp_path, llama, task=None)
    settings["source"] = None
    with pytest.raises(ValueError, match="source: expected the keys base, models") as caught:
        run.assemble(settings)
    assert "task: name at least one task" in str(caught.value)


@pytest.mark.parametrize(
    ("section", "key", "value"), [("model", "batch_tokens", 0), ("model", "threads", "abc"), ("model", "threads", -1)]
)
def test_numbers_out_of_range_are_named(
    section: str, key: str, value: object, llama: dict[str, Path], tmp_path: Path
) -> None:
    settings = make_settings(tmp_path, llama)
    settings[section][key] = value
    settings["seed"] = "abc"
    with pytest.raises(ValueError, match=rf"{section}\.{key}: expected a whole number from 1, got") as caught:
        run.assemble(settings)
    assert "seed: expected a whole number from 0, got 'abc'" in str(caught.value)
