"""The problems of the study, as overrides of automerge's configuration, and their budget in items."""

from __future__ import annotations

from dataclasses import dataclass

from automerge.fidelity import Ladder

ETA = 3
"""Factor between the rungs."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is searched: Hydra overrides of sources, tasks and space, and how many tasks these are."""

    overrides: tuple[str, ...]
    n_tasks: int
    about: str


PAIR = ("experiment=demo",)
TRIPLE = ("experiment=demo", "source=zoo", "task=[zoo_sort,zoo_reverse,zoo_calc]")
STACKS = ("space=dis", "space.methods=[task_arithmetic]")

PROBLEMS = {
    "lfs-2": Problem(PAIR, 2, "layer-wise fusion of two experts"),
    "lfs-3": Problem(TRIPLE, 3, "layer-wise fusion of three experts"),
    "dis-2": Problem((*PAIR, *STACKS), 2, "stacks of layers of two experts, fused or not"),
    "dis-3": Problem((*TRIPLE, *STACKS), 3, "stacks of layers of three experts, fused or not"),
    "smm_ps": Problem((*PAIR, "space=smm_ps"), 2, "SMM-Bench's parameter space of two experts"),
    "smm_dfs": Problem((*PAIR, "space=smm_dfs"), 2, "SMM-Bench's data-flow space of two experts"),
    "single": Problem(("experiment=zoo_sort_reverse",), 1, "one task that needs both skills, one objective"),
}


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the runs are: `trials` sets the budget, `least` and `most` the rungs, in items per task."""

    trials: int = 200
    least: int = 30
    most: int = 300
    test_items: int = 50

    @property
    def rungs(self) -> tuple[int, ...]:
        """Numbers of search items per task at which trials are compared."""
        return Ladder(minimum=self.least, maximum=self.most, eta=ETA).rungs

    @property
    def name(self) -> str:
        """The name of a folder of runs of this scale."""
        return f"{self.trials}-trials-{self.least}-{self.most}-items-{self.test_items}-tested"

    def budget(self, problem: Problem) -> int:
        """Search items, over all tasks, that successive halving of `trials` trials takes.

        Every trial goes to the first rung, and 1/eta of those at a rung to the next, rounded down.
        """
        n_trials, items, below = self.trials, 0, 0
        for rung in self.rungs:
            items += n_trials * (rung - below)
            n_trials, below = n_trials // ETA, rung
        return items * problem.n_tasks

    def overrides(self, problem: Problem) -> list[str]:
        """Hydra overrides that runs of a problem have in common."""
        return [
            *problem.overrides,
            f"fidelity.min={self.least}",
            f"fidelity.max={self.most}",
            f"fidelity.eta={ETA}",
            "budget.trials=null",
            f"budget.items={self.budget(problem)}",
            f"report.test_items={self.test_items}",
            "model.threads=1",
        ]
