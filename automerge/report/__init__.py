"""The report: a finished or interrupted log told as tables, figures and one page that opens offline.

It reads `run.db` and nothing else, and writes beside it::

    write_report(Path("runs/first"), baseline=Path("runs/random"))
    # runs/first/pareto.csv, pareto.json, report.html, report.png
"""

from __future__ import annotations

from pathlib import Path

from automerge.report.findings import Findings, find
from automerge.report.table import write_tables

__all__ = ["Findings", "find", "write_report"]


def write_report(run: Path, *, baseline: Path | None = None) -> Findings:
    """The findings of a run, after writing pareto.csv, pareto.json, report.html and report.png into its folder.

    `baseline` is the folder of a run to compare with, such as random search with the same budget.
    Raises FileNotFoundError if a folder holds no log, ValueError if the run ended before its sources were evaluated
    or the baseline cannot be compared with it.
    """
    # plotly and matplotlib take longer to import than everything else here.
    from automerge.report.page import write_page  # noqa: PLC0415
    from automerge.report.picture import write_picture  # noqa: PLC0415

    findings = find(run, baseline=baseline)
    write_tables(findings)
    write_page(findings)
    write_picture(findings)
    return findings
