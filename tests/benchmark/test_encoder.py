"""Spaces written and read back: the same space, without methods that merge."""

import json
from typing import Any

import numpy as np
import pytest

from automerge.benchmark.encoder import build_space, encoder_content
from automerge.components import build
from automerge.protocols import Space
from tests.benchmark.handmade import measures

LFS, DIS = "automerge.spaces.lfs.LayerwiseFusion", "automerge.spaces.dis.DepthIntegration"
SPECS: dict[str, dict[str, Any]] = {
    "lfs": {"_target_": LFS, "granularity": 2},
    "lfs of all kinds": {"_target_": LFS, "methods": ["della", "karcher", "model_stock", "nuslerp", "slerp"]},
    "dis": {"_target_": DIS, "granularity": 2},
    "dis without methods": {"_target_": DIS, "methods": [], "scaling": "branch_mlp"},
    "dis fused": {"_target_": DIS, "methods": ["linear", "ties", "dare_ties"], "max_blocks": 3},
    "smm_ps": {"_target_": "automerge.spaces.smm_ps.SmmParameterSpace", "order": "source"},
    "smm_dfs": {"_target_": "automerge.spaces.smm_dfs.SmmDataFlowSpace"},
}
LAYOUT = {"sources": ["left", "right"], "n_layers": 5}


def written(spec: dict[str, Any], layout: dict[str, Any] = LAYOUT, *, measured: bool = True) -> dict[str, Any]:
    space: Space = build(spec, **layout)
    content = encoder_content(space, spec, layout, measures(layout) if measured else None)
    return json.loads(json.dumps(content))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", SPECS)
def test_a_space_is_read_back_as_it_was(name: str) -> None:
    own: Space = build(SPECS[name], **LAYOUT).measured(measures(LAYOUT))
    read = build_space(written(SPECS[name]))
    X = own.sample(30, np.random.default_rng(3))
    rough = X + np.random.default_rng(4).normal(0, 0.2, X.shape)
    assert (read.genes, read.methods, read.max_layers) == (own.genes, own.methods, own.max_layers)
    assert (read.sample(30, np.random.default_rng(3)) == X).all()
    assert (read.repair(rough) == own.repair(rough)).all()
    assert (read.features(X) == own.features(X)).all()
    assert (read.active(X) == own.active(X)).all()
    assert [read.decode(x) for x in X] == [own.decode(x) for x in X]
    assert (read.encode(own.decode(X[0])) == own.encode(own.decode(X[0]))).all()
    assert {key: list(value) for key, value in read.costs(X).items()} == {
        key: list(value) for key, value in own.costs(X).items()
    }
    assert [*read.references()] == [*own.references()]
    assert read.to_configspace() == own.to_configspace()


def test_methods_that_one_source_leaves_out_stay_out() -> None:
    layout = {"sources": ["only"], "n_layers": 3}
    own: Space = build(SPECS["lfs"], **layout)
    assert (
        build_space(written(SPECS["lfs"], layout)).methods
        == own.methods
        == ("linear", "task_arithmetic", "ties", "dare_ties")
    )


def test_a_space_that_was_not_measured_is_read_back_too() -> None:
    read = build_space(written(SPECS["lfs"], measured=False))
    assert set(read.costs(read.sample(1, np.random.default_rng(0)))) == {"layers"}


def test_methods_that_are_read_back_cannot_merge() -> None:
    read: Any = build_space(written(SPECS["lfs"]))
    with pytest.raises(RuntimeError, match="answers without merging"):
        read._part.known["linear"].coefficients([1.0], None)


def test_other_features_are_refused_by_the_versions() -> None:
    content = written(SPECS["lfs"]) | {"automerge": "0.0.7"}
    golden = content["golden"]
    changed: list[dict[str, Any]] = [
        {"features": content["features"][::-1]},
        *({"golden": {**golden, key: (np.array(golden[key]) + 1e-6).tolist()}} for key in ("features", "genotypes")),
    ]
    for changes in changed:
        with pytest.raises(ValueError, match=r"other features than automerge 0\.0\.7, .* or export the runs again"):
            build_space({**content, **changes})


def test_content_that_gives_no_space_is_refused() -> None:
    content = written(SPECS["lfs"])
    changed: list[dict[str, Any]] = [
        {"options": {"grain": 2}},
        {"target": "os.system"},
        {"golden": {}},
        {"measures": {"norms": []}},
        {"methods": [{"name": "linear"}]},
    ]
    for changes in changed:
        with pytest.raises(ValueError, match=r"the encoder gives no space .* or export the runs again"):
            build_space({**content, **changes})
    del content["sources"]
    with pytest.raises(ValueError, match="KeyError: 'sources'"):
        build_space(content)
