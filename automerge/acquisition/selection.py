"""From a pool of candidates to the batch: expected improvement finds finalists, BoTorch chooses among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from automerge.acquisition.batch import FinitePosterior, choose
from automerge.acquisition.improvement import boxes, expected_improvement, probability_of_improvement
from automerge.acquisition.preference import achievements
from automerge.landscape.model import Belief, Landscape
from automerge.pareto import Points, best_first
from automerge.protocols import Genotypes

FINALISTS = 48
"""Candidates among which BoTorch chooses."""

BASELINE = 24
"""Best known recipes with which they are compared."""

MORE_OF_ONE = 4 / 3
"""How many times as many there are of both where one objective makes them cheap."""

LEAST_BASELINE = 6
"""Known recipes that stay however many models are under way."""

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
    pool = pool[landscape.distinct(pool, np.vstack([known, pending]))]
    if (possible := landscape.keeps(pool) > 0).any():
        pool = pool[possible]
    if not len(pool):
        return pool
    more = MORE_OF_ONE if len(reference) == 1 else 1
    best = _best(landscape, known)[: max(LEAST_BASELINE, round(BASELINE * more) - len(pending))]
    front = landscape.believe(np.vstack([best, pending])).means
    belief = landscape.believe(pool)
    chance = landscape.chance(pool)
    reference, aspiration = aimed(front, reference, aspiration)
    gains = improvements(belief, front, reference=reference, aspiration=aspiration, seed=seed)[0] * chance
    finalists = np.argsort(-gains, kind="stable")[: round(FINALISTS * more)]
    points = np.vstack([best, pending, pool[finalists]])
    n_best = len(best)
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


def aimed(
    front: Points, reference: NDArray[np.float64], aspiration: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """The point above which improvements count, and the aspiration as long as no point of the front reaches it.

    From then on improvements count above the aspiration.
    """
    if aspiration is None:
        return reference, None
    # An aspiration below the reference point in some objective asks nothing of it.
    aspiration = np.maximum(aspiration, reference + 1e-6 * np.maximum(1.0, np.abs(reference)))
    return (aspiration, None) if (front >= aspiration).all(axis=1).any() else (reference, aspiration)


def improvements(
    belief: Belief,
    front: Points,
    *,
    reference: NDArray[np.float64],
    aspiration: NDArray[np.float64] | None,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each candidate is expected to add to the front, with the chance that it adds anything, both of shape (n,).

    Hypervolume above `reference`, or, given an aspiration, the share of the way to it.
    """
    if aspiration is None:
        cells = boxes(front, reference)
        return (
            expected_improvement(belief.means, belief.deviations, cells),
            probability_of_improvement(belief.means, belief.deviations, cells),
        )
    draws = np.random.default_rng(seed).normal(size=(N_DRAWS, *belief.means.shape))
    reached = achievements(belief.means + draws * belief.deviations, reference, aspiration)
    more = reached - achievements(front, reference, aspiration).max(initial=0.0)
    return np.maximum(more, 0).mean(axis=0), (more > 0).mean(axis=0)


def _best(landscape: Landscape, known: Genotypes) -> Genotypes:
    """The known genotypes that likely keep the constraints, the likeliest to be on the front first.

    Where none does, the one that comes nearest: without any there is nothing to compare with.
    """
    keeps = landscape.keeps(known)
    feasible = known[keeps >= 0.5] if (keeps >= 0.5).any() else known[[int(keeps.argmax())]]
    belief = landscape.believe(feasible)
    return np.asarray(feasible[best_first(belief.means + OPTIMISM * belief.deviations)])
