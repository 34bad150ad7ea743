"""Work on many things in processes of their own."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from automerge.benchmark.processes import each_done


def root(number: float) -> tuple[float, int]:
    if number < 0:
        raise ValueError(f"{number} has no root")
    return number**0.5, os.getpid()


def test_one_job_works_here_in_order() -> None:
    found = list(each_done(root, [4.0, 9.0], 1))
    assert found == [(4.0, (2.0, os.getpid())), (9.0, (3.0, os.getpid()))]


@pytest.mark.slow
def test_a_single_job_works_in_another_process_if_it_is_to_be_apart() -> None:
    ((number, (found, process)),) = each_done(root, [4.0], 1, apart=True)
    assert (number, found) == (4.0, 2.0)
    assert process != os.getpid()


@pytest.mark.slow
def test_several_jobs_work_in_other_processes() -> None:
    found = dict(each_done(root, [4.0, 9.0, 16.0], 2))
    assert {number: root for number, (root, _) in found.items()} == {4.0: 2.0, 9.0: 3.0, 16.0: 4.0}
    assert os.getpid() not in {process for _, process in found.values()}


def marked(path: Path) -> None:
    path.touch()
    if path.name == "0":
        raise ValueError("the first fails")
    # All others end after the first.
    while not path.with_name("0").exists():
        time.sleep(0.01)
    time.sleep(0.5)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_the_work_raises_is_raised_and_no_more_is_begun(tmp_path: Path, jobs: int) -> None:
    with pytest.raises(ValueError, match="the first fails"):
        list(each_done(marked, [tmp_path / str(number) for number in range(12)], jobs))
    assert {path.name for path in tmp_path.iterdir()} == {str(number) for number in range(jobs)}
