"""How thick the mark of a gain is: a logarithmic scale over the gains that occur, and samples of it for a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from automerge.scaling import MAX_GAIN

THINNEST, THICKEST = 0.3, 2.4
"""Thickness of the marks at both ends of the scale, relative to the height that suits a layer."""

NARROWEST = math.sqrt(2)
"""The scale reaches so far from 1 both ways at least, so that gains that nearly agree look so."""

HAIRLINE = 0.8
"""Thickness of the mark of a gain of 0 in pixels, which no logarithm reaches."""


class Sample(NamedTuple):
    """A gain in the legend: its number, and the thickness of its mark in pixels."""

    text: str
    thickness: float


class Ruler(NamedTuple):
    """The gains at both ends of the scale, and the thickness of a mark there in pixels."""

    low: float
    high: float
    thinnest: float
    thickest: float

    def thickness(self, gain: float) -> float:
        """The thickness of a mark in pixels; gains below the scale look like its low end, and 0 is a hairline."""
        if gain == 0:
            return HAIRLINE
        share = math.log(max(gain, self.low) / self.low) / math.log(self.high / self.low)
        return self.thinnest + share * (self.thickest - self.thinnest)

    def samples(self, sizes: Sequence[float]) -> tuple[Sample, ...]:
        """The smallest and the largest of some gains, 1, and powers of ten well between, none that reads like another.

        A gain below the scale is told as its bound: `<= 0.000977`.
        """
        wanted = {1.0, min(sizes), max(sizes)}
        for power in (10.0**k for k in range(-3, 4)):
            if self.low < power < max(sizes) and all(not 0.5 < max(size, self.low) / power < 2 for size in wanted):
                wanted.add(power)
        found = {}
        for size in sorted(wanted):
            text = f"<= {number(self.low)}" if 0 < size < self.low else number(size)
            found[text] = Sample(text, self.thickness(size))
        return tuple(found.values())


def ruler(sizes: Sequence[float], unit: float) -> Ruler:
    """The scale over some gains and 1, no further down than 1 / MAX_GAIN; `unit` is the height that suits a layer."""
    low = max(1 / MAX_GAIN, min((size for size in sizes if size > 0), default=1.0))
    return Ruler(min(low, 1 / NARROWEST), max(*sizes, NARROWEST), THINNEST * unit, THICKEST * unit)


def number(value: float) -> str:
    """A scale or gain in few signs: `0.915`, `1`, `1024`."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"
