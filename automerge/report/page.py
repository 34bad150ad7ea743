"""report.html: the findings as one page that opens without a network."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from automerge.report.anatomy import anatomy, palette
from automerge.report.figures import models, progress, to_html
from automerge.report.findings import Findings
from automerge.report.points import Point

TEMPLATE = Path(__file__).with_name("page.html.jinja")

SETS = {
    "recommended": "recommended front",
    "sources": "sources alone",
    "sources_and_uniform": "sources and uniform merges",
    "baseline": "recommended front of the baseline run",
}
"""What the page calls the sets of models whose hypervolumes are compared."""

MARKUP_KEYS = ("plotly_js", "figures", "progress")
"""What is markup already and must not be escaped."""


def write_page(findings: Findings) -> None:
    """Writes report.html into the run folder."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    (findings.run / "report.html").write_text(template.render(_content(findings)), encoding="utf-8")


def export_command(findings: Findings, point: Point) -> str:
    """The command that writes a recommended model as a checkpoint."""
    return f"automerge export {shlex.quote(str(findings.run))} --point {point.number} --to point-{point.number}"


def _content(findings: Findings) -> dict[str, Any]:
    *drawn, volume = to_html([*models(findings), progress(findings)])
    colours = palette([point.trial.recipe for point in findings.recommended])
    return {
        "findings": findings,
        "run_name": findings.run.resolve().name,
        "tiles": _tiles(findings),
        "volumes": _volumes(findings),
        "objectives": findings.history.objectives,
        "export_command": export_command,
        "colours": colours,
        "anatomies": [(point, anatomy(point.trial.recipe, colours)) for point in findings.recommended],
        "settings": {key: json.dumps(value, indent=1) for key, value in sorted(findings.settings.items())},
        "figures": [jinja2.filters.Markup(figure) for figure in drawn],
        "progress": jinja2.filters.Markup(volume),
        "plotly_js": jinja2.filters.Markup(get_plotlyjs()),
    }
