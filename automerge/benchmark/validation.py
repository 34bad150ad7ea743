"""How far an exported benchmark can be trusted, measured from its own data and written into its report and card.

Every figure is of rows that the models asked did not see, and of scores on all items of a search, whatever fidelities
the models were fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from automerge.benchmark import trajectories
from automerge.benchmark.card import card_text
from automerge.benchmark.dataset import SPLITS, Dataset, read_exported, read_runs
from automerge.benchmark.ensemble import Ensemble, combine
from automerge.benchmark.fit import MINIMUM, Fitted, Measured, fit_broken, fit_target, measured
from automerge.benchmark.folder import CARD, REPORT, read_json, read_metadata, write_json, write_sums
from automerge.benchmark.quality import Figures, Values, coverage, quality
from automerge.records import Split

RANDOM = ("random_search", "space_filling")
"""Optimizers that no score steers."""

FIRST = 0.6
"""Part of every run, by trials in order, that extrapolation is fitted on."""

HELD_OUT = 0.2
"""Part of the models that intervals are judged on."""

Mask = NDArray[np.bool_]

Place = tuple[str, Split]
"""A task and a split of its items."""


class Scores(NamedTuple):
    """What was measured of a task's split, the inputs of its rows, and which rows have all items of their run."""

    data: Measured
    X: Values
    is_full: Mask


def validate(folder: Path, *, real: Sequence[Path] = (), seed: int = 0) -> dict[str, Any]:
    """The figures of an exported benchmark, which are written into its report, card and checksums too.

    `interpolation` by task and split is out of fold; `leave_one_out` by optimizer, task and split is of models that saw
    nothing of that optimizer; `extrapolation` of those that saw the first part of every run, of its rest; `random_only`
    of those that saw what no score steered, of all else; `coverage` of intervals of models that saw four fifths;
    `broken` tells how well models that break are foreseen; `ablation` gives figures by what the models were fitted on.
    What has too few rows to be fitted is left out. `trajectories` compares searches with the same ones on the
    benchmark: those in the run folders `real`, or those that it was made of. Raises as `read_metadata` does.
    """
    metadata = read_metadata(folder)
    data = read_exported(folder)
    scores = _scores(data)
    fitted = {place: _fitted(each, each.X, seed) for place, each in scores.items()}
    own = {place: _quality(scores[place], each.predicted) for place, each in fitted.items()}
    found = {
        "interpolation": _nested(own),
        "leave_one_out": _leave_one_out(data, scores, seed),
        "extrapolation": _transfers(scores, _is_early(data), seed),
        "random_only": _transfers(scores, _is_random(data), seed),
        "coverage": _nested({place: _coverage(each, seed) for place, each in scores.items()}),
        "broken": _broken(data, seed),
        "ablation": _ablation(data, scores, own, seed),
        "trajectories": trajectories.measure(folder, read_runs(real) if real else data),
    }
    report = {**read_json(folder, REPORT), "validation": found}
    write_json(folder, REPORT, report)
    (folder / CARD).write_text(card_text(metadata, report), encoding="utf-8")
    write_sums(folder)
    return found


def _scores(data: Dataset) -> dict[Place, Scores]:
    """The scores of every task and split of which enough models tell."""
    found = {}
    for task in data.tasks:
        for split in SPLITS:
            told = measured(data, task, split)
            if len(np.unique(told.groups)) >= MINIMUM:
                most = data.frame.groupby("run")[f"n.{task}.{split}"].transform("max").to_numpy()
                found[task, split] = Scores(told, data.inputs[told.rows], told.n >= most[told.rows])
    return found


def _fitted(scores: Scores, X: Values, seed: int, rows: Mask | slice = slice(None)) -> Fitted:
    data = scores.data
    return fit_target(X[rows], data.share[rows], data.n[rows], data.groups[rows], data.offsets[rows], seed=seed)


def _quality(scores: Scores, predicted: Values, rows: Mask | None = None) -> Figures:
    """Figures of expected scores over all items, shape (n_rows,), on full rows, or some of these."""
    chosen = scores.is_full if rows is None else scores.is_full & rows
    expected = scores.data.on_items(predicted)
    return quality(scores.data.share[chosen], expected[chosen], scores.data.n[chosen])


def _transfer(scores: Scores, train: Mask, seed: int, test: Mask | None = None) -> Figures | None:
    """Figures of models fitted on some rows, on other rows of models that these do not have; None for too few rows."""
    groups = scores.data.groups
    if len(np.unique(groups[train])) < MINIMUM:
        return None
    judged = ~np.isin(groups, groups[train]) & (True if test is None else test)
    ensemble = _ensemble(_fitted(scores, scores.X, seed, train))
    return {"fitted": float(train.sum()), **_quality(scores, ensemble.mean(scores.X), judged)}


def _transfers(scores: Mapping[Place, Scores], train: Mask, seed: int) -> dict[str, dict[str, Figures]]:
    """Figures by task and split of models fitted on the rows of the dataset that `train` says, on all others."""
    return _nested({place: _transfer(each, train[each.data.rows], seed) for place, each in scores.items()})


def _leave_one_out(
    data: Dataset, scores: Mapping[Place, Scores], seed: int
) -> dict[str, dict[str, dict[str, Figures]]]:
    optimizers = data.frame["optimizer"].to_numpy(dtype=str)
    names = sorted(set(optimizers))
    if len(names) < 2:
        return {}
    found = {}
    for name in names:
        of_it = optimizers == name
        found[name] = _nested(
            {
                place: _transfer(each, ~of_it[each.data.rows], seed, of_it[each.data.rows])
                for place, each in scores.items()
            }
        )
    return {name: figures for name, figures in found.items() if figures}


def _is_early(data: Dataset) -> Mask:
    """Whether a row is of the first part of its run."""
    place = data.frame.groupby("run")["started"].rank(pct=True)
    return np.asarray(place <= FIRST)


def _is_random(data: Dataset) -> Mask:
    """Whether a row's optimizer was steered by no score; labels begin with its module's name."""
    return np.array([str(label).split()[0] in RANDOM for label in data.frame["optimizer"]])


def _coverage(scores: Scores, seed: int) -> Figures | None:
    """Figures of the intervals of models fitted on a part, on the full rows of the rest."""
    groups = scores.data.groups
    kinds = np.unique(groups)
    held_out = np.random.default_rng([seed, len(kinds)]).permutation(kinds)[: round(HELD_OUT * len(kinds))]
    judged = np.isin(groups, held_out)
    if len(kinds) - len(held_out) < MINIMUM:
        return None
    ensemble = _ensemble(_fitted(scores, scores.X, seed, ~judged))
    chosen = judged & scores.is_full
    expected = scores.data.on_items(ensemble.mean(scores.X))[chosen]
    return coverage(scores.data.share[chosen], expected, ensemble.error(scores.X[chosen]), scores.data.n[chosen])


def _broken(data: Dataset, seed: int) -> Figures:
    """Figures out of fold of the probability to be broken; none if no model was, or too few tell."""
    target = fit_broken(data, seed=seed)
    return {} if target is None else dict(target.figures)


def _ablation(
    data: Dataset, scores: Mapping[Place, Scores], own: Mapping[Place, Figures], seed: int
) -> dict[str, dict[str, dict[str, Figures]]]:
    """Figures out of fold by what the models are fitted on; `own` are those of models fitted on all inputs."""
    if not scores:
        return {}
    n_features = data.features.shape[1]
    found = {"features and genes": _nested(own)}
    for name, columns in {"genes": slice(n_features, None), "features": slice(n_features)}.items():
        found[name] = _nested(
            {place: _quality(each, _fitted(each, each.X[:, columns], seed).predicted) for place, each in scores.items()}
        )
    return found


def _ensemble(fitted: Fitted) -> Ensemble:
    return Ensemble(combine(fitted.bags, bias=fitted.bias))


def _nested(figures: Mapping[Place, Figures | None]) -> dict[str, dict[str, Figures]]:
    """Figures by task and split, without those that there are not."""
    found: dict[str, dict[str, Figures]] = {}
    for (task, split), each in figures.items():
        if each is not None:
            found.setdefault(task, {})[split] = each
    return found
