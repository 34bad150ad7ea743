"""Replays of finished runs: what was known before a promotion, and how alike errors were."""

import numpy as np
import pytest
from numpy.typing import NDArray

from automerge.history import History, advanced
from automerge.landscape.model import View
from automerge.log import EvaluationRow
from automerge.records import Evaluation, Objective, Phase, Scores, Slice, Trial
from experiments.beliefs.__main__ import APART, Replay, measured, replayed
from tests.conformance.members import lfs

ITEMS = 100

Step = tuple[int, int, int, Phase]
"""A trial, the items that it is evaluated on, from and to, and the phase."""


def make_replay(scores: NDArray[np.float64], steps: list[Step]) -> Replay:
    """A run in which trial k has row k of these scores, shape (n, ITEMS)."""
    space = lfs()
    genotypes = space.sample(len(scores), np.random.default_rng(0))
    blank = {k: Trial(k, genotype, space.decode(genotype), {}, "ok") for k, genotype in enumerate(genotypes)}
    trials, evaluations = dict(blank), list[EvaluationRow]()
    for number, start, stop, phase in steps:
        part = Slice("copy", "test" if phase == "test" else "search", start, stop)
        told = tuple(float(value) for value in scores[number, start:stop])
        evaluation = Evaluation("ok", (Scores(part, tuple(range(start, stop)), told),))
        evaluations.append(EvaluationRow(len(evaluations), number, phase, (part,), evaluation, 0.0))
        if phase != "test":
            trials[number] = advanced(trials[number], evaluation)
    objectives = (Objective("copy"),)
    history = History(trials, {}, evaluations, objectives, np.zeros(1), ())
    return Replay(View(space, objectives), blank, history, ITEMS, seed=0)


def test_promotions_to_all_items_are_replayed_with_what_was_known_before_them() -> None:
    scores = np.random.default_rng(1).integers(0, 2, size=(4, ITEMS)).astype(float)
    replay = make_replay(
        scores,
        [
            (0, 0, ITEMS, "reference"),
            (1, 0, 30, "search"),
            (2, 0, 30, "search"),
            (2, 30, ITEMS, "search"),
            (3, 0, ITEMS, "search"),
            (1, 30, 60, "search"),
            (3, 0, 20, "test"),
            (1, 60, ITEMS, "search"),
            (2, 0, 20, "test"),
        ],
    )
    told = [({t.id: t.n_items for t in known}, after.id, after.n_items) for known, after in replay.promotions()]
    assert told == [({0: ITEMS, 1: 30, 2: 30}, 2, ITEMS), ({0: ITEMS, 1: 60, 2: ITEMS, 3: ITEMS}, 1, ITEMS)]


def test_likeness_is_the_correlation_of_sums_of_ten_items_by_distance() -> None:
    rng = np.random.default_rng(2)
    common = rng.random(ITEMS)
    scores = (0.6 * common + 0.4 * rng.random((3, ITEMS)) < 0.5).astype(float)
    nothing = np.zeros((1, ITEMS))
    replay = make_replay(np.concatenate([scores, nothing]), [(k, 0, ITEMS, "search") for k in range(4)])
    found = measured(replay, "copy")
    assert found.models == 3
    sums = scores.reshape(3, -1, 10).sum(axis=2)
    spread = sums.var(axis=1, ddof=1) / 10 / (scores.mean(axis=1) * (1 - scores.mean(axis=1)))
    assert found.spread == pytest.approx(spread.mean())
    genotypes = np.array([replay.blank[k].genotype for k in range(3)])
    apart = replay.view.distances(genotypes)[np.triu_indices(3, 1)]
    covariances, deviations = np.cov(sums), np.sqrt(np.diag(np.cov(sums)))
    for k, correlation in enumerate(found.correlations):
        inside = (apart >= APART[k]) & (apart < APART[k + 1])
        if not inside.any():
            assert correlation is None
            continue
        shared = covariances[np.triu_indices(3, 1)][inside].sum()
        assert correlation == pytest.approx(
            shared / np.outer(deviations, deviations)[np.triu_indices(3, 1)][inside].sum()
        )


def test_beliefs_are_judged_by_what_came_out_of_every_promotion() -> None:
    """All models have the same items right, of the first 30 more than of the rest: that is believed of all of them.

    Where errors are alike, the ones that have gone on tell the others' luck.
    """
    items = np.r_[np.arange(30) % 5 > 0, np.arange(ITEMS - 30) % 2].astype(float)
    steps: list[Step] = [(k, 0, 30, "search") for k in range(12)]
    replay = make_replay(np.tile(items, (12, 1)), [*steps, *[(k, 30, ITEMS, "search") for k in (3, 7, 9, 11)]])
    (alike,), (independent,) = (replayed(replay, correlations=correlations) for correlations in (True, False))
    for judged in (alike, independent):
        assert (judged.objective, judged.promotions) == ("copy", 4)
        assert 0.05 < judged.bias < judged.rmse < 0.25
        assert 0 < judged.believed < 0.1
    assert alike.bias < 0.8 * independent.bias
