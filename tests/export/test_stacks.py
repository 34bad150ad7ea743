from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from automerge.export.model import export_recipe
from automerge.recipe import COMPONENTS, Fusion, Input, OutputLayer, Recipe
from tests import architectures, toy


def stack(*layers: int) -> Recipe:
    """The base's layers in this order."""
    made = []
    for layer in layers:
        fusion = Fusion("passthrough", (Input("base", layer),))
        made.append(OutputLayer(tuple((component, fusion) for component in COMPONENTS)))
    return Recipe(tuple(made), Fusion("passthrough", (Input("base", None),)))


def test_the_configuration_follows_the_stack(tmp_path: Path) -> None:
    base = architectures.make(tmp_path / "base", "gemma2")
    family = toy.family_of({"base": base, "left": architectures.make(tmp_path / "left", "gemma2", like=base)})
    export_recipe(stack(1, 0, 1), family, tmp_path / "stack", card="")
    config = AutoConfig.from_pretrained(tmp_path / "stack")
    assert config.num_hidden_layers == 3
    assert config.layer_types == ["full_attention", "sliding_attention", "full_attention"]


def test_a_stack_that_no_configuration_describes_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"mlp_only_layers": [0], "num_hidden_layers": 3}
    base = architectures.make(tmp_path / "base", "qwen3_moe", **changes)
    left = architectures.make(tmp_path / "left", "qwen3_moe", like=base, **changes)
    family = toy.family_of({"base": base, "left": left})
    with pytest.raises(ValueError, match="no configuration of this architecture describes the stack"):
        export_recipe(stack(0, 1, 0), family, tmp_path / "stack", card="")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "left"]
    export_recipe(stack(0, 2, 1), family, tmp_path / "stack", card="")
