from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from automerge.landscape.rows import Rows, known_on
from automerge.landscape.subset_noise import Decay, Likeness
from automerge.records import Trial
from tests.toy import trial

TASKS = ("a", "b")


def x(number: int) -> np.ndarray:
    return np.array([float(number)])


def rows_of(trials: Sequence[Trial], tasks: Sequence[str], *likeness: Likeness, scale: float = 1.0) -> Rows:
    """The rows of trials whose genotypes are numbers, so many times a scale apart as these differ."""
    known = known_on(trials, tasks)
    X = np.array([each.genotype for each in known])
    return Rows.of(known, tasks, scale * np.abs(X - X.T), likeness or None)


def test_there_is_one_row_for_every_trial_that_has_all_results() -> None:
    trials = [
        trial(4, x(4), {"a": (100, 30.0), "b": (50, 50.0)}),
        trial(5, x(5), {"a": (100, 30.0)}),
        trial(6, x(6), {"a": (10, 1.0), "b": (10, 1.0)}, status="invalid"),
    ]
    rows = rows_of(trials, TASKS)
    assert rows.X.tolist() == [[4.0]]
    assert np.sin(rows.means[0]) ** 2 == pytest.approx([30.5 / 101, 50.5 / 51])
    assert rows.variances[0] == pytest.approx([1 / 400, 1 / 200])


def test_rows_take_off_what_models_that_went_further_give_away() -> None:
    lucky = np.r_[np.ones(25), np.zeros(5)]
    further = np.r_[lucky, np.tile([1.0, 0.0], 135)]
    trials = [
        replace(trial(k, x(k), {"a": (len(scores), scores.sum())}), items={"a": scores})
        for k, scores in enumerate((lucky, further))
    ]
    alone = rows_of(trials, ["a"])
    together = rows_of(trials, ["a"], Likeness(Decay(0.0, 0.9)), scale=0.01)
    assert np.sin(alone.means[:, 0]) ** 2 == pytest.approx([25.5 / 31, 160.5 / 301])
    assert np.sin(together.means[0, 0]) ** 2 < 0.6
    assert together.means[1] == alone.means[1]
    assert together.variances[0, 0] < alone.variances[0, 0]
    assert together.at(np.array([1])).noise.tolist() == [[[together.noise[0, 1, 1]]]]


def test_trials_whose_items_are_not_known_in_order_are_rows_too() -> None:
    trials = [trial(k, x(k), {"a": (30, 15.0)}) for k in range(3)]
    rows = rows_of(trials, ["a"], Likeness())
    assert rows.means.tolist() == rows_of(trials, ["a"]).means.tolist()
    assert rows.noise[0, 0, 1] > 0.3 * rows.noise[0, 0, 0]


def test_means_far_below_the_median_are_cut_off_and_others_stay() -> None:
    means = [0.5, 0.52, 0.48, 0.51, 0.49, 0.0]
    rows = rows_of([trial(k, x(k), {"a": (100, 100 * mean)}) for k, mean in enumerate(means)], ["a"])
    cut = rows.winsorised().means[:, 0]
    assert cut[:5].tolist() == rows.means[:5, 0].tolist()
    assert rows.means[5, 0] < 0.1
    assert 0.4 < np.sin(cut[5]) ** 2 < 0.48


def test_equal_means_are_not_cut_off() -> None:
    rows = rows_of([trial(k, x(k), {"a": (100, 50.0 if k else 10.0)}) for k in range(6)], ["a"])
    assert (rows.winsorised().means == rows.means).all()
