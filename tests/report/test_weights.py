"""What weights come to under methods that take them in different ways."""

from __future__ import annotations

import pytest

from automerge.recipe import Fusion, Input
from automerge.report.weights import described, effective, remarks, rest, shares


def fusion(method: str, *weights: float) -> Fusion:
    return Fusion(method, tuple(Input(name, 3, weight) for name, weight in zip("abc", weights, strict=False)))


@pytest.mark.parametrize(
    ("method", "expected"),
    [("linear", (0.25, 0.75)), ("ties", (0.5, 1.5)), ("model_stock", (0.5, 0.5)), ("karcher", (0.25, 0.75))],
)
def test_effective_weights_are_ratios_strengths_or_equal(method: str, expected: tuple[float, ...]) -> None:
    assert effective(fusion(method, 0.5, 1.5)) == pytest.approx(expected)


def test_a_method_that_normalizes_takes_strengths_as_ratios() -> None:
    normalized = Fusion("ties", fusion("ties", 0.5, 1.5).inputs, (("density", 0.4), ("normalize", 1.0)))
    assert effective(normalized) == pytest.approx((0.25, 0.75))
    assert remarks(normalized) == ["density 0.4", "normalize 1"]


@pytest.mark.parametrize(
    ("method", "weights", "expected", "left"),
    [
        ("task_arithmetic", (0.02, 0.01), (0.02, 0.01), 0.97),
        ("task_arithmetic", (1.4, 0.7), (2 / 3, 1 / 3), 0),
        ("ties", (0.3, -0.9), (0.25, 0.75), 0),
        ("ties", (0.3, -0.5), (0.3, 0.5), 0.2),
        ("ties", (0.0, 0.0), (0, 0), 1),
        ("linear", (3.0, 1.0), (0.75, 0.25), 0),
        ("linear", (0.02, 0.01), (2 / 3, 1 / 3), 0),
        ("model_stock", (0.1, 0.1, 0.1), (1 / 3, 1 / 3, 1 / 3), 0),
        ("passthrough", (0.5,), (1,), 0),
    ],
)
def test_strengths_leave_the_base_what_they_lack_of_the_whole(
    method: str, weights: tuple[float, ...], expected: tuple[float, ...], left: float
) -> None:
    assert shares(fusion(method, *weights)) == pytest.approx(expected)
    assert rest(fusion(method, *weights)) == pytest.approx(left)


def test_words_hold_weights_their_sum_and_parameters_of_the_recipe() -> None:
    ties = Fusion("ties", (Input("a", 3, 0.7123), Input("b", None, 2.0)), (("density", 0.4),))
    assert described(ties) == "ties: a layer 3 0.712, b 2, sum 2.7123, density 0.4"
    assert described(fusion("ties", 0.7)) == "ties: a layer 3 0.7"
    assert described(fusion("linear", 3, 1)) == "linear: a layer 3 3, b layer 3 1"
    assert described(Fusion("passthrough", (Input("base", None),))) == "base"
