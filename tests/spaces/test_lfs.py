"""The meaning of LFS genotypes; what every space must do is tested in conformance."""

import numpy as np
import pytest

from automerge.recipe import BASE
from automerge.spaces.lfs import LayerwiseFusion

METHODS = ("linear", "slerp", "task_arithmetic", "ties", "dare_ties")


def space(**options: object) -> LayerwiseFusion:
    return LayerwiseFusion(sources=["a", "b", "c"], n_layers=2, components=["layer"], **options)  # type: ignore[arg-type]


def genotype(method: str, a: float, b: float, c: float, density: float = 0.3) -> np.ndarray:
    """Every slot alike, in canonical form."""
    values: dict[str, object] = {}
    for slot in ("0.layer", "1.layer", "outer"):
        values |= {f"{slot}.method": method, f"{slot}.a": a, f"{slot}.b": b, f"{slot}.c": c, f"{slot}.density": density}
    return space().genotype(values)


def test_there_is_one_weight_per_source_and_slot_and_a_density() -> None:
    assert len(space().genes) == 3 * (1 + 3 + 1)
    assert len(space(methods=["linear"]).genes) == 3 * (1 + 3)
    assert len(LayerwiseFusion(sources=["a", "b"], n_layers=8, granularity=3).genes) == (3 * 3 + 1) * (1 + 2 + 1)


def test_ratio_methods_ignore_the_scale_of_weights() -> None:
    assert (genotype("linear", 0.2, 0.4, 0.4) == genotype("linear", 0.5, 1.0, 1.0)).all()
    assert not (genotype("ties", 0.2, 0.4, 0.4) == genotype("ties", 0.5, 1.0, 1.0)).all()


def test_slerp_joins_the_two_heaviest_sources() -> None:
    fusion = space().decode(genotype("slerp", 0.2, 0.9, 0.6)).outer
    assert [(read.source, read.weight) for read in fusion.inputs] == [("b", 0.6), ("c", 0.4)]


@pytest.mark.parametrize("method", ["linear", "slerp", "task_arithmetic"])
def test_a_source_alone_is_one_model_whatever_the_method_says(method: str) -> None:
    assert (genotype(method, 0.0, 1.0, 0.0) == genotype("linear", 0.0, 0.7, 0.0)).all()


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "dare_ties"])
def test_no_task_vector_is_the_base_whatever_the_method_says(method: str) -> None:
    x = genotype(method, 0.0, 0.0, 0.0)
    assert space().decode(x).sources == (BASE,)
    assert (x == space().references()[BASE].genotype).all()


def test_density_acts_only_under_a_method_that_has_one() -> None:
    assert (genotype("linear", 0.5, 0.5, 0.0, 0.2) == genotype("linear", 0.5, 0.5, 0.0, 0.8)).all()
    assert space().decode(genotype("ties", 0.5, 0.5, 0.0, 0.2)).outer.parameters == (("density", 0.2),)


def test_granularity_ties_consecutive_layers() -> None:
    tied = LayerwiseFusion(sources=["a", "b"], n_layers=5, granularity=2)
    recipe = tied.decode(tied.sample(1, np.random.default_rng(3))[0])
    weights = [[tuple(read.weight for read in f.inputs) for _, f in layer.components] for layer in recipe.layers]
    assert weights[0] == weights[1]
    assert weights[2] == weights[3]


def test_references_are_the_sources_and_the_uniform_merges_of_every_method() -> None:
    names = list(space(strengths=[0.5, 1.0]).references())
    assert names[:4] == [BASE, "a", "b", "c"]
    assert names[4:] == [
        "linear",
        *(f"{m} {s}" for m in ("task_arithmetic", "ties", "dare_ties") for s in ("0.5", "1")),
    ]
    assert "slerp" in LayerwiseFusion(sources=["a", "b"], n_layers=2).references()


def test_features_are_effective_weights() -> None:
    names = space().feature_names
    row = dict(zip(names, space().features(genotype("ties", 0.2, 1.0, 0.0, 0.4)[None])[0], strict=True))
    assert (row["0.layer.a"], row["0.layer.b"], row["0.layer.c"]) == (0.2, 1.0, 0.0)
    assert (row["0.layer.density"], row["0.layer.ties"], row["0.layer.dare_ties"]) == (0.4, 1.0, 0.0)
    dense = dict(zip(names, space().features(genotype("linear", 1.0, 1.0, 0.0)[None])[0], strict=True))
    assert (dense["outer.a"], dense["outer.density"], dense["outer.ties"]) == (0.5, 1.0, 0.0)


def test_faulty_options_are_listed_together() -> None:
    with pytest.raises(ValueError, match="unknown method 'magic'") as caught:
        space(methods=["magic"], granularity=0)
    assert "granularity and n_layers must be >= 1" in str(caught.value)
    with pytest.raises(ValueError, match="unknown method 'passthrough'"):
        space(methods=["linear", "passthrough"])
    with pytest.raises(ValueError, match=r"strengths must lie in \(0, max_weight\]"):
        space(max_weight=1.0, strengths=[1.2])
    with pytest.raises(ValueError, match=r"components must be \['attention', 'mlp', 'other'\] or \['layer'\]"):
        LayerwiseFusion(sources=["a"], n_layers=2, components=["mlp"])
    with pytest.raises(ValueError, match=r"unknown genes \['nonsense'\]"):
        space().genotype({"nonsense": 1.0})
