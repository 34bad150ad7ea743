"""The meaning of SMM-DFS genotypes; what every space must do is tested in conformance."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from automerge.protocols import Measures
from automerge.recipe import BASE, COMPONENTS, Fusion, Input, OutputLayer, Recipe, uniform
from automerge.scaling import MAX_GAIN, gains
from automerge.spaces.smm_dfs import LOWER, UPPER, SmmDataFlowSpace
from tests import toy

MEAN = Fusion("linear", (Input("a", None, 0.5), Input("b", None, 0.5)))


def space(n_layers: int = 2, **options: object) -> SmmDataFlowSpace:
    return SmmDataFlowSpace(**{"sources": ["a", "b"], "n_layers": n_layers, **options})  # type: ignore[arg-type]


def layer(source: str, depth: int, scale: float = 1.0) -> OutputLayer:
    fusion = Fusion("passthrough", (Input(source, depth),))
    return OutputLayer(tuple((component, fusion) for component in COMPONENTS), scale)


def stack(recipe: Recipe) -> list[tuple[str, int | None, float]]:
    """(source, layer, scale after it) of every layer; the last has no scale."""
    reads = [each.components[0][1].inputs[0] for each in recipe.layers]
    scales = [*(each.scale for each in recipe.layers[:-1]), 1.0]
    return [(read.source, read.layer, scale) for read, scale in zip(reads, scales, strict=True)]


def test_the_benchmark_has_32_choices_and_then_63_scales() -> None:
    genes = space(32).genes
    assert len(genes) == 95
    assert [gene.n_choices for gene in genes] == [3] * 32 + [0] * 63
    assert {(gene.lower, gene.upper, gene.default) for gene in genes[32:]} == {(0.4, 1.5, 1.0)}
    assert [gene.name for gene in genes[31:35]] == ["31.layers", "0.a.scale", "0.b.scale", "1.a.scale"]
    assert genes[-1].name == "31.a.scale"
    assert [gene.depth for gene in genes] == [*range(32), *np.repeat(range(32), 2)[:-1]]


def test_a_genotype_is_a_stack_by_turns_with_scales_between_its_layers() -> None:
    x = np.array([2, 0, 1, 0.5, 0.6, 0.7, 0.8, 0.9])
    recipe = space(3).decode(space(3).repair(x)[0])
    # Absent are layer 1 of b, whose scale is 0.8, and layer 2 of a, whose scale is 0.9.
    assert recipe == Recipe((layer("a", 0, 0.5), layer("b", 0, 0.6), layer("a", 1, 0.7), layer("b", 2)), MEAN)
    assert space(3).repair(x)[0].tolist() == [2, 0, 1, 0.5, 0.6, 0.7, 1, 1]


def test_the_scale_after_the_last_layer_does_nothing() -> None:
    scales = [0.5, 0.6, 0.7]
    assert space().repair(np.array([2, 0, *scales]))[0].tolist() == [2, 0, 0.5, 0.6, 1.0]
    assert space().repair(np.array([2, 1, *scales]))[0].tolist() == [2, 1, 0.5, 0.6, 1.0]
    assert space().repair(np.array([2, 2, *scales]))[0].tolist() == [2, 2, *scales]
    assert space(1).repair(np.array([[0, 0.5], [1, 0.5], [2, 0.5]]))[:, 1].tolist() == [1.0, 1.0, 0.5]


@pytest.mark.parametrize("outer", ["mean", "a"])
def test_equal_canonical_genotypes_are_the_same_as_equal_models(outer: str) -> None:
    """Brute force: all choices of two layers with three scales each, models written down by the longest stack."""
    small = space(outer=outer)
    found: dict[tuple[object, ...], set[tuple[bytes, str]]] = {}
    for c0, c1, *scales in product((0, 1, 2), (0, 1, 2), *[(0.4, 1.0, 1.5)] * 3):
        longest = [("a", 0, c0 != 1), ("b", 0, c0 != 0), ("a", 1, c1 != 1), ("b", 1, c1 != 0)]
        kept = [(name, depth, x) for (name, depth, there), x in zip(longest, [*scales, 1.0], strict=True) if there]
        model = (*kept[:-1], kept[-1][:2])
        canonical = small.repair(np.array([c0, c1, *scales]))[0]
        recipe = small.decode(canonical)
        assert stack(recipe) == [*kept[:-1], (*kept[-1][:2], 1.0)]
        found.setdefault(model, set()).add((canonical.tobytes(), recipe.id))
    assert len(found) == 4 * 3 + 2 * 2 * 9 + 27
    assert all(len(each) == 1 for each in found.values())
    genotypes, recipes = zip(*(each for (each,) in found.values()), strict=True)
    assert len(set(genotypes)) == len(set(recipes)) == len(found)


def test_numbers_are_clipped_and_rounded() -> None:
    x = space().repair(np.array([-1.0, 5.0, 0.1, 9.0, 0.512345]))[0]
    assert x.tobytes() == np.array([0.0, 2.0, 0.4, 1.0, 0.5123]).tobytes()


@pytest.mark.parametrize("extreme", [LOWER, UPPER])
def test_a_product_of_scales_stops_at_its_bound(extreme: float) -> None:
    x = space(32).repair(np.r_[np.full(32, 2.0), np.full(63, extreme)])[0]
    products = np.cumprod(x[32:])
    n_free = int(np.log(MAX_GAIN) // abs(np.log(extreme)))
    assert (x[32 : 32 + n_free] == extreme).all()
    assert (x[32 + n_free + 1 :] == 1).all()
    reached = 1 / products[-1] if extreme < 1 else products[-1]
    assert 0.999 * MAX_GAIN < reached <= MAX_GAIN
    assert len(gains(space(32).decode(x))) == 64


def test_every_model_has_gains_within_the_bounds_of_exports() -> None:
    """`gains` refuses products outside them."""
    rng = np.random.default_rng(0)
    large = space(32)
    for low, high in ((LOWER, UPPER), (LOWER, 0.8), (1.1, UPPER), (LOWER, LOWER), (UPPER, UPPER)):
        X = large.repair(np.c_[rng.integers(3, size=(50, 32)), rng.uniform(low, high, size=(50, 63))])
        assert (large.repair(X) == X).all()
        for x in X:
            assert all(1 / MAX_GAIN <= gain.mlp <= MAX_GAIN for gain in gains(large.decode(x)))


def test_the_outer_part_is_the_mean_or_that_of_a_source() -> None:
    x = np.array([0, 0, 1.0, 1.0, 1.0])
    assert space().decode(x).outer == MEAN
    assert space(outer="a").decode(x) == uniform(toy.fused("passthrough", ("a", 1.0)), 2)


def test_references_are_genotypes_only_for_the_source_of_the_outer_part() -> None:
    names = [BASE, "a", "b", "linear", "task_arithmetic 0.5"]
    for outer, held in (("mean", None), ("a", [0, 0, 1, 1, 1]), ("b", [1, 1, 1, 1, 1])):
        found = space(outer=outer, strengths=[0.5]).references()
        assert list(found) == names
        genotypes = {name: each.genotype.tolist() for name, each in found.items() if each.genotype is not None}
        assert genotypes == ({outer: held} if held else {})


def test_features_are_presence_gain_depth_and_switches() -> None:
    x = np.array([2, 0, 1, 0.5, 0.6, 0.7, 1.0, 1.0])
    row = dict(zip(space(3).feature_names, space(3).features(x[None])[0], strict=True))
    assert {name: row[name] for name in row if name.endswith("present")} == {
        "0.a.present": 1, "0.b.present": 1, "1.a.present": 1, "1.b.present": 0, "2.a.present": 0, "2.b.present": 1
    }  # fmt: skip
    assert row["1.b.gain"] == row["2.a.gain"] == 0
    by_scaling = [0.5 + np.log(gain.mlp) / (2 * np.log(MAX_GAIN)) for gain in gains(space(3).decode(x))]
    assert [row[f"{place}.gain"] for place in ("0.a", "0.b", "1.a", "2.b")] == pytest.approx(by_scaling)
    assert row["depth"] == pytest.approx(4 / 6)
    assert row["switches"] == 1.0
    alone = space(1).features(np.array([[0, 1.0]]))
    assert alone[0].tolist() == [1, 0.5, 0, 0, 0.5, 0]


def test_samples_are_tied_unless_they_are_to_be_uniform() -> None:
    tied = space(32).sample(600, np.random.default_rng(0))
    plain = space(32, uniform=True).sample(600, np.random.default_rng(0))
    shares = np.array([np.bincount(row.astype(int)).max() / 32 for row in tied[:, :32]])
    # With one interval, 0 to 4 edits, all of which choose what is there.
    assert (shares == 1).mean() == pytest.approx(sum(3.0**-n for n in range(5)) / 5 / 3, abs=0.04)
    assert (shares > 0.75).mean() == pytest.approx(1 / 3, abs=0.08)
    changes = (np.diff(tied[:, :32], axis=1) != 0).sum(axis=1)
    assert (changes > 12).mean() == pytest.approx(1 / 3, abs=0.08)
    assert (tied[:, 32:] == 1).all(axis=1).mean() == pytest.approx(1 / 4, abs=0.06)
    counts = np.array([(plain[:, :32] == code).mean() for code in range(3)])
    assert counts == pytest.approx(1 / 3, abs=0.02)
    # Of the first layer of a, whose scale no product bounds.
    first = plain[plain[:, 0] != 1, 32]
    assert first.mean() == pytest.approx((LOWER + UPPER) / 2, abs=0.05)
    assert first.std() == pytest.approx((UPPER - LOWER) / 12**0.5, rel=0.1)


def test_a_configuration_names_the_sources() -> None:
    x = space(1).genotype({"0.layers": "a+b", "0.a.scale": 0.7})
    assert x.tolist() == [2, 0.7]
    assert space(1).genotype({"0.layers": "b"}).tolist() == [1, 1.0]
    with pytest.raises(ValueError, match=r"unknown genes \['nonsense'\]; names look like \['0.layers', '0.a.scale'\]"):
        space(1).genotype({"nonsense": 1.0})


def test_the_scale_of_a_last_layer_is_no_hindrance() -> None:
    recipe = Recipe((layer("a", 0, 0.50004), layer("a", 1, 77.0)), MEAN)
    assert space().encode(recipe).tolist() == [0, 0, 0.5, 1.0, 1.0]


def refused(recipe: Recipe, **options: object) -> list[str]:
    with pytest.raises(ValueError, match="the SMM data-flow space cannot hold this recipe") as caught:
        space(**options).encode(recipe)  # type: ignore[arg-type]
    return str(caught.value).splitlines()[1:]


def test_everything_that_cannot_be_encoded_is_listed_with_a_remedy() -> None:
    mixed = replace(layer("a", 1), components=(layer("a", 1).components[0], layer("b", 1).components[1]))
    fused = OutputLayer((("attention", Fusion("linear", (Input("a", 0), Input("b", 0)))),))
    recipe = Recipe(
        (layer("stranger", 0), mixed, fused, layer(BASE, 1, 0.3), layer("b", 2), OutputLayer(())),
        Fusion("task_arithmetic", (Input("a", None, 0.5),)),
    )
    assert refused(recipe) == [
        "  - it reads others than base, a, b: add them to source.models, by these names (layer 0: stranger)",
        "  - it has layers whose components differ: take all of a layer from one source (layer 1, layer 5)",
        "  - it fuses layers: take space=dis (layer 2: linear)",
        "  - it stacks others than layers 0 to 1 of a and b: leave them out (layer 3: layer 1 of base, layer 4: layer "
        "2 of b)",
        "  - it has scales outside [0.4, 1.5]: choose one inside (layer 3: 0.3)",
        "  - it has another part outside the layers than this space, which fixes it: set space.outer (outer: "
        "task_arithmetic)",
    ]


def test_other_orders_products_and_outer_parts_cannot_be_encoded() -> None:
    order = "  - it has layers in another order than a's and b's by turns: bring them into it, each once at most"
    assert refused(Recipe((layer("b", 0), layer("a", 0), layer("a", 1), layer("a", 1)), MEAN)) == [
        f"{order} (layer 1, layer 3)"
    ]
    neither = "  - it has neither a's nor b's layer of some depth: add one of them"
    assert refused(Recipe((layer("a", 1),), MEAN)) == [f"{neither} (depth 0)"]
    assert refused(Recipe((layer("a", 0), layer("a", 1)), replace(MEAN, inputs=MEAN.inputs[:1]))) == [
        "  - it has another part outside the layers than this space, which fixes it: set space.outer (outer: 1 of a, 0 "
        "of b)"
    ]
    steep = Recipe(tuple(layer("a", depth, 0.4) for depth in range(9)), MEAN)
    assert refused(steep, n_layers=9) == [
        "  - its scales have a product outside [0.000976562, 1024]: choose them nearer to 1 (up to layer 7: 0.00065536)"
    ]
    branch = Recipe((layer("a", 0, 0.5), layer("a", 1)), MEAN, scaling="branch_mlp")
    assert refused(branch) == ["  - it scales what mlps add, which is not searched: set scale to 1 (branch_mlp)"]


def test_faulty_options_are_listed_together() -> None:
    with pytest.raises(ValueError, match=r"exactly two sources, got 3 \(a, b, mean\); keep two") as caught:
        space(sources=["a", "b", "mean"], outer="c", strengths=[-1.0])
    for fault in (
        "a source called mean",
        "outer must be one of mean, a, b, mean, got 'c'",
        "strengths: expected numbers above 0, got [-1.0]",
    ):
        assert fault in str(caught.value)


def test_options_of_a_wrong_type_are_listed_together() -> None:
    with pytest.raises(ValueError, match="the SMM data-flow space cannot be built") as caught:
        space(outer=None, uniform=1, strengths=None)
    assert str(caught.value).removeprefix("the SMM data-flow space cannot be built: ").split("; ") == [
        "uniform: expected true or false, got 1",
        "strengths: expected a list: write space.strengths=[0.5], got None",
        "outer must be one of mean, a, b, got None",
    ]


def test_samples_without_scales_seldom_repeat() -> None:
    """With the choices of whole models alike there would be three of them, of a twelfth of all samples."""
    X = space(8).sample(280, np.random.default_rng(0))
    assert len(np.unique(X, axis=0)) > 270
    unscaled = X[(X[:, 8:] == 1).all(axis=1)]
    assert len(np.unique(unscaled, axis=0)) > 0.85 * len(unscaled) > 40


def test_the_longest_stack_has_all_layers_of_both_sources() -> None:
    longest = space(3).decode(np.r_[np.full(3, 2.0), np.ones(5)])
    assert len(longest.layers) == space(3).max_layers == 6


def test_measured_presence_is_weighed_by_norms_and_gains_are_not() -> None:
    by_layer = [(0.1, 0.3), (0.2, 0.2)]
    norms: dict[tuple[int | None, str], np.ndarray] = {
        (layer, component): np.array(by_layer[layer]) for layer in range(2) for component in COMPONENTS
    }
    X = space().sample(50, np.random.default_rng(0))
    before, after = space().features(X), space().measured(Measures(norms, {})).features(X)
    expected = {"0.a.present": 0.5, "0.b.present": 1.5}
    for name, first, second in zip(space().feature_names, before.T, after.T, strict=True):
        assert first.any()
        assert second == pytest.approx(first * expected.get(name, 1.0), rel=1e-12)


def test_switches_are_those_of_the_stack_layer_by_layer() -> None:
    X = space(7).sample(200, np.random.default_rng(1))
    column = space(7).feature_names.index("switches")
    for x, found in zip(X, space(7).features(X)[:, column], strict=True):
        names = [name for name, _, _ in stack(space(7).decode(x))]
        turns = [first != second for first, second in pairwise(names)]
        assert found == sum(turns) / len(turns)
