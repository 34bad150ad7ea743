from pathlib import Path

from automerge import optimizers, runners, sources, spaces, tasks
from tests.conformance.members import OPTIMIZERS, RUNNERS, SOURCES, SPACES, make_tasks, modules


def test_every_module_of_every_folder_is_a_member_of_its_suite(tmp_path: Path) -> None:
    assert modules(spaces) == {name.split(",")[0] for name in SPACES}
    assert modules(optimizers) == {name.split(",")[0] for name in OPTIMIZERS}
    assert modules(tasks) == set(make_tasks(tmp_path))
    assert modules(sources) == {name.split(",")[0] for name in SOURCES}
    assert modules(runners) == {name.split(",")[0] for name in RUNNERS}
