"""A benchmark asked by ConfigSpace's configurations."""

from pathlib import Path

import numpy as np
import pytest

from automerge.benchmark import load
from automerge.benchmark.adapters.configspace import configspace, query
from tests.benchmark.handmade import handmade


def test_configurations_are_answered_as_their_genotypes(tmp_path: Path) -> None:
    spec = {"_target_": "automerge.spaces.dis.DepthIntegration", "methods": ["linear", "ties"]}
    benchmark = load(handmade(tmp_path / "dis", spec=spec, breaks=False))
    space = configspace(benchmark)
    space.seed(3)
    sampled = space.sample_configuration(20)
    answers = query(benchmark, sampled, n_items=30, seed=2)
    X = np.array([benchmark.space.genotype(dict(each)) for each in sampled])
    expected = benchmark.query(X, n_items=30, seed=2)
    assert (answers.values == expected.values).all()
    assert len(np.unique(answers.values, axis=0)) > 10
    assert (query(benchmark, sampled[4], n_items=30, seed=2).values[0] == expected.values[4]).all()
    with pytest.raises(ValueError, match="unknown split 'train', known are search, test"):
        query(benchmark, sampled, split="train")
