"""What README shows is what there is."""

from __future__ import annotations

import re
from pathlib import Path

from automerge.check import settings as preflight
from automerge.composition import composed

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def test_the_example_of_ones_own_experiment_composes_and_fits(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(example)
    settings = composed(["experiment=mine", f"hydra.searchpath=[file://{tmp_path}]"])
    assert settings["space"]["granularity"] == 4
    assert set(settings["task"]) == {"gsm8k", "facts", "commands"}
    # The example wants a GPU, which a machine that runs tests may lack.
    assert [fault for fault in preflight.settings_faults(settings) if not fault.startswith("model.device")] == []


def test_the_tree_names_every_module_of_the_package() -> None:
    (tree,) = re.findall(r"```\n(automerge/\n.*?)```", TEXT, flags=re.DOTALL)
    named = set(re.findall(r"^  (\w+(?:\.py|/))", tree, flags=re.MULTILINE))
    package = ROOT / "automerge"
    files = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert named == files | folders


def test_every_command_of_make_that_it_shows_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    shown = set(re.findall(r"^make ([a-z-]+)", TEXT, flags=re.MULTILINE))
    assert {"demo", "test", "check", "smoke"} <= shown
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in shown)
