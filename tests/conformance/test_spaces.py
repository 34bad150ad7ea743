"""What every space must do."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace

from automerge.protocols import Measures, Space
from automerge.recipe import BASE, COMPONENTS, OUTER, Fusion, Input, Recipe
from automerge.variation import BLOCK, Layout, block_mutation, depth_crossover, slot_mutation
from tests.conformance.members import SPACES


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> Space:
    return SPACES[request.param]()


def anywhere(space: Space, n: int, seed: int = 0) -> np.ndarray:
    """Genotypes that are anything but canonical, some out of bounds."""
    genes = space.genes
    lower = np.array([gene.lower for gene in genes])
    upper = np.array([gene.upper for gene in genes])
    return np.random.default_rng(seed).uniform(lower - 0.3, upper + 0.3, size=(n, len(genes)))


def several(space: Space, seed: int) -> np.ndarray:
    """Canonical genotypes: samples, repaired ones from anywhere and references."""
    known = [each.genotype for each in space.references().values() if each.genotype is not None]
    drawn = space.sample(60, np.random.default_rng(seed))
    return np.vstack([drawn, space.repair(anywhere(space, 60, seed)), *known])


def toy_measures(space: Space, *, uniform: bool = False) -> Measures:
    """Norms by slot and source, some of which are missing or not a number, and layers that all differ in size."""
    references = [each for each in space.references().values() if each.kind == "source"]
    last = references[-1]
    n_layers = len((last.recipe or space.decode(np.asarray(last.genotype))).layers)
    n_sources = sum(name != BASE for name, each in space.references().items() if each.kind == "source")
    rng = np.random.default_rng(0)
    slots = [(layer, component) for layer in range(n_layers) for component in COMPONENTS]
    sizes = [0.25] if uniform else [0.01, 0.1, 0.2, 0.5]
    norms: dict[tuple[int | None, str], np.ndarray] = {
        slot: rng.choice(sizes, size=n_sources) for slot in (*slots, (None, OUTER))
    }
    del norms[0, "other"]
    norms[0, "mlp"] = norms[0, "mlp"] * np.nan
    return Measures(norms, {layer: 1000 + layer**3 for layer in range(n_layers)} | {None: 50})


def test_genes_have_distinct_names_and_defaults_within_bounds(space: Space) -> None:
    assert len({gene.name for gene in space.genes}) == len(space.genes)
    assert all(gene.lower <= gene.default <= gene.upper for gene in space.genes)


def test_samples_are_seeded_canonical_and_various(space: Space) -> None:
    X = space.sample(50, np.random.default_rng(0))
    assert X.shape == (50, len(space.genes))
    assert (space.sample(50, np.random.default_rng(0)) == X).all()
    assert (space.repair(X) == X).all()
    assert len(np.unique(X, axis=0)) > 40


def test_no_models_have_no_features_costs_or_activity(space: Space) -> None:
    none = np.empty((0, len(space.genes)))
    assert space.repair(none).shape == none.shape
    assert space.features(none).shape == (0, len(space.feature_names))
    assert all(values.shape == (0,) for values in space.costs(none).values())
    assert space.active(none).shape == none.shape


def test_repair_is_idempotent_within_bounds_and_leaves_its_argument(space: Space) -> None:
    X = anywhere(space, 3000)
    before = X.copy()
    once = space.repair(X)
    assert (before == X).all()
    assert (space.repair(once) == once).all()
    assert all((once[:, k] >= g.lower).all() and (once[:, k] <= g.upper).all() for k, g in enumerate(space.genes))
    codes = [k for k, gene in enumerate(space.genes) if gene.n_choices]
    assert (once[:, codes] == np.round(once[:, codes])).all()


def test_equal_genotypes_are_equal_recipes_and_different_ones_different(space: Space) -> None:
    X = np.unique(space.repair(anywhere(space, 60, seed=1)), axis=0)
    recipes = [space.decode(x) for x in X]
    assert [space.decode(x).id for x in X] == [recipe.id for recipe in recipes]
    assert len({recipe.id for recipe in recipes}) == len(X)


def test_encoding_undoes_decoding(space: Space) -> None:
    known = [each.genotype for each in space.references().values() if each.genotype is not None]
    X = np.vstack([space.repair(anywhere(space, 80, seed=5)), space.sample(80, np.random.default_rng(6)), *known])
    for x in X:
        assert space.encode(space.decode(x)).tobytes() == x.tobytes()


def test_what_is_no_model_of_the_space_is_refused_with_a_remedy(space: Space) -> None:
    recipe = space.decode(space.sample(1, np.random.default_rng(7))[0])
    foreign = replace(recipe, outer=Fusion("passthrough", (Input("stranger", None),)))
    with pytest.raises(ValueError, match=r"add them to source\.models, by these names \(outer: stranger\)"):
        space.encode(foreign)


def test_recipes_survive_json(space: Space) -> None:
    for x in space.sample(5, np.random.default_rng(2)):
        recipe = space.decode(x)
        assert Recipe.from_json(recipe.to_json()) == recipe


def test_features_are_finite_named_and_equal_for_equal_models(space: Space) -> None:
    X = anywhere(space, 20, seed=3)
    features = space.features(space.repair(X))
    assert features.shape == (20, len(space.feature_names))
    assert len(set(space.feature_names)) == len(space.feature_names)
    assert np.isfinite(features).all()
    assert (space.features(space.repair(space.repair(X))) == features).all()


def test_references_are_canonical_and_the_sources_come_first_and_exact(space: Space) -> None:
    references = space.references()
    kinds = [reference.kind for reference in references.values()]
    assert kinds == sorted(kinds)  # "source" before "uniform"
    sources = [name for name, reference in references.items() if reference.kind == "source"]
    assert sources[-1] != BASE  # the sources are there, with or without a base
    recipes = {}
    for name, reference in references.items():
        if reference.genotype is not None:
            assert (space.repair(reference.genotype[None])[0] == reference.genotype).all()
            recipes[name] = space.decode(reference.genotype)
        elif reference.recipe is not None:
            recipes[name] = reference.recipe
    assert len({recipe.id for recipe in recipes.values()}) == len(references) or len(sources) <= 2
    for name, recipe in recipes.items():
        if references[name].kind == "source":
            assert recipe.sources == (name,)
            assert {fusion.method for _, fusion in recipe.fusions()} == {"passthrough"}


def test_references_are_recipes_only_where_the_space_cannot_hold_them(space: Space) -> None:
    for reference in space.references().values():
        if reference.recipe is not None:
            with pytest.raises(ValueError, match="cannot hold this recipe"):
                space.encode(reference.recipe)


@pytest.mark.parametrize("operator", [block_mutation, slot_mutation])
def test_variation_gives_models_of_the_space_and_mostly_new_ones(
    space: Space, operator: Callable[..., np.ndarray]
) -> None:
    rng = np.random.default_rng(4)
    layout = Layout.of(space.genes)
    parents = space.sample(40, rng)
    children = np.array(
        [operator(depth_crossover(a, b, layout, rng), layout, rng) for a, b in zip(parents, parents[::-1], strict=True)]
    )
    repaired = space.repair(children)
    assert (space.repair(repaired) == repaired).all()
    fresh = [not (parents == child).all(axis=1).any() for child in repaired]
    assert np.mean(fresh) > 0.6


def test_configspace_has_the_same_genes_and_its_conditions_name_the_inactive_ones(space: Space) -> None:
    exported = space.to_configspace()
    exported.seed(0)
    assert set(exported.keys()) == {gene.name for gene in space.genes}
    for configuration in exported.sample_configuration(30):
        values = dict(configuration)
        x = space.genotype(values)
        assert (space.repair(x[None])[0] == x).all()
        inactive = {gene.name for gene in space.genes} - set(values)
        defaults = {gene.name: gene.default for gene in space.genes}
        position = {gene.name: k for k, gene in enumerate(space.genes)}
        assert all(x[position[name]] == defaults[name] for name in inactive)


def test_configspace_is_filled_at_once_because_it_sorts_all_anew_at_every_call(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gene by gene, a space of stacks of 43 layers took 17 s."""
    calls = []
    add = ConfigurationSpace.add

    def counted(exported: ConfigurationSpace, *parts: Any) -> None:
        calls.append(len(parts))
        add(exported, *parts)

    monkeypatch.setattr(ConfigurationSpace, "add", counted)
    space.to_configspace()
    assert len(calls) == 1


def test_costs_are_those_of_the_decoded_models(space: Space) -> None:
    X = several(space, seed=8)
    recipes = [space.decode(x) for x in X]
    measures = toy_measures(space)
    assert list(space.costs(X)) == ["layers"]
    found = space.measured(measures).costs(X)
    assert list(found) == ["layers", "parameters"]
    assert found["layers"].tolist() == [len(recipe.layers) for recipe in recipes]
    read = [[dict(layer.components)["attention"].inputs[0].layer for layer in recipe.layers] for recipe in recipes]
    expected = [measures.parameters[None] + sum(measures.parameters[layer] for layer in layers) for layers in read]
    assert found["parameters"].tolist() == expected
    assert space.costs(X)["layers"].tolist() == found["layers"].tolist()


def test_measured_features_are_the_same_times_a_factor_by_column(space: Space) -> None:
    X = several(space, seed=9)
    before, measured = space.features(X), space.measured(toy_measures(space))
    after = measured.features(X)
    there = before != 0
    assert ((after != 0) == there).all()
    ratios = np.where(there, after / np.where(there, before, 1), np.nan)[:, there.any(axis=0)]
    factors = np.nanmax(ratios, axis=0)
    assert np.allclose(np.nanmin(ratios, axis=0), factors, rtol=1e-12, atol=0)
    assert factors.min() >= 0.3 - 1e-12
    assert factors.max() <= 3 + 1e-12
    assert len(np.unique(np.round(factors, 9))) > 2
    assert (space.features(X) == before).all()
    assert np.allclose(measured.measured(toy_measures(space, uniform=True)).features(X), before, rtol=1e-12, atol=0)


def test_a_measured_space_has_the_same_models(space: Space) -> None:
    measured = space.measured(toy_measures(space))
    assert measured.genes == space.genes
    assert measured.feature_names == space.feature_names
    X = anywhere(space, 200, seed=10)
    assert measured.repair(X).tobytes() == space.repair(X).tobytes()
    drawn = measured.sample(20, np.random.default_rng(11))
    assert drawn.tobytes() == space.sample(20, np.random.default_rng(11)).tobytes()
    assert [measured.decode(x) for x in drawn] == [space.decode(x) for x in drawn]


def test_norms_of_other_sources_are_refused(space: Space) -> None:
    with pytest.raises(ValueError, match="measure the sources of the space, in its order"):
        space.measured(Measures({(0, "mlp"): np.ones(9)}, {None: 1}))


def test_genes_act_that_change_a_model_and_no_others(space: Space) -> None:
    """Every gene of some models is set to its bounds and to random values, one at a time."""
    rng = np.random.default_rng(12)
    X = several(space, seed=13)
    X = X[rng.choice(len(X), size=12, replace=False)]
    active = space.active(X)
    assert active.shape == X.shape
    lower, upper = (np.array([getattr(gene, bound) for gene in space.genes]) for bound in ("lower", "upper"))
    values = np.concatenate([[lower, upper], rng.uniform(lower, upper, size=(14, len(space.genes)))])
    n = len(space.genes)
    changed = np.zeros(X.shape, dtype=bool)
    for row, x in enumerate(X):
        for value in values:
            others = np.tile(x, (n, 1))
            np.fill_diagonal(others, value)
            changed[row] |= (space.repair(others) != x).any(axis=1)
    assert not changed[~active].any()
    # The bounds of depth hold some blocks fixed.
    of_blocks = np.array([gene.role.startswith(BLOCK) for gene in space.genes])
    assert changed[active & ~of_blocks].all()
    assert changed[active & of_blocks].sum() >= 0.8 * (active & of_blocks).sum()
