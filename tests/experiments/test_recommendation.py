"""Rules of recommendation, judged on the test items of a finished run."""

import json
from pathlib import Path

import pytest

from experiments.optimizers.worker import FIGURES, work
from experiments.recommendation.__main__ import RULES, gains
from tests.experiments.test_study import make_job


@pytest.mark.slow
def test_the_rule_of_a_search_gains_what_its_run_did_and_no_rule_more_than_the_test_items_allow(tmp_path: Path) -> None:
    job = make_job(tmp_path, "random_search")
    assert work(job) == ""
    found = gains(job.folder, job.store)
    assert list(found) == list(RULES)
    assert found["means"] == pytest.approx(json.loads((job.folder / FIGURES).read_text())["final"]["gain"])
    # The front on test items has less than eight models here, so the rule that knows it takes all of it.
    assert max(found.values()) == found["test"]
