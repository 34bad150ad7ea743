"""Stored settings of a run whose models or data have moved since it was started, or that goes on on another device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from automerge.parts import SPLITS


def changed(settings: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The settings with the values that overrides in Hydra's syntax name, such as `source.base=/data/base`.

    Raises ValueError for an override that cannot be read or names a key that the settings do not have.
    """
    found = deepcopy(dict(settings))
    for text in overrides:
        try:
            override = OverridesParser.create().parse_override(text)
            if override.is_add() or override.is_delete() or override.is_sweep_override():
                raise ValueError(f"expected KEY=VALUE, got {text!r}; a run keeps its keys, only values can change")
            value = override.value()
        except HydraException as fault:
            raise ValueError(f"expected KEY=VALUE, got {text!r}: {fault}") from fault
        *above, last = override.key_or_group.split(".")
        section: Any = found
        for key in above:
            section = section.get(key) if isinstance(section, dict) else None
        if not isinstance(section, dict) or last not in section:
            there = f"; there are {', '.join(section)}" if isinstance(section, dict) else ""
            raise ValueError(f"this run has no setting {override.key_or_group}{there}")
        section[last] = value
    return found


def refuse_lost(settings: Mapping[str, Any], command: str) -> None:
    """Raises ValueError if local paths of stored settings lead nowhere, with how `command` is told where all is now."""
    lost = [(key, path) for key, path in _paths(settings) if _is_local(path) and not Path(path).expanduser().exists()]
    if lost:
        lines = [f"  - {key}: {path}" for key, path in lost]
        hint = f"if it has moved, say where it is now: {command} {lost[0][0]}=PATH"
        raise ValueError("\n".join(["the run was started with what is no longer where it was:", *lines, hint]))


def _paths(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The paths of models, of the rows of tasks and of a benchmark, with their keys."""
    if settings.get("benchmark"):
        yield "benchmark.path", settings["benchmark"]["path"]
        return
    source = settings["source"]
    yield "source.base", source["base"]
    yield from ((f"source.models.{name}", path) for name, path in source["models"].items())
    for name, spec in settings["task"].items():
        for split in SPLITS:
            rows = spec.get(split)
            if isinstance(rows, Mapping) and isinstance(rows.get("path"), str):
                yield f"task.{name}.{split}.path", rows["path"]


def _is_local(path: str) -> bool:
    """Whether it is surely no hub id."""
    return Path(path).expanduser().is_absolute() or path.startswith(".")
