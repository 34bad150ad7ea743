"""Options of the live model: what is wrong with them on this machine, as messages that say how to mend it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import torch

from automerge.model import DType
from automerge.options import whole_faults
from automerge.resident.placement import Placement
from automerge.tensors.kernels import Compile


def model_faults(options: Mapping[str, Any]) -> list[str]:
    """A message for every option that is none of its choices or no number, and for a device that is not there."""
    counts = {"model.batch_tokens": options.get("batch_tokens")}
    if options.get("threads") is not None:
        counts["model.threads"] = options["threads"]
    found = whole_faults(1, **counts)
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
