"""The meaning of SMM-PS genotypes; what every space must do is tested in conformance."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from automerge.protocols import Measures
from automerge.recipe import BASE, COMPONENTS, Fusion, Input, OutputLayer, Recipe, uniform
from automerge.spaces.smm_ps import SmmParameterSpace
from tests import toy


def space(**options: object) -> SmmParameterSpace:
    return SmmParameterSpace(**{"sources": ["a", "b"], "n_layers": 2, **options})  # type: ignore[arg-type]


def weights(fusion: Fusion) -> dict[str, float]:
    return {read.source: read.weight for read in fusion.inputs}


def test_the_benchmark_has_64_weights_layer_by_layer() -> None:
    genes = space(n_layers=32).genes
    assert len(genes) == 64
    assert [gene.name for gene in genes[:3]] == ["0.a", "0.b", "1.a"]
    assert all((gene.lower, gene.upper, gene.n_choices) == (0, 1, 0) for gene in genes)
    assert [(gene.depth, gene.role) for gene in genes[2:4]] == [(1, "weight:a"), (1, "weight:b")]


def test_the_order_of_sources_is_the_other_reading_of_the_same_models() -> None:
    by_source = space(order="source")
    assert [gene.name for gene in by_source.genes] == ["0.a", "1.a", "0.b", "1.b"]
    recipe = by_source.decode(np.array([0.1, 0.2, 0.3, 0.4]))
    assert recipe == space().decode(np.array([0.1, 0.3, 0.2, 0.4]))
    assert space().feature_names == by_source.feature_names
    assert (
        space().features(np.array([[0.1, 0.3, 0.2, 0.4]])) == by_source.features(np.array([[0.1, 0.2, 0.3, 0.4]]))
    ).all()


def test_a_layer_is_task_arithmetic_of_the_sources_that_have_a_weight() -> None:
    recipe = space(n_layers=5).decode(np.array([0.2, 0.7, 0.0, 0.4, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]))
    expected = [
        Fusion("task_arithmetic", (Input("a", 0, 0.2), Input("b", 0, 0.7))),
        Fusion("task_arithmetic", (Input("b", 1, 0.4),)),
        Fusion("passthrough", (Input(BASE, 2),)),
        Fusion("passthrough", (Input("b", 3),)),
        Fusion("task_arithmetic", (Input("a", 4, 1.0), Input("b", 4, 1.0))),
    ]
    layers = tuple(OutputLayer(tuple((component, fusion) for component in COMPONENTS)) for fusion in expected)
    outer = Fusion("task_arithmetic", (Input("a", None, 0.5), Input("b", None, 0.5)))
    assert recipe == Recipe(layers, outer)


def test_weights_are_clipped_to_the_unit_interval_and_rounded() -> None:
    X = space().repair(np.array([[-0.4, 1.7, 0.123456, -0.0]]))
    assert X.tobytes() == np.array([[0.0, 1.0, 0.1235, 0.0]]).tobytes()


def test_equal_genotypes_are_the_same_as_equal_models() -> None:
    """Brute force over a grid: models are compared by what each layer adds of every source."""
    small = space()
    grid = [np.array(x) for x in product((0.0, 0.3, 1.0), repeat=4)]
    recipes = {}
    for x in grid:
        recipe = small.decode(x)
        model = tuple(
            tuple(weights(layer.components[0][1]).get(name, 0.0) for name in ("a", "b")) for layer in recipe.layers
        )
        assert model == ((x[0], x[1]), (x[2], x[3]))
        recipes[recipe.id] = x
    assert len(recipes) == len(grid)


def test_the_outer_part_has_one_weight_for_all_sources() -> None:
    assert weights(space(sources=["a", "b", "c"]).decode(np.zeros(6)).outer) == {"a": 0.3333, "b": 0.3333, "c": 0.3333}
    assert weights(space(outer_weight=0.8).decode(np.zeros(4)).outer) == {"a": 0.8, "b": 0.8}
    assert space(outer_weight=0.0).decode(np.zeros(4)) == uniform(toy.fused("passthrough", (BASE, 1.0)), 2)


def test_references_are_genotypes_where_the_outer_part_is_theirs() -> None:
    def known(**options: object) -> dict[str, object]:
        found = space(strengths=[0.5, 0.9], **options).references()
        return {name: None if each.genotype is None else each.genotype.tolist() for name, each in found.items()}

    names = [BASE, "a", "b", "linear", "task_arithmetic 0.5", "task_arithmetic 0.9"]
    assert known() == {name: [0.5] * 4 if name == "task_arithmetic 0.5" else None for name in names}
    assert known(outer_weight=0.0) == {name: [0.0] * 4 if name == BASE else None for name in names}
    alone = known(sources=["a"])
    assert alone == {BASE: None, "a": [1.0, 1.0], "task_arithmetic 0.5": None, "task_arithmetic 0.9": None}


def test_samples_are_tied_unless_they_are_to_be_uniform() -> None:
    """Means over the layers of independent weights lie within a sixth of a half; those of tied ones are anywhere."""
    large = {"n_layers": 32}
    tied = space(**large).sample(600, np.random.default_rng(0)).reshape(600, 32, 2)
    plain = space(**large, uniform=True).sample(600, np.random.default_rng(0)).reshape(600, 32, 2)
    assert tied.mean(axis=1).std() > 0.15
    assert plain.mean(axis=1).std() == pytest.approx((1 / 12 / 32) ** 0.5, rel=0.1)
    assert (tied == tied[:, :1]).all(axis=(1, 2)).mean() == pytest.approx(1 / 3, abs=0.06)


def test_an_encoded_recipe_may_have_its_inputs_in_any_form() -> None:
    both = Fusion("task_arithmetic", (Input("b", 1, 0.40004), Input("a", 1, 0.0)))
    first = Fusion("task_arithmetic", (Input("a", 0, 1.0),))
    outer = Fusion("task_arithmetic", (Input("b", None, 0.5), Input("a", None, 0.5)))
    layers = (OutputLayer((("mlp", first),)), OutputLayer((("attention", both), ("mlp", both))))
    assert space().encode(Recipe(layers, outer)).tolist() == [1.0, 0.0, 0.0, 0.4]


def test_everything_that_cannot_be_encoded_is_listed_with_a_remedy() -> None:
    def part(method: str, *inputs: Input) -> Fusion:
        return Fusion(method, inputs)

    first = (
        ("attention", part("ties", Input("a", 0, 0.5), Input("stranger", 0))),
        ("mlp", part("task_arithmetic", Input("a", 0, 1.8), Input("b", 0, -0.5))),
        ("other", part("passthrough", Input("a", 1))),
    )
    second = (("attention", part("task_arithmetic", Input("a", 1, 1.2))), ("mlp", part("passthrough", Input(BASE, 1))))
    recipe = Recipe(
        (OutputLayer(first), OutputLayer(second, scale=0.5), OutputLayer(())),
        part("task_arithmetic", Input("a", None, 0.5)),
    )
    with pytest.raises(ValueError, match="the SMM parameter space cannot hold this recipe") as caught:
        space().encode(recipe)
    assert str(caught.value).splitlines()[1:] == [
        "  - it has another depth than the sources' 2 layers, which this space keeps (3 layers)",
        "  - it uses methods other than task_arithmetic: take space=lfs (0.attention: ties)",
        "  - it reads others than base, a, b: add them to source.models, by these names (0.attention: stranger)",
        "  - it has negative weights, which are not searched: choose weights from 0 (0.mlp: -0.5)",
        "  - it moves layers, but every layer is fused from those of its own depth (0.other: layer 1)",
        "  - it scales layers, which is not searched: set scale to 1 (layer 1)",
        "  - it has weights above 1, to which SMM-Bench clips: take space=lfs (1.attention: 1.2)",
        "  - it has layers whose components differ, which this space merges alike: take space=lfs "
        "(1.attention and 1.mlp)",
        "  - its part outside the layers is not task arithmetic with weights 0.5: set space.outer_weight, if the "
        "weights are equal, or take space=lfs (outer: 0.5 of a, 0 of b)",
    ]
    plain = space().decode(np.zeros(4))
    with pytest.raises(ValueError, match=r"take space=lfs \(outer: linear\)"):
        space().encode(replace(plain, outer=part("linear", Input("a", None), Input("b", None))))


def test_faulty_options_are_listed_together() -> None:
    with pytest.raises(ValueError, match="order must be one of layer, source, got 'depth'") as caught:
        space(order="depth", outer_weight=1.5, strengths=[0.0], n_layers=0)
    for fault in (
        "outer_weight must lie in [0, 1], got 1.5",
        "strengths: expected numbers above 0, got [0.0]",
        "n_layers: expected a whole number from 1, got 0",
    ):
        assert fault in str(caught.value)
    with pytest.raises(ValueError, match="needs a source besides the base"):
        space(sources=[])
    with pytest.raises(ValueError, match=r"unknown genes \['nonsense'\]; names look like \['0.a', '0.b', '1.a'\]"):
        space().genotype({"nonsense": 1.0})


def test_options_of_a_wrong_type_are_listed_together() -> None:
    with pytest.raises(ValueError, match="the SMM parameter space cannot be built") as caught:
        space(outer_weight="abc", order=["layer"], uniform="yes", strengths=0.3)
    assert str(caught.value).removeprefix("the SMM parameter space cannot be built: ").split("; ") == [
        "uniform: expected true or false, got 'yes'",
        "strengths: expected a list: write space.strengths=[0.3], got 0.3",
        "order must be one of layer, source, got ['layer']",
        "outer_weight: expected a number or null, got 'abc'",
    ]


def test_models_are_as_deep_as_the_sources() -> None:
    assert len(space(n_layers=7).decode(np.zeros(14)).layers) == space(n_layers=7).max_layers == 7


@pytest.mark.parametrize("order", ["layer", "source"])
def test_measured_weights_are_weighed_by_layer_and_source(order: str) -> None:
    by_layer = [(0.1, 0.3), (0.2, 0.2)]
    norms: dict[tuple[int | None, str], np.ndarray] = {
        (layer, component): np.array(by_layer[layer]) for layer in range(2) for component in COMPONENTS
    }
    ordered = space(order=order)
    x = ordered.genotype({"0.a": 0.4, "0.b": 0.4, "1.a": 0.6, "1.b": 1.0})
    measured = ordered.measured(Measures(norms, {}))
    assert measured.features(x[None])[0] == pytest.approx([0.2, 0.6, 0.6, 1.0])
