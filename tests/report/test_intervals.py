"""Intervals of weighted means against what the definition says."""

from __future__ import annotations

import numpy as np
import pytest

from automerge.pareto import interval
from automerge.report.intervals import Span, weighted


def test_a_single_estimate_keeps_its_interval() -> None:
    assert weighted([(1.0, Span(0.4, 0.3, 0.55))]) == pytest.approx((0.4, 0.3, 0.55))


def test_distances_of_the_ends_add_up_as_squares_on_each_side() -> None:
    found = weighted([(0.5, Span(0.4, 0.34, 0.5)), (0.5, Span(0.8, 0.72, 0.8))])
    assert found == pytest.approx((0.6, 0.6 - 0.05, 0.6 + 0.05))


def test_the_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    """Scores near 1, where symmetric intervals fail, over tasks of unequal sizes."""
    rng = np.random.default_rng(0)
    parts = ((0.7, 0.95, 60), (0.3, 0.4, 200))
    truth = sum(share * p for share, p, _ in parts)
    n_covered = 0
    for _ in range(4000):
        spans = []
        for share, p, n in parts:
            right = float(rng.binomial(n, p))
            spans.append((share, Span(right / n, *interval(right, n))))
        _, low, high = weighted(spans)
        n_covered += low <= truth <= high
    assert 0.935 <= n_covered / 4000 <= 0.975
