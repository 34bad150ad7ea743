"""From a pool of candidates to the batch: expected improvement finds finalists, BoTorch chooses among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from automerge.acquisition.batch import FinitePosterior, choose
from automerge.acquisition.improvement import boxes, expected_improvement
from automerge.acquisition.preference import achievements
from automerge.landscape.model import Landscape
from automerge.pareto import best_first
from automerge.protocols import Genotypes

FINALISTS = {1: 64, 2: 48, 3: 32}
"""Candidates among which BoTorch chooses, by the number of objectives; the cost of a hypervolume grows with it."""

MORE_FINALISTS = 48

BASELINE = {1: 32, 2: 24, 3: 14}
"""Best known recipes with which they are compared, likewise."""

MORE_BASELINE = 24

OPTIMISM = 0.5
"""Deviations above its mean at which a known recipe may still count among the best."""

N_DRAWS = 128
"""Draws over which improvements towards an aspiration are averaged."""


def select(
    landscape: Landscape,
    pool: Genotypes,
    *,
    known: Genotypes,
    pending: Genotypes,
    reference: NDArray[np.float64],
    n: int,
    seed: int,
    aspiration: NDArray[np.float64] | None = None,
) -> Genotypes:
    """At most n genotypes of the pool to evaluate together, in order of choice, shape (at most n, n_genes).

    `known` were evaluated, `pending` are under way; improvement counts above `reference`, or, once a known model is
    believed to reach the `aspiration`, above that; until then the way towards it counts. Candidates with the same
    features as another are one model and count once.
    """
    m = len(reference)
    pool = pool[landscape.distinct(pool, np.vstack([known, pending]))]
    if not len(pool):
        return pool
    best = _feasible_first(landscape, known)
    front = landscape.believe(np.vstack([best[: BASELINE.get(m, MORE_BASELINE)], pending])).means
    belief = landscape.believe(pool)
    chance = landscape.chance(pool)
    if aspiration is not None:
        # An aspiration below the reference point in some objective asks nothing of it.
        aspiration = np.maximum(aspiration, reference + 1e-6)
        if (front >= aspiration).all(axis=1).any():
            reference, aspiration = aspiration, None
    if aspiration is None:
        gains = expected_improvement(belief.means, belief.deviations, boxes(front, reference))
    else:
        draws = np.random.default_rng(seed).normal(size=(N_DRAWS, *belief.means.shape))
        reached = achievements(belief.means + draws * belief.deviations, reference, aspiration)
        gains = np.maximum(reached - achievements(front, reference, aspiration).max(), 0).mean(axis=0)
    gains = gains * chance
    finalists = np.argsort(-gains, kind="stable")[: FINALISTS.get(m, MORE_FINALISTS)]
    points = np.vstack([best[: BASELINE.get(m, MORE_BASELINE)], pending, pool[finalists]])
    n_best = len(points) - len(pending) - len(finalists)
    first = n_best + len(pending)
    numbers = choose(
        FinitePosterior(*landscape.joint(points)),
        baseline=range(n_best),
        pending=range(n_best, first),
        finalists=range(first, len(points)),
        handicaps=np.log(np.maximum(chance[finalists], 1e-6)),
        reference=reference,
        aspiration=aspiration,
        n=n,
        seed=seed,
    )
    return np.asarray(points[numbers])


def _feasible_first(landscape: Landscape, known: Genotypes) -> Genotypes:
    """The known genotypes, the likeliest to be on the front first; those that likely break a constraint come last."""
    belief = landscape.believe(known)
    order = best_first(belief.means + OPTIMISM * belief.deviations)
    keeps = landscape.chance(known)[order] >= 0.5
    return np.asarray(known[np.concatenate([order[keeps], order[~keeps]])])
