"""Configurations of every space, named and numbered."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from automerge.benchmark.configs import ConfigReader
from automerge.components import build
from automerge.protocols import Space
from tests.benchmark.handmade import LAYERWISE, LAYOUT, choices

SPACES: dict[str, Mapping[str, Any]] = {
    "lfs": LAYERWISE,
    "dis": {"_target_": "automerge.spaces.dis.DepthIntegration", "methods": ["linear", "ties"]},
    "smm_ps": {"_target_": "automerge.spaces.smm_ps.SmmParameterSpace"},
    "smm_dfs": {"_target_": "automerge.spaces.smm_dfs.SmmDataFlowSpace"},
}


@pytest.mark.parametrize("name", SPACES)
def test_named_configurations_are_the_genotypes_that_they_were(name: str) -> None:
    space: Space = build(SPACES[name], **LAYOUT)
    reader = ConfigReader(space, choices(space))
    X = space.sample(20, np.random.default_rng(0))
    named = [reader.named(x) for x in X]
    assert (reader.genotypes(named) == X).all()
    assert (reader.genotypes(X) == X).all()
    assert [*named[0]] == [gene.name for gene in space.genes]


def test_genotypes_are_made_canonical_but_within_bounds_only_by_rounding() -> None:
    space: Space = build(SPACES["smm_ps"], **LAYOUT)
    reader = ConfigReader(space, {})
    x = np.full(8, 0.123456)
    assert (reader.genotypes(x) == [[0.1235] * 8]).all()
    assert (reader.genotypes(x * 0 + 1 + 1e-12) == 1).all()
    with pytest.raises(ValueError, match=r"0.left: expected a number in \[0, 1\], got 1.00"):
        reader.genotypes(x * 0 + 1 + 1e-6)
    assert (reader.genotypes(np.zeros(8, dtype=np.int64)) == 0).all()
    assert reader.genotypes(np.zeros((0, 8))).shape == (0, 8)


def test_codes_need_names() -> None:
    space: Space = build(SPACES["smm_dfs"], **LAYOUT)
    with pytest.raises(ValueError, match=r"expected a name for every choice of 0\.layers, 1\.layers, 2\.layers"):
        ConfigReader(space, {"0.layers": ["left"]})
