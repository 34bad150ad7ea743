"""How easy the items of a task are, from the answers of all models: the Rasch model.

Model m answers item i rightly with probability sigma(t_m + d_i), t_m its ability, d_i the item's difficulty, larger
for easier items (Rasch 1960). Both have normal priors, whose variances, and the mean of the abilities, are fitted with
them (empirical Bayes), so that an item which few models saw stays near the others. The difficulties have mean 0.

Subsets differ in how easy their items are; `offsets` tells by how much, so that scores on different subsets can be
compared and the score on all items is what is learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

ROUNDS = 60
"""Most rounds of one Newton step for the abilities and one for the items."""

TOLERANCE = 1e-3
"""Change of every number in a round below which the fit has converged, in logits."""

REACH = 12.0
"""How far abilities are tabulated beyond the easiest and the hardest item, in logits."""

N_GRID = 512

LARGEST = 2.0
"""Longest Newton step, in logits: far from the optimum the logistic curve is flat and steps would be too long."""


class Rasch(NamedTuple):
    """Abilities of the models, shape (n_models,), and difficulties of the items, shape (n_items,), in logits."""

    abilities: Values
    difficulties: Values


def fit_rasch(
    models: NDArray[np.int64], items: NDArray[np.int64], scores: Values, *, n_models: int, n_items: int
) -> Rasch:
    """The Rasch model of answers: each tells which model had which score in [0, 1] on which item; all shape (n,).

    Items and models without answers have the mean of the others.
    """
    right: tuple[Values, ...] = tuple(
        np.bincount(owners, scores, n).astype(np.float64) for owners, n in ((models, n_models), (items, n_items))
    )
    t, d = np.zeros(n_models), np.zeros(n_items)
    if not len(scores):
        return Rasch(t, d)
    center, spreads = 0.0, [1.0, 1.0]
    for _ in range(ROUNDS):
        before = t, d
        step, weight = _newton(right[0], models, t[models] + d[items], (t - center) / spreads[0], 1 / spreads[0])
        t = t + step
        center, spreads[0] = float(t.mean()), float(np.mean((t - t.mean()) ** 2 + 1 / weight))
        step, weight = _newton(right[1], items, t[models] + d[items], d / spreads[1], 1 / spreads[1])
        d = d + step
        d, t = d - d.mean(), t + d.mean()
        spreads[1] = float(np.mean(d**2 + 1 / weight))
        if max(np.abs(t - before[0]).max(initial=0), np.abs(d - before[1]).max(initial=0)) < TOLERANCE:
            break
    return Rasch(t, d)


def offsets(abilities: Values, difficulties: Values, subsets: Iterable[NDArray[np.int64]]) -> Values:
    """How much easier than all items each model's subset is for it, in logits of the expected score, shape (n_models,).

    `subsets` are positions in `difficulties`, one array a model, none of them empty.
    """
    parts = zip(abilities, subsets, strict=True)
    means = [(_sigmoid(t + difficulties[own]).mean(), _sigmoid(t + difficulties).mean()) for t, own in parts]
    own, every = np.array(means).reshape(-1, 2).T
    return _logits(own) - _logits(every)


def on_subsets(expected: Values, difficulties: Values, subsets: Iterable[NDArray[np.int64]]) -> Values:
    """The expected scores on subsets of models whose expected scores over all items are known, shape (n_models,)."""
    reach = REACH + np.abs(difficulties).max(initial=0.0)
    grid = np.linspace(-reach, reach, N_GRID)
    means = np.array([_sigmoid(ability + difficulties).mean() for ability in grid])
    abilities = np.interp(_logits(expected), _logits(means), grid)
    return np.array([_sigmoid(t + difficulties[own]).mean() for t, own in zip(abilities, subsets, strict=True)])


def positions(known: NDArray[np.int64], subsets: Sequence[NDArray[np.int32]]) -> list[NDArray[np.int64]]:
    """Where the items of the subsets stand among the known ones. Raises ValueError if one is not known."""
    places = np.full(max((int(known.max(initial=-1)), *(int(each.max(initial=-1)) for each in subsets))) + 1, -1)
    places[known] = np.arange(len(known))
    found = [places[each] for each in subsets]
    unknown = sum(int((each < 0).sum()) for each in found)
    if unknown:
        raise ValueError(f"expected scores of {len(known)} known items, got {unknown} of others; export the runs again")
    return found


def _newton(
    right: Values, owners: NDArray[np.int64], logits: Values, pull: Values, precision: float
) -> tuple[Values, Values]:
    """The step of every owner of answers, and the curvature there, both of shape (n_owners,)."""
    p = _sigmoid(logits)
    weight = np.bincount(owners, p * (1 - p), len(right)).astype(np.float64) + precision
    return np.clip((right - np.bincount(owners, p, len(right)) - pull) / weight, -LARGEST, LARGEST), weight


def _sigmoid(logits: Values) -> Values:
    return np.asarray(1 / (1 + np.exp(-logits)))


def _logits(p: Values) -> Values:
    inside = np.clip(p, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(inside / (1 - inside)))
