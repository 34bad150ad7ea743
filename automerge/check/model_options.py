"""Options of the live model: what is wrong with them on this machine, as messages that say how to mend it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import torch

from automerge.model import DType
from automerge.resident.placement import Placement
from automerge.tensors.kernels import Compile


def model_faults(options: Mapping[str, Any]) -> list[str]:
    """A message for every option that is none of its choices or no number, and for a device that is not there."""
    found = [
        f"model.{key}: expected a whole number from 1, got {options.get(key)!r}"
        for key, may_be_null in (("batch_tokens", False), ("threads", True))
        if not (_is_count(options.get(key)) or (options.get(key) is None and may_be_null))
    ]
    if options.get("dtype") not in get_args(DType):
        found.append(f"model.dtype: expected one of {', '.join(get_args(DType))}, got {options.get('dtype')!r}")
    for key, known in (("placement", ("auto", *get_args(Placement))), ("compile", get_args(Compile))):
        if options.get(key) not in known:
            found.append(f"model.{key}: expected one of {', '.join(known)}, got {options.get(key)!r}")
    device = str(options.get("device"))
    if device != "auto":
        try:
            # Whether the device exists shows only when something is put there.
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as fault:
            reason = str(fault).splitlines()[0]
            found.append(f"model.device: {device!r} cannot be used here ({reason}); `auto` takes what there is")
    return found


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
