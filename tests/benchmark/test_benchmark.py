"""A benchmark that is read back, asked in every way; its folder is made by hand, so that the truth is known."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automerge.benchmark import Benchmark, load
from automerge.benchmark.ensemble import combine
from automerge.components import build
from tests.benchmark import handmade as made


def test_it_tells_what_it_is_about(b: Benchmark) -> None:
    assert (b.name, b.tasks, b.splits) == ("handmade", ("math", "code"), ("search", "test"))
    assert b.n_items == made.SIZES
    assert [objective.name for objective in b.objectives] == ["math", "code", "parameters"]


def test_its_space_is_the_one_of_the_runs(b: Benchmark, X: np.ndarray) -> None:
    own = build(made.LAYERWISE, **made.LAYOUT).measured(made.measures())
    assert b.space.genes == own.genes
    assert b.space.decode(X[0]) == own.decode(X[0])
    assert (b.space.features(X) == own.features(X)).all()


def test_means_are_those_of_the_models_and_near_the_truth(b: Benchmark, X: np.ndarray) -> None:
    found, truth = b.mean(X), made.halves(b.space, X)
    for task in b.tasks:
        assert np.abs(found[task] - truth[task]).mean() < 0.03
    assert b.mean(X, "test")["math"] == pytest.approx(0.9 * found["math"], abs=0.1)
    calm = b.query(X, noise=False)
    alive = ~calm.broken
    assert (calm.scores["math"][alive] == found["math"][alive]).all()
    assert (calm.broken == (b.chance_broken(X) > 0.5)).all()


def test_noise_is_that_of_items_and_vanishes_over_seeds(b: Benchmark, X: np.ndarray) -> None:
    """Subsets have their own difficulty, so only scores on all items have the expected score as their mean."""
    p = b.mean(X)["math"]
    seen = np.array([b.query(X, seed=seed).scores["math"] for seed in range(60)])
    n = np.isfinite(seen).sum(axis=0)
    assert np.abs(np.nanmean(seen, axis=0) - p)[n > 10].mean() == pytest.approx(0, abs=0.02)
    sure = b.chance_broken(X) < 0.5
    spread = np.nanstd(seen[:, sure], axis=0)
    # Items of unequal difficulty vary less than those of equal difficulty would.
    assert (spread.mean() < np.sqrt(p * (1 - p) / 60)[sure].mean()) and spread.mean() > 0.02


def test_more_items_repeat_the_answers_on_fewer(b: Benchmark, X: np.ndarray) -> None:
    by_n = b.trajectory(X[:20], [5, 20, 60], seed=3)
    order = b.order("math", seed=3)
    right = b.respond(X[:20], "math", "search", order, seed=3)
    for n, answers in by_n.items():
        alive = ~answers.broken
        assert answers.n == {"math": n, "code": min(n, 50)}
        assert answers.items == sum(answers.n.values())
        assert (answers.k["math"][alive] == right[:, :n].sum(axis=1)[alive]).all()
        assert (answers.scores["math"][alive] == answers.k["math"][alive] / n).all()
    assert np.nanstd(by_n[5].scores["math"]) > 0


def test_items_are_asked_in_an_order_of_the_seeds_own(b: Benchmark, X: np.ndarray) -> None:
    """So that few items are neither easier nor harder than all on the mean over seeds."""
    first, again, other = (b.order("math", seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert sorted(first) == sorted(other) == list(range(b.n_items["math"]["search"]))
    assert (b.order("math", "test", seed=1)[:5] != first[:5]).any()
    p = b.mean(X)["math"]
    asked = np.array([b.query(X, n_items=5, seed=seed).scores["math"] for seed in range(400)])
    alive = np.isfinite(asked).sum(axis=0) > 100
    assert np.nanmean(asked[:, alive] - p[alive]) == pytest.approx(0, abs=0.01)


def test_unknown_names_are_told_with_the_known_ones(b: Benchmark, X: np.ndarray) -> None:
    for ask in (b.order, b.world):
        with pytest.raises(ValueError, match="unknown task 'nope', known are math, code"):
            ask("nope", "search")
        with pytest.raises(ValueError, match="unknown split 'train', known are search, test"):
            ask("math", "train")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown gene 'nope', known are "):
        b.choices("nope")
    with pytest.raises(ValueError, match=r"expected one genotype of shape \(n_genes,\), got shape \(3, "):
        b.config(X[:3])


def test_answers_depend_on_nothing_but_the_model_the_item_and_the_seed(b: Benchmark, X: np.ndarray) -> None:
    rows = b.order("code")
    whole = b.respond(X, "code", "search", rows, seed=1)
    assert (whole[7:8] == b.respond(X[7], "code", "search", rows, seed=1)).all()
    assert (whole[::-1, ::-1] == b.respond(X[::-1], "code", "search", rows[::-1], seed=1)).all()
    assert (whole != b.respond(X, "code", "search", rows, seed=2)).mean() > 0.1
    again = load(b.folder).query(X, n_items=30, seed=1)
    assert (again.values == b.query(X, n_items=30, seed=1).values)[~again.broken].all()


def test_what_is_remembered_of_a_model_is_neither_another_model_nor_changed(b: Benchmark, X: np.ndarray) -> None:
    first = b.query(X[:2], n_items=20, seed=1)
    scores = b.mean(X[:2])["math"]
    b.mean(X[:2])["math"][:] = 0
    b.chance_broken(X[:2])[:] = 1
    b.seconds(X[:2]).merge[:] = 0
    assert (b.mean(X[:2])["math"] == scores).all()
    again = b.query(X[:2], n_items=20, seed=1)
    assert (again.broken == first.broken).all()
    assert (again.seconds == first.seconds).all()
    assert (b.mean(X[2:4])["math"] != scores).all()
    with pytest.raises(ValueError, match="expected genotypes of shape"):
        b.mean(X[:2].ravel())


def test_models_break_as_often_as_predicted(b: Benchmark, X: np.ndarray) -> None:
    often = np.mean([b.is_broken(X, seed) for seed in range(200)], axis=0)
    assert np.abs(often - b.chance_broken(X)).max() < 0.15
    assert often.mean() == pytest.approx(b.chance_broken(X).mean(), abs=0.01)
    assert (b.is_broken(X, 7) == b.query(X, seed=7).broken).all()


def test_models_are_named_or_numbered_alike(b: Benchmark, X: np.ndarray) -> None:
    names = [b.config(x) for x in X[:5]]
    assert {type(value) for value in names[0].values()} == {str, float}
    by_name, by_number = b.query(names, n_items=20), b.query(X[:5], n_items=20)
    assert (by_name.k["math"] == by_number.k["math"]).all()
    assert (b.query(names[3], n_items=20).k["math"] == by_number.k["math"][3:4]).all()
    assert b.mean(X[0])["math"].shape == (1,)
    assert (b.genotypes(X[:3] + 0.0) == X[:3]).all()
    assert b.genotypes({})[0] == pytest.approx(b.space.genotype({}))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"0.attention.weight": 0.5}, "unknown gene '0.attention.weight', names look like 0.attention.method"),
        ({"0.attention.left": 1.7}, r"0.attention.left: expected a number in \[0, 1.5\], got 1.7"),
        ({"0.attention.left": float("nan")}, r"expected a number in \[0, 1.5\], got nan"),
        ({"0.attention.left": "much"}, r"expected a number in \[0, 1.5\], got 'much'"),
        ({"0.attention.method": "sum"}, "expected one of linear, task_arithmetic, ties, got 'sum'"),
        ({"0.attention.method": 1}, "expected one of 0 linear, 1 task_arithmetic, 2 ties, got 1"),
        ({f"gene{k}": 0 for k in range(5)}, "; and 2 more"),
        (None, "expected a mapping by the names of genes, or an array of genotypes, got NoneType"),
        ([[0.5, 0.5]], "expected a mapping by the names of genes, or an array of genotypes, got list"),
    ],
)
def test_wrong_configurations_are_refused(b: Benchmark, config: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        b.query(config)  # type: ignore[arg-type]


def test_wrong_genotypes_are_refused(b: Benchmark, X: np.ndarray) -> None:
    for wrong, message in (
        (X[:, :-1], r"expected genotypes of shape \(\d+,\) or \(n, \d+\)"),
        (X.astype(str), "and type <U"),
        (X + np.eye(1, X.shape[1], 1) * 9, r"0.attention.left: expected a number in \[0, 1.5\], got 9"),
        (X + np.eye(1, X.shape[1]) * 0.5, "0.attention.method: expected one of 0 linear, 1 task_arithmetic"),
        (np.where(np.isclose(X, X.max()), np.nan, X), "got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            b.query(wrong)


@pytest.mark.parametrize("n_items", [0, 61, 2.5, True, "5", float("nan")])
def test_items_that_no_task_has_are_refused(b: Benchmark, n_items: Any, X: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"from 1 to what the tasks have \(60 of math, 50 of code\)"):
        b.query(X[:1], n_items=n_items)


def test_wrong_tasks_rows_splits_and_seeds_are_refused(b: Benchmark, X: np.ndarray) -> None:
    with pytest.raises(ValueError, match="unknown task 'maths', known are math, code"):
        b.respond(X, "maths", "search", [0], seed=0)
    with pytest.raises(ValueError, match="expected rows of 'math' from 0 to 59, got 3 to 60"):
        b.respond(X, "math", "search", [3, 60], seed=0)
    with pytest.raises(ValueError, match="unknown split 'train', known are search, test"):
        b.query(X, split="train")  # type: ignore[arg-type]
    for seed in (-1, "a", None, 1.5, True):
        with pytest.raises(ValueError, match=f"expected a seed that is a whole number from 0, got {seed!r}"):
            b.query(X, 5, seed=seed)  # type: ignore[arg-type]


def test_splits_without_models_are_refused(tmp_path: Path, X: np.ndarray) -> None:
    untested = load(made.handmade(tmp_path / "untested", tested=False, breaks=False))
    assert untested.splits == ("search",)
    assert (untested.chance_broken(X) == 0).all()
    assert not untested.query(X).broken.any()
    with pytest.raises(ValueError, match="it has no model of math, code there; splits with models are search"):
        untested.query(X, split="test")


def test_missing_and_damaged_files_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder at"):
        load(tmp_path / "nothing")
    for name in ("models/0.txt.gz", "encoder.json", "items.json", "space.json"):
        copy = Path(shutil.copytree(folder, tmp_path / name.replace("/", "-")))
        (copy / name).unlink()
        with pytest.raises(FileNotFoundError, match=r"export or copy"):
            load(copy)
        (copy / name).write_bytes(b"\x1f\x8b nonsense")
        with pytest.raises(ValueError, match=r"is damaged .* export or copy"):
            load(copy)
        with pytest.raises(ValueError, match="is not what was exported"):
            load(copy, verify=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.json", {}, r"items\.json is damaged: it lacks 'math'"),
        ("space.json", {}, r"space\.json is damaged: it lacks 'genes'"),
        ("metadata.json", {"schema": 2}, r"metadata\.json is damaged: it lacks 'name'"),
    ],
)
def test_keys_that_files_lack_are_named(
    folder: Path, tmp_path: Path, name: str, content: dict[str, Any], message: str
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load(copy)


def test_a_lost_file_of_distances_is_told_at_once_and_one_that_never_was_when_asked_for(
    folder: Path, tmp_path: Path, X: np.ndarray
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "models" / "nearness.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no models/nearness\.npz, so it is no whole benchmark"):
        load(copy)
    metadata = json.loads((copy / "metadata.json").read_text())
    (copy / "metadata.json").write_text(json.dumps({**metadata, "nearness": None}))
    answers = load(copy).query(X[:2])
    with pytest.raises(ValueError, match=r"cannot tell how far .* fewer than two different ones"):
        _ = answers.distance


def test_a_home_folder_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load(f"~/{folder.name}").folder == folder


def test_models_of_other_features_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    rng = np.random.default_rng(0)
    other = combine(made.bags(rng.random((60, 3)), rng.random(60)))
    (copy / "models" / "0.txt.gz").write_bytes(gzip.compress(other.encode()))
    with pytest.raises(ValueError, match=r"got 3 in models/0\.txt\.gz; export the runs again"):
        load(copy)


def test_the_table_needs_its_file(b: Benchmark) -> None:
    with pytest.raises(FileNotFoundError):
        b.table()
