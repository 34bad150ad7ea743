"""Labels in a column, against a search over a grid."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest

from automerge.report.labels import spread


def test_labels_that_have_room_stay() -> None:
    assert spread([0, 20, 45], 12) == [0, 20, 45]
    assert spread([], 12) == []


@pytest.mark.parametrize("heights", [[0, 0, 0], [0, 5, 30], [0, 11, 13, 14], [1, 2, 3, 40]])
def test_labels_are_moved_as_little_as_can_be(heights: list[float]) -> None:
    found = spread(heights, 12)
    assert all(above - below >= 12 - 1e-9 for below, above in pairwise(found))
    grid = np.arange(-24, 56, 2.0)
    nearest = min(
        sum((at - height) ** 2 for at, height in zip(places, heights, strict=True))
        for places in product(grid, repeat=len(heights))
        if all(above - below >= 12 for below, above in pairwise(places))
    )
    moved = sum((at - height) ** 2 for at, height in zip(found, heights, strict=True))
    assert moved <= nearest < moved + 20
