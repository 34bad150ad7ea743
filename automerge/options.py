"""Options of spaces, tasks and optimizers as configuration files give them.

What is of the wrong kind is told by messages that say what to write.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import cast

EXAMPLES: Mapping[str, str | float] = {"methods": "linear", "components": "layer", "strengths": 0.5}
"""What options of a space that are lists may hold."""


def refuse(faults: Sequence[str]) -> None:
    """Raises ValueError with these messages if there are any."""
    if faults:
        raise ValueError("; ".join(faults))


def whole_faults(least: int, **options: object) -> list[str]:
    """A message for every option that is no whole number from `least` on."""
    return [
        f"{name}: expected a whole number from {least}, got {value!r}"
        for name, value in options.items()
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least
    ]


def positive_faults(**options: object) -> list[str]:
    """A message for every option that is no finite number above 0."""
    return [
        f"{name}: expected a number above 0, got {value!r}"
        for name, value in options.items()
        if not is_number(value) or not cast("float", value) > 0
    ]


def share_faults(**options: object) -> list[str]:
    """A message for every option that is no number from 0 to 1."""
    return [
        f"{name}: expected a number from 0 to 1, got {value!r}"
        for name, value in options.items()
        if not is_number(value) or not 0 <= cast("float", value) <= 1
    ]


def number_faults(**options: object) -> list[str]:
    """A message for every option that is no finite number."""
    return [f"{name}: expected a number, got {value!r}" for name, value in options.items() if not is_number(value)]


def list_faults(**options: object) -> list[str]:
    """A message for every option of EXAMPLES that is no list."""
    found = []
    for name, value in options.items():
        if not isinstance(value, Sequence) or isinstance(value, str):
            content = value if value and isinstance(value, type(EXAMPLES[name])) else EXAMPLES[name]
            found.append(f"{name}: expected a list: write space.{name}=[{content}], got {value!r}")
    return found


def flag_faults(**options: object) -> list[str]:
    """A message for every option that is neither true nor false."""
    return [
        f"{name}: expected true or false, got {value!r}"
        for name, value in options.items()
        if not isinstance(value, bool)
    ]


def choice_faults(choices: Sequence[str], **options: object) -> list[str]:
    """A message for every option that is none of the choices."""
    return [
        f"{name}: expected one of {', '.join(choices)}, got {value!r}"
        for name, value in options.items()
        if value not in choices
    ]


def text_faults(**options: object) -> list[str]:
    """A message for every option that is no text."""
    return [f"{name}: expected a text, got {value!r}" for name, value in options.items() if not isinstance(value, str)]


def strength_faults(strengths: object) -> list[str]:
    """Why these cannot be weights of uniform merges, as messages; empty if they can."""
    if isinstance(strengths, Sequence) and not isinstance(strengths, str):
        above = all(is_number(strength) and strength > 0 for strength in strengths)
        return [] if above else [f"strengths: expected numbers above 0, got {list(strengths)}"]
    return list_faults(strengths=strengths)


def is_number(value: object) -> bool:
    """Whether it is a finite number, which true and false are not."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
