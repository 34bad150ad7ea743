"""Recipes written for mergekit and read from its configurations.

That mergekit itself makes the same weights of them is measured by `python -m experiments.mergekit_parity`.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
import yaml

from automerge.alignment import align
from automerge.mergekit import models, to_yaml
from automerge.recipe import BASE, COMPONENTS, Fusion, Input, Recipe, uniform
from tests.mergekit.toy import FIVE, LLAMA, PATHS, Names, layered, read, reading, written
from tests.toy import fused

OTHERS = ("math", "code", "chat")


# ---- recipes that are written and read back

NUMBERS: dict[str, dict[str, tuple[float, float]]] = {
    "ties": {"density": (0.1, 1.0)},
    "breadcrumbs": {"density": (0.1, 1.0), "gamma": (0.0, 0.2)},
    "dare_linear": {"density": (0.1, 1.0)},
    "dare_ties": {"density": (0.1, 1.0)},
    "della": {"density": (0.4, 0.6), "epsilon": (0.0, 0.3)},
    "sce": {"density": (0.1, 1.0)},
}
OPTIONS = {
    "ties": (("normalize", 1.0),),
    "dare_linear": (("rescale", 0.0),),
    "dare_ties": (("normalize", 1.0), ("rescale", 0.0)),
    "della": (("normalize", 1.0), ("rescale", 0.0)),
}
BY_WEIGHTS = ("linear", "task_arithmetic", "ties", "breadcrumbs", "dare_linear", "dare_ties", "della")


def random_fusion(method: str, layer: int | None, names: tuple[str, ...], rng: np.random.Generator) -> Fusion:
    """A fusion of these sources, or of some of them where mergekit can leave one out."""
    numbers = tuple((key, float(rng.uniform(*bounds))) for key, bounds in NUMBERS.get(method, {}).items())
    options = tuple(option for option in OPTIONS.get(method, ()) if rng.random() < 0.5)
    if method in BY_WEIGHTS:
        if rng.random() < 0.2:
            return Fusion("passthrough", (Input(str(rng.choice(OTHERS)) if method == "linear" else BASE, layer),))
        names = tuple(name for name in names if rng.random() < 0.6) or names
        names = names if method != "linear" or len(names) > 1 else OTHERS
        weights = rng.uniform(0.01, 2.0, size=len(names)).tolist()
    elif method == "slerp":
        if rng.random() < 0.2:
            return Fusion("passthrough", (Input(str(rng.choice(names)), layer),))
        t = float(rng.uniform(0.01, 0.99))
        weights = [1 - t, t]
    else:
        weights = rng.uniform(0.01, 2.0, size=2).tolist() if method == "nuslerp" else [1.0] * len(names)
    inputs = tuple(Input(name, layer, weight) for name, weight in zip(names, weights, strict=True))
    return Fusion(method, inputs, (*numbers, *options))


def random_recipe(method: str, rng: np.random.Generator) -> Recipe:
    """Runs of layers with equal or different settings, in or out of their order, and an outer part."""
    two = method in ("slerp", "nuslerp")
    names = ("math", "chat") if two else ("code",) if method == "passthrough" else OTHERS
    layers = []
    shared = {component: random_fusion(method, None, names, rng) for component in COMPONENTS}
    for _ in range(int(rng.integers(1, 7))):
        if rng.random() < 0.5:
            shared = {component: random_fusion(method, None, names, rng) for component in COMPONENTS}
        depth = int(rng.integers(5))
        layers.append(
            {
                component: Fusion(
                    fusion.method,
                    tuple(Input(one.source, depth, one.weight) for one in fusion.inputs),
                    fusion.parameters,
                )
                for component, fusion in shared.items()
            }
        )
    return layered(layers, random_fusion(method, None, names, rng))


@pytest.mark.parametrize("method", [*BY_WEIGHTS, "slerp", "nuslerp", "karcher", "sce", "model_stock", "passthrough"])
def test_a_recipe_comes_back_from_its_configuration(method: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(25):
        recipe = random_recipe(method, rng)
        found = to_yaml(recipe, PATHS, FIVE, dtype="float32")
        assert found.text is not None, found.faults
        assert read(found.text) == recipe


def test_settings_by_component_are_filters_and_equal_layers_one_slice() -> None:
    fusions = [
        {
            "attention": reading("ties", depth, ("math", 0.5), ("code", 0.25), density=0.5),
            "mlp": reading("ties", depth, ("code", 1.0), density=0.75),
            "other": reading("ties", depth, ("math", 0.5), ("code", 0.25), density=0.5),
        }
        for depth in range(4)
    ]
    recipe = layered(fusions, reading("passthrough", None, (BASE, 1.0)))
    outer = [
        {"filter": "lm_head.weight", "value": 0.0},
        {"filter": "model.embed_tokens.weight", "value": 0.0},
        {"filter": "model.norm.weight", "value": 0.0},
    ]
    dense = [{**entry, "value": 1.0} for entry in outer]
    assert written(recipe) == {
        "merge_method": "ties",
        "base_model": "org/base",
        "dtype": "float32",
        "out_dtype": "bfloat16",
        "parameters": {
            "density": [*dense, {"filter": "mlp", "value": 0.75}, {"value": 0.5}],
            "normalize": False,
        },
        "slices": [
            {
                "sources": [
                    {"model": "org/base", "layer_range": [0, 4]},
                    {
                        "model": "org/math",
                        "layer_range": [0, 4],
                        "parameters": {"weight": [*outer, {"filter": "mlp", "value": 0.0}, {"value": 0.5}]},
                    },
                    {
                        "model": "/models/code",
                        "layer_range": [0, 4],
                        "parameters": {"weight": [*outer, {"filter": "mlp", "value": 1.0}, {"value": 0.25}]},
                    },
                ]
            }
        ],
    }


def test_slerp_counts_t_from_the_first_model_of_its_slice() -> None:
    recipe = uniform(fused("slerp", ("math", 1.0), ("chat", 3.0)), 5)
    assert written(recipe)["slices"] == [
        {
            "sources": [{"model": "org/math", "layer_range": [0, 5]}, {"model": "org/chat", "layer_range": [0, 5]}],
            "base_model": "org/math",
        }
    ]
    assert written(recipe)["parameters"] == {"t": 0.75}


def test_components_of_several_sources_passed_through_are_linear_with_one_weight() -> None:
    passed = {c: reading("passthrough", 0, (name, 1.0)) for c, name in zip(COMPONENTS, OTHERS, strict=True)}
    recipe = layered([passed], reading("passthrough", None, (BASE, 1.0)))
    content = written(recipe)
    assert content["merge_method"] == "linear"
    assert read(yaml.safe_dump(content)) == recipe


@pytest.mark.parametrize(
    ("locals_", "stem", "attention", "mlp"),
    [
        (LLAMA, "model.layers", "self_attn", "mlp"),
        (("attn.c_attn.weight", "ln_1.weight", "mlp.c_fc.weight"), "transformer.h", "attn", "mlp"),
        (("q_proj.weight", "norm.weight", "fc1.weight"), "blocks", "q_proj", "fc1"),
        # mergekit calls the experts of Mixtral as transformers 5 does.
        (
            ("self_attn.o_proj.weight", "block_sparse_moe.gate.weight", "block_sparse_moe.experts.0.w2.weight", "norm"),
            "layers",
            "self_attn",
            "mlp",
        ),
    ],
)
def test_filters_are_parts_of_the_names_that_no_other_component_has(
    locals_: tuple[str, ...], stem: str, attention: str, mlp: str
) -> None:
    alignment = align([Names(1, locals_, stem)])
    weights = dict(zip(COMPONENTS, (0.25, 0.5, 1.0), strict=True))
    layer = {c: reading("task_arithmetic", 0, ("math", weight)) for c, weight in weights.items()}
    content = written(layered([layer], reading("task_arithmetic", None, ("math", 1.0))), alignment)
    setting = content["slices"][0]["sources"][1]["parameters"]["weight"]
    assert setting == [{"filter": attention, "value": 0.25}, {"filter": mlp, "value": 0.5}, {"value": 1.0}]


def test_components_without_a_filter_of_their_own_are_refused() -> None:
    alignment = align([Names(1, ("self_attn.weight", "mlp.self_attn.weight", "mlp.weight"))])
    layer = {c: reading("linear", 0, ("math", 1.0), ("code", w)) for c, w in zip(COMPONENTS, (1, 2, 3), strict=True)}
    found = to_yaml(layered([layer], reading("passthrough", None, ("math", 1.0))), PATHS, alignment, dtype="float32")
    assert found.text is None
    assert "no part of the tensor names tells" in "; ".join(found.faults)


# ---- what mergekit cannot express


def by_component(*fusions: Fusion, outer: Fusion | None = None) -> Recipe:
    return layered([dict(zip(COMPONENTS, fusions, strict=True))], outer or reading("passthrough", None, (BASE, 1.0)))


LINEAR = reading("linear", 0, ("math", 1.0), ("code", 1.0))
STOCK = reading("model_stock", 0, ("math", 1.0), ("code", 1.0))


@pytest.mark.parametrize(
    ("recipe", "fault"),
    [
        (by_component(LINEAR, reading("ties", 0, ("math", 1.0), density=0.5), LINEAR), "recipe has linear, ties"),
        (uniform(fused("passthrough", ("nobody", 1.0)), 1), "no path is given for 'nobody'"),
        (uniform(fused("magic", ("math", 1.0)), 1), "mergekit has no method 'magic'"),
        (by_component(LINEAR, reading("linear", 1, ("math", 1.0), ("chat", 1.0)), LINEAR), "one layer of a model"),
        (uniform(fused("linear", ("math", 1.0), ("math", 2.0)), 1), "reads a model once for a tensor"),
        (uniform(fused("karcher", ("math", 1.0), ("code", 2.0)), 1), "karcher has no weights in mergekit"),
        (uniform(fused("task_arithmetic", ("math", 1.0), (BASE, 1.0)), 1), "the base, which then cannot be an input"),
        (uniform(fused("model_stock", ("math", 1.0)), 1), "model_stock takes 2 or more inputs, got 1"),
        (uniform(fused("slerp", ("math", 1.0)), 1), "slerp takes 2 inputs, got 1"),
        (uniform(fused("passthrough", ("math", 1.0), ("code", 1.0)), 1), "passthrough takes 1 inputs, got 2"),
        (uniform(fused("ties", ("math", 1.0)), 1), "ties lacks density"),
        (uniform(fused("linear", ("math", 1.0), temperature=2.0), 1), "linear has no temperature"),
        (uniform(fused("della", ("math", 1.0), density=0.9, epsilon=0.15), 1), r"density \+- epsilon in \(0, 1\)"),
        (
            by_component(STOCK, STOCK, reading("passthrough", 0, ("math", 1.0))),
            "model_stock cannot pass 'math' through",
        ),
        (
            by_component(STOCK, STOCK, reading("model_stock", 0, ("math", 1.0), ("chat", 1.0)), outer=STOCK),
            "reads the same models for all tensors of a slice",
        ),
        (
            by_component(STOCK, STOCK, STOCK, outer=reading("model_stock", None, ("math", 1.0), ("chat", 1.0))),
            "goes with the first and last slice",
        ),
        (
            by_component(
                *(reading("slerp", 0, (a, 1.0), (b, 1.0)) for a, b in (("math", "code"), ("math", "chat"))),
                reading("passthrough", 0, ("math", 1.0)),
            ),
            "slerp has two models in a slice, here are math, code, chat",
        ),
    ],
)
def test_what_mergekit_cannot_express_is_named(recipe: Recipe, fault: str) -> None:
    found = to_yaml(recipe, PATHS, FIVE, dtype="float32")
    assert found.text is None
    assert re.search(fault, "; ".join(found.faults)), found.faults


def test_all_faults_are_listed_together() -> None:
    recipe = by_component(*(reading("linear", depth, ("math", 1.0), ("code", 1.0)) for depth in (0, 1, 0)))
    twice = Recipe(recipe.layers * 2, fused("linear", ("code", 1.0), ("code", 1.0)))
    found = to_yaml(twice, PATHS, FIVE, dtype="float32")
    assert [fault.split(":")[0] for fault in found.faults] == ["output layer 0", "output layer 1", "outside the layers"]


def test_notes_tell_where_the_values_differ() -> None:
    def notes(recipe: Recipe, paths: dict[str, str] = PATHS) -> str:
        return "; ".join(to_yaml(recipe, paths, FIVE, dtype="float32").notes)

    plain = uniform(fused("task_arithmetic", ("math", 1.0)), 5)
    assert notes(plain) == ""
    assert "random masks of its own" in notes(uniform(fused("dare_ties", ("math", 1.0), density=0.5), 5))
    assert "their whole task vector" in notes(Recipe(plain.layers, reading("passthrough", None, ("math", 1.0))))
    assert "@ as revision and + as adapter in org/math+lora" in notes(plain, {**PATHS, "math": "org/math+lora"})


# ---- reading


def test_gradients_run_over_the_layers_and_filters_pick_components() -> None:
    recipe = read("""
merge_method: slerp
base_model: org/math
dtype: bfloat16
models: [{model: org/math}, {model: /models/code}]
parameters:
  t:
  - {filter: self_attn, value: [0.25, 0.75]}
  - {filter: mlp, value: [1, 0.5, 0]}
  - value: 0.5
""")
    shares = {"attention": (0.25, 0.375, 0.5, 0.625, 0.75), "mlp": (1, 0.75, 0.5, 0.25, 0), "other": (0.5,) * 5}
    for depth, layer in enumerate(recipe.layers):
        for component, fusion in layer.components:
            t = shares[component][depth]
            expected = (("math", 1 - t), ("code", t)) if t not in (0, 1) else (("code" if t else "math", 1.0),)
            assert fusion == reading("passthrough" if t in (0, 1) else "slerp", depth, *expected)
    assert recipe.outer == reading("slerp", None, ("math", 0.5), ("code", 0.5))


def test_a_gradient_is_at_its_start_outside_the_layers_and_at_its_end_in_a_slice_of_one_layer() -> None:
    recipe = read("""
merge_method: linear
slices:
- sources:
  - {model: org/math, layer_range: [0, 1], parameters: {weight: [1, 3]}}
  - {model: org/chat, layer_range: [4, 5], parameters: {weight: 1}}
""")
    assert dict(recipe.layers[0].components)["mlp"].inputs == (Input("math", 0, 3.0), Input("chat", 4, 1.0))
    assert recipe.outer == reading("linear", None, ("math", 1.0), ("chat", 1.0))


def test_the_innermost_setting_of_a_tensor_holds_and_defaults_are_those_of_mergekit() -> None:
    recipe = read("""
merge_method: ties
base_model: org/base
parameters: {weight: 1e-1, density: 0.9, normalize: false}
slices:
- sources:
  - {model: org/base, layer_range: [0, 1]}
  - {model: org/math, layer_range: [0, 1], parameters: {weight: [{filter: mlp, value: 0.3}]}}
  - {model: org/chat, layer_range: [0, 1]}
  parameters: {weight: {filter: self_attn, value: 0.2}}
""")
    weights = {"attention": (0.2, 0.2), "mlp": (0.3, 0.1), "other": (0.1, 0.1)}
    for component, fusion in recipe.layers[0].components:
        math, chat = weights[component]
        assert fusion == reading("ties", 0, ("math", math), ("chat", chat), density=0.9)
    bare = read("{merge_method: ties, base_model: org/base, models: [{model: org/chat, parameters: {weight: 1}}]}")
    assert bare.outer == reading("ties", None, ("chat", 1.0), density=1.0, normalize=1.0)
    assert bare == uniform(bare.outer, 5)


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("task_arithmetic", "lambda: 0.5", {"math": 0.25, "chat": 0.75}),
        ("task_arithmetic", "normalize: true", {"math": 0.25, "chat": 0.75}),
        ("task_arithmetic", "normalize: true, lambda: 2", {"math": 0.5, "chat": 1.5}),
        ("task_arithmetic", "int8_mask: true", {"math": 0.5, "chat": 1.5}),
        ("linear", "normalize: true", {"math": 0.5, "chat": 1.5}),
    ],
)
def test_lambda_and_normalize_go_into_the_weights(method: str, options: str, expected: dict[str, float]) -> None:
    base = "base_model: org/base, " if method != "linear" else ""
    recipe = read(f"""{{merge_method: {method}, {base}parameters: {{{options}}}, models: [
{{model: org/math, parameters: {{weight: 0.5}}}}, {{model: org/chat, parameters: {{weight: 1.5}}}}]}}""")
    assert recipe == uniform(fused(method, *expected.items()), 5)


def test_options_of_methods_that_elect_signs_stay_options() -> None:
    text = """{merge_method: dare_ties, base_model: org/base, parameters: {density: 0.5, OPTIONS}, models: [
{model: org/math, parameters: {weight: 0.5}}, {model: org/chat, parameters: {weight: 0.0}}]}"""
    options = {"normalize: true, rescale: false": {"normalize": 1.0, "rescale": 0.0}, "lambda: 1": {}}
    for written_, parameters in options.items():
        recipe = read(text.replace("OPTIONS", written_))
        assert recipe == uniform(fused("dare_ties", ("math", 0.5), density=0.5, **parameters), 5)
    with pytest.raises(ValueError, match=r"lambda 0\.5 cannot be folded into the weights; set normalize: false"):
        read(text.replace("OPTIONS", "normalize: true, lambda: 0.5"))


def test_task_vectors_of_weight_0_leave_the_base() -> None:
    recipe = read("""{merge_method: task_arithmetic, base_model: org/base, models: [
{model: org/math, parameters: {weight: [{filter: mlp, value: 0.5}, {value: 0}]}}]}""")
    found = dict(recipe.layers[3].components)
    assert found["mlp"] == reading("task_arithmetic", 3, ("math", 0.5))
    assert found["attention"] == found["other"] == reading("passthrough", 3, (BASE, 1.0))


def test_the_base_is_an_input_of_methods_that_do_not_measure_from_it() -> None:
    recipe = read("{merge_method: karcher, base_model: org/base, models: [{model: org/math}]}")
    assert recipe == uniform(fused("karcher", ("math", 1.0), (BASE, 1.0)), 5)


@pytest.mark.parametrize(
    "more", ["tokenizer_source: union", "tokenizer: {source: org/math, pad_to_multiple_of: 8}", "chat_template: auto"]
)
def test_what_is_said_of_vocabularies_changes_no_recipe(more: str) -> None:
    plain = "merge_method: linear, models: [{model: org/math, parameters: {weight: 1}}]"
    assert read(f"{{{plain}, {more}}}") == read(f"{{{plain}}}")


ONE = "{model: org/math, parameters: {weight: 1, density: 0.5}}"
TWO = "{model: org/chat, parameters: {weight: 1, density: 0.5}}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[1, 2", "this is no YAML"),
        ("merge_method: nearswap", r"expected a merge_method that automerge knows, linear, .*; got 'nearswap'"),
        ("just words", "expected a merge_method"),
        ("{merge_method: linear}", "exactly one of models and slices must be there"),
        (f"{{merge_method: linear, models: [{ONE}], modules: {{}}}}", "modules cannot be read"),
        ("{merge_method: linear, models: [{model: org/other}]}", "no source name is given for org/other"),
        (
            "{merge_method: linear, models: [{name: org/math}]}",
            "not a configuration as mergekit documents it: KeyError",
        ),
        ("{merge_method: linear, models: [{model: org/math}]}", "expected a number for weight of org/math, got None"),
        (f"{{merge_method: linear, models: [{ONE}], parameters: {{normalize: 2}}}}", "expected true or false"),
        (f"{{merge_method: ties, models: [{ONE}]}}", "named 'base', but base_model is not set"),
        (f"{{merge_method: ties, base_model: org/math, models: [{ONE}, {TWO}]}}", "base_model is 'math'"),
        (
            f"{{merge_method: ties, base_model: org/base, models: [{ONE}, {TWO.replace('0.5', '0.25')}]}}",
            r"the models of a fusion have one density, got \[0.25, 0.5\]",
        ),
        (f"{{merge_method: slerp, models: [{ONE}, {TWO}], parameters: {{t: 0.5}}}}", "counts t from base_model"),
        (
            f"{{merge_method: slerp, base_model: org/math, models: [{ONE}, {TWO}], parameters: {{t: 1.5}}}}",
            r"needs a t in \[0, 1\], got 1.5",
        ),
        (f"{{merge_method: passthrough, models: [{ONE}, {TWO}]}}", "passthrough takes 1 inputs, got 2"),
        (
            "{merge_method: linear, models: [{model: org/math, parameters: {weight: [{filter: q_proj, value: 2}, "
            "{value: 1}]}}, " + TWO + "]}",
            "attention of output layer 0 has one setting in a recipe, but those of .*o_proj.* and .*q_proj.* differ",
        ),
        (
            "{merge_method: passthrough, slices: [{sources: [{model: org/math, layer_range: [0, 2]}]}, "
            "{sources: [{model: org/chat, layer_range: [2, 5]}]}]}",
            r"the part outside the layers has one setting .* end with the slice .*org/math, layer_range: \[0, 0\]",
        ),
        (
            "{merge_method: passthrough, slices: [{sources: [{model: org/math, layer_range: [3, 3]}]}]}",
            "no slice reads a layer",
        ),
        (
            "{merge_method: passthrough, slices: [{sources: [{model: org/math, layer_range: [3, 6]}]}]}",
            r"slice 0 must read some of layers 0..4, got \[\[3, 6\]\]",
        ),
        (
            "{merge_method: linear, slices: [{residual_weight: 0.5, sources: [{model: org/math, layer_range: [0, 2]}, "
            "{model: org/math, layer_range: [1, 2]}]}]}",
            "equally many layers of models that are not repeated\n.*residual_weight",
        ),
        (
            "{merge_method: ties, base_model: org/base, parameters: {weight: 1}, slices: [{sources: "
            "[{model: org/base, layer_range: [0, 1]}, {model: org/math, layer_range: [1, 2]}]}]}",
            "the base is read at layer 0, the first model at 1",
        ),
    ],
)
def test_what_a_recipe_cannot_express_is_named(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read(text)


def test_the_models_of_a_configuration_are_named_as_it_spells_them() -> None:
    entries = [{"model": "org/math", "layer_range": [0, 5]}, {"model": "/models/code", "layer_range": [0, 5]}]
    content = {"slices": [{"sources": entries}, {"sources": entries, "base_model": "org/base@main"}]}
    assert models(yaml.safe_dump(content)) == ("org/base@main", "org/math", "/models/code")
    listed = {"base_model": "org/base", "models": [{"model": "org/math"}, {"model": {"path": "odd"}}, "strange"]}
    assert models(yaml.safe_dump(listed)) == ("org/base", "org/math")
    assert models("just words") == ()
    with pytest.raises(ValueError, match="this is no YAML"):
        models("a: [")
