from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from automerge.history import History, eligible
from automerge.log import EvaluationRow, RunLog
from automerge.optimizers.bayes_evolution import BayesEvolution
from automerge.optimizers.evolution import Evolution
from automerge.pareto import hypervolume
from automerge.protocols import Reference
from automerge.recipe import COMPONENTS, Fusion, Input, OutputLayer, Recipe
from automerge.records import REFERENCE, Constraint, Evaluation, Objective, Phase, Proposal, Query, Slice, Trial
from automerge.references import outside
from automerge.runners.serial import SerialRunner
from automerge.runners.virtual import VirtualRunner
from automerge.search import LAST_FAILED, MAX_COPIES, MAX_FAILED, Budget, Progress
from automerge.spaces.lfs import LayerwiseFusion
from tests.simulation import N_ITEMS, Simulator, contents, main, make_search


def finished(folder: Path, **options: object) -> tuple[History, list[Progress]]:
    """The history and the progress of a whole search."""
    with RunLog(folder / "run.db") as log:
        search, _ = make_search(log, **options)  # type: ignore[arg-type]
        steps = list(search.run())
        return History.of(log), steps


def test_phases_follow_each_other_and_shares_reach_one(tmp_path: Path) -> None:
    _, steps = finished(tmp_path)
    phases = list(dict.fromkeys(step.phase for step in steps))
    assert phases == ["reference", "search", "verify", "test"]
    for phase in phases:
        shares = [step.share for step in steps if step.phase == phase]
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1.0)
    assert steps[-1].n_trials == 40


def test_search_finds_more_than_sources_and_uniform_merges(tmp_path: Path) -> None:
    history, _ = finished(tmp_path, trials=150)

    def volume(trials: tuple[int, ...]) -> float:
        return hypervolume(np.array([history.test_values(t) for t in trials]), history.reference_point)

    assert volume(history.recommended) > 1.15 * volume(history.references)


def test_promotions_evaluate_only_new_items_and_no_item_twice(tmp_path: Path) -> None:
    history, _ = finished(tmp_path)
    seen: dict[tuple[int, str, str], int] = {}
    promoted = 0
    for row in history.evaluations:
        for part in row.slices:
            key = (row.trial, part.task, part.split)
            assert part.start == seen.get(key, 0)
            promoted += part.start > 0
            seen[key] = part.stop
    assert promoted > 5


def test_every_slice_is_a_prefix_of_one_common_order(tmp_path: Path) -> None:
    history, _ = finished(tmp_path)
    with RunLog(tmp_path / "run.db", read_only=True) as log:
        orders = log.orders()
    for row in history.evaluations:
        for part in row.evaluation.scores:
            ends = part.slice
            if row.phase != "reference":
                assert list(part.items) == orders[ends.task, ends.split][ends.start : ends.stop].tolist()


def test_the_recommended_front_is_full_non_dominated_and_tested(tmp_path: Path) -> None:
    history, _ = finished(tmp_path)
    assert 1 <= len(history.recommended) <= 4
    for trial in (*history.recommended, *history.references):
        assert history.trials[trial].n_items == N_ITEMS
        assert history.tests[trial]["a"].n == N_ITEMS
    full = [t for t in history.trials.values() if t.status == "ok" and t.n_items == N_ITEMS]
    for trial in history.recommended:
        own = history.trials[trial].values(history.objectives)
        assert not any(
            (t.values(history.objectives) >= own).all() and (t.values(history.objectives) > own).any() for t in full
        )


def test_trajectory_ends_at_the_volume_of_all_full_trials_and_never_falls(tmp_path: Path) -> None:
    history, steps = finished(tmp_path)
    items, volumes = zip(*history.trajectory(), strict=True)
    assert list(items) == sorted(items)
    assert list(volumes) == sorted(volumes)
    searched = [step for step in steps if step.phase != "test"]
    assert volumes[-1] == pytest.approx(searched[-1].hypervolume)


def test_broken_models_are_logged_with_reason_and_never_recommended(tmp_path: Path) -> None:
    history, _ = finished(tmp_path, breaks=True)
    broken = [trial for trial in history.trials.values() if trial.status == "invalid"]
    assert broken
    assert all(trial.reason == "this one is broken" for trial in broken)
    assert not {trial.id for trial in broken} & set(history.recommended)


def test_the_same_seed_gives_the_same_log_and_another_seed_another(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        (tmp_path / name).mkdir()
        finished(tmp_path / name, seed=seed)
    one, two, three = (contents(tmp_path / name / "run.db") for name in ("one", "two", "three"))
    assert one == two
    assert one != three


def test_a_finished_search_run_again_asks_nothing_and_tells_the_same(tmp_path: Path) -> None:
    finished(tmp_path)
    before = contents(tmp_path / "run.db")
    with RunLog(tmp_path / "run.db") as log:
        search, simulator = make_search(log)
        assert all(step.resumed for step in search.run())
        assert simulator.n_queries == 0
    assert contents(tmp_path / "run.db") == before


@pytest.mark.parametrize("n_steps", [1, 3, 5, 12, 30, 60])
def test_a_search_stopped_anywhere_ends_where_an_uninterrupted_one_ends(tmp_path: Path, n_steps: int) -> None:
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    finished(tmp_path / "whole", breaks=True)
    with RunLog(tmp_path / "stopped" / "run.db") as log:
        search, _ = make_search(log, breaks=True)
        steps = search.run()
        for _ in range(n_steps):
            next(steps)
    finished(tmp_path / "stopped", breaks=True)
    assert contents(tmp_path / "stopped" / "run.db") == contents(tmp_path / "whole" / "run.db")


def test_a_search_by_beliefs_stopped_anywhere_ends_where_an_uninterrupted_one_ends(tmp_path: Path) -> None:
    """What the beliefs learn of items and hyperparameters is a function of the log too."""
    small = partial(BayesEvolution, n_generations=2, n_children=20)
    for name in ("whole", "stopped", "independent"):
        (tmp_path / name).mkdir()
    finished(tmp_path / "whole", trials=24, optimizer=small)
    # It is stopped twice: the second time some of what it goes on from was told by the log before.
    for n_steps in (14, 30):
        with RunLog(tmp_path / "stopped" / "run.db") as log:
            search, _ = make_search(log, trials=24, optimizer=small)
            list(itertools.islice(search.run(), n_steps))
    finished(tmp_path / "stopped", trials=24, optimizer=small)
    assert contents(tmp_path / "stopped" / "run.db") == contents(tmp_path / "whole" / "run.db")
    finished(tmp_path / "independent", trials=24, optimizer=partial(small, correlations=False))
    assert contents(tmp_path / "independent" / "run.db") != contents(tmp_path / "whole" / "run.db")


def test_a_search_killed_at_random_moments_loses_nothing_and_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    """SIGKILL, five times, at random moments; the evaluations logged before are all there after every kill."""
    trials, pause = 80, 0.008
    main(str(tmp_path / "whole.db"), trials, 0.0)
    path = tmp_path / "killed.db"
    moments = random.Random(0)
    n_logged = [0]
    n_kills = 0
    for attempt in range(5):
        told = tmp_path / f"told{attempt}.txt"
        with told.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.simulation", str(path), str(trials), str(pause)],
                cwd=Path(__file__).parent.parent,
                stdout=out,
            )
            deadline = time.monotonic() + 60
            while n_evaluations(path) <= n_logged[-1] and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(moments.uniform(0.0, 0.15))
            process.send_signal(signal.SIGKILL)
            n_kills += process.wait() == -signal.SIGKILL
        n_logged.append(n_evaluations(path))
        # The last line may be cut; every whole line is an evaluation that had ended.
        finished_before = told.read_text().count("\n")
        assert n_logged[-1] in (finished_before, finished_before + 1)
    assert n_kills >= 3
    assert n_logged == sorted(n_logged)
    assert n_logged[1] > 0
    main(str(path), trials, 0.0)
    assert contents(path) == contents(tmp_path / "whole.db")


def n_evaluations(path: Path) -> int:
    """Number of evaluations in the log, 0 as long as there is none."""
    try:
        with RunLog(path, read_only=True) as log:
            return len(log.evaluations())
    except (FileNotFoundError, ValueError):
        return 0


def split(weight: float) -> Recipe:
    """Mostly left in the first half of the depth and right in the second, which the simulated tasks want."""

    def fused(depth: int | None) -> Fusion:
        left = weight if depth is not None and depth < 2 else round(1 - weight, 4)
        return Fusion("linear", (Input("left", depth, left), Input("right", depth, round(1 - left, 4))))

    layers = tuple(OutputLayer(tuple((component, fused(depth)) for component in COMPONENTS)) for depth in range(4))
    return Recipe(layers, fused(None))


GIVEN = {"good": split(0.8), "poor": split(0.1)}


def test_given_recipes_come_after_the_references_and_are_tested_like_them(tmp_path: Path) -> None:
    history, steps = finished(tmp_path, given=GIVEN)
    kinds = [history.trials[trial].origin["kind"] for trial in history.references]
    assert kinds == sorted(kinds, key=["source", "uniform", "given"].index)
    given = history.references[-2:]
    assert [history.name(trial) for trial in given] == ["good", "poor"]
    assert [history.trials[trial].recipe for trial in given] == list(GIVEN.values())
    for trial in given:
        assert history.trials[trial].n_items == history.tests[trial]["a"].n == N_ITEMS
    shares = [step.share for step in steps if step.phase == "reference"]
    assert len(shares) == len(history.references)
    assert shares[-1] == 1.0


def test_given_recipes_leave_the_order_of_items_and_the_reference_point_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    plain, _ = finished(tmp_path / "plain")
    history, _ = finished(tmp_path, given=GIVEN)
    assert (plain.reference_point == history.reference_point).all()
    orders = []
    for folder in (tmp_path, tmp_path / "plain"):
        with RunLog(folder / "run.db", read_only=True) as log:
            orders.append(sorted((key, items.tolist()) for key, items in log.orders().items()))
    assert orders[0] == orders[1]


def test_a_search_breeds_from_a_good_given_recipe(tmp_path: Path) -> None:
    history, _ = finished(tmp_path, given=GIVEN)
    good, poor = history.references[-2:]
    children = [
        [trial.id for trial in history.trials.values() if parent in trial.origin.get("parents", ())]
        for parent in (good, poor)
    ]
    assert len(children[0]) > 3
    assert len(children[0]) > len(children[1])


@pytest.mark.parametrize("n_steps", [6, 8, 9, 30])
def test_a_search_with_given_recipes_goes_on_where_it_stopped(tmp_path: Path, n_steps: int) -> None:
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    finished(tmp_path / "whole", given=GIVEN)
    with RunLog(tmp_path / "stopped" / "run.db") as log:
        search, _ = make_search(log, given=GIVEN)
        steps = search.run()
        for _ in range(n_steps):
            next(steps)
    finished(tmp_path / "stopped", given=GIVEN)
    assert contents(tmp_path / "stopped" / "run.db") == contents(tmp_path / "whole" / "run.db")


def test_other_given_recipes_are_refused_on_an_old_log(tmp_path: Path) -> None:
    finished(tmp_path, given=GIVEN)
    with RunLog(tmp_path / "run.db") as log:
        search, _ = make_search(log, given={**GIVEN, "poor": split(0.2)})
        with pytest.raises(ValueError, match="start a new run"):
            list(search.run())


def test_a_given_recipe_cannot_take_the_name_of_a_reference(tmp_path: Path) -> None:
    with RunLog(tmp_path / "run.db") as log, pytest.raises(ValueError, match=r"names that no reference .* got linear"):
        make_search(log, given={"linear": split(0.5)})


@pytest.fixture
def half_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A space that holds no source and none of the plain uniform merges, of which one is better than all others."""
    inside = LayerwiseFusion.references

    def references(space: LayerwiseFusion) -> dict[str, Reference]:
        known = outside(space.sources, space.n_layers, space.strengths)
        return {**inside(space), **known, "best": Reference(None, "uniform", split(1.0))}

    monkeypatch.setattr(LayerwiseFusion, "references", references)


@pytest.mark.usefixtures("half_outside")
def test_references_outside_the_space_are_tested_and_recommended_like_others(tmp_path: Path) -> None:
    history, steps = finished(tmp_path)
    names = {history.name(trial): trial for trial in history.references}
    assert list(names)[:3] == ["base", "left", "right"]
    assert history.sources == tuple(names[name] for name in ("base", "left", "right"))
    for trial in names.values():
        assert history.trials[trial].n_items == history.tests[trial]["a"].n == N_ITEMS
    empty = [name for name, trial in names.items() if history.trials[trial].genotype.shape == (0,)]
    assert empty == ["base", "left", "right", "linear", "task_arithmetic 0.5", "best"]
    assert history.trials[names["best"]].recipe == split(1.0)
    assert names["best"] in history.recommended
    # They come on top of the budget, as all references do.
    assert steps[-1].n_trials == 40


def test_references_that_break_the_bounds_of_the_space_are_tested_and_never_recommended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = Reference(None, "uniform", split(1.0), eligible=False)
    known = LayerwiseFusion.references
    monkeypatch.setattr(LayerwiseFusion, "references", lambda space: {**known(space), "best": best})
    history, steps = finished(tmp_path)
    (number,) = (trial for trial in history.references if history.name(trial) == "best")
    assert history.tests[number]["a"].n == N_ITEMS
    assert not eligible(history.trials[number])
    assert number not in history.recommended
    # It would dominate more than all others together.
    values = [trial.values(history.objectives) for trial in history.trials.values() if eligible(trial)]
    assert steps[-1].hypervolume <= hypervolume(np.array(values), history.reference_point)


def test_thinking_takes_real_time_though_the_clock_of_a_simulated_run_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunLog(tmp_path / "run.db") as log:
        search, _ = make_search(log, trials=4)
        ask = search._optimizer.ask

        def slow() -> Proposal:
            time.sleep(0.06)
            return ask()

        monkeypatch.setattr(search._optimizer, "ask", slow)
        monkeypatch.setattr(search._runner, "clock", lambda: 0.0)
        steps = list(search.run())
    assert 0.5 < steps[-1].thinking < 1


def test_trials_are_told_with_their_scores_item_by_item_in_the_order_of_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[int, Trial] = {}
    with RunLog(tmp_path / "run.db") as log:
        search, _ = make_search(log)
        tell = search._optimizer.tell

        def listen(trial: Trial) -> None:
            told[trial.id] = trial
            tell(trial)

        monkeypatch.setattr(search._optimizer, "tell", listen)
        list(search.run())
        orders = log.orders()
        logged: dict[tuple[int, str], dict[int, float]] = {}
        for row in log.evaluations():
            for part in row.evaluation.scores:
                if part.slice.split == "search":
                    known = logged.setdefault((row.trial, part.slice.task), {})
                    known.update(zip(part.items, part.values, strict=True))
    assert {trial.n_items for trial in told.values()} >= set(search._ladder.rungs)
    for trial in told.values():
        if trial.origin.get("kind") == "source":
            assert not trial.items
        elif trial.status == "ok":
            for task, result in trial.results.items():
                first = orders[task, "search"][: result.n]
                assert trial.items[task].tolist() == [logged[trial.id, task][int(item)] for item in first]


@pytest.mark.usefixtures("half_outside")
def test_references_outside_the_space_are_never_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Trial] = []
    with RunLog(tmp_path / "run.db") as log:
        search, _ = make_search(log)
        tell = search._optimizer.tell

        def listen(trial: Trial) -> None:
            told.append(trial)
            tell(trial)

        monkeypatch.setattr(search._optimizer, "tell", listen)
        list(search.run())
        history = History.of(log)
    known = {history.name(trial.id) for trial in told if trial.origin["operator"] == "reference"}
    assert known == {"slerp", "ties 0.5", "dare_ties 0.5"}
    searched = {number for number, trial in history.trials.items() if trial.origin["operator"] != "reference"}
    assert {trial.id for trial in told} > searched
    parents = {parent for trial in history.trials.values() for parent in trial.origin.get("parents", ())}
    assert all(len(history.trials[parent].genotype) for parent in parents)


@pytest.mark.usefixtures("half_outside")
def test_an_optimizer_that_counts_hypervolume_is_told_once_from_where_before_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str | list[float]] = []
    ask = Evolution.ask

    def count_above(optimizer: Evolution, reference_point: np.ndarray) -> None:
        calls.append(reference_point.tolist())

    def asked(optimizer: Evolution) -> Proposal:
        calls.append("ask")
        return ask(optimizer)

    monkeypatch.setattr(Evolution, "count_above", count_above, raising=False)
    monkeypatch.setattr(Evolution, "ask", asked)
    history, _ = finished(tmp_path)
    assert calls[0] == history.reference_point.tolist()
    assert set(map(str, calls[1:])) == {"ask"}


def test_sources_outside_the_space_give_the_same_order_of_items_and_reference_point(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "inside").mkdir()
    inside, _ = finished(tmp_path / "inside")
    request.getfixturevalue("half_outside")
    history, _ = finished(tmp_path)
    assert (inside.reference_point == history.reference_point).all()
    orders = []
    for folder in (tmp_path, tmp_path / "inside"):
        with RunLog(folder / "run.db", read_only=True) as log:
            orders.append(sorted((key, items.tolist()) for key, items in log.orders().items()))
    assert orders[0] == orders[1]


@pytest.mark.usefixtures("half_outside")
@pytest.mark.parametrize("n_steps", [2, 5, 9, 30])
def test_a_search_with_references_outside_the_space_goes_on_where_it_stopped(tmp_path: Path, n_steps: int) -> None:
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    finished(tmp_path / "whole")
    with RunLog(tmp_path / "stopped" / "run.db") as log:
        search, _ = make_search(log)
        steps = search.run()
        for _ in range(n_steps):
            next(steps)
    finished(tmp_path / "stopped")
    assert contents(tmp_path / "stopped" / "run.db") == contents(tmp_path / "whole" / "run.db")


def test_other_settings_are_refused_on_an_old_log(tmp_path: Path) -> None:
    finished(tmp_path)
    with RunLog(tmp_path / "run.db") as log:
        search, _ = make_search(log, seed=1)
        with pytest.raises(ValueError, match="start a new run"):
            list(search.run())


def failing(simulator: Simulator, numbers: Collection[int]) -> SerialRunner:
    """Answers like the simulator, but loses the evaluations of these numbers, counted from 0."""
    count = itertools.count()
    return SerialRunner(
        lambda query: Evaluation("failed", reason="out of memory") if next(count) in numbers else simulator(query)
    )


def test_a_source_that_cannot_be_evaluated_ends_the_search_with_its_name_and_is_asked_anew(tmp_path: Path) -> None:
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    finished(tmp_path / "whole")
    with RunLog(tmp_path / "stopped" / "run.db") as log:
        search, simulator = make_search(log)
        search._runner = failing(simulator, {1})
        message = "source 'left' could not be evaluated: failed, out of memory; go on with --resume when this is mended"
        with pytest.raises(RuntimeError, match=message):
            list(search.run())
    finished(tmp_path / "stopped")
    assert contents(tmp_path / "stopped" / "run.db") == contents(tmp_path / "whole" / "run.db")


def test_a_broken_source_is_told_to_need_a_new_run(tmp_path: Path) -> None:
    for _ in range(2):
        with RunLog(tmp_path / "run.db") as log:
            search, _ = make_search(log)
            search._runner = SerialRunner(lambda _: Evaluation("invalid", reason="weights are not finite"))
            with pytest.raises(RuntimeError, match=r"weights are not finite; .* start a new run in another folder"):
                list(search.run())


def test_a_device_that_fails_from_some_point_on_stops_the_search_and_costs_nothing_of_its_budget(
    tmp_path: Path,
) -> None:
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    finished(tmp_path / "whole")
    with RunLog(tmp_path / "stopped" / "run.db") as log:
        search, simulator = make_search(log)
        search._runner = failing(simulator, range(12, 10**6))
        with pytest.raises(RuntimeError, match=f"the last {MAX_FAILED} evaluations failed, .*: out of memory; none"):
            list(search.run())
        assert len(log.evaluations()) == 12
        assert simulator.n_queries == 12
    finished(tmp_path / "stopped")
    assert contents(tmp_path / "stopped" / "run.db") == contents(tmp_path / "whole" / "run.db")


def test_failures_between_others_are_logged_where_they_happened(tmp_path: Path) -> None:
    with RunLog(tmp_path / "run.db") as log:
        search, simulator = make_search(log)
        search._runner = failing(simulator, {14, 15, 20})
        steps = list(search.run())
        statuses = [row.evaluation.status for row in log.evaluations()]
    assert [number for number, status in enumerate(statuses) if status == "failed"] == [14, 15, 20]
    assert steps[-1].n_failed == 3


def losing(simulator: Simulator, lost: Mapping[tuple[str, tuple[Slice, ...]], int]) -> Callable[[Query], Evaluation]:
    """Answers like the simulator, but loses the evaluations of these recipes and slices so many times."""
    left = dict(lost)

    def answer(query: Query) -> Evaluation:
        key = (query.recipe.id, query.slices)
        left[key] = left.get(key, 0) - 1
        return Evaluation("failed", reason="worker lost") if left[key] >= 0 else simulator(query)

    return answer


def continued(history: History, phase: Phase) -> EvaluationRow:
    """The first evaluation of a phase of a trial that has scores."""
    rows = [row for row in history.evaluations if row.phase == phase]
    return next(row for row in rows if phase == "test" or row.slices[0].start > 0)


@pytest.mark.parametrize("phase", ["search", "verify", "test"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_trial_with_scores_that_loses_an_evaluation_is_asked_for_it_once_more(
    tmp_path: Path, phase: Phase, times: int
) -> None:
    for name in ("whole", "lost"):
        (tmp_path / name).mkdir()
    whole, _ = finished(tmp_path / "whole")
    row = continued(whole, phase)
    with RunLog(tmp_path / "lost" / "run.db") as log:
        search, simulator = make_search(log)
        told: list[str] = []
        tell = search._optimizer.tell
        search._optimizer.tell = lambda trial: told.append(trial.status) or tell(trial)  # type: ignore[method-assign, func-returns-value]
        search._runner = SerialRunner(losing(simulator, {(whole.trials[row.trial].recipe.id, row.slices): times}))
        list(search.run())
        history = History.of(log)
    statuses = [
        each.evaluation.status for each in history.evaluations if (each.trial, each.slices) == (row.trial, row.slices)
    ]
    if times == 1:
        assert statuses == ["failed", "ok"]
        assert set(told) == {"ok"}, "what is asked once more is under way to the optimizer"
        assert history.recommended == whole.recommended
        assert history.tests == whole.tests
        assert history.trajectory()[-1] == whole.trajectory()[-1]
    else:
        assert statuses == ["failed", "failed"]
        assert (history.trials[row.trial].status == "failed") == (phase != "test") == ("failed" in told)


@pytest.mark.parametrize("n_workers", [1, 3])
def test_a_search_that_lost_evaluations_goes_on_from_any_moment_as_an_uninterrupted_one(
    tmp_path: Path, n_workers: int
) -> None:
    (tmp_path / "plain").mkdir()
    plain, _ = finished(tmp_path / "plain")
    lost = {(plain.trials[row.trial].recipe.id, row.slices): 1 for row in [continued(plain, "search")]}
    lost |= {(plain.trials[row.trial].recipe.id, row.slices): 1 for row in [continued(plain, "verify")]}

    def steps(folder: Path, stop: int | None = None) -> list[Progress]:
        folder.mkdir(exist_ok=True)
        with RunLog(folder / "run.db") as log:
            search, simulator = make_search(log)
            # What the log knows as lost is not lost again.
            recipes = {row.id: row.recipe_id for row in log.trials()}
            failed = [row for row in log.evaluations() if row.evaluation.status == "failed"]
            known = [(recipes[row.trial], row.slices) for row in failed]
            left = {key: times for key, times in lost.items() if key not in known}
            search._runner = VirtualRunner(losing(simulator, left), n_workers=n_workers)
            return list(itertools.islice(search.run(), stop))

    failures = [step.n_failed for step in steps(tmp_path / "whole")]
    first = failures.index(1)
    for stop in (first, first + 1, first + 2, len(failures) - 12):
        steps(tmp_path / f"stopped {stop}", stop)
        steps(tmp_path / f"stopped {stop}")
        assert contents(tmp_path / f"stopped {stop}" / "run.db") == contents(tmp_path / "whole" / "run.db")


class Repeating(Evolution):
    """Finds no new model after ten, as in a space that has no more."""

    def ask(self) -> Proposal:
        proposal = super().ask()
        if proposal.trial is None and len(self._ledger.proposed) >= 10:
            return replace(proposal, genotype=self._ledger.proposed[0].genotype)
        return proposal


def test_a_space_that_is_used_up_ends_the_search_and_all_of_it_is_evaluated_as_far_as_the_budget_lasts(
    tmp_path: Path,
) -> None:
    for name in ("whole", "stopped", "scarce"):
        (tmp_path / name).mkdir()
    history, steps = finished(tmp_path / "whole", optimizer=Repeating)
    assert steps[-1].n_trials == 10 + MAX_COPIES
    assert steps[-1].used_up
    assert [step.used_up for step in steps].index(True) > 10
    assert max(step.share for step in steps if step.phase == "search") == 1.0
    assert history.recommended
    # The rest of the budget goes into what there is.
    assert {trial.n_items for trial in history.trials.values()} == {N_ITEMS}
    scarce, _ = finished(tmp_path / "scarce", optimizer=Repeating, items=1300)
    assert {trial.n_items for trial in scarce.trials.values()} > {N_ITEMS}
    with RunLog(tmp_path / "stopped" / "run.db") as log:
        search, _ = make_search(log, optimizer=Repeating)
        list(itertools.islice(search.run(), 25))
    finished(tmp_path / "stopped", optimizer=Repeating)
    assert contents(tmp_path / "stopped" / "run.db") == contents(tmp_path / "whole" / "run.db")


@pytest.mark.parametrize("n_models", [1, 2])
def test_a_search_whose_last_evaluations_failed_is_not_finished_unless_they_are_few(
    tmp_path: Path, n_models: int
) -> None:
    """Each of the last models is asked twice."""
    assert 2 < LAST_FAILED <= 4
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    finished(tmp_path / "whole")
    with RunLog(tmp_path / "whole" / "run.db") as log:
        total = len(log.evaluations())
    with RunLog(tmp_path / "stopped" / "run.db") as log:
        search, simulator = make_search(log)
        search._runner = failing(simulator, range(total - n_models, total + n_models))
        if n_models == 1:
            list(search.run())
            assert [row.evaluation.status for row in log.evaluations()][-3:] == ["ok", "failed", "failed"]
            return
        with pytest.raises(RuntimeError, match="the last 4 evaluations failed"):
            list(search.run())
        assert len(log.evaluations()) == total - n_models
    finished(tmp_path / "stopped")
    assert contents(tmp_path / "stopped" / "run.db") == contents(tmp_path / "whole" / "run.db")


def test_with_several_workers_too_what_failed_before_a_stop_is_asked_anew(tmp_path: Path) -> None:
    def start(log: RunLog, lost: Collection[int]) -> Iterator[Progress]:
        search, simulator = make_search(log)
        search._runner = VirtualRunner(failing(simulator, lost)._evaluate, n_workers=3)
        return search.run()

    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    with RunLog(tmp_path / "whole" / "run.db") as log:
        list(start(log, ()))
    with RunLog(tmp_path / "stopped" / "run.db") as log:
        steps = start(log, {20, 21, 22, 23, 24})
        for step in steps:
            if step.n_failed == 2:
                break
        assert all(row.evaluation.status == "ok" for row in log.evaluations())
    with RunLog(tmp_path / "stopped" / "run.db") as log:
        list(start(log, ()))
    assert contents(tmp_path / "stopped" / "run.db") == contents(tmp_path / "whole" / "run.db")


def test_a_budget_needs_a_positive_bound_and_the_first_one_reached_counts() -> None:
    for bounds in ({}, {"trials": 0}, {"trials": 5, "minutes": -1.0}):
        with pytest.raises(ValueError, match="needs a positive number"):
            Budget(**bounds)
    assert Budget(trials=10, items=1000).share(trials=2, items=900, seconds=1e9) == 0.9
    assert Budget(minutes=2).share(trials=10**6, items=10**6, seconds=30) == 0.25


def test_populations_count_the_proposed_trials_that_reached_each_rung(tmp_path: Path) -> None:
    history, steps = finished(tmp_path)
    assert all(sorted(step.populations, reverse=True) == list(step.populations) for step in steps)
    assert {step.populations for step in steps if step.phase == "reference"} == {(0, 0, 0)}
    reached = [t.n_items for t in history.trials.values() if t.origin["operator"] != REFERENCE]
    assert steps[-1].populations == tuple(sum(n >= rung for n in reached) for rung in (13, 40, 120))
    assert steps[-1].populations[0] == 40
    assert 0 < steps[-1].populations[-1] < 20


def test_thinking_is_the_share_of_the_search_spent_in_ask_and_nothing_while_the_log_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunLog(tmp_path / "run.db") as log:
        search, _ = make_search(log, trials=8, pause=0.02)
        ask = search._optimizer.ask

        def slow() -> Proposal:
            time.sleep(0.06)
            return ask()

        monkeypatch.setattr(search._optimizer, "ask", slow)
        steps = list(search.run())
    assert {step.thinking for step in steps if step.phase == "reference"} == {0.0}
    # The rest of an evaluation's time is the pause, writing the log and telling.
    assert 0.5 < steps[-1].thinking < 0.06 / 0.08 + 0.02
    after = [step.thinking for step in steps if step.phase != "search"][-3:]
    assert set(after) == {[step.thinking for step in steps if step.phase == "search"][-1]}
    with RunLog(tmp_path / "run.db") as log:
        search, _ = make_search(log, trials=8)
        assert {step.thinking for step in search.run()} == {0.0}


def test_what_is_recommended_keeps_the_constraints_and_references_that_do_not_are_tested(tmp_path: Path) -> None:
    bound = Constraint("a", "<=", 0.6, "task")
    history, steps = finished(tmp_path, constraints=[bound])
    assert history.constraints == (bound,)
    assert history.recommended
    assert all(history.trials[trial].results["a"].mean <= 0.6 for trial in history.recommended)
    (left,) = (trial for trial in history.references if history.name(trial) == "left")
    assert history.trials[left].results["a"].mean > 0.6
    assert left in history.tests
    # Search, history and the trajectory agree on what counts.
    full = [t for t in history.trials.values() if t.n_items == N_ITEMS and t.results["a"].mean <= 0.6]
    volume = hypervolume(np.array([t.values(history.objectives) for t in full]), history.reference_point)
    searched = [step for step in steps if step.phase != "test"]
    assert searched[-1].hypervolume == pytest.approx(volume)
    assert history.trajectory()[-1][1] == pytest.approx(volume)


def test_nothing_is_recommended_if_nothing_keeps_the_constraints(tmp_path: Path) -> None:
    history, steps = finished(tmp_path, trials=10, constraints=[Constraint("layers", "<=", 3)])
    assert history.recommended == ()
    assert {step.hypervolume for step in steps} == {0.0}
    assert set(history.references) == set(history.tests)


def test_a_weighted_mean_is_searched_as_one_objective(tmp_path: Path) -> None:
    mean = Objective.mean_of({"a": 1, "b": 2})
    history, steps = finished(tmp_path, trials=60, objectives=[mean])
    assert history.objectives == (mean,)
    assert steps[0].best is None
    assert history.tasks == ("a", "b")
    (best,) = history.recommended
    scores = {
        trial.id: (trial.results["a"].mean + 2 * trial.results["b"].mean) / 3
        for trial in history.trials.values()
        if trial.n_items == N_ITEMS
    }
    assert scores[best] == pytest.approx(max(scores.values()))
    assert steps[-1].best == pytest.approx(max(scores.values()))
    tested = history.tests[best]
    assert history.test_values(best) == pytest.approx([(tested["a"].mean + 2 * tested["b"].mean) / 3])


def test_all_trials_that_are_ok_can_be_tested_and_nothing_else_changes(tmp_path: Path) -> None:
    for name in ("some", "every"):
        (tmp_path / name).mkdir()
    some, _ = finished(tmp_path / "some", breaks=True)
    every, steps = finished(tmp_path / "every", breaks=True, test_trials="all")
    ok = {number for number, trial in every.trials.items() if trial.status == "ok"}
    assert set(every.tests) == ok
    assert len(ok) > len(some.tests)
    assert {result["a"].n for result in every.tests.values()} == {N_ITEMS}
    assert every.recommended == some.recommended
    assert every.trajectory() == some.trajectory()
    # Those that would be tested anyway come first, so that a run stopped there can be told.
    order = [row.trial for row in every.evaluations if row.phase == "test"]
    assert order[: len(some.tests)] == [row.trial for row in some.evaluations if row.phase == "test"]
    assert [step.share for step in steps if step.phase == "test"][-1] == 1.0
    with RunLog(tmp_path / "none.db") as log, pytest.raises(ValueError, match="expected one of recommended, all"):
        make_search(log, test_trials="best")  # type: ignore[arg-type]
