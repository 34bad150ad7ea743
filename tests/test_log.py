import errno
import fcntl
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from automerge.log import RunLog, TrialRow
from automerge.records import Evaluation, Scores, Slice
from tests.toy import SOURCE_RECIPE

PART = Slice("a", "search", 10, 13)
EVALUATION = Evaluation(
    status="ok",
    scores=(Scores(PART, (7, 3, 5), (1.0, 0.0, 0.25)),),
    seconds={"merge": 0.5, "forward": 1.0},
    costs={"layers": 3.0},
)


def row(number: int = 0) -> TrialRow:
    return TrialRow(number, SOURCE_RECIPE.id, np.array([0.1, 2.0]), SOURCE_RECIPE, {"operator": "sample"})


def test_what_is_written_is_read_back_by_another_connection(tmp_path: Path) -> None:
    with RunLog(tmp_path / "run.db") as log:
        log.write_settings({"seed": 3, "nested": {"a": [1, 2]}})
        log.write_evaluation(row(), phase="search", slices=[PART], evaluation=EVALUATION, wall=2.5)
        with RunLog(tmp_path / "run.db", read_only=True) as other:
            assert other.settings() == {"seed": 3, "nested": {"a": [1, 2]}}
            (trial,) = other.trials()
            assert trial.recipe == SOURCE_RECIPE
            assert (trial.genotype == [0.1, 2.0]).all()
            (logged,) = other.evaluations()
            assert logged.evaluation == EVALUATION
            assert (logged.phase, logged.slices, logged.wall) == ("search", (PART,), 2.5)


def test_a_trial_is_stored_once_and_its_evaluations_in_order(tmp_path: Path) -> None:
    with RunLog(tmp_path / "run.db") as log:
        for wall in (1.0, 2.0, 3.0):
            log.write_evaluation(row(4), phase="search", slices=[PART], evaluation=EVALUATION, wall=wall)
        assert len(log.trials()) == 1
        assert [logged.wall for logged in log.evaluations()] == [1.0, 2.0, 3.0]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    broken = Evaluation(status="ok", scores=(Scores(PART, (1,), ("no number",)),))  # type: ignore[arg-type]
    with RunLog(tmp_path / "run.db") as log:
        with pytest.raises(ValueError, match="could not convert"):
            log.write_evaluation(row(), phase="search", slices=[PART], evaluation=broken, wall=1.0)
        assert log.trials() == []
        assert log.evaluations() == []
        log.write_evaluation(row(), phase="search", slices=[PART], evaluation=EVALUATION, wall=1.0)
        assert len(log.evaluations()) == 1


def test_the_order_of_items_is_fixed_once(tmp_path: Path) -> None:
    with RunLog(tmp_path / "run.db") as log:
        log.write_order("a", "search", np.array([2, 0, 1]))
        log.write_order("a", "search", np.array([2, 0, 1]))
        assert log.orders()["a", "search"].tolist() == [2, 0, 1]
        with pytest.raises(ValueError, match="start a new run"):
            log.write_order("a", "search", np.array([0, 1, 2]))


def test_only_one_process_writes_at_a_time(tmp_path: Path) -> None:
    with RunLog(tmp_path / "run.db"), pytest.raises(ValueError, match="another process is writing"):
        RunLog(tmp_path / "run.db")
    RunLog(tmp_path / "run.db").close()


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match=r"No locks available.*file system with locks"):
        RunLog(tmp_path / "run.db")


def test_any_folder_name_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "a#b?c%41 d"
    folder.mkdir()
    RunLog(folder / "run.db").close()
    with RunLog(folder / "run.db", read_only=True) as log:
        assert log.trials() == []


def test_write_ahead_and_full_synchronisation_are_on(tmp_path: Path) -> None:
    with RunLog(tmp_path / "run.db"):
        pass
    connection = sqlite3.connect(tmp_path / "run.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_other_files_and_versions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, but a text that is long enough")
    with pytest.raises(ValueError, match="is not a log of automerge"):
        RunLog(tmp_path / "text.db")
    with pytest.raises(FileNotFoundError, match="a run folder holds one named"):
        RunLog(tmp_path / "none.db", read_only=True)
    connection = sqlite3.connect(tmp_path / "future.db")
    connection.execute("PRAGMA user_version = 99")
    connection.execute("CREATE TABLE something (x)")
    connection.commit()
    connection.close()
    with pytest.raises(ValueError, match="log version 99, this automerge reads version 1"):
        RunLog(tmp_path / "future.db")
