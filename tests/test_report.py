"""The report against numbers computed here from the scores that the synthetic logs were made of."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from automerge.log import RunLog, TrialRow
from automerge.recipe import Fusion, Input, Recipe, uniform
from automerge.records import (
    REFERENCE,
    Constraint,
    Evaluation,
    Objective,
    Phase,
    Scores,
    Slice,
    Split,
    Status,
)
from automerge.report import find, write_report
from automerge.report.figures import models
from automerge.report.findings import Findings
from automerge.report.marks import cost
from automerge.report.page import export_command
from automerge.report.vectors import heat_map
from automerge.task_vectors import TaskVectors
from tests.report.recipes import fused, pruned_fusions, scaled_stack

N_SEARCH, N_TEST, N_LAYERS = 60, 80, 4
REFERENCES: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "base": ("source", (0.3, 0.3, 0.3)),
    "math": ("source", (0.7, 0.3, 0.4)),
    "code": ("source", (0.3, 0.7, 0.4)),
    "linear": ("uniform", (0.5, 0.5, 0.4)),
    "ties 1": ("uniform", (0.45, 0.55, 0.4)),
}


@dataclass
class Run:
    """Writes a synthetic run; item scores are drawn with the given chances and kept in `scores` by split."""

    folder: Path
    tasks: Sequence[str] = ("calc", "sort")
    costs: Sequence[str] = ()
    seed: int = 0
    weights: Mapping[str, float] | None = None
    constraints: Sequence[Constraint] = ()
    scores: dict[Split, dict[tuple[int, str], NDArray[np.float64]]] = field(
        default_factory=lambda: {"search": {}, "test": {}}
    )
    recipes: Mapping[int, Recipe] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rng = np.random.default_rng(self.seed)
        self.log = RunLog(self.folder / "run.db")
        scores = [Objective(name) for name in self.tasks] if self.weights is None else [Objective.mean_of(self.weights)]
        objectives = [*scores, *(Objective(name, "cost") for name in self.costs)]
        reference_point = [0.2] * len(scores) + [-13.0] * len(self.costs)
        self.log.write_settings(
            {
                "objectives": [asdict(objective) for objective in objectives],
                "constraints": [asdict(constraint) for constraint in self.constraints],
                "reference_point": reference_point,
                "seed": self.seed,
                "versions": {"automerge": "0.1.0"},
                "config": {"budget": {"trials": 20}},
            }
        )

    def references(self, failing: Mapping[str, Status] | None = None) -> None:
        for number, (name, (kind, chances)) in enumerate(REFERENCES.items()):
            origin = {"operator": REFERENCE, "name": name, "kind": kind}
            status = (failing or {}).get(name, "ok")
            self.evaluate(number, chances, origin=origin, phase="reference", status=status, weight=number / 10)

    def candidate(self, number: int, chances: Sequence[float], *, status: Status = "ok", layers: int = 12) -> None:
        origin = {"operator": "depth_crossover+block_mutation", "parents": [1, 2]}
        self.evaluate(number, chances, origin=origin, phase="search", status=status, layers=layers, weight=number / 100)

    def test(self, number: int, chances: Sequence[float], *, status: Status = "ok") -> None:
        self.evaluate(number, chances, origin={}, phase="test", status=status, weight=0)

    def evaluate(
        self,
        number: int,
        chances: Sequence[float],
        *,
        origin: Mapping[str, Any],
        phase: Phase,
        weight: float,
        status: Status = "ok",
        layers: int = 12,
    ) -> None:
        split: Split = "test" if phase == "test" else "search"
        n = N_TEST if split == "test" else N_SEARCH
        slices = tuple(Slice(task, split, 0, n) for task in self.tasks)
        parts = []
        for part, chance in zip(slices, chances, strict=False):
            values = (self.rng.random(n) < chance).astype(float)
            parts.append(Scores(part, tuple(range(n)), tuple(values.tolist())))
            if status == "ok":
                self.scores[split][number, part.task] = values
        evaluation = Evaluation(
            status=status,
            scores=tuple(parts) if status == "ok" else (),
            seconds={"merge": 0.2, "forward": 1.5, "score": 0.1},
            costs={"layers": float(layers), "tokens": 1000.0},
            reason="" if status == "ok" else "outputs are not finite in <layer 3>",
        )
        row = TrialRow(number, "", np.zeros(0), self.recipes.get(number, recipe(weight)), origin)
        self.log.write_evaluation(row, phase=phase, slices=slices, evaluation=evaluation, wall=2.0)

    def finish(self, recommended: Sequence[int]) -> None:
        self.log.write_settings({"recommended": list(recommended)})

    def report(self, **options: Any) -> Any:
        self.log.close()
        write_report(self.folder, **options)
        return json.loads((self.folder / "pareto.json").read_text())


def recipe(weight: float) -> Recipe:
    inputs = (Input("math", None, 1 - weight), Input("code", None, 0.05 + weight))
    return uniform(Fusion("ties", inputs, (("density", 0.5),)), N_LAYERS)


def two_objectives(folder: Path, *, seed: int = 0, better: float = 0.1) -> Run:
    run = Run(folder, seed=seed)
    run.references()
    chances = {5: (0.75 + better, 0.6 + better), 6: (0.6 + better, 0.75 + better), 7: (0.5, 0.4)}
    for number, candidate in chances.items():
        run.candidate(number, candidate)
    run.candidate(8, (0.5, 0.5), status="invalid")
    run.finish([6, 5])
    for number, (_, chance) in enumerate(REFERENCES.values()):
        run.test(number, chance)
    for number in (6, 5):
        run.test(number, chances[number])
    return run


def area(points: Sequence[tuple[float, ...]], reference: tuple[float, float]) -> float:
    """The hypervolume in two objectives, as a sum of rectangles from right to left."""
    total, height = 0.0, reference[1]
    for x, y in sorted(points, key=lambda point: (-point[0], -point[1])):
        if y > height and x > reference[0]:
            total += (x - reference[0]) * (y - height)
            height = y
    return total


@dataclass(frozen=True)
class Reported:
    """A reported run that tests may read but not change."""

    run: Run
    content: Any

    @property
    def folder(self) -> Path:
        return self.run.folder


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    run = two_objectives(tmp_path_factory.mktemp("usual"))
    return Reported(run, run.report())


def by_name(content: Any) -> dict[str, Any]:
    return {point["name"]: point for point in content["points"]}


def page(folder: Path) -> str:
    """The page without plotly.js, which names addresses that it opens for maps only."""
    return re.sub(r"<script>/\*\*\s*\n?\* plotly\.js.*?</script>", "", (folder / "report.html").read_text(), flags=re.S)


def test_scores_are_means_with_wilson_intervals(usual: Reported) -> None:
    """scipy's proportion_ci is the reference for the intervals (it uses z = 1.95996, pareto.interval 1.96)."""
    run = usual.run
    points = by_name(usual.content)
    for name, trial in {"#6": 6, "math": 1}.items():
        for split, n in (("search", N_SEARCH), ("test", N_TEST)):
            values = run.scores[split][trial, "calc"]  # type: ignore[index]
            got = points[name]["scores"]["calc"][split]
            expected = binomtest(int(values.sum()), n).proportion_ci(method="wilson")
            assert got["n"] == n
            assert got["mean"] == pytest.approx(values.mean())
            assert (got["low"], got["high"]) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_points_are_numbered_as_recommended_and_grouped(usual: Reported) -> None:
    content = usual.content
    listed = [(point["number"], point["name"], point["group"]) for point in content["points"]]
    assert listed[:2] == [(1, "#6", "recommended"), (2, "#5", "recommended")]
    assert [row[2] for row in listed[2:]] == ["source"] * 3 + ["uniform"] * 2
    best = content["points"][0]
    assert best["origin"] == {"operator": "depth_crossover+block_mutation", "parents": [1, 2]}
    assert Recipe.from_json(json.dumps(best["recipe"])).id == best["recipe_id"] == recipe(0.06).id
    assert content["settings"]["config"] == {"budget": {"trials": 20}}


def test_csv_holds_the_points_of_the_json(usual: Reported) -> None:
    content = usual.content
    with (usual.folder / "pareto.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [point["name"] for point in content["points"]]
    assert [row["number"] for row in rows][:3] == ["1", "2", ""]
    assert float(rows[0]["sort_test_low"]) == content["points"][0]["scores"]["sort"]["test"]["low"]
    assert rows[0]["parents"] == "1 2"


@pytest.mark.parametrize("split", ["search", "test"])
def test_hypervolumes_are_areas_above_the_reference_point(usual: Reported, split: Split) -> None:
    run = usual.run
    found = usual.content["hypervolume"][split]

    def expected(trials: Sequence[int]) -> float:
        means = [tuple(float(run.scores[split][t, task].mean()) for task in run.tasks) for t in trials]
        return area(means, (0.2, 0.2))

    own, sources, all_references = expected([6, 5]), expected([0, 1, 2]), expected(range(5))
    assert found["sets"]["recommended"]["value"] == pytest.approx(own)
    assert found["sets"]["sources"]["value"] == pytest.approx(sources)
    assert found["sets"]["sources_and_uniform"]["value"] == pytest.approx(all_references)
    assert found["recommended_minus"]["sources_and_uniform"]["value"] == pytest.approx(own - all_references)


def test_bootstrap_interval_agrees_with_a_plain_loop(usual: Reported) -> None:
    """Items drawn one by one with another generator: the quantiles agree to Monte Carlo error."""
    run = usual.run
    got = usual.content["hypervolume"]["test"]["recommended_minus"]["sources_and_uniform"]
    rng = np.random.default_rng(99)
    differences = []
    for _ in range(1000):
        drawn = {task: rng.integers(N_TEST, size=N_TEST) for task in run.tasks}
        means = [tuple(float(run.scores["test"][t, task][drawn[task]].mean()) for task in run.tasks) for t in range(7)]
        differences.append(area(means[5:], (0.2, 0.2)) - area(means[:5], (0.2, 0.2)))
    low, high = np.quantile(differences, [0.025, 0.975])
    width = high - low
    assert (got["low"], got["high"]) == pytest.approx((low, high), abs=0.12 * width)


def test_equal_sets_have_no_difference_under_any_resample(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.references()
    run.finish([1, 2, 3, 4])
    for number, (_, chances) in enumerate(REFERENCES.values()):
        run.test(number, chances)
    content = run.report()
    gain = content["hypervolume"]["test"]["recommended_minus"]["sources_and_uniform"]
    assert gain["value"] == pytest.approx(gain["low"]) == pytest.approx(gain["high"]) == pytest.approx(0)
    assert "not measurably better" in content["conclusion"]
    assert by_name(content)["math"]["kind"] == "source"


def test_page_needs_no_network_and_names_every_model(usual: Reported) -> None:
    text = page(usual.folder)
    assert len(text) < 1_000_000 < len((usual.folder / "report.html").read_text())
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", text)
    assert "@import" not in text
    for name in (*REFERENCES, "#5", "#6"):
        assert f"<td>{name}" in text
    assert f"automerge export {usual.folder} --point 2 --to point-2" in re.sub("</?span>", "", text)
    assert "outputs are not finite in &lt;layer 3&gt;" in text
    assert "<layer 3>" not in text


def test_picture_is_a_png(usual: Reported) -> None:
    content = (usual.folder / "report.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 10_000


def test_figures_count_time_items_and_failures(usual: Reported) -> None:
    figures = usual.content["figures"]
    n_search, n_test = 5 + 4, 5 + 2
    assert (figures["n_trials"], figures["n_references"]) == (4, 5)
    assert figures["n_search_items"] == 4 * 2 * N_SEARCH
    assert figures["n_items"] == 2 * (n_search * N_SEARCH + n_test * N_TEST)
    assert figures["wall_seconds"] == pytest.approx(2.0 * (n_search + n_test))
    assert figures["share_outside_forward"] == pytest.approx(0.25)
    assert figures["failures"] == {"invalid": 1}


def test_clear_gain_is_worded_as_one(tmp_path: Path) -> None:
    clear = two_objectives(tmp_path / "clear", better=0.2).report()
    assert re.search(r"dominates (\d+ % more hypervolume than|[\d.]+ times the hypervolume of)", clear["conclusion"])
    gain = clear["hypervolume"]["test"]["recommended_minus"]["sources_and_uniform"]
    assert 0 < gain["low"] < gain["value"] < gain["high"]


def test_one_objective_is_ranked(tmp_path: Path) -> None:
    run = Run(tmp_path, tasks=("calc",))
    run.references()
    run.candidate(5, (0.95,))
    run.finish([5])
    for number, (_, chances) in enumerate(REFERENCES.values()):
        run.test(number, chances)
    run.test(5, (0.95,))
    content = run.report()
    best = max(float(run.scores["test"][number, "calc"].mean()) for number in range(5))
    found = content["hypervolume"]["test"]["sets"]
    assert found["sources_and_uniform"]["value"] == pytest.approx(best - 0.2)
    own = run.scores["test"][5, "calc"]
    assert f"(#5) reaches {100 * own.mean():.1f} % (" in content["conclusion"]
    rivals = {name: run.scores["test"][number, "calc"] for number, name in enumerate(REFERENCES)}
    uniform_merge = max(("linear", "ties 1"), key=lambda name: rivals[name].mean())
    source = max(("base", "math", "code"), key=lambda name: rivals[name].mean())
    headline = content["headline"]
    assert [row["name"] for row in headline["recommended_minus"]] == ["base", "math", "code", uniform_merge]
    for row in headline["recommended_minus"]:
        # The four outcomes of right and wrong, with half an item added to each (Agresti and Min 2005).
        other = rivals[row["name"]]
        gained, lost, n = int((own > other).sum()), int((own < other).sum()), N_TEST + 2
        half = 1.96 * np.sqrt(gained + lost + 1 - (gained - lost) ** 2 / n) / n
        assert row["value"] == pytest.approx((gained - lost) / N_TEST)
        assert (row["low"], row["high"]) == pytest.approx(((gained - lost) / n - half, (gained - lost) / n + half))
        for name, title in ((source, "best source"), (uniform_merge, "best uniform merge")):
            words = (
                f"{100 * row['value']:.1f} points more ({100 * row['low']:+.1f} to {100 * row['high']:+.1f}) than the"
            )
            assert (f"{words} {title}, {name}" in content["conclusion"]) == (row["name"] == name)
    (table,) = re.findall(r"<h2>#5 on test items.*?</section>", page(tmp_path), flags=re.S)
    assert re.findall(r"<tr><td>(.*?)</td>", table) == ["base", "math", "code", uniform_merge]
    assert "best model on top" in page(tmp_path)
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_one_objective_without_a_better_merge_says_so(tmp_path: Path) -> None:
    run = Run(tmp_path, tasks=("calc",))
    run.references()
    run.finish([1])
    for number, (_, chances) in enumerate(REFERENCES.values()):
        run.test(number, chances)
    content = run.report()
    assert "no recommended model beats the best source or uniform merge, math" in content["conclusion"]
    assert {row["name"] for row in content["headline"]["recommended_minus"]} < {"base", "code", "linear", "ties 1"}


def test_costs_keep_their_sign_and_every_pair_is_drawn(tmp_path: Path) -> None:
    run = Run(tmp_path, costs=("layers",))
    run.references()
    run.candidate(5, (0.8, 0.8), layers=12)
    run.candidate(6, (0.6, 0.6), layers=9)
    run.finish([5, 6])
    for number, (_, chances) in enumerate(REFERENCES.values()):
        run.test(number, chances)
    for number in (5, 6):
        run.test(number, (0.7, 0.7))
    content = run.report()
    assert [point["scores"]["layers"]["value"] for point in content["points"][:2]] == [12, 9]
    means = {t: [float(run.scores["test"][t, task].mean()) for task in run.tasks] for t in (5, 6)}
    # In slabs of layers: above 12 of the bound of 13 both models count, from 9 to 12 only the shallow one.
    both = area([(means[5][0], means[5][1]), (means[6][0], means[6][1])], (0.2, 0.2))
    shallow = area([(means[6][0], means[6][1])], (0.2, 0.2))
    volume = content["hypervolume"]["test"]["sets"]["recommended"]["value"]
    assert volume == pytest.approx(both * 1 + shallow * 3)
    text = page(tmp_path)
    assert len(re.findall(r'id="figure-\d+"', text)) == 3 + 1
    assert "lower is better" in text


def with_layers(folder: Path, *, tasks: Sequence[str], layers: Sequence[int] = (12, 9, 7)) -> Findings:
    """The findings of a run whose models 5, 6, ... have so many layers, besides references of 12."""
    run = Run(folder, tasks=tasks, costs=("layers",))
    run.references()
    for number, n_layers in enumerate(layers, start=5):
        run.candidate(number, (0.9 - number / 50, 0.5 + number / 50), layers=n_layers)
    run.finish(range(5, 5 + len(layers)))
    for number, (_, chances) in enumerate(REFERENCES.values()):
        run.test(number, chances)
    for number in range(5, 5 + len(layers)):
        run.test(number, (0.9 - number / 50, 0.5 + number / 50))
    run.log.close()
    return find(folder)


def test_scores_stand_over_costs_with_fewer_to_the_right(tmp_path: Path) -> None:
    findings = with_layers(tmp_path, tasks=("calc",))
    (figure,) = models(findings)
    across, up = figure.layout.xaxis, figure.layout.yaxis
    assert (across.title.text, up.title.text) == ("layers (lower is better)", "calc, test items (%)")
    assert (across.autorange, up.autorange) == ("reversed", None)
    recommended = next(trace for trace in figure.data if trace.name == "recommended" and trace.visible)
    assert list(recommended.x) == [12, 9, 7]
    assert recommended.error_x.array is None
    assert len(recommended.error_y.array) == 3
    front = next(trace for trace in figure.data if trace.name == "recommended front")
    assert list(front.x) == sorted(front.x, reverse=True)
    assert list(front.y) == sorted(front.y, reverse=True)


@pytest.mark.parametrize(("layers", "moves"), [((11, 10, 9), False), ((12, 12, 12), True)])
def test_names_over_a_cost_do_not_touch(tmp_path: Path, layers: Sequence[int], moves: bool) -> None:
    """Sources and models in columns of equal cost; the scale in pixels is estimated here anew."""
    (figure,) = models(with_layers(tmp_path, tasks=("calc",), layers=layers))
    assert all(trace.text is None for trace in figure.data)
    names = {note.text: note for note in figure.layout.annotations}
    assert set(names) == {"base", "math", "code", "1", "2", "3"}
    for group, own in {"base and sources": ("base", "math", "code"), "recommended": ("1", "2", "3")}.items():
        points = next(trace for trace in figure.data if trace.name == group and trace.visible)
        assert [(names[name].x, names[name].y) for name in own] == list(zip(points.x, points.y, strict=True))
    low = min(y - minus for trace in bars(figure) for y, minus in zip(trace.y, trace.error_y.arrayminus, strict=True))
    high = max(y + plus for trace in bars(figure) for y, plus in zip(trace.y, trace.error_y.array, strict=True))
    pixels = 380 / (high - low)
    for x in {note.x for note in names.values()}:
        at = sorted(note.y * pixels + note.yshift for note in names.values() if note.x == x)
        assert all(above - below >= 12 for below, above in pairwise(at))
    assert {note.xanchor for note in names.values()} == {"left"}
    assert any(note.yshift for note in names.values()) == moves


def bars(figure: Any) -> list[Any]:
    """The traces of a figure that show, with error bars upwards."""
    return [trace for trace in figure.data if trace.visible and trace.error_y.array is not None]


@pytest.mark.parametrize(
    ("layers", "step"), [((12, 9, 7), 1), ((12, 12, 12), 1), ((12, 25, 9), 2), ((12, 70, 10), 5), ((12, 112, 40), 10)]
)
def test_ticks_of_layers_are_whole_and_a_dozen_at_most(tmp_path: Path, layers: Sequence[int], step: int) -> None:
    findings = with_layers(tmp_path, tasks=("calc",), layers=layers)
    (figure,) = models(findings)
    assert figure.layout.xaxis.dtick == step
    assert (max(*layers, 12) - min(*layers, 12)) / step <= 12


def test_two_scores_and_a_cost_make_three_figures_and_the_cost_is_never_left_out(tmp_path: Path) -> None:
    findings = with_layers(tmp_path, tasks=("calc", "sort"))
    figures = models(findings)
    titles = [(figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) for figure in figures]
    layers, calc, sort = "layers (lower is better)", "calc, test items (%)", "sort, test items (%)"
    assert titles == [(calc, sort), (layers, calc), (layers, sort)]
    recommended = next(trace for trace in figures[0].data if trace.name == "recommended" and trace.visible)
    assert list(recommended.text) == ["1 (12)", "2 (9)", "3 (7)"]
    for figure in figures[1:]:
        assert {"1", "2", "3"} <= {note.text for note in figure.layout.annotations}
    write_report(tmp_path)
    assert "does not draw: layers" in re.sub(r"\s+", " ", page(tmp_path))


@pytest.mark.parametrize(
    ("value", "text"), [(24, "24"), (7.25, "7.25"), (494_032_768, "494M"), (1.5e9, "1.5B"), (0, "0")]
)
def test_costs_are_written_in_few_signs(value: float, text: str) -> None:
    assert cost(value) == text


def test_interrupted_run_shows_its_front_as_not_tested(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.references()
    run.candidate(5, (0.95, 0.95))
    run.candidate(6, (0.1, 0.1))
    content = run.report()
    assert (content["is_finished"], content["is_tested"]) == (False, False)
    front = [point for point in content["points"] if point["group"] == "recommended"]
    assert [(point["name"], point["note"]) for point in front] == [("#5", "not tested")]
    assert front[0]["scores"]["calc"]["test"] is None
    assert content["hypervolume"]["test"] == {"sets": {}, "recommended_minus": {}}
    assert "not tested" in content["conclusion"]
    assert "--point" not in page(tmp_path)


def test_models_outside_the_bounds_are_compared_with_but_not_chosen(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.references()
    origin = {"operator": REFERENCE, "name": "deep", "kind": "uniform", "eligible": False}
    run.evaluate(5, (0.99, 0.99), origin=origin, phase="reference", weight=0.3)
    run.candidate(6, (0.9, 0.9))
    points = by_name(run.report())
    assert [name for name, point in points.items() if point["group"] == "recommended"] == ["#6"]
    assert points["deep"]["group"] == "uniform"
    row = r"<tr>\s*<td>(\S+)</td><td>(?:source|uniform)</td>.*?<td>([^<>]*)</td>\s*</tr>"
    rows = re.findall(row, page(tmp_path), re.S)
    remarks = {name: remark.strip() for name, remark in rows}
    assert remarks["deep"] == "outside the bounds of the space"
    assert set(remarks.values()) == {"", remarks["deep"]}


def test_the_page_tells_the_reference_point_in_natural_signs(tmp_path: Path) -> None:
    with_layers(tmp_path, tasks=("calc", "sort"))
    write_report(tmp_path)
    assert "above the reference point, calc 20.0\xa0%, sort 20.0\xa0%, layers 13." in page(tmp_path)


def test_failed_test_is_told_with_its_reason(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.references(failing={"ties 1": "invalid"})
    run.candidate(5, (0.9, 0.9))
    run.candidate(6, (0.9, 0.9))
    run.finish([5, 6])
    for number in range(4):
        run.test(number, (0.5, 0.5))
    run.test(5, (0.9, 0.9))
    run.test(6, (0.9, 0.9), status="failed")
    content = run.report()
    points = by_name(content)
    assert points["#6"]["note"].startswith("failed on test items: outputs")
    assert points["#6"]["scores"]["calc"]["test"] is None
    assert points["ties 1"]["note"].startswith("invalid: outputs")
    assert content["figures"]["failures"] == {"failed": 1, "invalid": 1}
    assert [failure["phase"] for failure in content["failures"]] == ["reference", "test"]


def test_baseline_front_is_marked_and_compared_on_common_items(tmp_path: Path) -> None:
    other = two_objectives(tmp_path / "random", seed=1, better=0.0)
    other.log.close()
    run = two_objectives(tmp_path / "run", seed=2, better=0.15)
    content = run.report(baseline=tmp_path / "random")
    marked = [point["name"] for point in content["points"] if point["group"] == "baseline"]
    assert marked == ["baseline #6", "baseline #5"]
    means = [tuple(float(other.scores["test"][t, task].mean()) for task in run.tasks) for t in (6, 5)]
    found = content["hypervolume"]["test"]
    assert found["sets"]["baseline"]["value"] == pytest.approx(area(means, (0.2, 0.2)))
    assert found["recommended_minus"]["baseline"]["low"] is not None
    assert "baseline run" in page(tmp_path / "run")


def test_baseline_with_other_objectives_is_refused(tmp_path: Path) -> None:
    other = Run(tmp_path / "other", tasks=("calc", "recall"))
    other.references()
    other.log.close()
    with pytest.raises(ValueError, match="run it with these"):
        two_objectives(tmp_path / "run").report(baseline=tmp_path / "other")


def test_baseline_of_other_items_is_refused(tmp_path: Path) -> None:
    for folder, told in (("other", "1"), ("run", "2")):
        found = two_objectives(tmp_path / folder)
        found.log.write_settings({"identity": {"tasks": {found.tasks[0]: told, found.tasks[1]: "0"}}})
        found.log.close()
    with pytest.raises(ValueError, match=f"was asked other items of {found.tasks[0]}, or otherwise; run it with the"):
        write_report(tmp_path / "run", baseline=tmp_path / "other")


def test_untested_baseline_is_refused(tmp_path: Path) -> None:
    other = Run(tmp_path / "other")
    other.references()
    other.log.close()
    with pytest.raises(ValueError, match="resume it first"):
        two_objectives(tmp_path / "run").report(baseline=tmp_path / "other")


def test_baseline_tested_on_other_items_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "N_TEST", 40)
    two_objectives(tmp_path / "other").log.close()
    monkeypatch.undo()
    with pytest.raises(ValueError, match="same number of test items"):
        two_objectives(tmp_path / "run").report(baseline=tmp_path / "other")


def test_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds one named run\.db"):
        write_report(tmp_path)


def test_reports_of_one_log_are_equal(usual: Reported) -> None:
    names = ("pareto.json", "pareto.csv", "report.html")
    first = [(usual.folder / name).read_bytes() for name in names]
    usual.run.report()
    assert [(usual.folder / name).read_bytes() for name in names] == first


def test_command_quotes_a_folder_with_blanks(tmp_path: Path) -> None:
    run = two_objectives(tmp_path / "my run")
    run.log.close()
    findings = find(run.folder)
    command = export_command(findings, findings.recommended[0])
    assert command == f"automerge export '{run.folder}' --point 1 --to point-1"


def made_vectors(n_sources: int, n_layers: int) -> TaskVectors:
    """Task vectors drawn at random, with layers that have no attention if there are three of them or more."""
    rng = np.random.default_rng(n_sources)
    slots: dict[tuple[int | None, str], tuple[tuple[float, ...], ...]] = {}
    names = tuple(f"source <{k}> with a long name" for k in range(n_sources))
    for slot in [(None, "outer"), *((layer, part) for layer in range(n_layers) for part in ("attention", "mlp"))]:
        if slot != (2, "attention"):
            rows = rng.normal(size=(n_sources + 1, 50)) * np.array([1.0, *[0.1] * n_sources])[:, None]
            slots[slot] = tuple(map(tuple, (rows @ rows.T).tolist()))
    return TaskVectors(names, slots)


@pytest.mark.parametrize(("n_sources", "n_layers"), [(1, 2), (3, 12), (8, 80)])
def test_the_heat_map_has_a_row_for_every_source_and_pair_and_a_column_for_every_layer(
    n_sources: int, n_layers: int
) -> None:
    vectors = made_vectors(n_sources, n_layers)
    figure = heat_map(vectors)
    attention, mlp, *cosines = figure.data
    assert len(cosines) == (1 if n_sources > 1 else 0)
    for layer in (0, n_layers - 1):
        got = [row[layer] for row in mlp.z]
        assert got == pytest.approx(vectors.at((layer, "mlp")).norms.tolist())
        found = vectors.layer(layer).cosines
        assert [row[layer] for trace in cosines for row in trace.z] == pytest.approx([found[p] for p in vectors.pairs])
    assert np.shape(mlp.z) == (n_sources, n_layers)
    assert (attention.z[0][2] is None) if n_layers > 2 else (attention.z[0][1] is not None)
    # Panels lie one below the other, with rows of the same height.
    axes = [figure.layout[f"yaxis{k + 1}" if k else "yaxis"] for k in range(len(figure.data))]
    per_row = [(axis.domain[1] - axis.domain[0]) / len(axis.tickvals) for axis in axes]
    assert per_row == pytest.approx([per_row[0]] * len(per_row))
    assert all(above.domain[0] > below.domain[1] for above, below in pairwise(axes))
    assert axes[0].domain[1] == pytest.approx(1)
    assert axes[-1].domain[0] == pytest.approx(0)


def test_cosines_have_one_scale_around_nothing() -> None:
    figure = heat_map(made_vectors(3, 4))
    assert (figure.layout.coloraxis2.cmin, figure.layout.coloraxis2.cmax) == (-1, 1)
    assert dict(figure.layout.coloraxis2.colorscale)[0.5] == "#ffffff"


def test_the_page_tells_task_vectors_as_a_map_and_tables(tmp_path: Path) -> None:
    vectors = made_vectors(3, 4)
    run = two_objectives(tmp_path)
    run.log.write_settings({"task_vectors": vectors.to_settings()})
    run.report()
    text = page(tmp_path)
    assert "<h2>Task vectors</h2>" in text
    assert len(re.findall(r'id="figure-\d+"', text)) == 1 + 1 + 1
    assert "source <" not in re.sub("<script.*?</script>", "", text, flags=re.S)
    rows = dict(re.findall(r'<tr><td class="part">(.*?)</td>(.*?)</tr>', text))
    expected = {
        "whole model": vectors.whole(),
        "mlp": vectors.component("mlp"),
        "outer (embeddings, head)": vectors.component("outer"),
        "layer 3": vectors.layer(3),
        "layer 3, attention": vectors.at((3, "attention")),
    }
    for part, geometry in expected.items():
        cells = re.findall(r'<td class="number">(.*?)</td>', rows[part])
        assert cells[:3] == [f"{norm:.3f}" for norm in geometry.norms]
        assert cells[3:] == [f"{geometry.cosines[pair]:.2f}" for pair in ((0, 1), (0, 2), (1, 2))]
    assert "layer 2, attention" not in rows
    assert "<h3>task_vectors</h3>" not in text


def test_a_lone_source_has_no_cosines_and_an_old_log_no_section(tmp_path: Path) -> None:
    run = two_objectives(tmp_path / "lone")
    run.log.write_settings({"task_vectors": made_vectors(1, 2).to_settings()})
    run.report()
    assert "length relative to the base" in page(tmp_path / "lone")
    assert "osine" not in page(tmp_path / "lone")
    two_objectives(tmp_path / "old").report()
    assert "Task vectors" not in page(tmp_path / "old")


def with_given(folder: Path, *, costs: Sequence[str] = (), tasks: Sequence[str] = ("calc", "sort")) -> Run:
    """A run that was given two recipes: `mine`, which is recommended itself, and `poor <one>`."""
    run = Run(folder, tasks=tasks, costs=costs)
    run.references()
    chances = {5: (0.8, 0.6), 6: (0.4, 0.4), 7: (0.95, 0.95), 8: (0.5, 0.95)}
    for number, name in ((5, "mine"), (6, "poor <one>")):
        origin = {"operator": REFERENCE, "name": name, "kind": "given"}
        run.evaluate(number, chances[number], origin=origin, phase="reference", weight=number / 10)
    for number in (7, 8):
        run.candidate(number, chances[number], layers=number)
    run.finish([7, 8, 5])
    for number, (_, chance) in enumerate(REFERENCES.values()):
        run.test(number, chance)
    for number, chance in chances.items():
        run.test(number, chance)
    return run


def test_given_recipes_are_a_group_of_their_own_and_no_part_of_what_the_front_is_measured_by(tmp_path: Path) -> None:
    run = with_given(tmp_path)
    content = run.report()
    points = by_name(content)
    assert (points["mine"]["group"], points["mine"]["kind"]) == ("recommended", "given")
    assert (points["poor <one>"]["group"], points["poor <one>"]["kind"]) == ("given", "given")

    def expected(trials: Sequence[int]) -> float:
        means = [tuple(float(run.scores["test"][t, task].mean()) for task in run.tasks) for t in trials]
        return area(means, (0.2, 0.2))

    found = content["hypervolume"]["test"]
    assert found["sets"]["sources_and_uniform"]["value"] == pytest.approx(expected(range(5)))
    assert found["sets"]["given"]["value"] == pytest.approx(expected([5, 6]))
    assert found["recommended_minus"]["given"]["value"] == pytest.approx(expected([7, 8, 5]) - expected([5, 6]))
    assert found["recommended_minus"]["given"]["low"] is not None
    assert content["figures"]["n_references"] == 7


def test_given_recipes_are_compared_item_by_item_with_the_recommended_models(tmp_path: Path) -> None:
    """The interval is counted from the four outcomes of right and wrong, with half an item added to each."""
    run = with_given(tmp_path)
    mine, poor = run.report()["given"]
    assert [row["number"] for row in mine["recommended_minus"]] == [1, 2]
    assert [row["number"] for row in poor["recommended_minus"]] == [1, 2, 3]
    for row, trial in zip(poor["recommended_minus"], (7, 8, 5), strict=True):
        for task in run.tasks:
            own, other = run.scores["test"][trial, task], run.scores["test"][6, task]
            gained, lost = int(((own == 1) & (other == 0)).sum()), int(((own == 0) & (other == 1)).sum())
            n = N_TEST + 2
            half = 1.96 * np.sqrt(gained + lost + 1 - (gained - lost) ** 2 / n) / n
            got = row["differences"][task]
            assert got["value"] == pytest.approx(own.mean() - other.mean())
            assert (got["low"], got["high"]) == pytest.approx(((gained - lost) / n - half, (gained - lost) / n + half))
    assert [(row["verdict"], row["is_clear"]) for row in poor["recommended_minus"][:1]] == [("better", True)]
    assert mine["recommended_minus"][1]["verdict"] == "mixed"
    assert mine["outcome"] == (
        "mine is recommended itself as point 3; better than mine in every objective: point 1 (measurably); "
        "better in some objectives and worse in others: point 2"
    )


def test_the_page_tells_how_given_recipes_fare(tmp_path: Path) -> None:
    content = with_given(tmp_path).report()
    text = page(tmp_path)
    (section,) = re.findall(r"<h2>Given recipes</h2>.*?</section>", text, flags=re.S)
    assert "<td>poor &lt;one&gt;</td>" in section
    assert "<b>mine</b> on test items: mine is recommended itself as point 3" in section
    assert "recommended as point 3" in section
    got = content["given"][0]["recommended_minus"][0]["differences"]["calc"]
    assert f"{100 * got['value']:+.1f} ({100 * got['low']:+.1f} to {100 * got['high']:+.1f})" in section
    assert re.search(r"</svg> given recipes</span>", text)
    assert "<tr><td>given recipes</td>" in text
    (references,) = re.findall(r"<h2>Base, sources and uniform merges</h2>.*?</section>", text, flags=re.S)
    assert "mine" not in references
    assert "poor <one>" not in text


def test_costs_of_given_recipes_differ_exactly(tmp_path: Path) -> None:
    content = with_given(tmp_path, costs=("layers",)).report()
    first = content["given"][0]["recommended_minus"][0]
    assert first["differences"]["layers"] == {"value": -5.0, "low": -5.0, "high": -5.0}
    assert (first["verdict"], first["is_clear"]) == ("better", True)
    assert ">-5</td>" in page(tmp_path)


def test_one_objective_with_a_given_recipe(tmp_path: Path) -> None:
    content = with_given(tmp_path, tasks=("calc",)).report()
    assert "better than poor <one>: point 1 (measurably)" in content["given"][1]["outcome"]
    assert "than the best source, math" in content["conclusion"]


def test_an_untested_given_recipe_is_shown_without_comparison(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.references()
    origin = {"operator": REFERENCE, "name": "mine", "kind": "given"}
    run.evaluate(5, (0.5, 0.2), origin=origin, phase="reference", weight=0.3)
    content = run.report()
    assert content["given"] == []
    assert "<h2>Given recipes</h2>" in page(tmp_path)


def test_a_run_without_given_recipes_says_nothing_of_them(usual: Reported) -> None:
    assert usual.content["given"] == []
    assert "iven recipe" not in page(usual.folder)
    assert "given" not in usual.content["hypervolume"]["test"]["sets"]


def portraits(text: str) -> dict[int, str]:
    """The pieces of the page that show the recommended models, by number."""
    found = re.findall(
        r'<div class="portrait" id="portrait-(\d+)".*?>(.*?)(?=<div class="portrait"|<script>)', text, re.S
    )
    return {int(number): piece for number, piece in found}


def test_the_page_shows_layers_in_their_places_as_a_map_and_stacks_as_a_picture(tmp_path: Path) -> None:
    in_place = fused(8, ["math", "code"], ["ties", "linear"])
    recipes = {
        **{number: uniform(Fusion("linear", (Input("math", None, 1.0),)), 8) for number in range(5)},
        5: in_place,
        6: scaled_stack(),
        7: pruned_fusions(),
        8: Recipe(in_place.layers[:7], in_place.outer),
        9: Recipe((*in_place.layers[:7], replace(in_place.layers[7], scale=0.5)), in_place.outer, "branch_mlp"),
    }
    run = Run(tmp_path, recipes=recipes)
    run.references()
    for number in range(5, 10):
        run.candidate(number, (0.9, 0.9))
    run.finish(range(5, 10))
    run.report()
    text = page(tmp_path)
    found = portraits(text)
    assert sorted(found) == [1, 2, 3, 4, 5]
    assert [number for number, piece in found.items() if '<svg class="stack"' in piece] == [2, 3, 4, 5]
    assert [number for number, piece in found.items() if '<table class="map' in piece] == [1]
    assert "factor of what the mlp adds" in found[5]
    assert "<td>ties: math 4 (0.5), code 4 (0.4), chat 4 (0.6), sum 1.5, density 0.5</td>" in found[3]
    assert "Embeddings, final norm and head: base." in found[3]
    titles = re.findall(r'<option value="\d+">(.*?)</option>', text, re.S)
    assert [title.strip() for title in titles] == [
        "point 1 (#5), 8 layers",
        "point 2 (#6), 9 layers",
        "point 3 (#7), 5 layers",
        "point 4 (#8), 7 layers",
        "point 5 (#9), 8 layers",
    ]
    assert re.findall(r'<div class="portrait" id="portrait-(\d)" hidden>', text) == ["2", "3", "4", "5"]


def test_a_map_has_a_strip_for_every_source_and_words_where_a_part_changes(tmp_path: Path) -> None:
    made = fused(80, ["math", "a <b>"], ["ties", "linear"], granularity=4)
    run = Run(tmp_path, recipes=dict.fromkeys(range(6), made))
    run.references()
    run.candidate(5, (0.9, 0.9))
    run.finish([5])
    run.report()
    (piece,) = portraits(page(tmp_path)).values()
    cells = re.findall(r'<td title="(.*?)"><div class="part"><b>(.*?)</b>(.*?)</div></td>', piece)
    assert len(cells) == 80 * 3 + 1
    assert all(strips.count("<i") == 2 for _, _, strips in cells)
    # Four layers share their settings, of which the first tells the method.
    assert [bool(method) for _, method, _ in cells[:-1]] == ([True] * 3 + [False] * 9) * 20
    title, method, strips = cells[0]
    fusion = dict(made.layers[0].components)["attention"]
    assert method == fusion.method
    assert title.startswith(f"{fusion.method}: ")
    total = sum(read.weight for read in fusion.inputs) if fusion.method == "linear" else 1.0
    filled = [float(width) for width in re.findall(r"0 0/(\d+)% 100%", strips)]
    by_name = {read.source: 100 * read.weight / total for read in fusion.inputs}
    assert filled == pytest.approx([by_name[name] for name in ("a <b>", "math") if name in by_name], abs=0.51)
    assert "a <b>" not in re.sub("<script.*?</script>", "", piece, flags=re.S)


def complete(run: Run, recommended: Sequence[int], chances: Mapping[int, Sequence[float]]) -> Any:
    """The report of a run with references, these candidates, and a test of those that it recommends."""
    run.references()
    for number, candidate in chances.items():
        run.candidate(number, candidate, layers=number)
    run.finish(recommended)
    for number, (_, chance) in enumerate(REFERENCES.values()):
        run.test(number, chance)
    for number in recommended:
        run.test(number, chances[number])
    return run.report()


def test_a_weighted_mean_is_told_with_its_tasks(tmp_path: Path) -> None:
    """The intervals against means of resampled items; the synthetic tasks draw their items independently."""
    run = Run(tmp_path, weights={"calc": 3, "sort": 1})
    content = complete(run, [5], {5: (0.9, 0.6), 6: (0.5, 0.5)})
    assert content["objectives"] == [{"name": "weighted mean", "kind": "mean", "weights": {"calc": 0.75, "sort": 0.25}}]
    scores = by_name(content)["#5"]["scores"]
    calc, sort = (run.scores["test"][5, task] for task in run.tasks)
    mean = scores["weighted mean"]["test"]
    assert (scores["calc"]["test"]["mean"], scores["sort"]["test"]["mean"]) == (calc.mean(), sort.mean())
    assert mean["mean"] == pytest.approx(0.75 * calc.mean() + 0.25 * sort.mean())
    rng = np.random.default_rng(0)
    drawn = 0.75 * rng.binomial(N_TEST, calc.mean(), 20_000) + 0.25 * rng.binomial(N_TEST, sort.mean(), 20_000)
    low, high = np.quantile(drawn / N_TEST, [0.025, 0.975])
    assert (mean["low"], mean["high"]) == pytest.approx((low, high), abs=0.03)

    (row,) = (row for row in content["headline"]["recommended_minus"] if row["name"] == "math")
    gains = [run.scores["test"][5, task] - run.scores["test"][1, task] for task in run.tasks]
    assert row["value"] == pytest.approx(0.75 * gains[0].mean() + 0.25 * gains[1].mean())
    picked = [gain[rng.integers(N_TEST, size=(20_000, N_TEST))].mean(axis=1) for gain in gains]
    low, high = np.quantile(0.75 * picked[0] + 0.25 * picked[1], [0.025, 0.975])
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.02)

    volume = content["hypervolume"]["test"]["sets"]["recommended"]
    assert volume["value"] == pytest.approx(mean["mean"] - 0.2)
    assert volume["low"] < volume["value"] < volume["high"]
    text = page(tmp_path)
    assert "weights: calc 0.75, sort 0.25." in text
    assert f"<small>sort {100 * sort.mean():.1f} (" in text
    with (tmp_path / "pareto.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert float(first["sort_test_mean"]) == pytest.approx(sort.mean())
    assert float(first["weighted mean_test_low"]) == pytest.approx(mean["low"])


def test_a_weighted_mean_stands_over_a_cost(tmp_path: Path) -> None:
    run = Run(tmp_path, weights={"calc": 3, "sort": 1}, costs=["layers"])
    content = complete(run, [12, 7], {12: (0.9, 0.6), 7: (0.5, 0.5)})
    assert content["headline"] is None
    (figure,) = models(find(tmp_path))
    axes = (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text)
    assert axes == ("layers (lower is better)", "weighted mean, test items (%)")


def test_constraints_are_told_with_who_breaks_them(tmp_path: Path) -> None:
    bounds = (Constraint("layers", "<=", 9), Constraint("calc", ">=", 0.6, "task"))
    run = Run(tmp_path, constraints=bounds)
    content = complete(run, [8], {8: (0.8, 0.5), 9: (0.2, 0.9)})
    assert content["constraints"] == ["layers <= 9", "calc >= 0.6"]
    assert "All sources and uniform merges are only compared with" in content["conclusion"]
    points = by_name(content)
    assert points["#8"]["breaks"] == {"search": [], "test": []}
    assert points["math"]["breaks"]["search"] == ["layers <= 9"]
    assert points["code"]["breaks"]["search"] == ["layers <= 9", "calc >= 0.6"]
    text = page(tmp_path)
    assert "Each keeps layers &lt;= 9, calc &gt;= 0.6: costs exactly, scores by the mean on search items." in text
    assert "breaks layers &lt;= 9, calc &gt;= 0.6" in text
    # Only #8 counts in the curve.
    means = [run.scores["search"][8, task].mean() - 0.2 for task in run.tasks]
    assert find(tmp_path).trajectory[-1][1] == pytest.approx(means[0] * means[1])


def test_a_recommended_model_that_breaks_a_constraint_on_test_items_is_marked(tmp_path: Path) -> None:
    run = Run(tmp_path, constraints=[Constraint("calc", ">=", 0.8, "task")])
    run.references()
    run.candidate(5, (0.95, 0.5))
    run.finish([5])
    run.test(5, (0.5, 0.5))
    content = run.report()
    assert by_name(content)["#5"]["breaks"] == {"search": [], "test": ["calc >= 0.8"]}
    assert "<small>breaks calc &gt;= 0.8 on test items</small>" in page(tmp_path)


@pytest.mark.parametrize("tasks", [("calc",), ("calc", "sort")])
def test_a_run_that_recommends_nothing_says_why(tmp_path: Path, tasks: Sequence[str]) -> None:
    run = Run(tmp_path, tasks=tasks, constraints=[Constraint("layers", "<=", 4), Constraint("calc", ">=", 0.1, "task")])
    content = complete(run, [], {6: (0.8, 0.5), 9: (0.7, 0.9)})
    score = run.scores["search"][6, "calc"].mean()
    assert content["conclusion"] == (
        "No model evaluated on all search items keeps all constraints (layers <= 4, calc >= 0.1), so none is "
        f"recommended; #6 comes closest with layers 6, calc {score:.3f}."
    )
    assert content["headline"] is None
    assert {point["group"] for point in content["points"]} == {"source", "uniform"}
    assert "none is recommended; #6 comes closest" in page(tmp_path)
    assert "--point" not in page(tmp_path)
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_a_baseline_with_other_constraints_or_weights_is_refused(tmp_path: Path) -> None:
    complete(Run(tmp_path / "free", weights={"calc": 1, "sort": 1}), [5], {5: (0.9, 0.6)})
    bound = Run(tmp_path / "bound", weights={"calc": 1, "sort": 1}, constraints=[Constraint("layers", "<=", 9)])
    complete(bound, [5], {5: (0.9, 0.6)})
    with pytest.raises(ValueError, match=r"should have the constraints layers <= 9, got none; run it with them"):
        write_report(tmp_path / "bound", baseline=tmp_path / "free")
    complete(Run(tmp_path / "other", weights={"calc": 3, "sort": 1}), [5], {5: (0.9, 0.6)})
    with pytest.raises(ValueError, match=r"mean \(calc 0.75, sort 0.25\), got weighted mean \(calc 0.5, sort 0.5\)"):
        write_report(tmp_path / "other", baseline=tmp_path / "free")
