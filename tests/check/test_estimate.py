"""Estimates under a clock that the measured work itself moves, and on real toy models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from automerge.check import estimate as module
from automerge.check.estimate import Estimate, MergeTime, duration, estimate, item_seconds, merge_time
from automerge.check.workload import Rates
from automerge.fidelity import Ladder
from automerge.merge import Run
from automerge.model import ResidentModel
from automerge.protocols import Space
from automerge.recipe import Fusion, Recipe, uniform
from automerge.resident.placement import Demand
from automerge.search import Budget
from automerge.spaces.dis import DepthIntegration
from automerge.spaces.lfs import LayerwiseFusion
from tests import toy
from tests.conformance.members import make_tasks


@dataclass
class Clock:
    """Time that passes only where a test says so."""

    now: float = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@dataclass
class Slow:
    """A task whose batches of items take `seconds` each, and whose first answer takes `warming` more."""

    clock: Clock
    seconds: float
    warming: float = 0.0
    batch: int = 1
    asked: list[int] = field(default_factory=list)

    def size(self, split: str) -> int:
        return 500

    def score(self, model: object, split: str, items: Sequence[int]) -> list[float]:
        assert all(0 <= item < 500 for item in items)
        assert len(set(items)) == len(items)
        self.clock.now += math.ceil(len(items) / self.batch) * self.seconds + (0 if self.asked else self.warming)
        self.asked.append(len(items))
        return [0.0] * len(items)


@pytest.mark.parametrize(
    ("seconds", "warming", "most", "asked"),
    [
        (0.1, 3.0, 100, [1, 4, 16]),
        (0.002, 3.0, 300, [1, 4, 16, 64, 256]),
        (0.002, 0.0, 20, [1, 4, 16, 20]),
        (9.0, 0.0, 100, [1, 4]),
        (40.0, 0.0, 100, [1]),
    ],
)
def test_items_are_asked_until_the_time_says_something(
    clock: Clock, seconds: float, warming: float, most: int, asked: list[int]
) -> None:
    task = Slow(clock, seconds, warming)
    model: Any = SimpleNamespace(lm=None, sources=SimpleNamespace(device=SimpleNamespace(type="cpu")))
    assert item_seconds(model, task, most) == pytest.approx(seconds)  # type: ignore[arg-type]
    assert task.asked == asked


@pytest.mark.parametrize(("seconds", "asked"), [(7.0, [1, 4, 16, 64]), (3.0, [1, 4, 16, 64]), (0.5, [1, 4, 16, 64])])
def test_batches_of_a_device_are_filled_before_the_time_counts(clock: Clock, seconds: float, asked: list[int]) -> None:
    """A device takes as long for one item as for a full batch."""
    task = Slow(clock, seconds, batch=40)
    model: Any = SimpleNamespace(lm=None, sources=SimpleNamespace(device=SimpleNamespace(type="cpu")))
    assert item_seconds(model, task, 300) == pytest.approx(seconds / 32)  # type: ignore[arg-type]
    assert task.asked == asked


def test_merging_is_scaled_from_one_slot_to_the_model(
    resident: ResidentModel, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """linear: 1 us an entry; ties: 3 us, and 10 us more the first time; three of four fusions are linear."""
    learned: set[str] = set()

    def write(fusion: Fusion, component: str, runs: Sequence[Sequence[Run]]) -> None:
        entries = sum(run.out.numel() for parts in runs for run in parts)
        clock.now += entries * {"linear": 1e-6, "ties": 3e-6}[fusion.method]
        if fusion.method == "ties" and "ties" not in learned:
            clock.now += entries * 1e-5
            learned.add("ties")

    monkeypatch.setattr(resident.sources, "write", write)
    recipes = [uniform(toy.fused("linear", ("left", 0.5), ("right", 0.5)), toy.N_LAYERS)] * 3
    recipes.append(uniform(toy.fused("ties", ("left", 0.5), ("right", 0.5), density=0.5), toy.N_LAYERS))
    total = sum(block.size for blocks in resident.sources.layout.values() for block in blocks)
    assert merge_time(resident.sources, recipes) == pytest.approx((total * 1.5e-6, total * 1e-5))


def test_slots_of_other_components_than_the_largest_are_not_written(
    resident: ResidentModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write: Callable[..., None] = resident.sources.write

    def watched(fusion: Fusion, component: str, runs: Sequence[Sequence[Run]]) -> None:
        written.append(f"{fusion.method} {component}")
        write(fusion, component, runs)

    monkeypatch.setattr(resident.sources, "write", watched)
    recipes = [uniform(toy.fused(method, ("left", 0.5)), toy.N_LAYERS) for method in ("linear", "ties", "passthrough")]
    merge_time(resident.sources, recipes)
    assert written == [f"{method} mlp" for method in ("linear", "linear", "ties", "ties", "passthrough", "passthrough")]


def test_what_a_stack_passes_through_takes_no_time(resident: ResidentModel, clock: Clock) -> None:
    left = uniform(toy.fused("passthrough", ("left", 1.0)), toy.N_LAYERS)
    stack = Recipe((*left.layers, left.layers[0]), left.outer)
    assert merge_time(resident.sources, [stack]) == (0.0, 0.0)


def make_estimate(
    resident: ResidentModel,
    folder: Path,
    space: Space = LayerwiseFusion(sources=["left", "right"], n_layers=toy.N_LAYERS),  # noqa: B008 (never changed)
    **changes: Any,
) -> Estimate:
    options: dict[str, Any] = {"n_verify": 2, "n_recommend": 3, "test_items": 6, "n_workers": 1, **changes}
    tasks = make_tasks(folder / "tasks")
    return estimate(
        resident,
        tasks,
        space,
        Ladder(minimum=4, maximum=12),
        Budget(trials=30),
        folder=folder / "new" / "run",
        **options,
    )


def test_given_recipes_are_reckoned_with_the_references(resident: ResidentModel, tmp_path: Path) -> None:
    plain, given = (make_estimate(resident, tmp_path / str(n), n_given=n) for n in (0, 5))
    n_models = [found.phases["reference models"] / found.by_rung[12] for found in (plain, given)]
    assert n_models[1] == pytest.approx(n_models[0] + 5)


def test_an_estimate_leaves_the_model_as_it_was_and_its_figures_fit_together(
    resident: ResidentModel, tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in resident.lm.model.state_dict().items()}
    found = make_estimate(resident, tmp_path)
    assert all(tensor.equal(before[name]) for name, tensor in resident.lm.model.state_dict().items())
    assert set(found.rates.items) == {"exact_continuation", "multiple_choice", "generation"}
    assert list(found.by_rung) == [4, 12]
    assert found.by_rung[12] == pytest.approx(found.rates.merge + 12 * sum(found.rates.items.values()))
    assert found.seconds == pytest.approx(found.preparation + sum(found.phases.values()))
    assert found.phases["search"] > 30 * found.by_rung[4]
    assert found.candidates == 30
    assert found.demand == resident.sources.demand
    # 2 bytes a parameter, as the toy models are stored, and a little padding.
    n_parameters = sum(tensor.numel() for tensor in resident.lm.model.parameters())
    assert 2 * n_parameters <= found.export < 2.2 * n_parameters
    assert found.folder == tmp_path
    assert not (tmp_path / "new").exists()


def test_more_workers_shorten_the_search_alone(
    resident: ResidentModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "merge_time", lambda *_: MergeTime(0.5, 1.0))
    monkeypatch.setattr(module, "item_seconds", lambda *_: 0.01)
    one, four = (make_estimate(resident, tmp_path, n_workers=n) for n in (1, 4))
    assert four.phases == {**one.phases, "search": one.phases["search"] / 4}
    assert one.by_rung == four.by_rung == pytest.approx({4: 0.5 + 4 * 3 * 0.01, 12: 0.5 + 12 * 3 * 0.01})


def test_candidates_take_longer_by_as_much_as_they_are_deeper(
    resident: ResidentModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "merge_time", lambda *_: MergeTime(0.0, 0.0))
    monkeypatch.setattr(module, "item_seconds", lambda *_: 0.01)
    deep = DepthIntegration(sources=["left", "right"], n_layers=toy.N_LAYERS, min_layers=2, max_layers=6)
    monkeypatch.setattr(deep, "sample", lambda n, _: np.repeat(deep.encode(doubled())[None], n, axis=0))
    plain, deeper = make_estimate(resident, tmp_path / "a"), make_estimate(resident, tmp_path / "b", deep)
    assert deeper.by_rung[12] == pytest.approx(2 * plain.by_rung[12])
    n_plain, n_deep = (
        len(space.references()) for space in (LayerwiseFusion(sources=["left", "right"], n_layers=3), deep)
    )
    assert deeper.phases["reference models"] / n_deep == pytest.approx(plain.phases["reference models"] / n_plain)
    # All layers of both sources in float32, which are stored in bfloat16.
    blocks = [block for (layer, _), found in resident.sources.layout.items() for block in found if layer is not None]
    assert plain.copies == 0
    assert deeper.copies == 2 * 4 * sum(block.size for block in blocks)


def doubled() -> Recipe:
    """Every layer of a source twice."""
    left = uniform(toy.fused("passthrough", ("left", 1.0)), toy.N_LAYERS)
    return Recipe(tuple(layer for layer in left.layers for _ in range(2)), left.outer)


def made(**changes: Any) -> Estimate:
    found = Estimate(
        rates=Rates(0.1, {"a": 0.01}),
        preparation=1.0,
        candidates=10,
        by_rung={30: 0.4, 90: 1.0},
        phases={"search": 100.0, "test": 20.0},
        demand=Demand(sources=10**9, candidate=10**9, masks=10**6),
        copies=0,
        free_memory=10**9,
        run=10**7,
        export=10**9,
        free_disk=10**10,
        folder=Path("/data"),
    )
    return replace(found, **changes)


def test_two_lines_say_time_and_disk() -> None:
    assert made().lines() == [
        "about 2 min in all: 10 candidates, each taking 0.4 s on 30 and 1 s on 90 items per task",
        "about 10.0 MB of disk for the run folder and 1.0 GB for an exported model, 10.0 GB are free",
    ]
    assert "each taking 0.4 s on 30 items per task" in made(by_rung={30: 0.4}).lines()[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"demand": Demand(10**9, 10**9, 2 * 10**9)},
            "the masks of random methods take 2.0 GB, but only 1.0 GB are free",
        ),
        ({"free_disk": 10**6}, "the run folder takes about 10.0 MB, but /data has only 1.0 MB free"),
        ({"copies": 2 * 10**9}, "dtype of the computation take 2.0 GB, but only 1.0 GB are free, so stacks will copy"),
        ({"free_disk": 10**8}, "an exported model takes about 1.0 GB, but /data has only 100.0 MB free"),
    ],
)
def test_what_will_run_out_is_said(changes: dict[str, Any], words: str) -> None:
    assert made().warnings() == []
    (warning,) = made(**changes).warnings()
    assert words in warning


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00042, "0.42 ms"),
        (0.0123, "12 ms"),
        (0.5, "0.5 s"),
        (45.4, "45 s"),
        (89, "89 s"),
        (90, "1.5 min"),
        (3600, "60 min"),
        (12600, "3.5 h"),
        (360000, "100 h"),
    ],
)
def test_durations_have_two_digits_and_the_usual_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
