import numpy as np
import pytest

from automerge.landscape.rows import Rows, subset_offsets
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
    assert rows.ids == (4,)
    assert rows.X.tolist() == [[4.0]]
    assert np.sin(rows.means[0]) ** 2 == pytest.approx([30.5 / 101, 50.5 / 51])
    assert rows.variances[0] == pytest.approx([1 / 402, 1 / 202])


def test_no_trials_are_no_rows() -> None:
    assert len(Rows.of([], TASKS)) == 0


def test_offsets_are_taken_off_the_means_of_their_fidelity() -> None:
    trials = [trial(k, x(k), {"a": (n, 0.5 * n), "b": (n, 0.9 * n)}) for k, n in enumerate((300, 900))]
    rows = Rows.of(trials, TASKS, {300: np.array([0.1, -0.2])})
    assert np.sin(rows.means) ** 2 == pytest.approx(np.array([[0.4, 1.0], [0.5, 0.9]]), abs=0.003)


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


def test_an_offset_common_to_all_is_found_and_noise_is_shrunk() -> None:
    rng = np.random.default_rng(0)
    common = [{30: np.array([0.6, 0.5 + rng.normal() * 0.1]), 90: np.array([0.5, 0.5])} for _ in range(12)]
    found = subset_offsets(common)
    assert found[30][0] == pytest.approx(0.1, abs=1e-6)
    raw = np.mean([curve[30][1] - 0.5 for curve in common])
    assert abs(found[30][1]) < abs(raw)
    assert found[90].tolist() == [0.0, 0.0]
    assert subset_offsets(common[:1]) == {}
