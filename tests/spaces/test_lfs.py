"""The meaning of LFS genotypes; what every space must do is tested in conformance."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from automerge import methods
from automerge.model import ResidentModel
from automerge.protocols import Measures
from automerge.recipe import BASE, COMPONENTS, Fusion, Input, OutputLayer, Recipe, uniform
from automerge.spaces.lfs import LayerwiseFusion
from tests import toy

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


def any_fusion(layer: int | None, rng: np.random.Generator) -> Fusion:
    """A fusion that a user might write: no canonical form, weights with three decimals, inputs in any order."""
    if rng.random() < 0.15:
        return Fusion("passthrough", (Input(str(rng.choice([BASE, "left", "right"])), layer, 0.3),))
    method = str(rng.choice([name for name in methods.names() if name != "passthrough"]))
    weights = rng.uniform(0.05, 1.4, size=2).round(3)
    inputs = [Input("left", layer, float(weights[0])), Input("right", layer, float(weights[1]))]
    order = rng.permutation(2)
    numbers = {"density": rng.uniform(0.2, 1), "epsilon": rng.uniform(0, 0.3), "gamma": rng.uniform(0, 0.1)}
    taken = [parameter.name for parameter in methods.load(method).parameters if rng.random() < 0.8]
    return Fusion(
        method, tuple(inputs[k] for k in order), tuple((name, float(np.round(numbers[name], 3))) for name in taken)
    )


@pytest.mark.parametrize("seed", range(4))
def test_an_encoded_recipe_decodes_to_the_same_weights(resident: ResidentModel, seed: int) -> None:
    """The merged tensors are the reference; bfloat16 has 8 bits, so shares rounded to 4 decimals move one step."""
    rng = np.random.default_rng(seed)
    layers = tuple(
        OutputLayer(tuple((component, any_fusion(depth, rng)) for component in COMPONENTS))
        for depth in range(toy.N_LAYERS)
    )
    recipe = Recipe(layers, any_fusion(None, rng))
    whole = LayerwiseFusion(
        sources=["left", "right"],
        n_layers=toy.N_LAYERS,
        methods=[name for name in methods.names() if name != "passthrough"],
    )
    x = whole.encode(recipe)
    assert (whole.repair(x[None])[0] == x).all()
    expected = dict(resident.sources.tensors(recipe))
    for name, tensor in resident.sources.tensors(whole.decode(x)):
        assert (tensor.float() - expected[name].float()).abs().max() <= 2**-7 * expected[name].float().abs().max(), name


def test_encoding_rounds_numbers_and_gives_ratios_one_form() -> None:
    x = space().encode(uniform(toy.fused("ties", ("b", 0.123456), ("a", 1.0), density=0.33333), 2))
    fusion = space().decode(x).outer
    assert fusion.inputs == (Input("a", None, 1.0), Input("b", None, 0.1235))
    assert fusion.parameters == (("density", 0.3333),)
    x = space().encode(uniform(toy.fused("linear", ("a", 30.0), ("c", 10.0)), 2))
    assert space().decode(x).outer.inputs == (Input("a", None, 0.75), Input("c", None, 0.25))


def test_options_that_do_nothing_are_no_hindrance() -> None:
    plain = uniform(toy.fused("dare_ties", ("a", 0.5), ("b", 0.5), density=0.4), 2)
    told = uniform(toy.fused("dare_ties", ("a", 0.5), ("b", 0.5), density=0.4, normalize=0.0, rescale=1.0), 2)
    assert (space().encode(plain) == space().encode(told)).all()


def test_everything_that_cannot_be_encoded_is_listed_with_a_remedy() -> None:
    apart = LayerwiseFusion(sources=["a", "b", "c"], n_layers=2)

    def part(method: str, *inputs: Input, **parameters: float) -> Fusion:
        return Fusion(method, inputs, tuple(parameters.items()))

    first = (
        ("attention", part("della", Input("a", 0, 0.5))),
        ("mlp", part("ties", Input("a", 0, 1.8), Input("b", 0, -0.5), density=0.05, normalize=1.0)),
        ("other", part("slerp", Input("a", 0), Input("b", 0), Input("c", 0))),
    )
    second = (
        ("attention", part("linear", Input("a", 0), Input("stranger", 1))),
        ("mlp", part("linear", Input("a", 1), Input(BASE, 1))),
        ("other", part("dare_ties", Input("a", 1), Input("a", 1), rescale=0.0)),
        ("head", part("slerp", Input("a", 1))),
    )
    recipe = Recipe((OutputLayer(first), OutputLayer(second, scale=0.5)), part("linear", Input("a", None, 0.0)))
    with pytest.raises(ValueError, match="the LFS space cannot hold this recipe") as caught:
        apart.encode(recipe)
    lines = str(caught.value).splitlines()[1:]
    assert lines == [
        "  - it scales the residual stream, which is not searched: set scale to 1 (layer 1)",
        "  - it uses methods that the space lacks: add them to space.methods (0.attention: della)",
        "  - it has weights above 1.5: raise space.max_weight (0.mlp: 1.8)",
        "  - it has negative weights, which are not searched: choose weights from 0 (0.mlp: -0.5)",
        "  - it has a density outside [0.1, 1]: choose one inside (0.mlp: 0.05)",
        "  - it sets normalize, which is not searched: set normalize: false (0.mlp: 1)",
        "  - its method takes fewer inputs: leave some out (0.other: slerp of a, b, c)",
        "  - it moves layers, but every layer is fused from those of its own depth (1.attention: layer 0)",
        "  - it reads others than base, a, b, c: add them to source.models, by these names (1.attention: stranger)",
        "  - it fuses the base like a source: where the method is linear, write task_arithmetic with the shares of the "
        "others as weights (1.mlp: linear)",
        "  - it reads a source twice in one fusion: add the weights up (1.other: a, a)",
        "  - it sets rescale, which is not searched: set rescale: true (1.other: 0)",
        "  - it has components other than attention, mlp, other: name them so (1.head)",
        "  - its weights add up to 0: give one of them a value (outer: linear)",
    ]


def test_parts_that_share_genes_must_agree() -> None:
    tied = LayerwiseFusion(sources=["a", "b", "c"], n_layers=4, granularity=2, components=["layer"])
    recipe = uniform(toy.fused("linear", ("a", 0.5), ("b", 0.5)), 4)
    assert tied.decode(tied.encode(recipe)) == recipe
    layer = recipe.layers[3]
    other = OutputLayer((*layer.components[:2], ("other", Fusion("passthrough", (Input("c", 3),)))))
    with pytest.raises(
        ValueError,
        match=r"set space\.granularity: 1 and space\.components: .*\] \(2\.attention and 3\.other\)",
    ):
        tied.encode(replace(recipe, layers=(*recipe.layers[:3], other)))
    with pytest.raises(ValueError, match=r"the sources' 4 layers, which this space keeps \(3 layers\)"):
        tied.encode(replace(recipe, layers=recipe.layers[:3]))


@pytest.mark.parametrize("method", ["slerp", "sce", "model_stock", "nuslerp"])
def test_what_joins_several_inputs_is_not_encoded_of_one(method: str) -> None:
    joining = space(methods=["slerp", "sce", "model_stock", "nuslerp", "task_arithmetic"])
    with pytest.raises(ValueError, match=f"use passthrough for one .*{method} of a"):
        joining.encode(uniform(toy.fused(method, ("a", 1.0)), 2))


def test_the_base_needs_a_method_that_starts_from_it() -> None:
    with pytest.raises(ValueError, match=r"add task_arithmetic to space\.methods"):
        space(methods=["linear"]).encode(uniform(toy.fused("passthrough", (BASE, 1.0)), 2))


def test_a_component_that_a_recipe_leaves_out_has_the_defaults() -> None:
    """Layers of hybrid architectures lack an attention, say; nothing is read for it then."""
    apart = LayerwiseFusion(sources=["a", "b"], n_layers=1)
    recipe = uniform(toy.fused("ties", ("a", 0.4), ("b", 0.2), density=0.5), 1)
    partial = replace(recipe, layers=(OutputLayer(recipe.layers[0].components[1:]),))
    decoded = apart.decode(apart.encode(partial))
    assert decoded.layers[0].components[1:] == recipe.layers[0].components[1:]
    assert decoded.layers[0].components[0][1].method == "linear"


def test_faulty_options_are_listed_together() -> None:
    with pytest.raises(ValueError, match="unknown method 'magic'") as caught:
        space(methods=["magic"], granularity=0)
    assert "granularity: expected a whole number from 1, got 0" in str(caught.value)
    with pytest.raises(ValueError, match="unknown method 'passthrough'"):
        space(methods=["linear", "passthrough"])
    with pytest.raises(ValueError, match=r"strengths must lie in \(0, max_weight\]"):
        space(max_weight=1.0, strengths=[1.2])
    with pytest.raises(ValueError, match=r"components must be \['attention', 'mlp', 'other'\] or \['layer'\]"):
        LayerwiseFusion(sources=["a"], n_layers=2, components=["mlp"])
    with pytest.raises(ValueError, match=r"components must be .* got \['attention', 'mlp', 'mlp', 'other'\]"):
        LayerwiseFusion(sources=["a"], n_layers=2, components=["attention", "mlp", "mlp", "other"])
    with pytest.raises(ValueError, match=r"unknown genes \['nonsense'\]"):
        space().genotype({"nonsense": 1.0})


def test_options_of_a_wrong_type_are_listed_together() -> None:
    wrong: dict[str, Any] = {"methods": "linear", "granularity": "abc", "components": "layer", "max_weight": None}
    wrong["strengths"] = None
    with pytest.raises(ValueError, match="the LFS space cannot be built") as caught:
        LayerwiseFusion(sources=["a", "b"], n_layers=4, **wrong)
    assert str(caught.value).removeprefix("the LFS space cannot be built: ").split("; ") == [
        "methods: expected a list: write space.methods=[linear], got 'linear'",
        "max_weight: expected a number, got None",
        "strengths: expected a list: write space.strengths=[0.5], got None",
        "granularity: expected a whole number from 1, got 'abc'",
        "components: expected a list: write space.components=[layer], got 'layer'",
    ]
    with pytest.raises(ValueError, match="granularity: expected a whole number from 1, got 2"):
        LayerwiseFusion(sources=["a", "b"], n_layers=4, granularity=2.0)  # type: ignore[arg-type]


def test_models_are_as_deep_as_the_sources() -> None:
    tied = LayerwiseFusion(sources=["a", "b"], n_layers=5, granularity=2)
    depths = {len(tied.decode(x).layers) for x in tied.sample(20, np.random.default_rng(0))}
    assert depths == {tied.max_layers} == {5}


def test_methods_that_join_several_sources_are_refused_for_one() -> None:
    with pytest.raises(ValueError, match="sce, slerp join several sources, but there is only a; add linear"):
        LayerwiseFusion(sources=["a"], n_layers=2, methods=["sce", "slerp"])


def test_measured_weights_are_weighed_by_mean_norms_over_the_mean_of_all() -> None:
    """Worked out on paper: the mean of the 14 norms that are known is 0.2; factors stay within 0.3 and 3."""
    norms: dict[tuple[int | None, str], np.ndarray] = {
        (0, "attention"): np.array([0.1, 0.2, 0.3]),
        (0, "mlp"): np.array([0.3, 0.2, 0.1]),
        (1, "attention"): np.array([0.1, 0.3, 0.2]),
        (1, "mlp"): np.array([np.nan, 0.1, 0.2]),
        (None, "outer"): np.array([0.02, 0.62, 0.06]),
    }
    x = genotype("ties", 0.5, 0.5, 0.5)
    measured = space().measured(Measures(norms, {}))
    found = dict(zip(measured.feature_names, measured.features(x[None])[0].tolist(), strict=True))
    factors = {"0.layer": (1, 1, 1), "1.layer": (0.5, 1, 1), "outer": (0.3, 3, 0.3)}
    for slot, expected in factors.items():
        assert [found[f"{slot}.{source}"] for source in "abc"] == pytest.approx([0.5 * factor for factor in expected])
        assert found[f"{slot}.density"] == 0.3


def test_nothing_is_weighed_where_no_norm_is_known() -> None:
    x = genotype("ties", 0.5, 0.7, 0.5)[None]
    zero = {(0, "mlp"): np.zeros(3), (None, "outer"): np.full(3, np.nan)}
    for norms in ({}, zero):
        assert (space().measured(Measures(norms, {})).features(x) == space().features(x)).all()


def test_components_that_are_merged_apart_have_their_own_factors() -> None:
    apart = LayerwiseFusion(sources=["a"], n_layers=4, methods=["task_arithmetic"], granularity=3)
    shares = {"attention": 1.0, "mlp": 2.0, "other": 3.0}
    norms: dict[tuple[int | None, str], np.ndarray] = {
        (layer, component): np.array([share + (layer == 2) * 3])
        for layer in range(4)
        for component, share in shares.items()
    }
    x = np.array([gene.default for gene in apart.genes])[None]
    found = apart.measured(Measures(norms, {})).features(x)[0] / apart.features(x)[0]
    assert found == pytest.approx(np.array([2, 3, 4, 1, 2, 3, 2.75]) / 2.75)  # the last has no norm
