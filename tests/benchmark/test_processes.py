"""Work on many things in processes of their own."""

from __future__ import annotations

import os

import pytest

from automerge.benchmark.processes import each_done


def root(number: float) -> tuple[float, int]:
    if number < 0:
        raise ValueError(f"{number} has no root")
    return number**0.5, os.getpid()


def test_one_job_works_here_in_order() -> None:
    found = list(each_done(root, [4.0, 9.0], 1))
    assert found == [(4.0, (2.0, os.getpid())), (9.0, (3.0, os.getpid()))]


def test_several_jobs_work_in_other_processes() -> None:
    found = dict(each_done(root, [4.0, 9.0, 16.0], 2))
    assert {number: root for number, (root, _) in found.items()} == {4.0: 2.0, 9.0: 3.0, 16.0: 4.0}
    assert os.getpid() not in {process for _, process in found.values()}


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_the_work_raises_is_raised(jobs: int) -> None:
    with pytest.raises(ValueError, match=r"-1\.0 has no root"):
        list(each_done(root, [-1.0, 4.0], jobs))
