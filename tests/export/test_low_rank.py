import pytest

from automerge.export.low_rank import coefficients
from automerge.recipe import Fusion, Input
from tests.toy import fused


def test_linear_shares_are_normalised_with_the_bases_left_out() -> None:
    assert coefficients(fused("linear", ("base", 1.0), ("left", 3.0), ("right", 4.0))) == {"left": 0.375, "right": 0.5}
    assert coefficients(fused("linear", ("left", 2.0))) == {"left": 1.0}


def test_task_arithmetic_shares_are_the_weights() -> None:
    fusion = fused("task_arithmetic", ("left", 0.7), ("base", 2.0), ("right", -0.2))
    assert coefficients(fusion) == {"left": 0.7, "right": -0.2}


def test_passthrough_ignores_its_weight() -> None:
    assert coefficients(fused("passthrough", ("left", 0.3))) == {"left": 1.0}
    assert coefficients(fused("passthrough", ("base", 0.3))) == {}


def test_sources_read_twice_count_twice_and_zeros_not_at_all() -> None:
    reads = (Input("left", 0, 0.5), Input("left", 0, 0.25), Input("right", 0, 0.0))
    assert coefficients(Fusion("task_arithmetic", reads)) == {"left": 0.75}


@pytest.mark.parametrize(
    ("fusion", "remedy"),
    [
        (fused("ties", ("left", 1.0), density=0.5), "ties with density=0.5 is no weighted sum, .*; use linear"),
        (fused("slerp", ("left", 1.0), ("right", 1.0)), "slerp is no weighted sum, .* or export a checkpoint"),
        (fused("linear", ("left", 1.0), ("right", -1.0)), "must not add up to 0, .*; give one of them a value"),
        (fused("passthrough", ("left", 1.0), ("right", 1.0)), "exactly one input, got 2; fuse several with `linear`"),
    ],
)
def test_fusions_that_are_no_weighted_sums_are_refused(fusion: Fusion, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        coefficients(fusion)
