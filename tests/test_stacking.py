from transformers import Qwen2Config

from automerge.recipe import COMPONENTS, Fusion, Input, OutputLayer, Recipe, uniform
from automerge.stacking import in_place, origins, stacked_config

OUTER = Fusion("passthrough", (Input("left", None),))


def layer(*depths: int) -> OutputLayer:
    """A layer whose components read these source layers."""
    fusions = [Fusion("passthrough", (Input("left", depth),)) for depth in depths]
    return OutputLayer(tuple(zip(COMPONENTS, fusions, strict=True)))


def test_a_layer_comes_from_where_its_attention_comes_from() -> None:
    assert origins(Recipe((layer(2, 0, 1), layer(0, 1, 1)), OUTER)) == (2, 0)


def test_only_recipes_that_move_and_scale_nothing_are_in_place() -> None:
    whole = uniform(OUTER, 3)
    assert in_place(whole, 3)
    assert not in_place(whole, 4)
    assert not in_place(Recipe((*whole.layers[:2], layer(2, 1, 2)), OUTER), 3)
    assert not in_place(Recipe((OutputLayer(whole.layers[0].components, 0.9), *whole.layers[1:]), OUTER), 3)


def test_lists_with_an_entry_per_layer_follow_their_layers() -> None:
    config = Qwen2Config(num_hidden_layers=4, use_sliding_window=True, max_window_layers=2, eos_token_id=[1, 2, 3, 4])
    full, sliding = "full_attention", "sliding_attention"
    assert stacked_config(config.to_dict(), (0, 3, 2, 1, 1), 4) == {
        "num_hidden_layers": 5,
        "layer_types": [full, sliding, sliding, full, full],
    }
    assert stacked_config(config.to_dict(), (0, 1, 2, 3), 4) == {}
