"""How far an exported benchmark can be trusted, measured from its own data and written into its report and card.

All figures but those of trajectories are of rows that the models asked did not see, and of scores on all items of a
search, whatever fidelities the models were fitted on. Difficulties of items, and offsets that tell by them how easy a
row's items are, may be of all rows: without them scores on different items could not be compared. Searches that the
benchmark was made of are repeated on it as it is, so their trajectories are in sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from automerge.benchmark import trajectories
from automerge.benchmark.card import card_text
from automerge.benchmark.dataset import Dataset, read_exported, read_runs
from automerge.benchmark.ensemble import Ensemble, combine
from automerge.benchmark.fit import MINIMUM, Fitted, Measured, fit_broken, fit_target, measured
from automerge.benchmark.folder import (
    CARD,
    REPORT,
    SPLITS,
    check_sums,
    read_json,
    read_metadata,
    write_json,
    write_sums,
)
from automerge.benchmark.quality import Figures, Values, coverage, quality
from automerge.benchmark.runs import Place, differences, load_runs, problem
from automerge.records import REFERENCE

RANDOM = ("random_search", "space_filling")
"""Optimizers that no score steers."""

FIRST = 0.6
"""Part of every run, by trials in order, that extrapolation is fitted on."""

KNOWN_BY = 5
"""Recipes by which a run is known."""

HELD_OUT = 0.2
"""Part of the models that intervals are judged on."""

Mask = NDArray[np.bool_]


class Scores(NamedTuple):
    """What was measured of a task's split, the inputs of its rows, and which rows have all items of their run."""

    data: Measured
    X: Values
    is_full: Mask


def validate(
    folder: Path,
    *,
    real: Sequence[Path] = (),
    optimizers: Sequence[str] | None = None,
    searches: Path | None = None,
    jobs: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """The figures of an exported benchmark, which are written into its report, card and checksums too.

    `interpolation` by task and split is out of fold; `leave_one_out` by optimizer, task and split is of models that saw
    nothing of that optimizer; `extrapolation` of those that saw the first part of every run, of its rest; `random_only`
    of those that saw what no score steered, of all else; `coverage` of intervals of models that saw four fifths;
    `broken` tells how well models that break are foreseen; `ablation` gives figures by what the models were fitted on.
    What has too few rows to be fitted is left out. `trajectories` compares searches with the same ones on the
    benchmark: those in the run folders `real`, or, `in_sample`, those that it was made of; of the named optimizers, or
    of all. They come last: all else is written before. The repeated searches go into the folder `searches`, in which
    they are taken up again, `jobs` at once; without one they are not kept.

    Raises as `read_metadata`, `check_sums`, `read_runs`, `trajectories.chosen` and `trajectories.measure` do, and
    ValueError if `real` are runs of another problem or of those that the benchmark was made of, or there are no jobs.
    """
    if jobs < 1:
        raise ValueError(f"jobs: expected a whole number from 1, got {jobs}")
    metadata = read_metadata(folder)
    check_sums(folder)
    data = read_exported(folder)
    searched = _real(real, data, metadata["name"]) if real else data
    runs = trajectories.chosen(searched.runs, optimizers)
    if searches is not None:
        trajectories.refuse_others(folder, runs, searches)
    scores = _scores(data)
    fitted = {place: _fitted(each, each.X, seed) for place, each in scores.items()}
    own = {place: _quality(scores[place], each.predicted) for place, each in fitted.items()}
    found = {
        "interpolation": _nested(own),
        "leave_one_out": _leave_one_out(data, scores, seed),
        "extrapolation": _transfers(data, scores, _is_early(data), seed),
        "random_only": _transfers(data, scores, _is_random(data), seed),
        "coverage": _nested({place: _coverage(each, seed) for place, each in scores.items()}),
        "broken": _broken(data, seed),
        "ablation": _ablation(data, scores, own, seed),
    }
    _write(folder, metadata, found)
    with nullcontext(searches) if searches else TemporaryDirectory() as kept:
        figures = trajectories.measure(folder, runs, searched.trajectories, Path(kept), jobs=jobs)
    if figures:
        others = {run["optimizer"] for run in trajectories.comparable(searched.runs)}
        not_chosen = sorted(others - {run["optimizer"] for run in runs})
        figures = {"in_sample": not real, "not_chosen": not_chosen, **figures}
    found["trajectories"] = figures
    _write(folder, metadata, found)
    return found


def _write(folder: Path, metadata: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    report = {**read_json(folder, REPORT), "validation": found}
    write_json(folder, REPORT, report)
    (folder / CARD).write_text(card_text(metadata, report), encoding="utf-8")
    write_sums(folder, (REPORT, CARD))


def _real(folders: Sequence[Path], data: Dataset, name: str) -> Dataset:
    """The runs in these folders. Raises ValueError with every difference if they are of another problem."""
    run = load_runs(folders[:1])[0]
    found = list(differences(problem(replace(run, settings=data.settings)), problem(run), name))
    if found:
        listed = "".join(f"\n  - {line}" for line in found)
        raise ValueError(f"expected real runs of the problem of {name}, but {folders[0]} differs:{listed}")
    searched = read_runs(folders)
    known = set(_beginnings(data).values())
    if own := [name for name, beginning in _beginnings(searched).items() if beginning in known]:
        raise ValueError(
            f"the benchmark was made of {', '.join(own)}, or of runs that began with the same models, so it knows what "
            "they measured; name runs with other seeds, or none to repeat its own, in sample"
        )
    return searched


def _beginnings(data: Dataset) -> dict[str, tuple[str, ...]]:
    """By run the optimizer's module and the first recipes that it proposed: what a run is known by, however long."""
    frame = data.frame[data.frame["operator"] != REFERENCE].sort_values("started", kind="stable")
    return {
        str(name): (str(rows["optimizer"].iloc[0]).split()[0], *map(str, rows["recipe"].iloc[:KNOWN_BY]))
        for name, rows in frame.groupby("run", sort=False)
    }


def _scores(data: Dataset) -> dict[Place, Scores]:
    """The scores of every task and split of which enough models tell."""
    every = np.ones(len(data.frame), dtype=bool)
    places: list[Place] = [(task, split) for task in data.tasks for split in SPLITS]
    found = {place: _told(data, place, every) for place in places}
    return {place: each for place, each in found.items() if len(np.unique(each.data.groups)) >= MINIMUM}


def _told(data: Dataset, place: Place, rows: Mask) -> Scores:
    """The scores of a task's split that some rows of the dataset tell, by run and trial, whatever its order."""
    order = np.lexsort((data.frame["started"].to_numpy(), data.frame["run"].to_numpy(dtype=str)))
    told = measured(data, *place, order[rows[order]])
    most = data.frame.groupby("run")["n.{}.{}".format(*place)].transform("max").to_numpy()
    return Scores(told, data.inputs[told.rows], told.n >= most[told.rows])


def _fitted(scores: Scores, X: Values, seed: int, rows: Mask | slice = slice(None)) -> Fitted:
    data = scores.data
    return fit_target(X[rows], data.share[rows], data.n[rows], data.groups[rows], data.offsets[rows], seed=seed)


def _quality(scores: Scores, predicted: Values) -> Figures:
    """Figures of expected scores over all items, shape (n_rows,), on full rows."""
    chosen = scores.is_full
    expected = scores.data.on_items(predicted)
    return quality(scores.data.share[chosen], expected[chosen], scores.data.n[chosen])


def _transfer(data: Dataset, place: Place, scores: Scores, train: Mask, seed: int) -> Figures | None:
    """Figures of models fitted on the rows of the dataset that `train` says, on the others; None for too few rows.

    References belong to every run: they are fitted and not judged. Neither are models that rows of both kinds have.
    Repeats are dropped on either side by itself, so that which run comes first does not matter.
    """
    is_reference = data.frame["operator"].to_numpy() == REFERENCE
    fitted = _told(data, place, train | is_reference)
    if len(np.unique(fitted.data.groups)) < MINIMUM:
        return None
    recipes = data.frame["recipe"].to_numpy(dtype=str)
    judged = _told(data, place, ~train & ~is_reference & ~np.isin(recipes, recipes[fitted.data.rows]))
    judged = judged._replace(data=judged.data._replace(difficulties=scores.data.difficulties))
    predicted = _ensemble(_fitted(fitted, fitted.X, seed)).mean(data.inputs)
    return {"fitted": float(len(fitted.X)), **_quality(judged, predicted[judged.data.rows])}


def _transfers(data: Dataset, scores: Mapping[Place, Scores], train: Mask, seed: int) -> dict[str, dict[str, Figures]]:
    """Figures by task and split of models fitted on the rows of the dataset that `train` says, on all others."""
    return _nested({place: _transfer(data, place, each, train, seed) for place, each in scores.items()})


def _leave_one_out(
    data: Dataset, scores: Mapping[Place, Scores], seed: int
) -> dict[str, dict[str, dict[str, Figures]]]:
    optimizers = data.frame["optimizer"].to_numpy(dtype=str)
    names = sorted(set(optimizers))
    if len(names) < 2:
        return {}
    found = {name: _transfers(data, scores, optimizers != name, seed) for name in names}
    return {name: figures for name, figures in found.items() if figures}


def _is_early(data: Dataset) -> Mask:
    """Whether a row is of the first part of its run."""
    place = data.frame.groupby("run")["started"].rank(pct=True)
    return np.asarray(place <= FIRST)


def _is_random(data: Dataset) -> Mask:
    """Whether a row's optimizer was steered by no score; labels begin with its module's name."""
    return np.array([str(label).split()[0] in RANDOM for label in data.frame["optimizer"]])


def _coverage(scores: Scores, seed: int) -> Figures | None:
    """Figures of the intervals of models fitted on a part, on the full rows of the rest.

    One half of the models of the rest gives the factor on the spread that the other half is judged with.
    """
    groups = scores.data.groups
    kinds = np.unique(groups)
    held_out = np.random.default_rng([seed, len(kinds)]).permutation(kinds)[: round(HELD_OUT * len(kinds))]
    judged = np.isin(groups, held_out)
    if len(kinds) - len(held_out) < MINIMUM:
        return None
    ensemble = _ensemble(_fitted(scores, scores.X, seed, ~judged))
    chosen = judged & scores.is_full
    expected = scores.data.on_items(ensemble.mean(scores.X))[chosen]
    first = np.isin(groups[chosen], held_out[: len(held_out) // 2])
    share, n = scores.data.share[chosen], scores.data.n[chosen]
    return coverage(share, expected, ensemble.spread(scores.X[chosen]), n, first)


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
