"""From a pool of candidates to the batch: expected improvement finds finalists, BoTorch chooses among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from automerge.acquisition.aim import Aim
from automerge.acquisition.batch import FinitePosterior, choose
from automerge.landscape.model import Landscape
from automerge.pareto import best_first
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

    `known` were evaluated, `pending` are under way; `reference` and `aspiration` are those of an `Aim`, whose front is
    what is believed of these. Candidates with the same features as another are one model and count once.
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
    aim = Aim(front, reference, aspiration, seed=seed)
    gains = aim.expected(belief) * chance
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
        reference=aim.reference,
        aspiration=aim.aspiration,
        n=n,
        seed=seed,
    )
    return np.asarray(points[numbers])


def _best(landscape: Landscape, known: Genotypes) -> Genotypes:
    """The known genotypes that likely keep the constraints, the likeliest to be on the front first.

    Where none does, the one that comes nearest: without any there is nothing to compare with.
    """
    keeps = landscape.keeps(known)
    feasible = known[keeps >= 0.5] if (keeps >= 0.5).any() else known[[int(keeps.argmax())]]
    belief = landscape.believe(feasible)
    return np.asarray(feasible[best_first(belief.means + OPTIMISM * belief.deviations)])
