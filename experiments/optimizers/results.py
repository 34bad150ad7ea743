"""All finished runs of a scale, and the numbers of theirs that tables and figures show."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge.benchmark.ranking import Ranking, ranking
from experiments.optimizers.checkpoints import SHARES
from experiments.optimizers.contestants import CONTESTANTS
from experiments.optimizers.problems import PROBLEMS
from experiments.optimizers.record import key
from experiments.optimizers.worker import FIGURES

REFERENCES_ALIKE = 1e-9
"""How far the hypervolumes and points of references may differ between runs of one problem and seed, which evaluate the
same models on the same items."""


class Results:
    """The figures of finished runs, by problem and optimizer in the order in which the study names them."""

    def __init__(self, runs: Sequence[dict[str, Any]]) -> None:
        problems, optimizers = list(PROBLEMS), list(CONTESTANTS)
        self.runs = sorted(
            runs,
            key=lambda run: (problems.index(run["problem"]), optimizers.index(run["optimizer"]), run["seed"]),
        )
        self.problems = list(dict.fromkeys(run["problem"] for run in self.runs))
        self.optimizers = sorted({run["optimizer"] for run in self.runs}, key=optimizers.index)

    @staticmethod
    def read(folder: Path, known: Sequence[dict[str, Any]] = ()) -> Results:
        """The results of all finished runs below a folder, and of those of the known ones that are not there.

        Raises ValueError if there are none, one is of an optimizer or a problem that the study no longer has, or two
        of one problem and seed were not made on the same items.
        """
        runs = {str(file.parent): json.loads(file.read_text()) for file in sorted(folder.glob(f"*/*/{FIGURES}"))}
        there = {key(run) for run in runs.values()}
        runs |= {f"the recorded run {key(run)}": run for run in known if key(run) not in there}
        if not runs:
            raise ValueError(f"no finished run of this scale below {folder}; start `run` with the same options first")
        strange = [
            name for name, run in runs.items() if run["optimizer"] not in CONTESTANTS or run["problem"] not in PROBLEMS
        ]
        if strange:
            raise ValueError(f"the study has no such optimizer or problem now; move away {', '.join(strange)}")
        _check_alike(runs)
        return Results(list(runs.values()))

    def only(self, optimizers: Sequence[str]) -> Results:
        """The results of some of the optimizers."""
        return Results([run for run in self.runs if run["optimizer"] in optimizers])

    def with_seeds(self, seeds: Collection[int]) -> Results:
        """The results of some of the seeds."""
        return Results([run for run in self.runs if run["seed"] in seeds])

    def of_problems(self, problems: Collection[str]) -> Results:
        """The results of some of the problems."""
        return Results([run for run in self.runs if run["problem"] in problems])

    def of(self, problem: str, optimizer: str) -> list[dict[str, Any]]:
        """The runs of one optimizer on one problem, by seed."""
        return [run for run in self.runs if (run["problem"], run["optimizer"]) == (problem, optimizer)]

    def finals(self, problem: str, optimizer: str) -> dict[int, float]:
        """By seed the gain of the run's own recommendation, which it verified, over references, on test items."""
        return {run["seed"]: run["final"]["gain"] for run in self.of(problem, optimizer)}

    def best(self, problem: str, n: int) -> list[str]:
        """The n optimizers of the largest mean final gain on a problem, the best first."""
        means = {
            name: float(np.mean([*found.values()])) for name in self.optimizers if (found := self.finals(problem, name))
        }
        return sorted(means, key=means.__getitem__, reverse=True)[:n]

    def curves(self, problem: str, optimizer: str, what: str) -> NDArray[np.float64]:
        """`hypervolume` or `gain` on test items at every checkpoint, shape (n_seeds, n_shares)."""
        rows = [[point[what] for point in run["checkpoints"]] for run in self.of(problem, optimizer)]
        return np.array(rows).reshape(-1, len(SHARES))

    def trajectory(self, problem: str, optimizer: str) -> NDArray[np.float64]:
        """Mean hypervolume on search items over the budget."""
        return np.asarray(np.mean([run["trajectory"] for run in self.of(problem, optimizer)], axis=0))

    def ranked(self) -> Results:
        """The results of the optimizers that are ranked: those that have finished at least half of all blocks.

        The others would leave hardly a block that all have finished.
        """
        keys = {name: {(run["problem"], run["seed"]) for run in self.only([name]).runs} for name in self.optimizers}
        n_blocks = len(set.union(*keys.values()))
        return self.only([name for name, finished in keys.items() if len(finished) >= n_blocks / 2])

    def blocks(self) -> NDArray[np.float64]:
        """Final gains of all optimizers by (problem, seed), shape (n_blocks, n_optimizers).

        Only blocks in which every optimizer has finished count.
        """
        found = []
        for problem in self.problems:
            columns = [self.finals(problem, optimizer) for optimizer in self.optimizers]
            common = set.intersection(*(set(column) for column in columns))
            found += [[column[seed] for column in columns] for seed in sorted(common)]
        return np.array(found).reshape(-1, len(self.optimizers))

    def ranking(self) -> Ranking | None:
        """The ranking of `ranked` over all blocks that these have finished, None if they are too few for one."""
        ranked = self.ranked()
        blocks = ranked.blocks()
        return ranking(ranked.optimizers, blocks) if blocks.shape[0] >= 2 and blocks.shape[1] >= 3 else None


def _check_alike(runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ValueError if two runs, by name, of one problem and seed were not judged by the same references."""
    first: dict[tuple[str, int], str] = {}
    for name, run in runs.items():
        other = first.setdefault((run["problem"], run["seed"]), name)
        for what in ("reference_point", "sources", "references"):
            if not np.allclose(run[what], runs[other][what], rtol=0, atol=REFERENCES_ALIKE):
                raise ValueError(
                    f"{name} and {other} cannot be compared, as their {what.replace('_', ' ')} differ "
                    f"({run[what]} and {runs[other][what]}): models, data or scoring have changed between them; "
                    "move away the older ones"
                )


def standard_error(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard error of the mean over the first axis; 0 for one value, of which it is not known."""
    n = len(values)
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(n)) if n > 1 else np.zeros(values.shape[1:])
