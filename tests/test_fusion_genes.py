"""The genes of one fused part; what spaces make of them is tested in conformance."""

from typing import Any

import numpy as np
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition

from automerge import methods
from automerge.fusion_genes import (
    FusionGenes,
    option_faults,
)
from automerge.protocols import Gene
from automerge.recipe import BASE, Fusion, Input

SOURCES = ("a", "b", "c")
ALL = tuple(name for name in methods.names() if name != "passthrough")


def part(*names: str, sources: tuple[str, ...] = SOURCES, max_weight: float = 1.5) -> FusionGenes:
    return FusionGenes(sources=sources, methods=names or ALL, max_weight=max_weight)


def values(genes: FusionGenes, method: str, *weights: float, **parameters: float) -> np.ndarray:
    """Canonical values of a part."""
    x = np.array([gene.default for gene in genes.genes("p", 0, "mlp")])
    names = [gene.name for gene in genes.genes("p", 0, "mlp")]
    x[0] = genes.methods.index(method)
    x[1 : 1 + len(weights)] = weights
    for name, value in parameters.items():
        x[names.index(f"p.{name}")] = value
    genes.repair(x[None], 0)
    return x


def anywhere(genes: FusionGenes, n: int, seed: int) -> np.ndarray:
    """Values of which some are out of bounds, some are 0 or 1, some have one source alone."""
    rng = np.random.default_rng(seed)
    X = np.stack([genes.sample(rng) for _ in range(n)])
    X[:, 1:] += rng.choice([0.0, -0.4, 0.4], size=(n, 1), p=[0.8, 0.1, 0.1])
    X[:, 1:] = np.where(rng.random(X[:, 1:].shape) < 0.3, rng.choice([0.0, 1.0], size=X[:, 1:].shape), X[:, 1:])
    alone = rng.random(n) < 0.2
    X[alone, 1 : len(genes.sources)] = 0.0
    return X


def test_genes_are_the_method_the_weights_and_the_parameters() -> None:
    genes = part("linear", "ties", "della", sources=("a", "b"))
    assert genes.genes("3.mlp", 3, "mlp") == [
        Gene("3.mlp.method", 3, "mlp", "method", 0, 2, 3),
        Gene("3.mlp.a", 3, "mlp", "weight:a", 0.0, 1.5, 0, 0.5),
        Gene("3.mlp.b", 3, "mlp", "weight:b", 0.0, 1.5, 0, 0.5),
        Gene("3.mlp.density", 3, "mlp", "density", 0.1, 1.0, 0, 0.5),
        Gene("3.mlp.epsilon", 3, "mlp", "epsilon", 0.0, 0.3, 0, 0.15),
    ]
    assert genes.size == 5
    assert list(genes.known) == ["linear", "ties", "della"]
    assert list(genes.parameters) == ["density", "epsilon"]


def test_samples_are_seeded_within_bounds_and_of_every_method() -> None:
    genes = part()
    rng = np.random.default_rng(0)
    drawn = np.stack([genes.sample(rng) for _ in range(400)])
    again = np.random.default_rng(0)
    assert (drawn == np.stack([genes.sample(again) for _ in range(400)])).all()
    named = genes.genes("p", 0, "mlp")
    assert (drawn >= [gene.lower for gene in named]).all()
    assert (drawn <= [gene.upper for gene in named]).all()
    assert set(drawn[:, 0]) == set(range(len(ALL)))


def test_repair_writes_one_part_and_reads_no_other() -> None:
    genes = part()
    raw = anywhere(genes, 300, seed=1)
    expected = raw.copy()
    genes.repair(expected, 0)
    noise = np.random.default_rng(2).normal(size=(300, 4))
    X = np.concatenate([noise, raw, noise], axis=1)
    genes.repair(X, 4)
    assert (X[:, :4] == noise).all()
    assert (X[:, -4:] == noise).all()
    assert X[:, 4:-4].tobytes() == expected.tobytes()
    genes.repair(X, 4)
    assert X[:, 4:-4].tobytes() == expected.tobytes()


def canonical(genes: FusionGenes, raw: np.ndarray) -> tuple[str, list[float], dict[str, float]]:
    """One row's method, weights and acting parameters, by the rules one after the other and without matrices."""
    n = len(genes.sources)
    method = genes.known[genes.methods[int(raw[0])]]
    weights = [round(min(max(float(weight), 0.0), genes.max_weight), 4) for weight in raw[1 : 1 + n]]
    parameters = {}
    for value, (name, parameter) in zip(raw[1 + n :], genes.parameters.items(), strict=True):
        if parameter in method.parameters:
            parameters[name] = round(min(max(float(value), parameter.lower), parameter.upper), 4)
    if method.weighting != "strength":
        weights = weights if any(weights) else [1.0] * n
        if method.weighting == "equal":
            weights = [float(weight >= 0.5 * max(weights)) for weight in weights]
        if method.max_inputs == 2:
            heaviest = sorted(range(n), key=lambda k: (-weights[k], k))[:2]
            weights = [weight if k in heaviest else 0.0 for k, weight in enumerate(weights)]
        weights = [weight / sum(weights) for weight in weights]
    alone = sum(weight > 0 for weight in weights) == 1
    if alone and (method.weighting != "strength" or (max(weights) == 1 and parameters.get("density", 1.0) == 1)):
        return "passthrough", weights, {}
    return (method.name, weights, parameters) if any(weights) else ("passthrough", weights, {})


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_repaired_part_is_fused_as_its_raw_genes_say(n: int) -> None:
    """Row by row beside the rules written without matrices; shares are rounded to 4 decimals."""
    genes = part(sources=SOURCES[:n] if n < 3 else (*SOURCES, "d", "e"))
    raw = anywhere(genes, 500, seed=n)
    X = raw.copy()
    genes.repair(X, 0)
    kinds = set()
    for before, after in zip(raw, X, strict=True):
        method, weights, parameters = canonical(genes, before)
        fusion = genes.fusion(after, 0, 7)
        assert (fusion.method, dict(fusion.parameters)) == (method, parameters)
        inputs = [(name, weight) for name, weight in zip(genes.sources, weights, strict=True) if weight > 5e-5]
        assert [read.source for read in fusion.inputs] == [name for name, _ in inputs] or [BASE]
        assert np.allclose([read.weight for read in fusion.inputs], [weight for _, weight in inputs] or [1], atol=5e-5)
        assert {read.layer for read in fusion.inputs} == {7}
        kinds.add((method, fusion.inputs[0].source == BASE))
    assert len(kinds) >= len(genes.methods) + 1


def test_equal_fusions_have_equal_bytes() -> None:
    """Also where every method has parameters, and where a weight of 0 has a sign."""
    genes = part("della", "breadcrumbs")
    whole = values(genes, "della", 0.0, 1.0, 0.0, density=1.0, epsilon=0.3)
    assert whole.tobytes() == values(genes, "breadcrumbs", 0.0, 1.0, -0.0, density=1.0, gamma=0.1).tobytes()
    assert whole.tobytes() == genes.source(1).tobytes()
    partial = values(genes, "della", 0.0, 1.0, 0.0, density=0.9, epsilon=0.3)
    assert genes.fusion(partial, 0, 0).parameters == (("density", 0.9), ("epsilon", 0.3))
    nothing = values(genes, "breadcrumbs", -0.0, 0.0, 0.0, density=0.2, gamma=0.1)
    assert nothing.tobytes() == values(genes, "della", 0.0, 0.0, 0.0, density=0.7, epsilon=0.2).tobytes()


@pytest.mark.parametrize("names", [ALL, ("ties",), ("sce", "linear"), ("dare_ties", "slerp")])
def test_known_models_are_canonical_passthroughs(names: tuple[str, ...]) -> None:
    genes = part(*names)
    known: list[tuple[str, Any]] = [(name, genes.source(k)) for k, name in enumerate(SOURCES)]
    if names == ("sce", "linear"):
        assert genes.base() is None
    else:
        known.append((BASE, genes.base()))
    for name, x in known:
        assert genes.fusion(x, 0, None) == Fusion("passthrough", (Input(name, None),))
        again = x.copy()
        genes.repair(again[None], 0)
        assert again.tobytes() == x.tobytes()


def test_uniform_merges_have_one_weight_for_all_sources() -> None:
    genes = part("ties", "slerp", "task_arithmetic", "karcher", "model_stock")
    found = {name: genes.fusion(x, 0, 2) for name, x in genes.uniform([0.5, 1.25]).items()}
    shares = tuple(Input(name, 2, 0.3333) for name in SOURCES)
    assert found == {
        "karcher": Fusion("karcher", shares),
        "model_stock": Fusion("model_stock", shares),
        **{
            f"{method} {strength:g}": Fusion(method, tuple(Input(name, 2, strength) for name in SOURCES), parameters)
            for method, parameters in (("ties", (("density", 0.5),)), ("task_arithmetic", ()))
            for strength in (0.5, 1.25)
        },
    }
    assert list(found)[:2] == ["karcher", "model_stock"]
    assert "slerp" in part("slerp", sources=("a", "b")).uniform([])
    assert list(part("linear", "ties", sources=("a",)).uniform([0.5])) == ["ties 0.5"]


def test_written_settings_undo_fusions() -> None:
    genes = part()
    X = anywhere(genes, 400, seed=3)
    genes.repair(X, 0)
    for x in X:
        reader = genes.reader()
        setting = reader.setting(genes.fusion(x, 0, 3), 3, "3.mlp")
        assert setting is not None
        row = np.concatenate([[-7.0], [gene.default for gene in genes.genes("p", 0, "mlp")], [-7.0]])
        genes.write(row, 1, setting)
        assert (row[0], row[-1]) == (-7, -7)
        genes.repair(row[None], 1)
        assert row[1:-1].tobytes() == x.tobytes()


def test_features_are_effective_weights_parameters_and_flags() -> None:
    genes = part("linear", "ties", "della", "karcher")
    names = genes.feature_names("4.mlp")
    X = np.stack(
        [
            values(genes, "linear", 1.0, 3.0, 0.0, density=0.2),
            values(genes, "della", 0.5, 0.0, 1.5, density=0.2, epsilon=0.1),
            values(genes, "ties", 0.0, 0.0, 0.0, density=0.2),
        ]
    )
    assert names == tuple(f"4.mlp.{name}" for name in (*SOURCES, "density", "epsilon", "ties", "della"))
    shifted = np.concatenate([np.zeros((3, 2)), X], axis=1)
    assert genes.features(shifted, 2).tolist() == [
        [0.4, 0.6, 0.0, 1.0, 0.0, 0.0, 0.0],  # 3 is cut to the largest weight, 1.5
        [0.5, 0.0, 1.5, 0.2, 0.1, 0.0, 1.0],
        [0.0, 0.0, 0.0, 0.5, 0.0, 1.0, 0.0],
    ]


def test_conditions_of_the_caller_switch_the_whole_part_off() -> None:
    genes = part("linear", "ties", "della")
    space = ConfigurationSpace(seed=0)
    used = Categorical("used", [True, False])
    added, dependent = genes.configspace_parts("p")
    assert [each.name for each in added] == ["p.method", "p.a", "p.b", "p.c"]
    space.add(used, *added, *dependent, *(EqualsCondition(each, used, value=True) for each in added))
    weights = {"used", *(each.name for each in added)}
    expected = {"linear": weights, "ties": weights | {"p.density"}, "della": weights | {"p.density", "p.epsilon"}}
    seen = set()
    for configuration in map(dict, space.sample_configuration(100)):
        if configuration["used"]:
            seen.add(str(configuration["p.method"]))
            assert set(configuration) == expected[configuration["p.method"]]
        else:
            assert set(configuration) == {"used"}
    assert seen == set(expected)


def test_faulty_options_are_listed_together() -> None:
    with pytest.raises(
        ValueError, match=r"unknown method 'magic', known are .*each method can be named once"
    ) as caught:
        FusionGenes(sources=[], methods=["magic", "magic"], max_weight=0.5)
    assert "max_weight must be >= 1" in str(caught.value)
    assert "at least one source besides the base" in str(caught.value)
    with pytest.raises(ValueError, match="unknown method 'passthrough'"):
        part("passthrough")
    with pytest.raises(ValueError, match="sce join several sources, but there is only a"):
        part("sce", sources=("a",))


def test_strengths_lie_within_the_weights() -> None:
    options: dict[str, Any] = {"sources": ["a"], "methods": ["linear"], "max_weight": 1.5}
    wrong: list[Any] = [0.0, -1, "abc", None, float("nan"), float("inf"), True]
    assert option_faults(**options, strengths=[0.1, 1.5]) == []
    (fault,) = option_faults(**options, strengths=[1.6])
    assert "strengths must lie in (0, max_weight]" in fault
    for strength in wrong:
        assert option_faults(**options, strengths=[strength]) == [
            f"strengths: expected numbers above 0, got [{strength!r}]"
        ]


def test_faults_of_one_option_do_not_hide_those_of_others() -> None:
    wrong: dict[str, Any] = {"sources": ["a"], "methods": None, "max_weight": "abc", "strengths": 0.5}
    assert [fault.split(":")[0] for fault in option_faults(**wrong)] == ["methods", "max_weight", "strengths"]
    named: dict[str, Any] = {"sources": ["a"], "methods": [["linear"], ["linear"]], "max_weight": 1}
    faults = option_faults(**named)
    assert [fault.split(",")[0] for fault in faults[1:]] == [
        "unknown method ['linear']",
        "each method can be named once",
    ]


def test_genes_act_if_a_method_uses_them_on_several_sources() -> None:
    genes = part("linear", "ties", "della")
    rows = [
        (values(genes, "linear", 0.4, 0.6, 0.0), "11100"),
        (values(genes, "ties", 0.4, 0.6, 0.0), "11110"),
        (values(genes, "della", 0.4, 0.6, 0.0), "11111"),
        (genes.source(1), "11100"),  # ties of a density below 1 would leave entries out
        (genes.base(), "11100"),
    ]
    for x, acts in rows:
        assert x is not None
        method, weights, parameters = acts[0], acts[1] * 3, acts[3:]
        assert "".join(str(int(act)) for act in genes.active(x[None], 0)[0]) == method + weights + parameters


@pytest.mark.parametrize(
    ("names", "method_acts_at_source", "density_acts_at_source"),
    [
        (("linear", "task_arithmetic"), False, None),
        (("ties", "dare_ties"), False, True),
        (("ties",), False, True),
        (("linear", "ties"), True, False),
    ],
)
def test_a_source_has_a_method_and_a_density_if_entries_can_be_left_out(
    names: tuple[str, ...], method_acts_at_source: bool, density_acts_at_source: bool | None
) -> None:
    genes = part(*names)
    acts = genes.active(genes.source(0)[None], 0)[0]
    assert acts[0] == method_acts_at_source
    assert density_acts_at_source is None or acts[4] == density_acts_at_source


def test_a_source_alone_by_ratio_changes_with_its_method_and_weight_together_only() -> None:
    genes = part("linear", "task_arithmetic", sources=("a",))
    rows = np.array([values(genes, "linear", 0.7), values(genes, "task_arithmetic", 0.7)])
    assert genes.active(rows, 0).tolist() == [[False, False], [True, True]]
