"""Objectives from tasks and costs, what the models see, and what follows from both."""

import numpy as np
import pytest

from automerge.landscape.beliefs import Beliefs
from automerge.landscape.model import View
from automerge.records import Constraint, Objective, Result, Trial
from tests.conformance.members import dis, lfs

OBJECTIVES = (Objective("a"), Objective("layers", "cost"))


def trials(n: int, n_items: int = 200, seed: int = 0) -> list[Trial]:
    """Stacks whose score at `a` is the share of layers that come from the left source."""
    space = dis()
    found = []
    for k, x in enumerate(space.sample(n, np.random.default_rng(seed))):
        recipe = space.decode(x)
        results = {"a": Result(n_items, n_items * score(x)), "b": Result(n_items, n_items * 0.5)}
        found.append(Trial(k, x, recipe, {"operator": "sample"}, "ok", results, {"layers": len(recipe.layers)}))
    return found


def score(x: np.ndarray) -> float:
    layers = dis().decode(x).layers
    from_left = [layer.components[0][1].inputs[0].source == "left" for layer in layers]
    return float(np.mean(from_left))


def test_costs_are_exact_and_scores_are_uncertain() -> None:
    space = dis()
    landscape = Beliefs(View(space, OBJECTIVES), seed=0).landscape(trials(40))
    assert landscape is not None
    X = space.sample(30, np.random.default_rng(1))
    belief = landscape.believe(X)
    depths = np.array([len(space.decode(x).layers) for x in X], dtype=float)
    assert belief.means[:, 1].tolist() == (-depths).tolist()
    assert (belief.deviations[:, 1] == 0).all()
    assert (belief.deviations[:, 0] > 0).all()
    means, covariances = landscape.joint(X)
    assert means == pytest.approx(belief.means)
    assert np.einsum("iaia->ia", covariances) == pytest.approx(belief.deviations**2, abs=1e-8)


def test_scores_of_new_models_are_told_from_known_ones() -> None:
    landscape = Beliefs(View(dis(), OBJECTIVES), seed=0).landscape(trials(80))
    assert landscape is not None
    X = dis().sample(60, np.random.default_rng(2))
    truth = np.array([score(x) for x in X])
    assert np.corrcoef(landscape.believe(X).means[:, 0], truth)[0, 1] > 0.8


def test_a_weighted_mean_is_the_mean_of_its_tasks_and_surer_than_each() -> None:
    view = View(dis(), [Objective.mean_of({"a": 3, "b": 1})])
    assert view.tasks == ("a", "b")
    X = dis().sample(2, np.random.default_rng(0))
    assert view.means(X, np.array([[0.8, 0.4], [0.0, 1.0]])).tolist() == pytest.approx(np.array([[0.7], [0.25]]))
    assert view.deviations(np.array([[0.1, 0.1]])) == pytest.approx(0.1 * np.hypot(0.75, 0.25))


def test_raw_features_are_genes_over_their_range_and_one_column_a_choice() -> None:
    space = lfs()
    X = space.sample(20, np.random.default_rng(0))
    raw = View(space, [Objective("a")], raw=True).features(X)
    widths = [gene.n_choices or 1 for gene in space.genes]
    assert raw.shape == (20, sum(widths))
    assert ((raw >= 0) & (raw <= 1)).all()
    first = np.cumsum([0, *widths])
    for k, gene in enumerate(space.genes):
        if gene.n_choices:
            assert (raw[:, first[k] : first[k + 1]].argmax(axis=1) == X[:, k]).all()


def test_constraints_on_costs_are_sure_and_on_scores_likely() -> None:
    space = dis()
    constraints = [Constraint("layers", "<=", 6), Constraint("a", ">=", 0.5, "task")]
    told = trials(60)
    landscape = Beliefs(View(space, [Objective("b")], constraints), seed=0).landscape(told)
    assert landscape is not None
    X = np.array([trial.genotype for trial in told])
    kept = landscape.keeps(X)
    deep = np.array([len(space.decode(x).layers) > 6 for x in X])
    good = np.array([score(x) for x in X])
    assert (kept[deep] == 0).all()
    assert kept[~deep & (good > 0.7)].min() > kept[~deep & (good < 0.3)].max()


def test_two_methods_of_one_model_are_taken_as_equal() -> None:
    space = lfs(methods=["linear", "task_arithmetic"])
    known = [each.genotype for each in space.references().values() if each.genotype is not None]
    landscape = Beliefs(View(space, [Objective("a")]), seed=0).landscape(
        [
            Trial(k, x, space.decode(x), {"operator": "sample"}, "ok", {"a": Result(10, float(k % 7))})
            for k, x in enumerate(known)
        ]
    )
    assert landscape is not None
    references = space.references()
    linear, arithmetic = references["linear"].genotype, references["task_arithmetic 0.5"].genotype
    assert linear is not None
    assert arithmetic is not None
    assert landscape.distinct(np.array([arithmetic]), np.array([linear])).tolist() == []
    assert landscape.distinct(np.array([linear, arithmetic]), known[0][None]).tolist() == [0]
