"""report.html: the findings as one page that opens without a network."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import yaml
from plotly.offline import get_plotlyjs

from automerge.history import counts_from_chance
from automerge.report.figures import models, progress, to_html
from automerge.report.findings import TASK_VECTORS, Findings
from automerge.report.marks import cost, fronts, marks
from automerge.report.points import Point
from automerge.report.portraits import gallery
from automerge.report.vectors import heat_map, section
from automerge.report.volumes import N_RESAMPLES

TEMPLATE = Path(__file__).with_name("page.html.jinja")

SETS = {
    "recommended": "recommended front",
    "sources": "sources alone",
    "sources_and_uniform": "sources and uniform merges",
    "given": "given recipes",
    "baseline": "recommended front of the baseline run",
}
"""What the page calls the sets of models whose hypervolumes are compared."""


class Tile(NamedTuple):
    """A key figure with its name above and a remark below."""

    name: str
    figure: str
    remark: str


class VolumeRow(NamedTuple):
    """A line of the table of hypervolumes; `gain` is how much more the recommended front has on test items."""

    label: str
    search: str
    test: str
    gain: str


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
    vectors = findings.task_vectors
    maps = [] if vectors is None else [heat_map(vectors)]
    front_figures = models(findings)
    drawn = to_html([*front_figures, progress(findings), *maps])
    return {
        "findings": findings,
        "run_name": findings.run.resolve().name,
        "tiles": _tiles(findings),
        "volumes": _volumes(findings),
        "reference_point": _reference_point(findings),
        "n_resamples": N_RESAMPLES,
        "objectives": findings.history.objectives,
        "comparisons": findings.comparisons,
        "headline": findings.headline,
        "mean": next((each.shares for each in findings.history.objectives if each.kind == "mean"), ()),
        "can_export": findings.is_finished and not findings.simulated,
        "export_command": export_command,
        "gallery": gallery(findings),
        "vectors": None if vectors is None else section(vectors),
        "configuration": yaml.safe_dump(findings.settings.get("config", {}), sort_keys=False, allow_unicode=True),
        "settings": {
            key: json.dumps(value, indent=1)
            for key, value in sorted(findings.settings.items())
            if key not in ("config", TASK_VECTORS)
        },
        "from_chance": counts_from_chance(
            [findings.history.trials[number] for number in findings.history.sources],
            findings.history.objectives,
            constrained=bool(findings.history.constraints),
        ),
        "marks": list(marks(findings).values()),
        "fronts": fronts(findings, (0, 1)) if len(findings.history.objectives) > 1 else [],
        "bracketed": [objective.name for objective in findings.history.objectives if objective.kind == "cost"],
        "figures": drawn[: len(front_figures)],
        "progress": drawn[len(front_figures)],
        "map": drawn[-1] if maps else None,
        "plotly_js": get_plotlyjs(),
    }


def _tiles(findings: Findings) -> list[Tile]:
    figures = findings.figures
    failures = ", ".join(f"{count} {status}" for status, count in sorted(figures["failures"].items()))
    remark = "virtual, as the evaluations would take" if findings.simulated else "proposing and logging included"
    return [
        Tile("trials", f"{figures['n_trials']:,}", f"and {figures['n_references']} reference models"),
        Tile("search items evaluated", f"{figures['n_search_items']:,}", f"{figures['n_items']:,} with all others"),
        Tile("wall time", _duration(figures["wall_seconds"]), remark),
        _overhead(figures),
        Tile("invalid or failed", failures or "none", "see below" if failures else "all evaluations are ok"),
    ]


def _overhead(figures: Mapping[str, Any]) -> Tile:
    share, wall, seconds = figures["share_outside_forward"], figures["wall_seconds"], figures["seconds"]
    if share is None:
        return Tile("outside forward passes", "unknown", "no times, or evaluations overlapped")
    parts = {phase: seconds[phase] / wall for phase in sorted(seconds) if phase != "forward"}
    parts["rest"] = max(0.0, share - sum(parts.values()))
    return Tile(
        "outside forward passes",
        f"{100 * share:.1f} %",
        "of the time: " + ", ".join(f"{phase} {100 * part:.1f} %" for phase, part in parts.items()),
    )


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _reference_point(findings: Findings) -> str:
    """Where hypervolume begins, in the natural signs: `calc 24.5 %, layers 13.2`."""
    history = findings.history
    values = [
        (objective, objective.sign * float(value))
        for objective, value in zip(history.objectives, history.reference_point, strict=True)
    ]
    return ", ".join(
        f"{objective.name} {cost(value)}" if objective.kind == "cost" else f"{objective.name} {100 * value:.1f}\u00a0%"
        for objective, value in values
    )


def _volumes(findings: Findings) -> list[VolumeRow]:
    search, test = findings.volumes["search"], findings.volumes["test"]
    return [
        VolumeRow(
            label,
            search.sets[name].text if name in search.sets else "-",
            test.sets[name].text if name in test.sets else "-",
            test.gains[name].signed if name in test.gains else "",
        )
        for name, label in SETS.items()
        if name in search.sets or name in test.sets
    ]
