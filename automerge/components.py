"""Parts named by import path: checked against their signatures before anything is built, then built.

Only targets inside automerge are imported, so that a configuration file from elsewhere cannot run other code.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

PREFIX = "automerge."


def faults(where: str, spec: Any, **given: Any) -> list[str]:
    """Every reason why `build(spec, **given)` would fail before it runs, as messages that begin with `where`."""
    if not isinstance(spec, Mapping) or "_target_" not in spec:
        choose = f"choose it by `{where}=NAME`, or in a file by `- override /{where}: NAME` among its defaults"
        if where.startswith("task."):
            choose = "write `_target_` and options below the name, or choose tasks as task=[zoo_sort]"
        return [f"{where}: expected a mapping with `_target_`, got {spec!r}; {choose}"]
    try:
        target = _target(str(spec["_target_"]))
    except ValueError as fault:
        return [f"{where}: {fault}"]
    parameters = inspect.signature(target).parameters
    options = {key for key in spec if key != "_target_"} | set(given)
    required = {name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty}
    found = []
    if unknown := sorted(options - set(parameters)):
        known = ", ".join(sorted(set(parameters) - set(given)))
        found.append(f"{where}: unknown options {', '.join(unknown)}; {spec['_target_']} takes {known}")
    if missing := sorted(required - options):
        found.append(f"{where}: missing options {', '.join(missing)} of {spec['_target_']}")
    return found


def build(spec: Mapping[str, Any], **given: Any) -> Any:
    """What the target gives for the options of the spec and the given ones."""
    options = {key: value for key, value in spec.items() if key != "_target_"}
    return _target(str(spec["_target_"]))(**options, **given)


def _target(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    if not path.startswith(PREFIX):
        raise ValueError(f"`_target_` must lie inside {PREFIX[:-1]}, got {path!r}")
    try:
        target: Callable[..., Any] = getattr(import_module(module), name)
    except ImportError as fault:
        if fault.name is None or not fault.name.startswith(PREFIX):
            # The module is there, but a package that it needs is not.
            raise ValueError(f"{name} cannot be used: {fault}") from fault
        raise ValueError(f"`_target_` {path!r} does not exist ({fault})") from fault
    except AttributeError as fault:
        raise ValueError(f"`_target_` {path!r} does not exist ({fault})") from fault
    # Names that a module only imports are not its own.
    if not getattr(target, "__module__", "").startswith(PREFIX):
        raise ValueError(f"`_target_` {path!r} is no part of automerge")
    return target
