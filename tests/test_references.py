"""Known models as recipes: those of layer-wise fusion, which decodes them from genotypes."""

import pytest

from automerge import methods
from automerge.recipe import BASE, Fusion, Input
from automerge.references import outside
from automerge.spaces.lfs import LayerwiseFusion

N_LAYERS = 3
STRENGTHS = (0.3, 0.54321, 1.0)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("names", [("linear", "task_arithmetic"), methods.names()], ids=["plain", "all"])
def test_recipes_and_names_are_those_of_layerwise_fusion(n: int, names: tuple[str, ...]) -> None:
    """Its order too: logs of both spaces begin alike."""
    sources = [f"s{k}" for k in range(n)]
    searched = [name for name in names if name != "passthrough"]
    space = LayerwiseFusion(sources=sources, n_layers=N_LAYERS, methods=searched, strengths=STRENGTHS)
    expected = {}
    for name, reference in space.references().items():
        assert reference.genotype is not None
        expected[name] = (reference.kind, space.decode(reference.genotype).id)
    found = outside(sources, N_LAYERS, STRENGTHS, searched)
    assert {name: (each.kind, each.recipe.id) for name, each in found.items() if each.recipe} == expected
    assert list(found) == list(expected)
    assert all(reference.genotype is None for reference in found.values())


def test_the_usual_ones_are_the_base_the_sources_and_two_uniform_methods() -> None:
    found = outside(["a", "b"], N_LAYERS, [0.5, 1.0])
    assert list(found) == [BASE, "a", "b", "linear", "task_arithmetic 0.5", "task_arithmetic 1"]
    recipe = found["task_arithmetic 0.5"].recipe
    assert recipe is not None
    assert len(recipe.layers) == N_LAYERS
    half = Fusion("task_arithmetic", (Input("a", 2, 0.5), Input("b", 2, 0.5)))
    assert recipe.layers[2].components == (("attention", half), ("mlp", half), ("other", half))
    assert recipe.outer == Fusion("task_arithmetic", (Input("a", None, 0.5), Input("b", None, 0.5)))
    assert list(outside(["a"], N_LAYERS, [0.5])) == [BASE, "a", "task_arithmetic 0.5"]


def test_strengths_have_no_bounds_and_may_be_none() -> None:
    strong = outside(["a", "b"], N_LAYERS, [2.5])["task_arithmetic 2.5"].recipe
    assert strong is not None
    assert [read.weight for read in strong.outer.inputs] == [2.5, 2.5]
    assert list(outside(["a", "b"], N_LAYERS, [])) == [BASE, "a", "b", "linear"]


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown method 'magic', known are \('breadcrumbs'"):
        outside(["a"], N_LAYERS, [0.5], ["magic"])
