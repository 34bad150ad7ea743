import numpy as np
import pytest

from automerge.landscape.rows import Rows
from automerge.landscape.subset_noise import SubsetNoise
from tests.toy import trial

TASKS = ("a", "b")


def x(number: int) -> np.ndarray:
    return np.array([float(number)])


def test_there_is_one_row_for_every_trial_that_has_all_results() -> None:
    trials = [
        trial(4, x(4), {"a": (100, 30.0), "b": (50, 50.0)}),
        trial(5, x(5), {"a": (100, 30.0)}),
        trial(6, x(6), {"a": (10, 1.0), "b": (10, 1.0)}, status="invalid"),
    ]
    rows = Rows.of(trials, TASKS)
    assert rows.X.tolist() == [[4.0]]
    assert np.sin(rows.means[0]) ** 2 == pytest.approx([30.5 / 101, 50.5 / 51])
    assert rows.variances[0] == pytest.approx([1 / 402, 1 / 202])


def test_no_trials_are_no_rows() -> None:
    assert len(Rows.of([], TASKS)) == 0


def test_offsets_are_taken_off_the_means_of_their_fidelity_and_common_noise_off_the_variances() -> None:
    class Known(SubsetNoise):
        def offsets(self, n: int) -> np.ndarray:
            return np.array([0.1, -0.2]) if n == 300 else np.zeros(2)

    noise = Known([np.empty((0, 0))] * 2)
    noise.factors = np.array([0.5, 1.0])
    trials = [trial(k, x(k), {"a": (n, 0.5 * n), "b": (n, 0.9 * n)}) for k, n in enumerate((300, 900))]
    rows = Rows.of(trials, TASKS, noise)
    assert np.sin(rows.means) ** 2 == pytest.approx(np.array([[0.4, 1.0], [0.5, 0.9]]), abs=0.003)
    assert rows.variances == pytest.approx(Rows.of(trials, TASKS).variances * [0.5, 1.0])


def test_means_far_below_the_median_are_cut_off_and_others_stay() -> None:
    means = [0.5, 0.52, 0.48, 0.51, 0.49, 0.0]
    rows = Rows.of([trial(k, x(k), {"a": (100, 100 * mean)}) for k, mean in enumerate(means)], ["a"])
    cut = rows.winsorised().means[:, 0]
    assert cut[:5].tolist() == rows.means[:5, 0].tolist()
    assert rows.means[5, 0] < 0.1
    assert 0.4 < np.sin(cut[5]) ** 2 < 0.48


def test_equal_means_are_not_cut_off() -> None:
    rows = Rows.of([trial(k, x(k), {"a": (100, 50.0 if k else 10.0)}) for k in range(6)], ["a"])
    assert (rows.winsorised().means == rows.means).all()
