"""How alike are the errors of models on the same items, and what do beliefs that count on it say of promoted models?

Finished runs are replayed. Right before a model goes on to all search items, the landscape of all that was known by
then says what will come out: once with errors that are as alike as the scores tell, once with independent ones.

python -m experiments.optimizers run --problems lfs-2 dis-2 single --optimizers bayes_evolution
python -m experiments.beliefs runs/optimizers/200-*/*/bayes_evolution-*
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from automerge import run
from automerge.history import History, advanced, in_space, started
from automerge.landscape.beliefs import Beliefs
from automerge.landscape.model import View
from automerge.landscape.rows import in_order
from automerge.landscape.subset_noise import BLOCK
from automerge.log import LOG, RunLog
from automerge.records import Trial
from automerge.threads import one_thread
from experiments.machine import describe

FOLDER = Path(__file__).parent

APART = (0.0, 0.2, 0.4, 0.8, np.inf)
"""Bounds of the classes of distance between two models, over that between two samples of the space."""

LEAST_SHARE = 0.1
"""Models that answer less than this share of the items right, or of them wrong, say nothing of likeness."""


@dataclass(frozen=True)
class Alike:
    """How sums of BLOCK consecutive items resemble each other, of models that were evaluated on all of them.

    `spread` is their variance over that of random items, `correlations` those of two models by classes of distance;
    None where there are no such models, or pairs.
    """

    models: int
    spread: float | None
    correlations: tuple[float | None, ...]


@dataclass(frozen=True)
class Judged:
    """What beliefs about an objective were wrong by over promotions, and the mean deviation that they had."""

    objective: str
    promotions: int
    bias: float
    rmse: float
    believed: float


@dataclass(frozen=True)
class Replay:
    """A finished run: the objectives and features of its models, the trials before any evaluation, and its history."""

    view: View
    blank: Mapping[int, Trial]
    history: History
    n_items: int
    seed: int

    @staticmethod
    def of(folder: Path) -> Replay:
        """That of a run folder."""
        with RunLog(folder / LOG, read_only=True) as log:
            settings, history = log.settings(), History.of(log)
            blank = {row.id: started(row) for row in log.trials()}
        parts = run.assemble(settings["config"])
        view = View(parts.space, parts.objectives, parts.constraints)
        return Replay(view, blank, history, parts.ladder.rungs[-1], settings["seed"])

    def promotions(self) -> Iterator[tuple[list[Trial], Trial]]:
        """What was known of models in the space before one of them went on to all search items, and how it came out."""
        known: dict[int, Trial] = {}
        for row in self.history.evaluations:
            if row.phase == "test":
                continue
            before = known.get(row.trial, self.blank[row.trial])
            after = advanced(before, row.evaluation)
            went_on = row.phase == "search" and 0 < before.n_items < after.n_items == self.n_items
            if went_on and after.status == "ok" and in_space(after):
                yield [trial for trial in known.values() if in_space(trial)], after
            known[row.trial] = after

    def complete(self) -> list[Trial]:
        """The models in the space that were evaluated on all search items."""
        return [trial for trial in self.history.trials.values() if in_space(trial) and trial.n_items == self.n_items]


def main() -> None:
    """Prints two tables with a line for every run and task or objective, and writes the same as results.json."""
    parser = argparse.ArgumentParser("python -m experiments.beliefs", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs of automerge")
    parser.add_argument("--to", type=Path, default=FOLDER / "results.json", help="file to write (%(default)s)")
    options = parser.parse_args()
    classes = [f"{low:g} to {high:g}" for low, high in pairwise(APART)]
    likeness = Table("run", "task", "models", "spread", *classes, caption="correlation of errors by distance")
    beliefs = Table("run", "objective", "errors", "promotions", "bias", "rmse", "believed", caption="before promotions")
    found: dict[str, object] = {}
    for folder in options.runs:
        name = "/".join(folder.resolve().parts[-2:])
        if name in found:
            raise SystemExit(f"two of the folders are named {name}; look at one study at a time, with another --to")
        replay = Replay.of(folder)
        alike = {task: measured(replay, task) for task in replay.view.tasks}
        judged = {kind: replayed(replay, correlations=kind == "alike") for kind in ("alike", "independent")}
        for task, row in alike.items():
            likeness.add_row(name, task, str(row.models), _told(row.spread), *map(_told, row.correlations))
        for kind, rows in judged.items():
            for each in rows:
                figures = [f"{value:.3f}" for value in (each.bias, each.rmse, each.believed)]
                beliefs.add_row(name, each.objective, kind, str(each.promotions), *figures)
        found[name] = {
            "alike": {task: asdict(row) for task, row in alike.items()},
            "beliefs": {kind: [asdict(each) for each in rows] for kind, rows in judged.items()},
        }
        print(name, flush=True)
    options.to.write_text(json.dumps({"machine": describe(), "distances": classes, "runs": found}, indent=1) + "\n")
    console = Console(width=140)
    console.print(likeness)
    console.print(beliefs)


def measured(replay: Replay, task: str) -> Alike:
    """The likeness of all models of a run on a task."""
    kept = [trial for trial in replay.complete() if LEAST_SHARE <= trial.results[task].mean <= 1 - LEAST_SHARE]
    ordered = [(trial, items) for trial in kept if (items := in_order(trial, task)) is not None and np.ptp(items) > 0]
    if len(ordered) < 2 or replay.n_items < 2 * BLOCK:
        return Alike(len(ordered), None, (None,) * (len(APART) - 1))
    scores = np.array([items for _, items in ordered])
    means = scores.mean(axis=1, keepdims=True)
    n_blocks = scores.shape[1] // BLOCK
    sums = (scores - means)[:, : n_blocks * BLOCK].reshape(len(scores), n_blocks, BLOCK).sum(axis=2)
    products = sums @ sums.T / (n_blocks - 1) / BLOCK
    squares = np.diag(products)
    pair = np.triu_indices(len(scores), 1)
    largest = np.sqrt(np.outer(squares, squares))[pair]
    apart = replay.view.distances(np.array([trial.genotype for trial, _ in ordered]))[pair]
    correlations = []
    for low, high in pairwise(APART):
        inside = (apart >= low) & (apart < high)
        correlations.append(float(products[pair][inside].sum() / largest[inside].sum()) if inside.any() else None)
    spread = float((squares / (means * (1 - means))[:, 0]).mean())
    return Alike(len(ordered), spread, tuple(correlations))


@one_thread()
def replayed(replay: Replay, *, correlations: bool) -> list[Judged]:
    """By objective what beliefs are worth that follow the run, with correlated errors or independent ones."""
    beliefs = Beliefs(replay.view, seed=replay.seed, correlations=correlations)
    errors, deviations = [], []
    for known, trial in replay.promotions():
        if (landscape := beliefs.landscape(known)) is not None:
            belief = landscape.believe(trial.genotype[None])
            errors.append(belief.means[0] - trial.values(replay.history.objectives))
            deviations.append(belief.deviations[0])
    if not errors:
        return []
    bias, size = np.mean(errors, axis=0), np.sqrt(np.mean(np.square(errors), axis=0))
    believed = np.mean(deviations, axis=0)
    return [
        Judged(objective.name, len(errors), float(bias[k]), float(size[k]), float(believed[k]))
        for k, objective in enumerate(replay.history.objectives)
    ]


def _told(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
