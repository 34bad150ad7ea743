"""Memory that control groups leave, read from folders laid out as the kernel lays them."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from automerge.resident import host_memory
from automerge.resident.host_memory import free_host_bytes, group_rooms

MB = 10**6


def write(folder: Path, limit: str, usage: int, dropped: int, *, old: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if old else ("memory.max", "memory.current")
    for name, content in zip(names, (limit, str(usage)), strict=True):
        (folder / name).write_text(f"{content}\n")
    entry = "total_inactive_file" if old else "inactive_file"
    (folder / "memory.stat").write_text(f"anon 5\n{entry} {dropped}\n")


def test_every_group_around_the_process_counts_and_pages_of_files_are_free(tmp_path: Path) -> None:
    membership, groups = tmp_path / "membership", tmp_path / "groups"
    membership.write_text("0::/slurm/job_7/step\n")
    write(groups / "slurm" / "job_7" / "step", "max", 50 * MB, 0)
    write(groups / "slurm" / "job_7", str(90 * MB), 50 * MB, 20 * MB)
    write(groups / "slurm", str(500 * MB), 60 * MB, 0)
    assert group_rooms(membership, groups) == [60 * MB, 440 * MB]


def test_a_container_that_sees_its_own_group_alone_is_bounded_by_it(tmp_path: Path) -> None:
    membership, groups = tmp_path / "membership", tmp_path / "groups"
    membership.write_text("0::/kubepods/pod_of_the_host\n")
    write(groups, str(64 * MB), 70 * MB, 1 * MB)
    assert group_rooms(membership, groups) == [0]


def test_older_groups_have_a_folder_for_memory(tmp_path: Path) -> None:
    membership, groups = tmp_path / "membership", tmp_path / "groups"
    membership.write_text("5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n")
    write(groups / "memory" / "docker" / "1", str(30 * MB), 10 * MB, 2 * MB, old=True)
    assert group_rooms(membership, groups) == [22 * MB]


def test_free_memory_is_the_least_of_the_machines_and_the_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_memory, "MEMBERSHIP", tmp_path / "none")
    assert 0 < free_host_bytes() <= psutil.virtual_memory().total
    (tmp_path / "membership").write_text("0::/\n")
    write(tmp_path / "groups", str(3 * MB), 1 * MB, 0)
    monkeypatch.setattr(host_memory, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(host_memory, "GROUPS", tmp_path / "groups")
    assert free_host_bytes() == 2 * MB
