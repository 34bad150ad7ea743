"""The problems that become benchmarks, what is collected of each, and who is compared, as Hydra overrides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.optimizers import problems as optimizers
from experiments.optimizers.contestants import FOCUS
from experiments.optimizers.worker import FIGURES

PROBLEMS = {"zoo-lfs": "lfs-2", "zoo-dis": "dis-2", "zoo-ps": "smm_ps", "zoo-dfs": "smm_dfs"}
"""The benchmarks by name, each with the name that its problem has in the study of optimizers."""

STUDIED = "zoo-ps"
"""The benchmark on which optimizers are compared, as in SMM-Bench."""

COMPARED = ("sep_cma", "pymoo_de", "tpe", "bayes_evolution")
"""The optimizers that are compared: SMM-Bench's two, and two others."""

RANDOM = ("space_filling", "random_search")
"""Whose data a benchmark made of random data alone has."""

SHARES = {"space_filling": 2, "random_search": 1, **dict.fromkeys(COMPARED, 1)}
"""What is collected: by optimizer how many times the trials of a run."""

FIRST_REAL_SEED = 100
"""Seeds from here on are those of real runs that no benchmark is made of."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the runs are: `trials` of a run, `items` to search on and `test_items`, per task."""

    trials: int = 250
    items: int = 300
    test_items: int = 100

    @property
    def name(self) -> str:
        """The name of a folder of runs of this scale."""
        return f"{self.trials}-trials-{self.items}-items-{self.test_items}-tested"

    @property
    def common(self) -> tuple[str, ...]:
        """Overrides that all runs have in common, real and simulated: every trial has all items."""
        return (
            "fidelity=full",
            f"fidelity.min={self.items}",
            f"fidelity.max={self.items}",
            f"report.test_items={self.test_items}",
        )

    def searching(self, optimizer: str, seed: int, *, times: int = 1) -> tuple[str, ...]:
        """Overrides of a run of an optimizer with so many times the trials."""
        return (*self.common, f"optimizer={optimizer}", f"budget.trials={times * self.trials}", f"seed={seed}")


def merging(problem: str) -> tuple[str, ...]:
    """Overrides of a problem whose models are really merged, with one thread."""
    return (*optimizers.PROBLEMS[PROBLEMS[problem]].overrides, "model.threads=1")


def existing(folders: list[Path], problem: str) -> list[Path]:
    """The finished runs of a problem below folders of the study of optimizers, each of one scale; without ablations.

    Leaving one optimizer out would tell little where nearly the same optimizer stays. Raises ValueError for a folder
    without any finished run of whatever problem.
    """
    for folder in folders:
        if not any(folder.glob(f"*/*/{FIGURES}")):
            raise ValueError(
                f"no finished run below {folder}: expected PROBLEM/OPTIMIZER-SEED folders as `python -m "
                "experiments.optimizers run` leaves them in the folder of a scale"
            )
    found = (file.parent for folder in folders for file in folder.glob(f"{PROBLEMS[problem]}/*/{FIGURES}"))
    # Ablations are named after it, also those that this version of the study no longer has.
    return sorted(run for run in found if not run.name.startswith(f"{FOCUS}_"))
