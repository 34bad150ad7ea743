from experiments.optimizers.comparison import reached


def test_a_value_is_reached_on_a_line_or_at_a_step() -> None:
    shares, values = [0.0, 0.5, 1.0], [0.0, 1.0, 3.0]
    assert reached(shares, values, 2.0) == 0.75
    assert reached(shares, values, 2.0, steps=True) == 1.0
    assert reached(shares, values, 1.0) == reached(shares, values, 1.0, steps=True) == 0.5
    assert reached(shares, values, -1.0) == 0.0
    assert reached(shares, values, 3.1) is None


def test_the_first_time_counts_where_a_curve_falls_again() -> None:
    assert reached([0.0, 0.25, 0.5, 1.0], [0.0, 2.0, 1.0, 2.0], 1.0) == 0.125
