"""The value of a parameter for one tensor, as mergekit finds it in scopes, filters and gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def value_of(scopes: Sequence[Mapping[str, Any] | None], key: str, tensor: str, position: float, default: Any) -> Any:
    """The value of the first scope that sets this parameter for this tensor."""
    for scope in scopes:
        value = _evaluated(scope[key], tensor, position) if scope and key in scope else None
        if value is not None:
            return value
    return default


def _evaluated(setting: Any, tensor: str, position: float) -> Any:
    """The value of a setting for a tensor at this position in its slice, 0 at the first layer and 1 at the last.

    A list of numbers is interpolated, of flags picked from; of a list of filtered values the first holds whose filter
    is part of the tensor's name. None if none holds.
    """
    entries = [setting] if isinstance(setting, dict) else setting
    if not isinstance(entries, list):
        return _plain(entries)
    if not entries:
        return None
    if any(isinstance(entry, dict) for entry in entries):
        for entry in entries:
            if entry.get("filter") in (None, "*") or entry["filter"] in tensor:
                return _evaluated(entry["value"], tensor, position)
        return None
    values = [_plain(entry) for entry in entries]
    place = position * (len(values) - 1)
    below = int(place)
    if any(isinstance(value, bool) for value in values):
        return values[below]
    share = place - below
    return (1 - share) * values[below] + share * values[min(len(values) - 1, below + 1)]


def _plain(value: Any) -> Any:
    # YAML 1.1 reads 1e-3 as a string; mergekit takes it for a number all the same.
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
