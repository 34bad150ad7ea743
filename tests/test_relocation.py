"""Stored settings with values that a later command changes, and paths that lead nowhere any more."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from automerge import zoo
from automerge.relocation import changed, refuse_lost
from automerge.start import path_faults

SETTINGS: dict[str, Any] = {
    "source": {"base": "/old/base", "models": {"left": "/old/left"}, "revisions": {}},
    "task": {"sums": {"search": {"path": "/old/search.jsonl", "limit": 5}, "test": {"path": "org/sums"}}},
    "model": {"device": "cuda:1", "threads": None},
    "start": [],
}


def test_values_are_changed_in_the_syntax_of_hydra_and_nothing_else_is() -> None:
    overrides = [
        "source.base=/new/base",
        "source.models={left: /new/left}",
        "task.sums.search.path='/new/a b.jsonl'",
        "model.threads=4",
        "model.device='cuda:2'",
        "start=[one, two]",
    ]
    assert changed(SETTINGS, overrides) == {
        "source": {"base": "/new/base", "models": {"left": "/new/left"}, "revisions": {}},
        "task": {"sums": {"search": {"path": "/new/a b.jsonl", "limit": 5}, "test": {"path": "org/sums"}}},
        "model": {"device": "cuda:2", "threads": 4},
        "start": ["one", "two"],
    }
    assert changed(SETTINGS, []) == SETTINGS
    assert SETTINGS["source"]["base"] == "/old/base"


def test_paths_are_taken_as_they_are_and_names_may_hold_dots() -> None:
    settings = {**SETTINGS, "source": {"base": "/old", "models": {"qwen2.5": "/old/left"}, "revisions": {}}}
    paths = ["/runs/optimizer=tpe,seed=0/a b (1)", "~/models/größe#2", "2024"]
    for path in paths:
        override = f"source.models.qwen2.5={path}"
        assert changed(settings, [override])["source"]["models"] == {"qwen2.5": path}
        assert changed(settings, [f"source.models.qwen2.5='{path}'"])["source"]["models"] == {"qwen2.5": path}


def test_resolvers_work_in_paths_and_in_other_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", "/new")
    settings = changed(
        SETTINGS,
        ["source.base=${oc.env:MODELS}/base", "start=['${oc.env:MODELS}/run']", "source.models.left=${zoo:models}"],
    )
    assert settings["source"] == {"base": "/new/base", "models": {"left": zoo.path("models")}, "revisions": {}}
    assert settings["start"] == ["/new/run"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("source.bas=/new", "this run has no setting source.bas; there are base, models, revisions"),
        ("source.models.right=/new", "this run has no setting source.models.right; there are left"),
        ("sources.base=/new", "this run has no setting sources.base"),
        ("source.base.path=/new", "this run has no setting source.base.path"),
        ("+source.token=x", "a run keeps its keys, only their values can change"),
        ("~source.base", "a run keeps its keys, only their values can change"),
        ("/new/base", "expected KEY=VALUE, got '/new/base'"),
        ("model.threads=1,2", "expected one value, got 'model.threads=1,2'"),
        ("model.threads=[1", "the value of 'model.threads=[1' cannot be read"),
        ("source=zoo_pair", "source: expected the keys base, models, revisions, got 'zoo_pair'"),
        ("source.models={left: /new, right: /new}", "source.models: expected the keys left, got"),
        ("source.models={left: 3}", "source.models.left: expected text, got 3"),
        ("task=[sums]", "task: expected the keys sums, got ['sums']"),
        ("model.device=2", "model.device: expected text, got 2"),
        (
            "source.base=${oc.env:NOWHERE_SET}/base",
            "the value of 'source.base=${oc.env:NOWHERE_SET}/base' cannot be resolved",
        ),
        ("source.base=${source.models.left}", "Interpolation key 'source.models.left' not found; write it out"),
        ("start=/old/run", "start: expected a list, got '/old/run'"),
    ],
)
def test_what_is_no_value_of_the_run_is_refused(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        changed(SETTINGS, [override])


def test_local_paths_that_lead_nowhere_are_listed_with_the_words_that_mend_them(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    settings = changed(SETTINGS, [f"source.models.left={tmp_path / 'left'}"])
    with pytest.raises(ValueError, match="lead to nothing") as fault:
        refuse_lost(settings, "automerge search --resume RUN")
    assert str(fault.value).splitlines()[1:] == [
        "  - source.base: /old/base",
        "  - task.sums.search.path: /old/search.jsonl",
        "if it has moved, say where it is now: automerge search --resume RUN source.base=PATH",
    ]


def test_a_lost_recipe_is_told_with_the_whole_list_that_it_stands_in(tmp_path: Path) -> None:
    kept = tmp_path / "optimizer=tpe,seed=0" / "größe's (1)"
    kept.mkdir(parents=True)
    settings: dict[str, Any] = {"source": {}, "start": [str(kept), "/old/best.yaml"]}
    with pytest.raises(ValueError, match="lead to nothing") as fault:
        refuse_lost(settings, "automerge search --resume RUN")
    assert str(fault.value).splitlines()[1] == "  - start: /old/best.yaml"
    command = shlex.split(str(fault.value).splitlines()[2].partition("say where it is now: ")[2])
    assert command[:-1] == ["automerge", "search", "--resume", "RUN"]
    assert changed(settings, command[-1:])["start"] == [str(kept), "PATH"]


def test_another_run_to_compare_with_may_have_moved_or_be_left_out(tmp_path: Path) -> None:
    settings = {**SETTINGS, "source": {}, "task": {}, "report": {"baseline": str(tmp_path / "gone")}}
    with pytest.raises(ValueError, match=r"report\.baseline: .*gone\n.* COMMAND report\.baseline=PATH"):
        refuse_lost(settings, "COMMAND")
    for value in (f"'{tmp_path}'", "null"):
        refuse_lost(changed(settings, [f"report.baseline={value}"]), "COMMAND")


def test_what_is_no_path_is_left_to_the_check_of_the_settings() -> None:
    settings = changed({**SETTINGS, "source": {}, "task": {}}, ["start=[2024, null]"])
    refuse_lost(settings, "")
    assert path_faults(settings["start"])


def test_hub_ids_and_what_is_there_are_not_lost(tmp_path: Path) -> None:
    places = ["source.base=org/base", f"source.models.left={tmp_path}", f"task.sums.search.path={tmp_path}"]
    refuse_lost(changed(SETTINGS, places), "")


def test_a_file_of_rows_is_no_hub_id_without_a_folder_before_it_either() -> None:
    settings = changed(SETTINGS, [f"source.base={Path()}", f"source.models.left={Path()}"])
    with pytest.raises(ValueError, match=r"task\.sums\.search\.path: data/rows\.jsonl"):
        refuse_lost(changed(settings, ["task.sums.search.path=data/rows.jsonl"]), "")


def test_the_benchmark_of_a_simulated_run_may_be_lost_too() -> None:
    with pytest.raises(ValueError, match=r"x benchmark\.path=PATH"):
        refuse_lost({"benchmark": {"path": "/old/benchmark"}, "source": {}}, "x")
