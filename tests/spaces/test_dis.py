"""The meaning of DIS genotypes; what every space must do is tested in conformance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from automerge.depth_variation import depth_mutation
from automerge.protocols import Measures
from automerge.recipe import BASE, COMPONENTS, Fusion, Input, OutputLayer, Recipe, uniform
from automerge.scaling import gains
from automerge.spaces.dis import DepthIntegration
from automerge.variation import Layout, block_mutation, depth_crossover, slot_mutation

Origin = tuple[str, int]
"""A source and a layer of it."""


def space(n_layers: int = 4, sources: Sequence[str] = "ab", **options: object) -> DepthIntegration:
    return DepthIntegration(sources=list(sources), n_layers=n_layers, **options)  # type: ignore[arg-type]


def passed(source: str, layer: int | None) -> Fusion:
    return Fusion("passthrough", (Input(source, layer),))


def alike(fusion: Fusion, scale: float = 1.0) -> OutputLayer:
    return OutputLayer(tuple((component, fusion) for component in COMPONENTS), scale)


def stack(*origins: Origin, scales: Mapping[int, float] | None = None, outer: str = "a") -> Recipe:
    """Layers of sources as they are; scales by output layer."""
    layers = [alike(passed(*origin), (scales or {}).get(k, 1.0)) for k, origin in enumerate(origins)]
    return Recipe(tuple(layers), passed(outer, None))


def origins(recipe: Recipe) -> list[Origin]:
    """The sources and layers that a recipe passes through."""
    reads = [layer.components[0][1].inputs[0] for layer in recipe.layers]
    return [(read.source, read.layer) for read in reads if read.layer is not None]


def named(space: DepthIntegration, x: np.ndarray) -> dict[str, float]:
    return {gene.name: float(value) for gene, value in zip(space.genes, x, strict=True)}


def described(space: DepthIntegration, recipe: Recipe) -> dict[str, float]:
    return dict(zip(space.feature_names, space.features(space.encode(recipe)[None])[0].tolist(), strict=True))


def grid_of(space: DepthIntegration, values: Mapping[str, Sequence[float]]) -> np.ndarray:
    """All genotypes whose genes take any of the values of their role, which may be given without its number."""
    choices = [values.get(gene.role, values.get(gene.role.split(":")[0], [gene.default])) for gene in space.genes]
    return np.array(list(product(*choices)))


def test_every_genotype_of_a_small_space_is_the_stack_that_its_codes_say() -> None:
    """The reference reads blocks, repeats and depth off the raw codes, position by position."""
    small = space(n_layers=3, max_repeats=1, min_layers=2, max_layers=4, scaling=None)
    X = grid_of(small, {"block": [0, 1, 2], "weight:a": [0.0, 1.0], "weight:b": [1.0]})
    recipes = [small.decode(x) for x in small.repair(X)]
    n_read = 0
    for x, recipe in zip(X, recipes, strict=True):
        codes = x[:6].astype(int).reshape(3, 2)
        raw = [("ab"[code - 1], layer) for layer in range(3) for code in dict.fromkeys(codes[layer]) if code]
        if 2 <= len(raw) <= 4:
            n_read += 1
            assert origins(recipe) == raw
        else:
            assert len(recipe.layers) == (2 if len(raw) < 2 else 4)
    assert n_read > 900
    assert {recipe.scaling for recipe in recipes} == {"residual"}
    assert {layer.scale for recipe in recipes for layer in recipe.layers} == {1.0}
    # Nothing, a, b, ab and ba at each of three positions, two to four layers in all, two fusions outside.
    depths = Counter(sum(lengths) for lengths in product([0, 1, 1, 2, 2], repeat=3))
    assert len({recipe.id for recipe in recipes}) == 2 * (depths[2] + depths[3] + depths[4])


@pytest.mark.slow
@pytest.mark.parametrize(("scaling", "n_scaled"), [("residual", 1), ("branch_mlp", 2)])
def test_equal_genotypes_are_equal_recipes_over_a_whole_space_with_scales_and_fusions(
    scaling: str, n_scaled: int
) -> None:
    """All genotypes of two positions, which are as many models as counting on paper gives."""
    small = space(n_layers=2, methods=["task_arithmetic"], min_layers=1, max_layers=3, scaling=scaling)
    X = grid_of(small, {"block": [0, 1, 2, 3], "scale": [0.5, 1.0], "weight:a": [0.0, 1.0], "weight:b": [0.0, 1.0]})
    X = np.unique(small.repair(X), axis=0)
    recipes = [small.decode(x) for x in X]
    # Alone: a, b, the base or both; two of them, of which the fusion is the base or both: 4 + 2 * 5.
    ways = {0: 1, 1: 4, 2: 14}
    n_outside = 4
    expected = sum(
        ways[first] * ways[second] * 2 ** min(n_scaled, (first > 0) + (second > 0) - (n_scaled == 1)) * n_outside
        for first, second in product(ways, repeat=2)
        if 1 <= first + second <= 3
    )
    assert len({recipe.id for recipe in recipes}) == len(X) == expected
    assert all((small.encode(recipe) == x).all() for x, recipe in zip(X, recipes, strict=True))


SPACES = {
    "plain": space(10, "abc"),
    "fused": space(9, methods=["linear", "ties"], granularity=2, max_blocks=3, fixed_last=1),
    "pruned": space(12, methods=["task_arithmetic"], max_blocks=1, min_layers=7, max_layers=9, max_scale=1.5),
    "scaled mlp": space(10, scaling="branch_mlp", max_repeats=1, min_layers=10),
}


@pytest.mark.parametrize("name", SPACES)
def test_samples_and_children_are_feasible(name: str) -> None:
    searched = SPACES[name]
    rng = np.random.default_rng(0)
    layout = Layout.of(searched.genes)
    X = searched.sample(2500, rng)
    pairs = X[rng.integers(len(X), size=(2500, 2))]
    children = [depth_crossover(first, second, layout, rng) for first, second in pairs]
    operators = (depth_mutation, depth_mutation, block_mutation, slot_mutation)
    bred = searched.repair(np.array([operators[rng.integers(4)](child, layout, rng) for child in children]))
    for x in (*X, *bred):
        recipe = searched.decode(x)
        assert len(gains(recipe)) == len(recipe.layers)
        assert searched.grid.min_layers <= len(recipe.layers) <= searched.grid.max_layers
        read = [read for _, read in origins(recipe)]
        assert all(
            first // searched.grid.granularity <= second // searched.grid.granularity
            for first, second in pairwise(read)
        )
    assert len(np.unique(X, axis=0)) > 2000
    assert len(np.unique(bred, axis=0)) > 2000


def test_samples_are_mostly_near_one_source_and_various_in_depth() -> None:
    large = space(40, "abc")
    X = large.sample(300, np.random.default_rng(1))
    assert (large.sample(300, np.random.default_rng(2)) != X).any()
    found = [origins(large.decode(x)) for x in X]
    largest = [max(Counter(source for source, _ in each).values()) / len(each) for each in found]
    assert np.mean([share > 0.85 for share in largest]) > 0.3
    assert np.mean([share < 0.7 for share in largest]) > 0.3
    depths = [len(each) for each in found]
    assert np.mean([abs(depth - 40) <= 6 for depth in depths]) > 0.6
    assert len(set(depths)) > 15
    outside = [large.decode(x).outer for x in X]
    assert 0.3 < np.mean([fusion.method == "passthrough" for fusion in outside]) < 0.7


def test_a_source_is_the_stack_of_its_layers_and_the_base_is_a_recipe_where_nothing_starts_from_it() -> None:
    for known in (space(5, granularity=2), space(5, fixed_first=1, fixed_last=2, scaling=None)):
        references = known.references()
        assert list(references) == [BASE, "a", "b", "linear", *(f"task_arithmetic {s}" for s in (0.5, 0.7, 0.9))]
        for source in "ab":
            genotype = references[source].genotype
            assert genotype is not None
            assert known.decode(genotype) == uniform(passed(source, None), 5)
        assert references[BASE].recipe == uniform(passed(BASE, None), 5)


def test_uniform_merges_are_genotypes_where_layers_are_fused() -> None:
    fusing = space(3, methods=["task_arithmetic", "ties"], strengths=[0.5])
    references = fusing.references()
    assert list(references) == [BASE, "a", "b", "linear", "task_arithmetic 0.5", "ties 0.5"]
    assert [name for name, reference in references.items() if reference.genotype is None] == ["linear"]
    half = references["task_arithmetic 0.5"].genotype
    assert half is not None
    fusion = Fusion("task_arithmetic", (Input("a", None, 0.5), Input("b", None, 0.5)))
    assert fusing.decode(half) == uniform(fusion, 3)
    shorter = space(4, methods=["task_arithmetic"], max_blocks=1, max_layers=3).references()
    assert all(reference.genotype is None for reference in shorter.values())


def test_references_that_are_deeper_than_any_stack_are_not_eligible() -> None:
    for max_layers, eligible in ((3, False), (4, True), (None, True)):
        for methods in ([], ["task_arithmetic"]):
            references = space(4, methods=methods, max_layers=max_layers).references()
            assert {reference.eligible for reference in references.values()} == {eligible}
            assert {"uniform", "source"} == {reference.kind for reference in references.values()}


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({}, 9),
        ({"max_layers": 20}, 12),
        ({"max_blocks": 1}, 6),
        ({"max_blocks": 1, "max_layers": 5}, 5),
        ({"max_blocks": 3, "max_layers": 20}, 18),
        ({"max_blocks": 3, "max_repeats": 1, "max_layers": 20}, 12),  # a and b, each once
        ({"max_blocks": 3, "max_repeats": 1, "max_layers": 20, "methods": ["linear"]}, 18),
        ({"fixed_first": 2, "max_layers": 20}, 10),
    ],
)
def test_the_deepest_stack_fills_the_bound_or_the_positions(options: dict[str, object], most: int) -> None:
    searched = space(6, "ab", **options, scaling=None)
    assert searched.max_layers == most
    names = [gene.name for gene in searched.genes if gene.role.startswith("block")]
    kinds = ["a", "b", "fused" if "methods" in options else "a"]
    full = searched.decode(searched.genotype({name: kinds[int(name[-1])] for name in names}))
    assert len(full.layers) == most
    X = searched.sample(200, np.random.default_rng(0))
    assert max(len(searched.decode(x).layers) for x in X) <= most


def test_a_fused_block_that_is_a_source_is_that_source() -> None:
    fusing = space(2, methods=["linear"], strengths=[0.5])
    fused = {"0.block0": "fused", "0.block1": "a", "0.fused.a": 0.3, "0.fused.b": 0.0, "1.block0": "a"}
    x = fusing.genotype(fused | {"outer.b": 0.0})
    assert origins(fusing.decode(x)) == [("a", 0), ("a", 0), ("a", 1)]
    values = named(fusing, x)
    assert (values["0.block0"], values["0.block1"], values["0.fused.a"]) == (1, 1, 0.5)


def test_a_block_beyond_the_repeats_is_dropped_and_gaps_close() -> None:
    roomy = space(3, max_blocks=4, max_repeats=2, max_layers=9, scaling=None)
    x = roomy._default.copy()
    x[:4] = [2, 2, 2, 1]
    x[4:8] = [0, 2, 0, 1]
    assert origins(roomy.decode(roomy.repair(x[None])[0])) == [
        ("b", 0),
        ("b", 0),
        ("a", 0),
        ("b", 1),
        ("a", 1),
        ("a", 2),
    ]


def test_too_deep_stacks_lose_extra_blocks_evenly_and_then_positions_in_the_middle() -> None:
    values: dict[str, object] = {f"{p}.block{slot}": "ab"[slot] for p in range(8) for slot in range(2)}
    twelve = origins(space(8, scaling=None).decode(space(8, scaling=None).genotype(values)))
    assert [layer for source, layer in twelve if source == "b"] == [1, 3, 5, 7]
    assert [layer for source, layer in twelve if source == "a"] == list(range(8))
    five = space(8, scaling=None, max_layers=5, max_blocks=1)
    kept = origins(five.decode(five.genotype({f"{p}.block0": "b" for p in range(8)})))
    assert kept == [("b", layer) for layer in (0, 1, 2, 6, 7)]


def test_too_shallow_stacks_are_filled_from_the_ends_by_the_heaviest_source_outside() -> None:
    five = space(8, min_layers=5, strengths=[1.0])
    nothing: dict[str, object] = {f"{p}.block0": "nothing" for p in range(8)}
    recipe = five.decode(five.genotype(nothing | {"4.block0": "a", "4.scale": 0.5, "outer.a": 0.2, "outer.b": 0.7}))
    assert origins(recipe) == [("b", 0), ("b", 1), ("a", 4), ("b", 6), ("b", 7)]
    assert [layer.scale for layer in recipe.layers] == [1, 1, 0.5, 1, 1]


def test_the_scale_of_a_position_acts_on_its_last_layer() -> None:
    pairs = space(4, granularity=2, max_layers=8)
    values: dict[str, object] = {"0.block1": "b", "0.scale": 0.5, "1.scale": 0.7}
    recipe = pairs.decode(pairs.genotype(values))
    assert origins(recipe) == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("a", 2), ("a", 3)]
    # Nothing but the final norm comes after the last layer.
    assert [layer.scale for layer in recipe.layers] == [1, 1, 1, 0.5, 1, 1]
    mlp = space(4, granularity=2, max_layers=8, scaling="branch_mlp")
    recipe = mlp.decode(mlp.genotype(values | {"1.scale": 0.0}))
    assert recipe.scaling == "branch_mlp"
    assert [layer.scale for layer in recipe.layers] == [1, 1, 1, 0.5, 1, 0]


def test_scales_that_do_not_act_are_one() -> None:
    x = named(space(), space().genotype({"1.block0": "nothing", "1.scale": 0.3, "3.block0": "nothing", "2.scale": 0.4}))
    assert [x[f"{p}.scale"] for p in range(4)] == [1, 1, 1, 1]
    fixed = space(fixed_last=1)
    assert "3.scale" not in named(fixed, fixed._default)
    assert fixed.decode(fixed.genotype({"2.scale": 0.5})).layers[2].scale == 0.5


def test_a_scale_that_takes_the_product_out_of_bounds_is_one() -> None:
    long = space(14)
    doubled = long.decode(long.genotype({f"{p}.scale": 2.0 for p in range(14)}))
    assert [layer.scale for layer in doubled.layers] == [2.0] * 10 + [1.0] * 4  # 2 ** 10 is the bound
    halved = long.decode(long.genotype({f"{p}.scale": 0.05 for p in range(3)} | {"4.scale": 2.0}))
    assert [layer.scale for layer in halved.layers][:5] == [0.05, 0.05, 1.0, 1.0, 2.0]
    assert gains(halved)[5].mlp == pytest.approx(200)


def test_fixed_layers_are_there_once_and_fused_like_the_part_outside() -> None:
    fixed = space(5, granularity=2, fixed_first=1, fixed_last=1)
    assert {gene.depth for gene in fixed.genes} == {1, -1}
    recipe = fixed.decode(fixed.genotype({"1.block0": "b", "1.block1": "a", "outer.a": 0.3, "outer.b": 0.9}))
    mixed = [Fusion("linear", (Input("a", layer, 0.25), Input("b", layer, 0.75))) for layer in (0, 1, 4)]
    expected = [mixed[0], mixed[1], passed("b", 2), passed("b", 3), passed("a", 2), passed("a", 3), mixed[2]]
    assert recipe.layers == tuple(alike(fusion) for fusion in expected)
    assert fixed.decode(fixed.encode(recipe)) == recipe


def test_features_of_a_known_stack() -> None:
    """Worked out by hand: a, then b and a, then nothing, then a; scales 0.5 and 1.25, so gains 1, 2 and 1 / 0.625."""
    recipe = stack(("a", 0), ("b", 1), ("a", 1), ("a", 3), scales={0: 0.5, 2: 1.25})
    found = described(space(), recipe)
    bits = {1: 0.5, 2: 0.55, 1.6: 0.5 + np.log2(1.6) / 20}
    expected = {
        "0.a": 0.5, "0.a.gain": bits[1], "0.scale": 0.25,
        "1.a": 0.5, "1.a.gain": bits[2], "1.b": 0.5, "1.b.gain": bits[2], "1.scale": 0.625, "1.a.before.b": 0.0,
        "2.scale": 0.5,
        "3.a": 0.5, "3.a.gain": bits[1.6], "3.scale": 0.5,
        "depth": 4 / 6, "skips": 1 / 4, "switches": 2 / 5, "longest_run": 2 / 6, "outer.a": 1.0,
    } | {f"{p}.a.before.b": 0.5 for p in (0, 2, 3)}  # fmt: skip
    assert {name: value for name, value in found.items() if value} == pytest.approx(
        {name: value for name, value in expected.items() if value}
    )
    turned = described(space(), stack(("a", 0), ("a", 1), ("b", 1), ("a", 3)))
    assert turned["1.a.before.b"] == 1.0
    assert (turned["switches"], turned["longest_run"]) == (2 / 5, 2 / 6)


def test_features_of_fused_and_repeated_blocks() -> None:
    fusing = space(3, methods=["linear", "ties"], granularity=2, fixed_last=1, max_blocks=3, max_layers=7)

    def fused(layer: int | None) -> Fusion:
        return Fusion("ties", (Input("a", layer, 0.3), Input("b", layer, 0.6)), (("density", 0.4),))

    layers = [alike(passed("b", 0)), alike(passed("b", 1)), alike(fused(0)), alike(fused(1)), alike(passed("b", 0))]
    layers += [alike(passed("b", 1), 0.8), alike(passed("b", 2))]
    found = described(fusing, Recipe(tuple(layers), passed("b", None)))
    unit = 3 * 1.5
    expected = {
        "0.a": 0.3 / unit, "0.b": 2.6 / unit, "0.a.gain": 0.5, "0.b.gain": 0.5, "0.scale": 0.4,
        "0.a.before.b": 0.5, "0.a.before.fused": 0.5, "0.b.before.fused": 0.5, "0.fused": 1 / 3,
        "depth": 1.0, "repeats": 2 / 7, "skips": 0.0, "switches": 2 / 6, "longest_run": 3 / 7,
        "0.fused.density": 0.4, "0.fused.ties": 1.0, "outer.b": 1.0, "outer.density": 1.0,
    }  # fmt: skip
    assert {name: value for name, value in found.items() if value or name in expected} == pytest.approx(expected)
    plain = described(fusing, uniform(passed("a", None), 3))
    assert (plain["0.fused.density"], plain["0.fused"], plain["longest_run"]) == (0, 0, 3 / 7)


def test_features_of_scaled_mlps_are_mean_gains() -> None:
    mlp = space(2, scaling="branch_mlp", max_layers=4)
    recipe = replace(stack(("a", 0), ("a", 0), ("b", 1), scales={1: 0.5}), scaling="branch_mlp")
    found = described(mlp, recipe)
    assert (found["0.a.gain"], found["0.scale"], found["1.b.gain"], found["1.a.gain"]) == (0.375, 0.25, 0.5, 0.0)
    assert not any("gain" in name or "scale" in name for name in space(scaling=None).feature_names)


@pytest.mark.parametrize("scaling", ["residual", "branch_mlp"])
def test_features_of_groups_are_the_mean_gains_of_their_layers(scaling: str) -> None:
    """The gains of single layers are those that are folded into weights; the last group has one layer."""
    groups = space(7, granularity=3, max_layers=14, scaling=scaling)
    values: dict[str, object] = {"0.block1": "b", "1.block0": "b", "1.block1": "b", "2.block1": "a"}
    lowest = {"residual": 0.25, "branch_mlp": 0.0}[scaling]
    recipe = groups.decode(groups.genotype(values | {"0.scale": lowest, "1.scale": 0.5, "2.scale": 0.4}))
    assert len(recipe.layers) == 14
    mlps: dict[tuple[str, int], list[float]] = {}
    for (source, read), gain in zip(origins(recipe), gains(recipe), strict=True):
        mlps.setdefault((source, read // 3), []).append(gain.mlp)
    found = described(groups, recipe)
    for (source, position), each in mlps.items():
        mean = np.mean(each)
        expected = mean / 2 if scaling == "branch_mlp" else 0.5 + np.log2(mean) / 20
        assert found[f"{position}.{source}.gain"] == pytest.approx(expected)
    if scaling == "branch_mlp":
        assert found["0.b.gain"] == pytest.approx(2 / 3 / 2)
        assert found["0.a.gain"] == 0.5


def test_features_of_a_stack_lie_between_0_and_1() -> None:
    for searched in SPACES.values():
        lower, upper = (np.array([getattr(gene, side) for gene in searched.genes]) for side in ("lower", "upper"))
        X = searched.repair(np.random.default_rng(0).uniform(lower, upper, size=(500, len(lower))))
        found = searched.features(X)[:, [not name.startswith("outer") for name in searched.feature_names]]
        assert (found >= 0).all()
        assert (found <= 1).all()
        assert (found.std(axis=0) > 0).mean() > 0.9


def test_recipes_of_other_tools_are_read() -> None:
    """A single weight, whatever it is, numbers with many digits, components left out, scales that do nothing."""
    recipe = stack(("a", 0), ("b", 1), ("b", 2), ("b", 3), scales={1: 0.333333, 3: 0.2})
    single = Fusion("linear", (Input("a", 0, 0.3),))
    layers = (OutputLayer((("mlp", single), ("attention", passed("a", 0)))), *recipe.layers[1:])
    decoded = space().decode(space().encode(replace(recipe, layers=layers)))
    assert decoded.layers[0] == recipe.layers[0]
    assert [layer.scale for layer in decoded.layers] == [1, 0.3333, 1, 1]
    unscaled = replace(stack(*((s, k) for k, s in enumerate("abba"))), scaling="branch_mlp")
    assert space().decode(space().encode(unscaled)) == replace(unscaled, scaling="residual")


def faults(searched: DepthIntegration, recipe: Recipe) -> list[str]:
    with pytest.raises(ValueError, match="the DIS space cannot hold this recipe") as caught:
        searched.encode(recipe)
    return str(caught.value).removeprefix("the DIS space cannot hold this recipe:\n  - ").split("\n  - ")


def test_what_cannot_be_read_is_listed_with_remedies() -> None:
    half = Fusion("linear", (Input("a", 1, 0.5), Input("b", 1, 0.5)))
    other = Fusion("linear", (Input("a", 1, 0.2), Input("b", 1, 0.8)))
    layers = (
        alike(passed("a", 0)),
        alike(passed("a", 0)),
        alike(passed("a", 0), scale=0.5),
        alike(passed("b", 0), scale=3.0),
        alike(half, scale=0.5),
        alike(other),
        alike(passed("a", 3)),
    )
    recipe = Recipe(layers, passed("c", None))
    assert faults(space(), recipe) == [
        "its depth is outside 2 to 6 layers: set space.min_layers or space.max_layers (7 layers)",
        "it reads others than base, a, b: add them to source.models, by these names (outer: c)",
        "it stacks more than 2 blocks of a layer: raise space.max_blocks (layer 0 of the sources)",
        "it holds a block more than 2 times: raise space.max_repeats (layer 0 of the sources)",
        "it fuses sources within a layer: add the method to space.methods (layer 1 of the sources)",
        "it fuses one layer in several ways: keep one of them (layer 1 of the sources)",
        "it scales a fixed layer, or one behind which others stand from the same place in the sources: set its scale "
        "to 1 (layer 2, layer 4)",
        "it has scales outside [0.05, 2]: choose one inside, or raise space.max_scale (layer 3: 3)",
    ]


def test_layers_that_do_not_hold_together_are_listed_with_remedies() -> None:
    mixed = OutputLayer((("attention", passed("a", 0)), ("mlp", passed("b", 0)), ("other", passed("a", 1))))
    parts = OutputLayer((("attention", passed("a", 1)), ("mlp", passed("b", 1)), ("mlp", passed("a", 1))))
    strange = OutputLayer((("attention", passed("a", 9)), ("head", passed("a", 9))))
    recipe = Recipe((mixed, parts, strange, OutputLayer(())), passed("a", None))
    assert faults(space(), recipe) == [
        "it fuses layers of different depth: read the same one in all parts of a layer (layer 0)",
        "it names a component of a layer twice: keep one of them (layer 1)",
        "the parts of a layer differ, but blocks are layers as a whole: fuse all parts alike, or search another space "
        "(layer 1)",
        "it reads layers that the sources lack: choose 0 to 3 (layer 2)",
        "a layer has no components, so nothing says what it reads: leave the layer out (layer 3)",
    ]
    head = OutputLayer((*alike(passed("a", 0)).components, ("head", passed("a", 0))))
    recipe = Recipe((head, alike(passed("a", 1))), passed("a", None))
    assert faults(space(), recipe) == ["it has components other than attention, mlp, other: name them so (0.head)"]


def test_the_order_and_the_groups_of_layers_are_kept() -> None:
    back = stack(("a", 0), ("a", 1), ("a", 0), ("b", 2), ("b", 1))
    (fault,) = faults(space(), back)
    assert fault.startswith("it goes back to an earlier layer of the sources, but stacks keep their order")
    assert fault.endswith("(0 after 1 in layer 2, 1 after 2 in layer 4)")
    groups = space(4, granularity=2)
    assert origins(groups.decode(groups.encode(stack(("a", 0), ("a", 1), ("b", 0), ("b", 1)))))[2] == ("b", 0)
    for parted in (
        stack(("a", 0), ("b", 1), ("a", 2), ("a", 3)),
        stack(("a", 0), ("a", 1), ("b", 1), ("a", 2), ("a", 3)),
        stack(("a", 0), ("a", 2), ("a", 3)),
    ):
        assert faults(groups, parted)[0].startswith(
            "it parts layers 0 to 1 of the sources, which move together: set space.granularity: 1"
        )


def test_fixed_layers_that_are_not_kept_are_refused() -> None:
    fixed = space(fixed_first=1, fixed_last=1)
    remedy = "make it so, or lower space.fixed_first and space.fixed_last (layer 0 of the sources)"
    for recipe in (
        stack(("b", 0), ("a", 1), ("a", 3)),
        stack(("a", 0), ("a", 0), ("a", 1), ("a", 3)),
        stack(("a", 1), ("a", 3)),
    ):
        assert faults(fixed, recipe)[0].endswith(remedy)
    scaled = stack(("a", 0), ("a", 1), ("a", 3), scales={0: 0.5})
    assert faults(fixed, scaled)[0].startswith("it scales a fixed layer")


def test_scales_that_are_not_searched_are_refused() -> None:
    recipe = stack(*(("a", k % 12) for k in range(12)), scales=dict.fromkeys(range(11), 0.5))
    (fault,) = faults(space(12), recipe)
    assert "multiply to 0.000488281" in fault
    assert faults(space(12, scaling=None), recipe) == [
        "it scales layers in a way that is not searched: set space.scaling: residual, or all scales to 1 (layer 0)"
    ]
    mlp = replace(recipe, scaling="branch_mlp")
    assert "set space.scaling: branch_mlp" in faults(space(12), mlp)[0]
    assert space(12, scaling="branch_mlp").encode(mlp).any()


def test_the_base_as_it_is_needs_a_method_that_starts_from_it() -> None:
    recipe = replace(stack(*(("a", k) for k in range(4))), outer=passed(BASE, None))
    assert "add task_arithmetic to space.methods" in faults(space(), recipe)[0]
    fusing = space(methods=["task_arithmetic"])
    through = replace(recipe, layers=(*recipe.layers[:3], alike(passed(BASE, 3))))
    assert fusing.decode(fusing.encode(through)) == through


def test_faulty_options_are_listed_together_with_remedies() -> None:
    with pytest.raises(ValueError, match="the DIS space cannot be built") as caught:
        space(methods=["magic"], granularity=0, max_scale=0.5, scaling="stream", sources=["fused", "b"])
    for part in (
        "granularity: expected a whole number from 1, got 0",
        "unknown method 'magic'",
        "scaling must be residual, branch_mlp or null, got 'stream'",
        "max_scale must lie between 1, no scaling, and 1024, got 0.5",
        "sources cannot be called fused, which names a choice of block; rename them",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"fixed_first": 2, "fixed_last": 2}, "leave none of 4 layers in groups of 1 free; lower them"),
        ({"fixed_first": -1}, "fixed_first: expected a whole number from 0, got -1"),
        ({"min_layers": 3, "max_layers": 2}, "min_layers 3 lies above max_layers 2; lower it"),
        ({"min_layers": 5, "max_layers": 8}, "lies above the sources' 4 layers.* lower it"),
        ({"fixed_first": 3, "min_layers": 1, "max_layers": 2}, "lies below the 3 layers of fixed positions; raise it"),
        ({"granularity": 4, "min_layers": 3, "max_layers": 3}, "let 3 layers lie between them, or set granularity: 1"),
        ({"n_layers": 5, "granularity": 2, "min_layers": 4, "max_layers": 4}, "let 1 layers lie between them"),
        ({"max_blocks": 0}, "max_blocks: expected a whole number from 1, got 0"),
        ({"max_layers": 0}, "max_layers: expected a whole number from 1, got 0"),
        ({"max_layers": 7.5}, "max_layers: expected a whole number from 1, got 7.5"),
        ({"min_layers": 3.2}, "min_layers: expected a whole number from 1, got 3.2"),
        ({"max_scale": 2000}, "max_scale must lie between 1, no scaling, and 1024, got 2000"),
        ({"methods": ""}, r"methods: expected a list: write space.methods=\[linear\], got ''"),
        ({"strengths": [2.0]}, r"strengths must lie in \(0, max_weight\]"),
        ({"methods": ["slerp"], "sources": ["a"]}, "add linear or task_arithmetic to space.methods"),
    ],
)
def test_options_that_cannot_be_met_are_refused(options: dict[str, object], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        space(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"unknown genes \['nonsense'\]"):
        space().genotype({"nonsense": 1.0})


def test_options_of_a_wrong_type_are_listed_together() -> None:
    with pytest.raises(ValueError, match="the DIS space cannot be built") as caught:
        space(max_layers="abc", max_blocks=2.5, fixed_last=None, max_scale=None, methods=None, strengths="half")
    assert str(caught.value).removeprefix("the DIS space cannot be built: ").split("; ") == [
        "max_blocks: expected a whole number from 1, got 2.5",
        "max_layers: expected a whole number from 1, got 'abc'",
        "fixed_last: expected a whole number from 0, got None",
        "methods: expected a list: write space.methods=[linear], got None",
        "strengths: expected a list: write space.strengths=[0.5], got 'half'",
        "max_scale: expected a number, got None",
    ]
    with pytest.raises(ValueError, match=r"write space.methods=\[ties\], got 'ties'"):
        space(methods="ties")


@pytest.mark.parametrize("n_layers", [5, 6, 7])
@pytest.mark.parametrize("granularity", [1, 2, 3])
def test_any_genotype_is_brought_within_any_bounds_that_are_accepted(n_layers: int, granularity: int) -> None:
    rng = np.random.default_rng(0)
    n_accepted = 0
    for least, most, fixed in product(range(1, n_layers + 1), range(1, n_layers + 3), (0, 1)):
        options: dict[str, object] = {
            "granularity": granularity,
            "min_layers": least,
            "max_layers": most,
            "fixed_last": fixed,
        }
        try:
            bounded = space(n_layers, scaling=None, **options)  # type: ignore[arg-type]
        except ValueError:
            continue
        n_accepted += 1
        uppers = [gene.upper for gene in bounded.genes]
        X = bounded.repair(np.floor(rng.random((60, len(uppers))) * (np.array(uppers) + 1)))
        X = np.concatenate([X, bounded.sample(10, rng), bounded.repair(np.zeros((1, len(uppers))))])
        depths = [len(bounded.decode(x).layers) for x in X]
        assert least <= min(depths) <= max(depths) <= most
    assert n_accepted > 20


def test_measured_counts_of_blocks_and_outer_weights_are_weighed_by_norms() -> None:
    """Worked out on paper: the mean of all 26 norms is 0.2; the fixed last layer is fused like the part outside."""
    by_layer = [(0.1, 0.1), (0.2, 0.2), (0.4, 0.2), (0.1, 0.3)]
    norms: dict[tuple[int | None, str], np.ndarray] = {
        (layer, component): np.array(pair) for layer, pair in enumerate(by_layer) for component in COMPONENTS
    }
    norms[None, "outer"] = np.array([0.3, 0.1])
    fusing = space(4, methods=["task_arithmetic"], fixed_last=1)
    X = fusing.sample(200, np.random.default_rng(0))
    before, after = fusing.features(X), fusing.measured(Measures(norms, {})).features(X)
    expected = {"0.a": 0.5, "0.b": 0.5, "2.a": 2.0, "outer.a": 0.75, "outer.b": 1.25}
    for name, first, second in zip(fusing.feature_names, before.T, after.T, strict=True):
        assert first.any()
        assert second == pytest.approx(first * expected.get(name, 1.0), rel=1e-12)


def test_costs_count_every_layer_that_is_read() -> None:
    """A group of two layers twice, one left out, and the last group of one layer."""
    grouped = space(5, granularity=2, min_layers=2)
    x = grouped.encode(stack(("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 4)))
    measured = grouped.measured(Measures({}, {None: 7, 0: 10, 1: 200, 2: 3000, 3: 40000, 4: 500000}))
    found = measured.costs(x[None])
    assert {name: values.tolist() for name, values in found.items()} == {"layers": [5], "parameters": [500427]}


def test_scales_and_fusions_act_where_their_blocks_are() -> None:
    fusing = space(4, methods=["task_arithmetic"], min_layers=2)
    fused = Fusion("task_arithmetic", (Input("a", 1, 0.4), Input("b", 1, 0.3)))
    recipe = Recipe((alike(passed("a", 0)), alike(fused), alike(passed("b", 2))), passed("a", None))
    acts = named(fusing, fusing.active(fusing.encode(recipe)[None])[0])
    inner = {name: bool(value) for name, value in acts.items() if "block" not in name and "outer" not in name}
    # Behind position 2 there is nothing, and nothing at position 3.
    expected = {"0.scale", "1.scale", "1.fused.a", "1.fused.b"}
    assert {name for name, value in inner.items() if value} == expected
