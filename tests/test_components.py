import pytest

from automerge import components

SPEC = {"_target_": "automerge.search.Budget", "trials": 5}


def test_build_gives_what_the_target_gives_for_options_and_given_ones() -> None:
    built = components.build(SPEC, items=7)
    assert (built.trials, built.items) == (5, 7)


def test_sound_specs_have_no_faults_and_others_are_named_with_what_is_taken() -> None:
    assert components.faults("budget", SPEC) == []
    (fault,) = components.faults("budget", {**SPEC, "trails": 3}, minutes=None)
    assert fault == "budget: unknown options trails; automerge.search.Budget takes items, trials"
    (fault,) = components.faults("ladder", {"_target_": "automerge.fidelity.Ladder", "minimum": 1})
    assert fault == "ladder: missing options maximum of automerge.fidelity.Ladder"


@pytest.mark.parametrize("spec", [None, {}, "automerge.search.Budget", {"trials": 5}])
def test_what_names_no_target_is_told(spec: object) -> None:
    (fault,) = components.faults("budget", spec)
    assert "expected a mapping with `_target_`" in fault


def test_what_a_module_only_imports_is_no_part_of_it() -> None:
    (fault,) = components.faults("x", {"_target_": "automerge.components.import_module", "name": "os"})
    assert "is no part of automerge" in fault


@pytest.mark.parametrize("path", ["automerge.nothing.Budget", "automerge.search.Nothing"])
def test_targets_that_do_not_exist_are_told(path: str) -> None:
    (fault,) = components.faults("budget", {"_target_": path})
    assert "does not exist" in fault
