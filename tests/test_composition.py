"""Configurations compose to settings that fit what they configure."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra.errors import ConfigCompositionException, HydraException

from automerge.check import settings as preflight
from automerge.composition import LONGEST_NAME, composed, config_folder, explained, folder_name, refuse_faulty_files

CONF = config_folder()
GROUPS = ("source", "task", "space", "optimizer", "fidelity", "runner", "problem", "experiment")
FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml") if path.name != "config.yaml")


def test_every_group_of_the_configuration_is_a_seam_or_a_preset() -> None:
    assert {path.parts[0] for path in FILES} == set(GROUPS)
    assert len(FILES) > 10


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_configuration_file_composes_and_fits_what_it_configures(path: Path) -> None:
    group, name = path.parts[0], path.stem
    choice = f"+{group}={name}" if group == "experiment" else f"{group}={name}"
    overrides = [choice] if group == "experiment" else ["experiment=demo", choice]
    if group == "problem":
        overrides = [choice, f"{name}.path=somewhere"]
    settings = composed([override.lstrip("+") for override in overrides])
    assert preflight.settings_faults(settings) == []


def test_a_chosen_file_that_is_no_yaml_is_named_with_the_place(tmp_path: Path) -> None:
    group = tmp_path / "experiment"
    group.mkdir()
    (group / "good.yaml").write_text("a: !tag b\n")
    (group / "escape.yaml").write_text('a: 1\nextract: "####\\s*(.+)"\n')
    (group / "tab.yaml").write_text("a:\n\tb: 1\n")
    (group / "latin.yaml").write_bytes("a: caf\u00e9\n".encode("latin-1"))
    refuse_faulty_files([CONF, tmp_path], ["+experiment=good", "task=[zoo_sort,zoo_reverse]", "seed=1"])
    for name, told in (
        ("escape", r"escape\.yaml is no YAML: (.|\n)*line 2(.|\n)*single quotes$"),
        ("tab", r"tab\.yaml is no YAML: (.|\n)*line 2, column 1:[^;]*$"),
        ("latin", r"latin\.yaml is not written in UTF-8"),
    ):
        with pytest.raises(ValueError, match=told):
            refuse_faulty_files([CONF, tmp_path], [f"experiment=good,{name}"])
    with pytest.raises(FileNotFoundError, match="no folder of configuration files at"):
        refuse_faulty_files([tmp_path / "nowhere"], [])


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["optimizer.batchs=3"],
            "no setting optimizer.batchs; did you mean optimizer.batch? optimizer has aspiration, ",
        ),
        (
            ["optimizer=evolution", "optimizer.batch=3"],
            "there is no setting optimizer.batch. optimizer has caution, crossover, n_initial, population",
        ),
        (["optimizerr=evolution"], "no setting optimizerr; did you mean optimizer? There are benchmark, budget, "),
        (["budget.trials.x=3"], "budget.trials is a value and has no settings below it, such as x"),
        (["hydra.job.chdir=abc"], "'abc' is not a valid bool"),
        (["optimizer=evolutio"], "Could not find 'optimizer/evolutio'"),
        (["optimizer.aspiration={sort:"], "put what has blanks, braces or brackets into single quotes"),
    ],
)
def test_words_that_mean_nothing_are_explained(overrides: list[str], told: str) -> None:
    overrides = ["experiment=demo", *overrides]
    with pytest.raises(ValueError, match="do not compose") as raised:
        composed(overrides)
    cause = raised.value.__cause__
    assert isinstance(cause, HydraException)
    assert told in explained(cause, overrides)
    assert "search path" not in explained(cause, overrides)


def test_words_are_explained_with_the_files_of_ones_own_folder(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nbudget: {trials: 3}\n")
    fault = ConfigCompositionException(
        "Could not override 'budget.trial'.\nTo append to your config use +budget.trial=4"
    )
    overrides = ["experiment=mine", "budget.trial=4"]
    assert "did you mean budget.trials?" in explained(fault, overrides, [tmp_path])
    assert explained(fault, overrides) == str(fault), "without the folder nothing is known"


def test_every_configuration_file_opens_with_a_command() -> None:
    for path in FILES:
        lines = (CONF / path).read_text().splitlines()
        assert any(line.startswith("# automerge search") for line in lines[:2]), path


def test_starts_are_a_list_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").touch()
    files = f"[{tmp_path}/a.yaml,b.json]"
    settings = composed(["experiment=demo", f"start={files}"])
    assert settings["start"] == [f"{tmp_path}/a.yaml", "b.json"]
    (fault,) = preflight.settings_faults(settings)
    assert fault.startswith("start: there is no file b.json")
    assert composed(["experiment=demo"])["start"] == []


def test_weights_and_constraints_are_written_on_the_command_line() -> None:
    settings = composed(["experiment=demo", "weights={sort: 2, reverse: 1}", "constraints=['layers <= 8','sort>=0.1']"])
    assert settings["weights"] == {"sort": 2, "reverse": 1}
    assert settings["constraints"] == ["layers <= 8", "sort>=0.1"]
    assert preflight.settings_faults(settings) == []
    wrong = composed(["experiment=demo", "weights={sort: 2}"])
    assert preflight.settings_faults(wrong) == [
        "weights: expected all tasks, got none for reverse; weigh them, or leave them out of task"
    ]


def test_a_benchmark_takes_the_place_of_sources_tasks_and_space() -> None:
    settings = composed(["problem=benchmark", "benchmark.path=DIR", "optimizer=tpe", "runner.n_workers=4"])
    assert preflight.settings_faults(settings) == []
    assert settings["benchmark"] == {"path": "DIR", "seed": 0}
    assert not {"source", "task", "space", "fidelity"} & settings.keys()
    wrong = preflight.settings_faults(composed(["problem=benchmark", "experiment=demo"]))
    assert any(fault.startswith("source: a benchmark has its own") for fault in wrong)
    assert any("write benchmark.path=DIR" in fault for fault in wrong)


def test_what_does_not_compose_says_why() -> None:
    with pytest.raises(ValueError, match=r"these settings do not compose: .*optimizer/nothing"):
        composed(["optimizer=nothing"])


def test_folders_of_runs_are_called_by_their_overrides_where_these_are_names() -> None:
    assert folder_name("optimizer=tpe,seed=0,budget.trials=1_000") == "optimizer=tpe,seed=0,budget.trials=1_000"
    texts = ["start=[/a/b]", "start=[/a_b]", "..", "a" * 400, "a" * 401, "constraints=['layers <= 3']", "größe=1"]
    names = [folder_name(text) for text in texts]
    assert len(set(names)) == len(texts)
    for name in names:
        assert shlex.quote(name) == name
        assert "/" not in name
        assert len(name) <= LONGEST_NAME + 9
