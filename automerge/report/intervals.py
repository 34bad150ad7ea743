"""Intervals of weighted means, from those of the means that they are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """An estimate with both ends of its 95 % interval."""

    value: float
    low: float
    high: float


def weighted(parts: Sequence[tuple[float, Span]]) -> Span:
    """The sum of independent estimates times positive shares: for a single one of share 1 that estimate itself.

    The distances of the ends from the value add up as squares, each side on its own, so that ends which are not
    symmetric and keep within bounds do so in the sum (MOVER; Zou and Donner, Statistics in Medicine 2008, eq. 3).
    """
    value = sum(share * each.value for share, each in parts)
    down = math.hypot(*(share * (each.value - each.low) for share, each in parts))
    up = math.hypot(*(share * (each.high - each.value) for share, each in parts))
    return Span(value, value - down, value + up)
