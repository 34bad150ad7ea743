"""The benchmarks of the zoo that come with the repository: whole, small, and answering."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from automerge.benchmark import load
from experiments.smm_bench.problems import PROBLEMS

SHIPPED = Path("experiments/smm_bench/benchmarks")
MOST_BYTES = 5_000_000


def test_every_problem_has_one() -> None:
    assert {folder.name for folder in SHIPPED.iterdir()} == set(PROBLEMS)


@pytest.mark.parametrize("name", PROBLEMS)
def test_it_is_small_whole_and_validated_and_answers(name: str) -> None:
    folder = SHIPPED / name
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= MOST_BYTES
    b = load(folder, verify=True)
    X = b.space.sample(50, np.random.default_rng(0))
    for split in ("search", "test"):
        answers = b.query(X, n_items=20, split=split)
        assert answers.values.shape == (50, 2)
        assert np.isfinite(answers.values[~answers.broken]).all()
    sources = {each.name: each.measured for each in b.reference_configs if each.kind == "source"}
    assert {"base", "sort", "reverse"} <= set(sources)
    card = (folder / "CARD.md").read_text()
    assert "## Validation" in card
    assert "Searches: real against simulated" in card
