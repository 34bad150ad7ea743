"""Dataset to surrogate: bags of LightGBM boosters of every target, and what they predict of models they did not see.

A model with k right of n items is one row with label k/n and weight n under the cross-entropy objective, which is the
exact binomial deviance. Folds by recipe give the bags: a row is predicted by the bag that saw no row of its model,
which gives the quality, and the benchmark averages all of them::

    data = measured(dataset, "math", "search")
    fitted = fit_target(dataset.inputs[data.rows], data.share, data.n, data.groups, data.offsets)
    fitted.predicted                                  # (n_rows,) out of fold, the expected score over all items
    data.on_items(fitted.predicted)                   # the same on the items that each row was measured on
    Ensemble(combine(fitted.bags, bias=fitted.bias))  # the model of the benchmark
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import lightgbm
import numpy as np
from numpy.typing import NDArray

from automerge.benchmark.dataset import Dataset
from automerge.benchmark.difficulties import fit_rasch, offsets, on_subsets, positions
from automerge.benchmark.folder import ITEM_SECONDS, MERGE_SECONDS
from automerge.benchmark.quality import area_under_curve, quality
from automerge.records import Split

Values = NDArray[np.float64]

N_BAGS = 10
"""Number of folds and of boosters of an ensemble."""

MINIMUM = 30
"""Fewest models from which a target is fitted."""

N_ROUNDS = 25
"""Trees of a bag: few, because answers take time by their number, and the mean of the bags smooths long steps."""

PARAMETERS: Mapping[str, Any] = {
    "objective": "cross_entropy",
    "learning_rate": 0.3,
    "num_leaves": 31,
    "max_bin": 63,
    "min_data_in_leaf": 3,
    "min_sum_hessian_in_leaf": 1e-3,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}

SECONDS = {"objective": "gamma", "num_leaves": 7, "learning_rate": 0.4}
"""Times are positive and their errors grow with them."""

SECONDS_ROUNDS = 10

LONGEST = 0.99
"""Quantile at which times are cut: what is longer waited for the machine."""


class Fitted(NamedTuple):
    """The bags of a target, what is to be added to the raw score of each, and predictions out of fold, (n_rows,)."""

    bags: tuple[lightgbm.Booster, ...]
    bias: tuple[float, ...]
    predicted: Values


class Measured(NamedTuple):
    """The scores of a task's split: `rows` of the dataset, each with the mean of n item scores, all of shape (n_rows,).

    `groups` number the models. `offsets` tell by how many logits the items of a row are easier than all; `positions`
    are the row's items among the known ones, and `difficulties` theirs, shape (n_items,).
    """

    rows: NDArray[np.int64]
    share: Values
    n: Values
    groups: NDArray[np.int64]
    offsets: Values
    positions: tuple[NDArray[np.int64], ...]
    difficulties: Values

    def on_items(self, predicted: Values) -> Values:
        """The expected scores on the rows' own items, of expected scores over all items; both of shape (n_rows,).

        Only the prediction tells what a model can; `offsets` would tell what it was measured to.
        """
        return on_subsets(predicted, self.difficulties, self.positions)


class Target(NamedTuple):
    """A target of the benchmark: its bags, None where too few models tell of it, and figures of their quality."""

    fitted: Fitted | None
    figures: Mapping[str, float | None]


def fit_target(
    X: Values,
    share: Values,
    n: Values,
    groups: NDArray[np.int64],
    offsets: Values | None = None,
    *,
    parameters: Mapping[str, Any] = PARAMETERS,
    n_rounds: int = N_ROUNDS,
    n_bags: int = N_BAGS,
    seed: int = 0,
) -> Fitted:
    """The bags for inputs of shape (n_rows, n_inputs), labels `share` with weights n, and predictions out of fold.

    Rows of one group are in one fold. With `offsets`, which need the cross-entropy objective, the label of a row is
    expected that many logits above what its inputs tell; predictions are without. Raises ValueError for fewer than two
    groups.
    """
    kinds, members = np.unique(groups, return_inverse=True)
    if len(kinds) < 2:
        raise ValueError(f"expected rows of two models at least, got {len(kinds)}; evaluate more")
    n_folds = min(n_bags, len(kinds))
    fold = (np.random.default_rng([seed, len(kinds)]).permutation(len(kinds)) % n_folds)[members]
    weight = n / n.mean()
    predicted = np.empty(len(X))
    bags, bias = [], []
    for bag in range(n_folds):
        seen = fold != bag
        start = 0.0 if offsets is None else _start(share[seen], n[seen], offsets[seen])
        data = lightgbm.Dataset(
            X[seen],
            label=share[seen],
            weight=weight[seen],
            init_score=None if offsets is None else offsets[seen] + start,
            params={"verbosity": -1},
        )
        booster = lightgbm.train({**parameters, "seed": seed + bag}, data, num_boost_round=n_rounds)
        # A booster that was trained from initial scores does not know of them.
        raw = np.asarray(booster.predict(X[~seen], raw_score=offsets is not None))
        predicted[~seen] = raw if offsets is None else 1 / (1 + np.exp(-(raw + start)))
        bags.append(booster)
        bias.append(start)
    return Fitted(tuple(bags), tuple(bias), predicted)


def measured(dataset: Dataset, task: str, split: Split, rows: NDArray[np.int64] | None = None) -> Measured:
    """The scores of a task's split of all models that are not broken, or of some rows of the dataset.

    What was measured of a model before an evaluation of it was lost counts.

    A score of a model on an item counts once, in the first of the rows that hold it: runs with equal seeds use equal
    items, and a second look at them tells nothing new.
    """
    known = dataset.items.get((task, split), np.empty(0, dtype=np.int64))
    recipes = np.unique(dataset.frame["recipe"].to_numpy(dtype=str), return_inverse=True)[1]
    sound = dataset.frame["status"].isin(["ok", "failed"]).to_numpy()
    numbers, items, scores = [], [], []
    seen: dict[int, NDArray[np.int32]] = {}
    for row in range(len(dataset.frame)) if rows is None else rows:
        found = dataset.responses.get((int(row), task, split))
        if not sound[row] or found is None:
            continue
        before = seen.get(recipes[row])
        new = slice(None) if before is None else ~np.isin(found.items, before)
        if len(found.items[new]):
            numbers.append(int(row))
            items.append(found.items[new])
            scores.append(found.scores[new].astype(np.float64))
            seen[recipes[row]] = found.items if before is None else np.concatenate([before, found.items[new]])
    places = positions(known, items)
    owners = np.repeat(np.arange(len(numbers)), [len(own) for own in places])
    answers = np.concatenate([*scores, np.empty(0)])
    rasch = fit_rasch(
        owners,
        np.concatenate([*places, np.empty(0, dtype=np.int64)]),
        answers,
        n_models=len(numbers),
        n_items=len(known),
    )
    n = np.array([len(own) for own in places], dtype=np.float64)
    return Measured(
        rows=np.array(numbers, dtype=np.int64),
        share=np.bincount(owners, answers, len(numbers)) / n,
        n=n,
        groups=recipes[numbers] if numbers else np.empty(0, dtype=np.int64),
        offsets=offsets(rasch.abilities, rasch.difficulties, places),
        positions=tuple(places),
        difficulties=rasch.difficulties,
    )


def fit_scores(dataset: Dataset, data: Measured, *, seed: int = 0) -> Target:
    """The target of a task's expected score over all items of a split."""
    if len(np.unique(data.groups)) < MINIMUM:
        return _few(data.groups, len(data.rows))
    fitted = fit_target(dataset.inputs[data.rows], data.share, data.n, data.groups, data.offsets, seed=seed)
    return Target(fitted, _figures(data.groups, quality(data.share, data.on_items(fitted.predicted), data.n)))


def fit_broken(dataset: Dataset, *, seed: int = 0) -> Target | None:
    """The target of the probability that a model is broken; None if none was.

    A lost evaluation says nothing of the model.
    """
    status = dataset.frame["status"].to_numpy(dtype=str)
    told = np.flatnonzero(status != "failed")
    broken = status[told] != "ok"
    groups = np.unique(dataset.frame["recipe"].to_numpy(dtype=str)[told], return_inverse=True)[1]
    if not broken.any():
        return None
    if len(np.unique(groups)) < MINIMUM:
        return _few(groups, len(groups))
    once = np.ones(len(broken))
    fitted = fit_target(dataset.inputs[told], broken.astype(np.float64), once, groups, seed=seed)
    figures = {"rows": float(len(broken)), "broken": float(broken.sum())}
    return Target(fitted, _figures(groups, figures | {"auc": area_under_curve(broken, fitted.predicted)}))


def fit_seconds(dataset: Dataset, *, seed: int = 0) -> dict[str, Target]:
    """The targets of what one merge takes and what one item takes, by name; empty if nothing was timed."""
    frame = dataset.frame
    n_timed = frame["items.timed"].to_numpy(dtype=np.float64)
    rows = np.flatnonzero(n_timed > 0)
    if not len(rows):
        return {}
    groups = np.unique(frame["recipe"].to_numpy(dtype=str)[rows], return_inverse=True)[1]
    items = frame["seconds.items"].to_numpy(dtype=np.float64)[rows] / n_timed[rows]
    times = {MERGE_SECONDS: frame["seconds.merge"].to_numpy(dtype=np.float64)[rows], ITEM_SECONDS: items}
    return {name: _fit_times(dataset.inputs[rows], taken, groups, seed=seed) for name, taken in times.items()}


def _fit_times(X: Values, seconds: Values, groups: NDArray[np.int64], *, seed: int) -> Target:
    if len(np.unique(groups)) < MINIMUM:
        return _few(groups, len(groups))
    # The logarithm of nothing is none.
    label = np.clip(seconds, 1e-9, np.quantile(seconds, LONGEST))
    fitted = fit_target(
        X,
        label,
        np.ones(len(label)),
        groups,
        parameters={**PARAMETERS, **SECONDS},
        n_rounds=SECONDS_ROUNDS,
        seed=seed,
    )
    error = np.abs(np.log(fitted.predicted / label))
    figures = {
        "rows": float(len(label)),
        "median": float(np.median(label)),
        "median_log_error": float(np.median(error)),
    }
    return Target(fitted, _figures(groups, figures))


def _few(groups: NDArray[np.int64], n_rows: int) -> Target:
    return Target(None, _figures(groups, {"rows": float(n_rows)}))


def _figures(groups: NDArray[np.int64], figures: Mapping[str, float | None]) -> dict[str, float | None]:
    return {"n_models": float(len(np.unique(groups))), **figures}


def _start(share: Values, n: Values, offsets: Values) -> float:
    """The logit that with these offsets fits best to all rows, by Newton's method."""
    found = 0.0
    for _ in range(30):
        p = 1 / (1 + np.exp(-(found + offsets)))
        # A label that is the same everywhere has its best logit at infinity.
        step = float(np.sum(n * (share - p)) / (np.sum(n * p * (1 - p)) + 1e-9))
        found = float(np.clip(found + np.clip(step, -2, 2), -10, 10))
    return found
