"""Which of the fully evaluated models should a search recommend: by what they scored, or by what is believed of them?

Every model that a finished run evaluated on all search items is evaluated on the test items of the study of optimizers.
Fronts of at most eight are then chosen by rules, and judged on these test items.

python -m experiments.optimizers run --problems smm_ps single --optimizers bayes_evolution_batch_1
python -m experiments.recommendation runs/optimizers/200-*/*/bayes_evolution_batch_1-*
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from automerge import run
from automerge.history import History, eligible
from automerge.landscape.beliefs import Beliefs
from automerge.landscape.model import View
from automerge.log import LOG, RunLog
from automerge.pareto import hypervolume, is_non_dominated, widest
from automerge.records import Trial
from experiments.machine import describe
from experiments.optimizers.cache import CachedEvaluator, ScoreStore
from experiments.optimizers.worker import judges, quieten

FOLDER = Path(__file__).parent

N_RECOMMENDED = 8

RULES = {
    "means": "what they scored on all search items: the rule of a search",
    "beliefs": "what the landscape believes of them, where they lie in the space",
    "halves": "half of each",
    "test": "what they score on the test items: about the most that there is to find",
}

Values = Mapping[int, NDArray[np.float64]]


def main() -> None:
    """Prints a table with a line for every run, and writes the same as results.json."""
    parser = argparse.ArgumentParser("python -m experiments.recommendation", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs of automerge")
    parser.add_argument("--store", type=Path, default=Path("runs/optimizers/scores.db"), help="known item scores")
    parser.add_argument("--to", type=Path, default=FOLDER / "results.json", help="file to write (%(default)s)")
    options = parser.parse_args()
    quieten()
    found = {}
    for folder in options.runs:
        name = "/".join(folder.resolve().parts[-3:])
        found[name] = gains(folder, options.store)
        print(name, *(f"{rule} {gain:.4f}" for rule, gain in found[name].items()), flush=True)
    options.to.write_text(json.dumps({"machine": describe(), "gains": found}, indent=1) + "\n")
    table = Table(caption="gain in hypervolume on test items over sources and uniform merges")
    for column in ("run", *RULES):
        table.add_column(column)
    for name, row in found.items():
        table.add_row(name, *(f"{row[rule]:.4f}" for rule in RULES))
    table.add_row("mean", *(f"{np.mean([row[rule] for row in found.values()]):.4f}" for rule in RULES))
    Console().print(table)


def gains(folder: Path, store: Path) -> dict[str, float]:
    """By rule the gain of the front that it recommends among the eligible fully evaluated models."""
    with RunLog(folder / LOG, read_only=True) as log:
        settings, history = log.settings(), History.of(log)
    parts = run.assemble(settings["config"])
    with ScoreStore(store) as scores:
        tests = judges(parts, history, CachedEvaluator(parts.model, parts.tasks, parts.orders, scores))
        complete = [trial for trial in history.trials.values() if trial.n_items >= parts.ladder.rungs[-1]]
        judged = {trial.id: values for trial in complete if (values := tests.values(trial)) is not None}
    means = {number: history.trials[number].values(history.objectives) for number in judged}
    view = View(parts.space, parts.objectives, parts.constraints)
    trials = [history.trials[number] for number in judged]
    beliefs = {**means, **believed(history, view, trials, seed=settings["seed"])}
    by_rule = {
        "means": means,
        "beliefs": beliefs,
        "halves": {number: (means[number] + beliefs[number]) / 2 for number in judged},
        "test": judged,
    }
    candidates = [number for number in judged if eligible(history.trials[number], history.constraints)]
    references = hypervolume(np.array([judged[n] for n in history.references if n in judged]), history.reference_point)
    found = {}
    for rule in RULES:
        chosen = recommended({number: by_rule[rule][number] for number in candidates}, history)
        found[rule] = hypervolume(np.array([judged[n] for n in chosen]), history.reference_point) - references
    return found


def believed(history: History, view: View, trials: list[Trial], *, seed: int) -> Values:
    """Objective values that the landscape of all trials of a run believes, by id of those trials that lie in its space.

    Raises ValueError if the run tells too little for a landscape.
    """
    told = [trial for trial in history.trials.values() if len(trial.genotype)]
    landscape = Beliefs(view, seed=seed).landscape(told)
    if landscape is None:
        raise ValueError("fewer than two models of the space have scores; name runs that have evaluated some")
    inside = [trial for trial in trials if len(trial.genotype)]
    points = landscape.believe(np.array([trial.genotype for trial in inside])).means
    return {trial.id: point for trial, point in zip(inside, points, strict=True)}


def recommended(values: Values, history: History) -> list[int]:
    """Ids of at most N_RECOMMENDED trials that dominate the most volume by these values."""
    numbers = list(values)
    points = np.array([values[number] for number in numbers])
    front = np.flatnonzero(is_non_dominated(points))
    return [numbers[k] for k in front[widest(points[front], history.reference_point, N_RECOMMENDED)]]


if __name__ == "__main__":
    main()
