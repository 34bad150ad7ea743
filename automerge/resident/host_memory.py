"""How much memory of the host a process may still take: what the machine has, and what its control group allows.

Containers and batch systems such as SLURM bound a process far below the machine's memory, and end it without a word
beyond that.
"""

from __future__ import annotations

from pathlib import Path

import psutil

MEMBERSHIP = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")

FILES = {
    "v2": ("memory.max", "memory.current", "inactive_file"),
    "v1": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""By version of control groups the files of the limit and the usage, and the entry of pages that can be dropped."""


def free_host_bytes() -> int:
    """The bytes that the process may still take."""
    return min([int(psutil.virtual_memory().available), *group_rooms(MEMBERSHIP, GROUPS)])


def group_rooms(membership: Path, groups: Path) -> list[int]:
    """The bytes left in the process's control group and in every one that it lies in, of those that have a limit.

    Pages of files that were read and can be dropped count as free.
    """
    if not membership.is_file():
        return []
    rooms = []
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            version, root = ("v1", groups / "memory") if controllers else ("v2", groups)
            own = root / path.lstrip("/")
            # Within a container the path may be that of the host, and what is mounted is the group itself.
            inner = [folder for folder in (own, *own.parents) if folder == root or root in folder.parents]
            rooms += [room for folder in inner if (room := _room(folder, *FILES[version])) is not None]
    return rooms


def _room(folder: Path, limit_file: str, usage_file: str, dropped: str) -> int | None:
    files = [folder / name for name in (limit_file, usage_file, "memory.stat")]
    if not all(file.is_file() for file in files):
        return None
    limit, usage, told = (file.read_text() for file in files)
    if limit.strip() == "max":
        return None
    entries = dict(line.split() for line in told.splitlines())
    return max(0, int(limit) - int(usage) + int(entries.get(dropped, 0)))
