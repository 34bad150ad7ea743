from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from automerge.acquisition.aim import Aim
from automerge.landscape.model import Belief

REFERENCE = np.array([0.2, 0.2])
ASPIRATION = np.array([0.8, 0.7])
NOTHING = np.empty((0, 2))


def sure(*points: tuple[float, float]) -> Belief:
    """Beliefs without doubt."""
    return Belief(np.array(points), np.full((len(points), 2), 1e-12))


def test_without_an_aspiration_hypervolume_above_the_reference_point_counts() -> None:
    aim = Aim(np.array([[0.6, 0.6]]), REFERENCE, None, seed=0)
    belief = sure((0.8, 0.4), (0.5, 0.5), (0.7, 0.7))
    assert aim.expected(belief) == pytest.approx([0.2 * 0.2, 0.0, 0.5 * 0.5 - 0.4 * 0.4])
    assert aim.chance(belief) == pytest.approx([1.0, 0.0, 1.0])


def test_the_share_of_the_way_to_an_aspiration_counts_until_the_front_reaches_it() -> None:
    front = np.array([[0.5, 0.7], [0.3, 0.2]])  # half of the way in the worst objective
    aim = Aim(front, REFERENCE, ASPIRATION, seed=0)
    belief = sure((0.65, 0.7), (0.95, 0.3), (0.5, 0.9))
    assert aim.expected(belief) == pytest.approx([0.25, 0.0, 0.0], abs=1e-9)
    assert aim.chance(belief)[:2] == pytest.approx([1.0, 0.0])
    reached = Aim(np.array([[0.8, 0.75]]), REFERENCE, ASPIRATION, seed=0)
    assert reached.aspiration is None
    assert reached.reference.tolist() == ASPIRATION.tolist()
    assert reached.expected(sure((0.9, 0.8), (0.95, 0.3))) == pytest.approx([0.1 * 0.1, 0.0])


def test_of_an_unsure_candidate_the_mean_over_what_it_may_be_counts() -> None:
    """Of one objective in doubt, with the other far beyond: a half normal over the way."""
    aim = Aim(NOTHING, REFERENCE, np.array([0.7, 0.7]), seed=0)
    belief = Belief(np.array([[0.2, 0.7], [0.1, 0.7]]), np.array([[0.1, 1e-12], [0.1, 1e-12]]))
    expected = [0.1 * norm.pdf(0) / 0.5, 0.1 * (norm.pdf(1) - norm.sf(1)) / 0.5]
    assert aim.expected(belief) == pytest.approx(expected, abs=0.012)
    assert aim.chance(belief) == pytest.approx([0.5, norm.sf(1)], abs=0.1)


def test_an_aspiration_below_the_reference_point_asks_nothing_of_that_objective() -> None:
    aim = Aim(NOTHING, REFERENCE, np.array([0.8, 0.1]), seed=0)
    assert aim.expected(sure((0.5, 0.25), (0.5, 0.9))) == pytest.approx([0.5, 0.5])
