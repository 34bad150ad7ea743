"""Stored settings of a run whose models or data have moved since it was started, or that goes on on another device."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from automerge.composition import plain, register_resolvers
from automerge.items import SUFFIXES
from automerge.parts import SPLITS

OPTIONAL = ("report.baseline",)
"""Paths that a run may do without: null takes them away."""


def changed(settings: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The settings with the values that overrides name, such as `source.base=/data/base`.

    What stands for a path is taken as it is, other values are read as Hydra reads them. In both `${oc.env:MODELS}` and
    other resolvers work, references to other settings do not. Raises ValueError for an override that cannot be read or
    resolved, names a key that the settings do not have, or gives it a value of another kind.
    """
    found = deepcopy(dict(settings))
    paths = {key for key, _ in _paths(settings)}
    for text in overrides:
        key, equals, raw = text.partition("=")
        if not equals or key.startswith(("+", "~")):
            raise ValueError(f"expected KEY=VALUE, got {text!r}; a run keeps its keys, only their values can change")
        section, last = _place(found, key)
        value = _interpolated(raw.strip("'\"") if key in paths else _read(raw, text), text)
        _refuse_other_kind(key, section[last], value)
        section[last] = value
    return found


def refuse_lost(settings: Mapping[str, Any], command: str) -> None:
    """Raises ValueError if local paths of the settings lead nowhere, with how `command` is told where all is now."""
    lost = [(key, path) for key, path in _paths(settings) if _is_local(key, path) and not _exists(path)]
    starts = settings.get("start") or []
    lost_starts = [path for path in starts if isinstance(path, str) and not _exists(path)]
    lost += [("start", path) for path in lost_starts]
    baseline = (settings.get("report") or {}).get("baseline")
    lost += [("report.baseline", baseline)] if baseline and not _exists(baseline) else []
    if lost:
        lines = [f"  - {key}: {path}" for key, path in lost]
        key = lost[0][0]
        names = ['"PATH"' if path in lost_starts else quoted(str(path)) for path in starts]
        value = shlex.quote(f"start=[{','.join(names)}]") if key == "start" else f"{key}=PATH"
        hint = f"if it has moved, say where it is now: {command} {value}"
        raise ValueError("\n".join(["these settings of the run lead to nothing:", *lines, hint]))


def quoted(text: str) -> str:
    """The text in quotes for Hydra, which reads no `=` without them; folders of multiruns have it in their names."""
    return '"' + text.replace('"', '\\"') + '"'


def _place(settings: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The section and the name in it that a key means; names of models and tasks may hold dots."""
    section, rest = settings, key
    while rest not in section:
        inner = [name for name in section if rest.startswith(f"{name}.") and isinstance(section[name], dict)]
        if not inner:
            raise ValueError(f"this run has no setting {key}; there are {', '.join(section)}")
        section, rest = section[inner[0]], rest.removeprefix(f"{inner[0]}.")
    return section, rest


def _read(raw: str, text: str) -> Any:
    try:
        override = OverridesParser.create().parse_override(f"value={raw}")
        if override.is_sweep_override():
            raise ValueError(f"expected one value, got {text!r}; put quotes around text that holds a comma")
        return override.value()
    except HydraException as fault:
        raise ValueError(f"the value of {text!r} cannot be read; put quotes around text: {fault}") from fault


def _interpolated(value: Any, text: str) -> Any:
    register_resolvers()
    try:
        return plain(OmegaConf.create({"value": value}))["value"]
    except OmegaConfBaseException as fault:
        reason = str(fault).splitlines()[0]
        raise ValueError(f"the value of {text!r} cannot be resolved: {reason}; write it out") from fault


def _refuse_other_kind(key: str, old: Any, new: Any) -> None:
    """Raises ValueError if a section would become a value, or a section with other keys, or text something else."""
    if isinstance(old, Mapping) and not (isinstance(new, Mapping) and new.keys() == old.keys()):
        raise ValueError(
            f"{key}: expected the keys {', '.join(old)}, got {new!r}; change them one by one, such as "
            f"{key}.{next(iter(old), 'KEY')}=VALUE (a run that has begun takes no other group)"
        )
    if isinstance(old, Mapping):
        for name in old:
            _refuse_other_kind(f"{key}.{name}", old[name], new[name])
    elif isinstance(old, str) and not isinstance(new, str) and not (new is None and key in OPTIONAL):
        raise ValueError(f"{key}: expected text, got {new!r}; put quotes around it")
    elif isinstance(old, list) and not isinstance(new, list):
        raise ValueError(f"{key}: expected a list, got {new!r}; write {key}=[...]")


def _paths(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The paths of models, of the rows of tasks and of a benchmark, with their keys."""
    if settings.get("benchmark"):
        yield "benchmark.path", settings["benchmark"]["path"]
        return
    source = settings.get("source", {})
    if "base" in source:
        yield "source.base", source["base"]
    yield from ((f"source.models.{name}", path) for name, path in source.get("models", {}).items())
    for name, spec in settings.get("task", {}).items():
        for split in SPLITS:
            rows = spec.get(split)
            if isinstance(rows, Mapping) and isinstance(rows.get("path"), str):
                yield f"task.{name}.{split}.path", rows["path"]


def _is_local(key: str, path: str) -> bool:
    """Whether it is surely no hub id."""
    is_file = key.startswith("task.") and Path(path).suffix.lower() in SUFFIXES
    return Path(path).expanduser().is_absolute() or path.startswith(".") or is_file


def _exists(path: str) -> bool:
    return Path(path).expanduser().exists()
