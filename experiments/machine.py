"""The machine and the versions that a result was measured with."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from automerge.run import versions


def describe() -> dict[str, object]:
    """Processor, cores, threads and versions, for a results.json."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    return {
        "processor": ", ".join(sorted(names)) or platform.processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "versions": versions(),
    }
