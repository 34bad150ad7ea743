from pathlib import Path
from typing import Any

import pytest

from automerge.check.stacks import stack_faults
from automerge.merge import ResidentSources
from automerge.model import ResidentModel, load_causal_lm
from automerge.recipe import COMPONENTS, Fusion, Input, OutputLayer, Recipe, uniform
from tests import architectures, toy

OUTER = Fusion("passthrough", (Input("base", None),))


def layer(number: int, scale: float = 1.0) -> OutputLayer:
    fusion = Fusion("passthrough", (Input("base", number),))
    return OutputLayer(tuple((component, fusion) for component in COMPONENTS), scale)


SWAPPED = Recipe((layer(1), layer(0)), OUTER)
SCALED = Recipe((layer(0, 0.8), layer(1)), OUTER)


def live(folder: Path, family: str, **changes: Any) -> ResidentModel:
    base = architectures.make(folder / "base", family, **changes)
    opened = toy.family_of({"base": base, "left": architectures.make(folder / "left", family, like=base, **changes)})
    return ResidentModel(load_causal_lm(base), ResidentSources(opened.sources, model_type=opened.model_type))


@pytest.mark.parametrize("family", sorted({family for family, _ in architectures.FAMILIES}))
def test_usual_architectures_can_be_stacked_and_scaled(family: str, tmp_path: Path) -> None:
    assert stack_faults(live(tmp_path, family), [SWAPPED, SCALED]) == []


def test_recipes_that_keep_layers_at_their_places_are_not_tried(tmp_path: Path) -> None:
    # This model could not be stacked.
    assert stack_faults(live(tmp_path, "qwen3_moe", mlp_only_layers=[0]), [uniform(OUTER, 2)]) == []


def test_layers_that_a_configuration_tells_apart_by_number_cannot_be_moved(tmp_path: Path) -> None:
    (fault,) = stack_faults(live(tmp_path, "qwen3_moe", mlp_only_layers=[0]), [SWAPPED])
    assert "layers of Qwen3MoeForCausalLM cannot be moved" in fault
    assert "search a space that leaves layers at their places" in fault


def test_every_place_to_which_some_recipe_moves_a_layer_is_tried(tmp_path: Path) -> None:
    # Layers 1 and 2 are alike, so the recipe that moves most shows nothing.
    model = live(tmp_path, "qwen3_moe", mlp_only_layers=[0], num_hidden_layers=3)
    harmless = Recipe((layer(0), layer(2), layer(1)), OUTER)
    assert stack_faults(model, [harmless]) == []
    (fault,) = stack_faults(model, [harmless, Recipe((layer(0), layer(1), layer(0)), OUTER)])
    assert "cannot be moved" in fault


def test_a_grown_vocabulary_and_stacks_of_one_kind_of_layer_are_no_faults(tmp_path: Path) -> None:
    base = toy.make_model(tmp_path / "base")
    grown = toy.with_new_token(tmp_path / "left", base, "<new>", seed=1)
    family = toy.family_of({"base": base, "left": grown})
    lm = load_causal_lm(family.base, vocabulary=family.vocabulary)
    model = ResidentModel(lm, ResidentSources(family.sources, model_type=family.model_type))
    assert stack_faults(model, [SWAPPED]) == []
    assert stack_faults(live(tmp_path / "gemma", "gemma3"), [Recipe((layer(1), layer(1)), OUTER)]) == []


def test_the_model_holds_the_base_afterwards(tmp_path: Path) -> None:
    model = live(tmp_path, "llama")
    model.write(uniform(OUTER, 2))
    before = {name: tensor.clone() for name, tensor in model.lm.model.state_dict().items()}
    assert stack_faults(model, [SWAPPED, SCALED]) == []
    assert all(tensor.equal(before[name]) for name, tensor in model.lm.model.state_dict().items())


def test_factors_of_the_mlp_can_be_folded_whatever_is_done_to_the_stream(tmp_path: Path) -> None:
    model = live(tmp_path, "opt", do_layer_norm_before=False)
    assert stack_faults(model, [Recipe(SCALED.layers, OUTER, "branch_mlp")]) == []


def test_scales_cannot_be_folded_into_a_model_that_normalises_the_stream_itself(tmp_path: Path) -> None:
    model = live(tmp_path, "opt", do_layer_norm_before=False)
    assert stack_faults(model, [SWAPPED]) == []
    (fault,) = stack_faults(model, [SCALED])
    assert "scales cannot be folded into the weights of OPTForCausalLM" in fault
    assert "set space.scaling to null or branch_mlp" in fault
