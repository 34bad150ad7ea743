"""Imports point down one order of layers, and members of a folder never import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import automerge

ROOT = Path(automerge.__file__).parent

LAYERS = [
    {"recipe", "records", "tensors", "weight_files"},
    {"protocols"},
    {
        "alignment",
        "folders",
        "lora",
        "subsets",
        "pareto",
        "botorch_kernels",
        "threads",
        "log",
        "variation",
        "depth_variation",
        "tying",
        "tied_samples",
        "items",
        "options",
        "components",
        "scaling",
        "stacking",
    },
    {"fidelity", "history", "vocabulary", "encoding"},
    {"ledger", "mating"},
    {"landscape"},
    {"acquisition"},
    {"unit_box", "foreign"},
    {"generational", "optuna_study"},
    {"pymoo_algorithm"},
    {
        "sources",
        "methods",
        "spaces",
        "tasks",
        "optimizers",
        "runners",
        "method_codes",
        "fusion_genes",
        "blocks",
        "references",
        "uniform_points",
    },
    {"configurations", "resident", "binding", "language_model", "mergekit"},
    {"family", "merge", "body", "stack"},
    {"model", "task_vectors", "measures"},
    {"export", "evaluate", "start"},
    {"search", "report"},
    {"check", "zoo"},
    {"parts"},
    {"benchmark"},
    {"run", "progress", "terminal", "composition", "relocation"},
    {"benchmark_cli"},
    {"cli"},
]
FAMILIES = {"sources", "methods", "spaces", "tasks", "optimizers", "runners"}
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """The automerge modules that a file imports, as paths below the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "automerge":
            below = tuple(node.module.split(".")[1:])
            yield from [below] if below else [(alias.name,) for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (tuple(a.name.split(".")[1:]) for a in node.names if a.name.startswith("automerge."))


FILES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


def test_there_are_files_and_each_has_a_layer() -> None:
    assert len(FILES) > 30
    assert {path.relative_to(ROOT).with_suffix("").parts[0] for path in FILES} == set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    own = path.relative_to(ROOT).with_suffix("").parts
    for target in imports(path):
        if target[0] == own[0]:
            if own[0] in FAMILIES:
                assert own[-1] == "__init__", f"{'.'.join(own)} imports its neighbour {'.'.join(target)}"
            continue
        assert LEVEL[target[0]] <= LEVEL[own[0]], f"{'.'.join(own)} imports {'.'.join(target)} from a higher layer"


@pytest.mark.parametrize(
    "package", ["torch", "transformers", "botorch", "lightgbm", "plotly", "matplotlib", "datasets"]
)
def test_importing_automerge_loads_no_heavy_package(package: str) -> None:
    import subprocess
    import sys

    code = f"import automerge, automerge.cli, sys; assert {package!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
