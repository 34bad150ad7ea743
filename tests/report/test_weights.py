"""What weights come to under methods that take them in different ways."""

from __future__ import annotations

import pytest

from automerge.recipe import Fusion, Input
from automerge.report.weights import described, effective, shares


def fusion(method: str, *weights: float) -> Fusion:
    return Fusion(method, tuple(Input(name, 3, weight) for name, weight in zip("abc", weights, strict=False)))


@pytest.mark.parametrize(
    ("method", "expected"),
    [("linear", (0.25, 0.75)), ("ties", (0.5, 1.5)), ("model_stock", (0.5, 0.5)), ("karcher", (0.25, 0.75))],
)
def test_effective_weights_are_ratios_strengths_or_equal(method: str, expected: tuple[float, ...]) -> None:
    assert effective(fusion(method, 0.5, 1.5)) == pytest.approx(expected)


def test_shares_are_of_absolute_weights_and_equal_where_all_weights_are_nothing() -> None:
    assert shares(fusion("ties", 0.3, -0.9)) == pytest.approx((0.25, 0.75))
    assert shares(fusion("ties", 0.0, 0.0)) == pytest.approx((0.5, 0.5))
    assert shares(fusion("linear", 3.0, 1.0)) == pytest.approx((0.75, 0.25))


def test_words_hold_weights_and_parameters_of_the_recipe() -> None:
    ties = Fusion("ties", (Input("a", 3, 0.7), Input("b", None, 2.0)), (("density", 0.4),))
    assert described(ties) == "ties: a layer 3 0.7, b 2, density 0.4"
    assert described(Fusion("passthrough", (Input("base", None),))) == "base"
