"""Stacks of layers, with and without scales, written for mergekit and read from its configurations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml

from automerge.alignment import Alignment, align
from automerge.mergekit import from_yaml, to_yaml
from automerge.recipe import BASE, COMPONENTS, Fusion, Input, OutputLayer, Recipe, Scaling
from automerge.scaling import Writer
from tests.mergekit.toy import FIVE, NAMES, PATHS, Names

ENDS = {"self_attn.o_proj.weight": Writer("attention"), "mlp.down_proj.weight": Writer("mlp")}

Reads = Sequence[tuple[str, int]]


def stack(reads: Reads, scales: Sequence[float] = (), scaling: Scaling = "residual", outer: str = BASE) -> Recipe:
    """The recipe that passes these (source, layer) through, in order."""
    layers = []
    for (name, layer), scale in zip(reads, scales or [1.0] * len(reads), strict=True):
        fusion = Fusion("passthrough", (Input(name, layer),))
        layers.append(OutputLayer(tuple((component, fusion) for component in COMPONENTS), scale))
    return Recipe(tuple(layers), Fusion("passthrough", (Input(outer, None),)), scaling)


def fused(weights: Sequence[float], scales: Sequence[float], scaling: Scaling = "residual") -> Recipe:
    """The recipe that averages two sources in every layer, the first by these weights."""
    recipe = stack([("math", depth) for depth in range(len(scales))], scales, scaling)
    layers = []
    for depth, (layer, weight) in enumerate(zip(recipe.layers, weights, strict=True)):
        fusion = Fusion("linear", (Input("math", depth, weight), Input("code", depth, 1 - weight)))
        layers.append(replace(layer, components=tuple((component, fusion) for component in COMPONENTS)))
    return replace(recipe, layers=tuple(layers))


def text_of(recipe: Recipe, alignment: Alignment = FIVE, ends: Mapping[str, Writer] = ENDS) -> str:
    found = to_yaml(recipe, PATHS, alignment, dtype="bfloat16", writers=ends)
    assert found.text is not None, found.faults
    return found.text


def slices_of(recipe: Recipe) -> list[tuple[str, list[int], Any]]:
    """(model, layers, scale) of every slice."""
    parts = [part["sources"] for part in yaml.safe_load(text_of(recipe))["slices"]]
    assert all(len(sources) == 1 for sources in parts)
    return [(one["model"], one["layer_range"], one.get("parameters", {}).get("scale")) for (one,) in parts]


def read(text: str) -> Recipe:
    return from_yaml(text, NAMES, FIVE, ENDS)


def by_filters(gain: float) -> list[dict[str, Any]]:
    return [{"filter": "o_proj", "value": gain}, {"filter": "down_proj", "value": gain}, {"value": 1.0}]


def factors(text: str, names: Sequence[str]) -> list[dict[str, float]]:
    """For every output layer the factor that mergekit multiplies each tensor by: the first filter in the name decides.

    Under linear it is the sum of all models' weights.
    """
    content = yaml.safe_load(text)
    key = {"passthrough": "scale", "linear": "weight"}[content["merge_method"]]
    found = []
    for one in content["slices"]:
        start, end = one["sources"][0]["layer_range"]
        for _ in range(start, end):
            layer = dict.fromkeys(names, 0.0)
            for source in one["sources"]:
                setting = source.get("parameters", {}).get(key, 1.0)
                entries = setting if isinstance(setting, list) else [{"value": setting}]
                for name in names:
                    layer[name] += next(entry["value"] for entry in entries if entry.get("filter", "") in name)
            found.append(layer)
    return found


# ---- stacks without scales


def test_a_stack_is_slices_of_passthrough_and_the_rest_comes_from_slices_of_no_layers() -> None:
    recipe = stack([("math", 0), ("math", 1), ("code", 1), ("code", 1), (BASE, 4)])
    slices = [("org/base", [0, 0]), ("org/math", [0, 2]), ("/models/code", [1, 2]), ("/models/code", [1, 2])]
    assert slices_of(recipe) == [(*one, None) for one in [*slices, ("org/base", [4, 5])]]
    assert slices_of(stack([("math", 3), ("code", 0)], outer="code")) == [
        ("/models/code", [0, 0], None),
        ("org/math", [3, 4], None),
        ("/models/code", [0, 1], None),
    ]


def test_a_stack_of_the_hub_is_read_and_comes_back() -> None:
    recipe = read("""
slices:
- sources:
  - model: org/math
    layer_range: [0, 3]
- sources:
  - model: /models/code
    layer_range: [1, 4]
- sources:
  - model: org/math
    layer_range: [2, 5]
merge_method: passthrough
dtype: bfloat16
""")
    ranges = [("math", 0, 3), ("code", 1, 4), ("math", 2, 5)]
    reads = [(name, depth) for name, start, end in ranges for depth in range(start, end)]
    assert recipe == stack(reads, outer="math")
    assert read(text_of(recipe)) == recipe


def test_a_fused_mlp_of_scale_nothing_cannot_be_written() -> None:
    found = to_yaml(fused([0.6, 0.5], [1.0, 0.0], "branch_mlp"), PATHS, FIVE, dtype="float32", writers=ENDS)
    assert found.text is None
    assert any("whose mlp is scaled by 0" in fault for fault in found.faults)
    alone = stack([("math", 0), ("math", 1)], [1.0, 0.0], "branch_mlp")
    assert read(text_of(alone)) == alone


def test_the_note_on_depth_is_for_other_depths_only() -> None:
    def notes(n_layers: int) -> str:
        found = to_yaml(stack([("math", depth) for depth in range(n_layers)]), PATHS, FIVE, dtype="float32")
        return "; ".join(found.notes)

    assert notes(5) == ""
    assert "layer_types" in notes(4)


# ---- scales written


def test_gains_are_scales_of_the_tensors_in_which_branches_end() -> None:
    reads = [(BASE, 0), ("math", 1), ("math", 2), ("math", 2), ("math", 3), (BASE, 4)]
    # 1 / 0.5 = 2 from layer 2 on, 2 / 4 = 0.5 after layer 3; the last scale does nothing.
    assert slices_of(stack(reads, [1.0, 0.5, 1.0, 4.0, 1.0, 0.3])) == [
        ("org/base", [0, 1], None),
        ("org/math", [1, 2], None),
        ("org/math", [2, 3], by_filters(2.0)),
        ("org/math", [2, 3], by_filters(2.0)),
        ("org/math", [3, 4], by_filters(0.5)),
        ("org/base", [4, 5], by_filters(0.5)),
    ]


def test_consecutive_layers_with_equal_gains_are_one_slice() -> None:
    reads = [(BASE, depth) for depth in range(5)]
    assert slices_of(stack(reads, [1.0, 0.5, 1.0, 1.0, 1.0])) == [
        ("org/base", [0, 2], None),
        ("org/base", [2, 5], by_filters(2.0)),
    ]
    only = [{"filter": "down_proj", "value": 0.25}, {"value": 1.0}]
    assert slices_of(stack(reads, [1.0, 0.25, 0.25, 1.0, 1.0], "branch_mlp")) == [
        ("org/base", [0, 1], None),
        ("org/base", [1, 3], only),
        ("org/base", [3, 5], None),
    ]


ARCHITECTURES = {
    "biases": {
        "self_attn.q_proj.bias": None,
        "self_attn.o_proj.weight": "attention",
        "self_attn.o_proj.bias": "attention",
        "mlp.up_proj.bias": None,
        "mlp.down_proj.weight": "mlp",
        "mlp.down_proj.bias": "mlp",
        "input_layernorm.weight": None,
    },
    "both c_proj": {
        "attn.c_attn.weight": None,
        "attn.c_proj.weight": "attention",
        "attn.c_proj.bias": "attention",
        "mlp.c_fc.weight": None,
        "mlp.c_proj.weight": "mlp",
        "mlp.c_proj.bias": "mlp",
        "ln_1.weight": None,
    },
    "norms": {
        "self_attn.o_proj.weight": None,
        "mlp.down_proj.weight": None,
        "post_attention_layernorm.weight": "attention",
        "post_feedforward_layernorm.weight": "mlp",
    },
    "experts": {
        "self_attn.o_proj.weight": "attention",
        "mlp.gate.weight": None,
        "mlp.experts.gate_up_proj": None,
        "mlp.experts.down_proj": "mlp",
        "input_layernorm.weight": None,
    },
}
EXPERTS = [f"block_sparse_moe.experts.{expert}.{part}.weight" for expert in range(2) for part in ("w1", "w2", "w3")]
"""How checkpoints of Mixtral spell what mergekit calls mlp.experts."""


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", ["passthrough", "linear"])
def test_filters_give_every_tensor_the_gain_of_the_branch_that_it_ends(method: str, architecture: str) -> None:
    """Against filters matched by hand, with the names that mergekit has."""
    known = ARCHITECTURES[architecture]
    ends = {name: Writer("attention" if branch == "attention" else "mlp") for name, branch in known.items() if branch}
    names = tuple(known)
    if architecture == "experts":
        names = ("self_attn.o_proj.weight", "block_sparse_moe.gate.weight", *EXPERTS, "input_layernorm.weight")
        ends = {
            name: Writer("attention" if "attn" in name else "mlp") for name in names if "o_proj" in name or "w2" in name
        }
    alignment = align([Names(5, names)])
    scales = [0.5, 0.25, 3.0, 1.0]
    for scaling in ("residual", "branch_mlp"):
        if method == "linear":
            recipe = fused([0.25] * 4, scales, scaling)
        else:
            recipe = stack([("math", 2), ("code", 2), ("code", 2), (BASE, 4)], scales, scaling)
        gains = {"residual": [1.0, 2.0, 8.0, 8 / 3], "branch_mlp": scales}[scaling]
        text = text_of(recipe, alignment, ends)
        expected = [
            {
                name: gain if branch == "mlp" or (branch == "attention" and scaling == "residual") else 1.0
                for name, branch in known.items()
            }
            for gain in gains
        ]
        assert factors(text, list(known)) == [pytest.approx(layer, rel=1e-15) for layer in expected]
        assert factors(text, ["model.norm.weight", "lm_head.weight"])[0] == {
            "model.norm.weight": 1.0,
            "lm_head.weight": 1.0,
        }
        assert from_yaml(text, NAMES, alignment, ends).layers[:-1] == recipe.layers[:-1]


@pytest.mark.parametrize(
    ("recipe", "ends", "faults"),
    [
        (stack([("math", 0)] * 2, [0.5, 1.0]), {}, ["scales the attention, but no tensor", "scales the mlp, but no"]),
        (stack([("math", 0)] * 2, [0.5, 1.0], "branch_mlp"), {}, ["no tensor is known in which the mlp ends"]),
        (
            stack([("math", 0)] * 2, [0.5, 1.0], "branch_mlp"),
            {**ENDS, "input_layernorm.weight": Writer("mlp", 1.0)},
            [r"mergekit scales what is stored, but input_layernorm.weight multiplies by 1 \+ weight"],
        ),
        (stack([("math", 0)] * 2, [0.01, 1.0]), ENDS, ["layer 0 scales the residual stream by 0.01"]),
        (
            replace(stack([("math", 0)] * 2, [0.5, 1.0]), outer=Fusion("ties", (Input("math", None),))),
            ENDS,
            ["mergekit cannot scale tensors under ties, only under passthrough and linear"],
        ),
    ],
)
def test_scales_that_mergekit_cannot_express_are_refused(
    recipe: Recipe, ends: dict[str, Writer], faults: list[str]
) -> None:
    found = to_yaml(recipe, PATHS, FIVE, dtype="float32", writers=ends)
    assert len(found.faults) == len(faults)
    for fault, expected in zip(found.faults, faults, strict=True):
        assert re.search(expected, fault), fault


def test_weights_that_sum_to_0_cannot_take_in_gains() -> None:
    fusion = Fusion("linear", (Input("math", 0, 1.0), Input("code", 0, -1.0)))
    layer = OutputLayer(tuple((component, fusion) for component in COMPONENTS), 0.5)
    found = to_yaml(Recipe((layer, layer), fusion), PATHS, FIVE, dtype="float32", writers=ENDS)
    assert "weights of linear that sum to 0" in found.faults[0]


# ---- scales read


@pytest.mark.parametrize("scaling", ["residual", "branch_mlp"])
@pytest.mark.parametrize("method", ["passthrough", "linear"])
def test_a_scaled_recipe_comes_back_but_for_the_last_residual_scale(method: str, scaling: Scaling) -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        n_layers = int(rng.integers(1, 6 if method == "linear" else 9))
        scales = [round(float(rng.uniform(0.2, 2.0)), 4) if rng.random() < 0.6 else 1.0 for _ in range(n_layers)]
        if method == "linear":
            recipe = fused([round(float(rng.uniform(0.1, 0.9)), 4) for _ in range(n_layers)], scales, scaling)
            recipe = with_shares(recipe)
        else:
            reads = [(str(rng.choice([*PATHS])), int(rng.integers(5))) for _ in range(n_layers)]
            recipe = stack(reads, scales, scaling, outer=str(rng.choice([*PATHS])))
        found = read(text_of(recipe))
        last = replace(recipe.layers[-1], scale=1.0 if scaling == "residual" else scales[-1])
        expected = replace(recipe, layers=(*recipe.layers[:-1], last))
        # Scales of 1 mean the same in both readings.
        unscaled = all(layer.scale == 1 for layer in expected.layers)
        assert found == (replace(expected, scaling="residual") if unscaled else expected)


def with_shares(recipe: Recipe) -> Recipe:
    """The recipe with weights that sum to 1 exactly as they are printed."""

    def rounded(fusion: Fusion) -> Fusion:
        return replace(fusion, inputs=tuple(replace(read, weight=round(read.weight, 4)) for read in fusion.inputs))

    layers = tuple(
        replace(layer, components=tuple((name, rounded(fusion)) for name, fusion in layer.components))
        for layer in recipe.layers
    )
    return replace(recipe, layers=layers)


def one_slice(scale: str, layers: str = "[1, 3]") -> str:
    return f"""
merge_method: passthrough
slices:
- sources: [{{model: org/math, layer_range: [0, 1]}}]
- sources: [{{model: org/math, layer_range: {layers}, parameters: {{scale: {scale}}}}}]
- sources: [{{model: org/math, layer_range: [3, 5]}}]
"""


def test_gains_written_by_hand_are_read_as_ratios_of_scales() -> None:
    recipe = read(one_slice("[{filter: o_proj, value: 0.4}, {filter: down_proj, value: 0.4}, {value: 1}]"))
    assert recipe == stack([("math", depth) for depth in range(5)], [2.5, 1.0, 0.4, 1.0, 1.0], outer="math")
    recipe = read(one_slice("{filter: down_proj, value: [0, 0.5]}"))
    assert recipe == stack([("math", depth) for depth in range(5)], [1, 0, 0.5, 1, 1], "branch_mlp", outer="math")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            one_slice("[{filter: o_proj, value: 0}, {filter: down_proj, value: 0}]"),
            "layer 1 scales what it adds by 0, expected more than 0; leave out a layer that adds nothing",
        ),
        (
            one_slice("[{filter: o_proj, value: 0.5}, {filter: down_proj, value: 0.25}]"),
            "layer 1 scales what its attention adds by 0.5 and what its mlp adds by 0.25; scale both alike",
        ),
        (one_slice("{filter: o_proj, value: 0.5}"), "by 0.5 and what its mlp adds by 1"),
        (one_slice("0.5"), "input_layernorm.weight is scaled by 0.5, but is not known to end a branch$"),
        (one_slice("{filter: down_proj, value: -1}"), "layer 1 scales its mlp by -1; choose from 0"),
        (one_slice("{filter: _proj, value: 0.5}"), r"q_proj.weight is scaled by 0.5, but is not known"),
        (one_slice("{filter: o_proj, value: half}"), "expected a number for scale of .*, got 'half'"),
        (
            "{merge_method: passthrough, parameters: {scale: [{filter: lm_head, value: 2}]}, "
            "slices: [{sources: [{model: org/math, layer_range: [0, 5]}]}]}",
            "lm_head.weight, which is outside the layers, is scaled by 2",
        ),
        (
            "{merge_method: passthrough, parameters: {scale: [{filter: _proj, value: 2}]}, "
            "slices: [{sources: [{model: org/math, layer_range: [0, 5]}]}]}",
            "mlp.up_proj.weight is scaled by 2",
        ),
        (
            "{merge_method: passthrough, parameters: {scale: [{filter: o_proj, value: 2}, "
            "{filter: down_proj, value: 2}]}, slices: [{sources: [{model: org/math, layer_range: [0, 5]}]}]}",
            "layer 0 scales what it adds by 2, but scales are relative to the first layer's",
        ),
        (
            "{merge_method: linear, parameters: {normalize: false}, models: ["
            "{model: org/math, parameters: {weight: 1}}, {model: /models/code, parameters: {weight: -1}}]}",
            "sum to 0; set normalize: true",
        ),
    ],
)
def test_scales_that_a_recipe_cannot_express_are_refused(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read(text)


def test_ends_of_a_branch_that_are_scaled_apart_are_refused() -> None:
    names = ("self_attn.o_proj.weight", "mlp.down_proj.weight", "mlp.down_proj.bias")
    ends = {name: Writer("attention" if "attn" in name else "mlp") for name in names}
    text = one_slice("{filter: down_proj.weight, value: 0.5}")
    with pytest.raises(ValueError, match=r"scales mlp.down_proj.bias by 1 and mlp.down_proj.weight by 0.5, but both"):
        from_yaml(text, NAMES, align([Names(5, names)]), ends)
    with pytest.raises(ValueError, match=r"mlp.down_proj.weight is scaled by 0.5, but multiplies by 1 \+ weight"):
        from_yaml(text, NAMES, FIVE, {"mlp.down_proj.weight": Writer("mlp", 1.0)})


def test_weights_of_linear_that_are_not_normalized_may_sum_to_1() -> None:
    text = """{merge_method: linear, parameters: {normalize: NORMALIZE}, models: [
{model: org/math, parameters: {weight: 0.3}}, {model: /models/code, parameters: {weight: 0.7}}]}"""
    assert read(text.replace("NORMALIZE", "false")) == read(text.replace("NORMALIZE", "true"))
