"""The scale that tells gains by thickness, against differences of logarithms."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from automerge.report.ruler import number, ruler


def test_equal_factors_are_equal_steps_over_the_whole_range() -> None:
    scale = ruler([1, 9, 826], unit=13)
    sizes = [scale.thickness(gain) for gain in (1, 3, 9, 27)]
    steps = [right - left for left, right in pairwise(sizes)]
    assert steps == pytest.approx([steps[0]] * 3)
    assert steps[0] == pytest.approx((scale.thickest - scale.thinnest) * np.log(3) / np.log(826 * 2**0.5))
    assert scale.thickness(826) == pytest.approx(scale.thickest)
    assert scale.thickness(826) - scale.thickness(9) > 13


def test_near_gains_are_told_apart_but_not_blown_up() -> None:
    scale = ruler([0.915, 1], unit=13)
    difference = scale.thickness(1) - scale.thickness(0.915)
    assert 3 < difference < 0.25 * scale.thickness(1)
    assert scale.thickness(1) == pytest.approx((scale.thinnest + scale.thickest) / 2)


def test_nothing_is_thinner_than_a_gain_of_nothing() -> None:
    scale = ruler([0, 1e-5, 1], unit=7)
    assert 0 < scale.thickness(0) < scale.thickness(1e-5) == scale.thickness(1 / 1024) < scale.thickness(1 / 512)
    assert ruler([0, 0], unit=7).thickness(1) > ruler([0, 0], unit=7).thickness(0)


@pytest.mark.parametrize(
    ("sizes", "texts"),
    [
        ([1, 1], ["1"]),
        ([0.9996, 1.0004], ["1"]),
        ([0.915, 0.96], ["0.915", "0.96", "1"]),
        ([1, 826, 9], ["1", "10", "100", "826"]),
        ([0.04, 12], ["0.04", "0.1", "1", "12"]),
        ([0, 2], ["0", "1", "2"]),
        ([1e-4, 0.5], ["<= 0.000977", "0.01", "0.1", "0.5", "1"]),
        ([1, 1024], ["1", "10", "100", "1024"]),
    ],
)
def test_samples_are_the_ends_and_decades_between_none_of_which_read_alike(
    sizes: list[float], texts: list[str]
) -> None:
    scale = ruler(sizes, unit=10)
    samples = scale.samples(sizes)
    assert [sample.text for sample in samples] == texts
    assert all(left.thickness < right.thickness for left, right in pairwise(samples))
    if 1 in sizes:
        assert dict(samples)["1"] == pytest.approx(scale.thickness(1))


@pytest.mark.parametrize(("value", "text"), [(0.9154, "0.915"), (1, "1"), (12.345, "12.3"), (1024, "1024"), (0, "0")])
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text
