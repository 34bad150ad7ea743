"""Reading a benchmark needs numpy and lightgbm only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmark.handmade import LAYERWISE, handmade

CODE = """
import sys

BLOCKED = {blocked!r}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocker())

import numpy as np
from automerge.benchmark import load
from automerge.benchmark.adapters.smm_bench import SmmParameterFunction

benchmark = load({folder!r}, verify=True)
answers = benchmark.query(benchmark.space.sample(5, np.random.default_rng(0)), n_items=10)
assert answers.values.shape == (5, 3)
assert answers.distance.shape == answers.spread["math"].shape == (5,)
assert benchmark.query(benchmark.reference_configs[1].config).seconds > 0
assert [*benchmark.space.references()][:2] == ["base", "left"]
try:
    benchmark.table()
except ImportError as fault:
    assert "pip install pandas pyarrow" in str(fault)
else:
    raise AssertionError("the table needs pandas")
print(sorted(BLOCKED & {{name.split(".")[0] for name in sys.modules}}))
"""

BLOCKED = {
    *("torch", "botorch", "gpytorch", "pymoo", "moocore", "ConfigSpace", "smac", "optuna", "transformers", "datasets"),
    *("pandas", "pyarrow", "sklearn", "matplotlib", "plotly", "hydra", "omegaconf", "rich", "yaml", "safetensors"),
}


@pytest.mark.parametrize(
    "spec",
    [
        LAYERWISE,
        {"_target_": "automerge.spaces.lfs.LayerwiseFusion"},
        {"_target_": "automerge.spaces.dis.DepthIntegration", "methods": ["linear", "ties"]},
    ],
    ids=["lfs", "lfs with torch's methods", "dis"],
)
def test_a_benchmark_is_loaded_and_asked_without_any_other_package(tmp_path: Path, spec: dict[str, object]) -> None:
    folder = handmade(tmp_path / "benchmark", spec=spec)
    code = CODE.format(blocked=BLOCKED, folder=str(folder))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == ("", "[]\n")
