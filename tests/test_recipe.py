import json
from dataclasses import replace

import pytest

from automerge.recipe import COMPONENTS, Fusion, Input, Recipe, uniform
from tests.toy import SOURCE_RECIPE, fused


def test_json_round_trip_gives_the_same_recipe_and_id() -> None:
    recipe = uniform(fused("ties", ("left", 0.1), ("right", 1 / 3), density=0.7), 3)
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert again.id == recipe.id
    assert hash(again) == hash(recipe)


def test_id_differs_when_any_number_differs() -> None:
    recipes = [uniform(fused("linear", ("left", w), ("right", 0.5)), 2) for w in (0.5, 0.5 + 1e-12, 0.6)]
    assert len({recipe.id for recipe in recipes}) == 3


def test_id_is_stable_across_versions() -> None:
    # Ids stand in logs: this value may only change with the version of the log.
    assert SOURCE_RECIPE.id == "3556be8f047528ef"


def test_uniform_reads_layer_by_layer_and_none_outside() -> None:
    recipe = uniform(fused("linear", ("left", 1.0)), 4)
    places = {place: fusion.inputs[0].layer for place, fusion in recipe.fusions()}
    assert len(places) == 4 * len(COMPONENTS) + 1
    assert places[2, "mlp"] == 2
    assert places[None, "outer"] is None


def test_fusion_refuses_no_inputs_and_numbers_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="give it at least one Input"):
        Fusion("linear", ())
    with pytest.raises(ValueError, match="must be finite"):
        Fusion("linear", (Input("left", 0, float("nan")),))


def test_from_json_names_what_is_missing() -> None:
    content = json.loads(SOURCE_RECIPE.to_json())
    del content["outer"]
    with pytest.raises(ValueError, match="KeyError 'outer'"):
        Recipe.from_json(json.dumps(content))
    with pytest.raises(ValueError, match="not a recipe"):
        Recipe.from_json("{")


def test_scales_and_their_meaning_are_checked_and_travel() -> None:
    layer = uniform(fused("passthrough", ("left", 1.0)), 1).layers[0]
    with pytest.raises(ValueError, match="the scale of a layer must be finite, got nan"):
        replace(layer, scale=float("nan"))
    recipe = uniform(fused("passthrough", ("left", 1.0)), 1)
    with pytest.raises(ValueError, match="scaling must be one of residual, branch_mlp, got 'stream'"):
        replace(recipe, scaling="stream")  # type: ignore[arg-type]
    other = replace(recipe, scaling="branch_mlp")
    assert "scaling" not in recipe.to_json()
    assert Recipe.from_json(other.to_json()) == other
    assert other.id != recipe.id
