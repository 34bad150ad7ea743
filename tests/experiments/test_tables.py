"""Tables of the study of optimizers, of made-up runs."""

from __future__ import annotations

from typing import Any

from experiments.optimizers import tables
from experiments.optimizers.checkpoints import GRID, SHARES
from experiments.optimizers.results import Results


def finished(optimizer: str, seed: int, gain: float, problem: str = "lfs-2") -> dict[str, Any]:
    """The figures of a run that gains evenly over its budget."""
    return {
        "problem": problem,
        "optimizer": optimizer,
        "seed": seed,
        "final": {"gain": gain},
        "checkpoints": [{"gain": share * gain} for share in SHARES],
        "trajectory": [share * gain for share in GRID],
    }


def test_the_best_rival_is_compared_on_the_seeds_that_both_have() -> None:
    runs = [finished("bayes_evolution", seed, gain) for seed, gain in ((5, 0.2), (6, 0.1), (7, 0.3))]
    runs += [finished("evolution", seed, 0.1) for seed in (5, 6, 7)]
    # Its mean is the highest of the rivals, but the seed that it has is one of the best for all.
    runs.append(finished("tpe", 7, 0.15))
    header, _, row = tables.reaching(Results(runs), "bayes_evolution").splitlines()
    assert [cell.strip() for cell in header.split("|")][2:7] == [
        "best rival",
        "seeds",
        "its gain",
        "gain of bayes_evolution",
        "ratio",
    ]
    assert [cell.strip() for cell in row.split("|")][1:9] == [
        "lfs-2", "evolution", "3", ".1000", ".2000", "2.00", "50 %", "50 %"
    ]  # fmt: skip


def test_a_rival_without_common_seeds_is_not_compared() -> None:
    runs = [finished("bayes_evolution", 5, 0.2), finished("tpe", 6, 0.5), finished("evolution", 5, 0.1)]
    *_, row = tables.reaching(Results(runs), "bayes_evolution").splitlines()
    assert "evolution" in row
    assert "tpe" not in row


def test_who_has_less_than_half_of_the_blocks_is_not_ranked_and_does_not_shrink_them() -> None:
    gains = {"bayes_evolution": 0.3, "evolution": 0.2, "tpe": 0.1}
    blocks = [(problem, seed) for problem in ("lfs-2", "dis-2") for seed in (5, 6)]
    runs = [finished(name, seed, gain, problem) for name, gain in gains.items() for problem, seed in blocks]
    runs += [finished("random_search", seed, 0.4) for seed in (5, 6)]
    table = tables.ranks(Results([*runs, finished("qnehvi", 5, 0.5)]))
    # random_search has half of them, those of one problem, and is the best there.
    assert "| random_search | 1.00 |" in table
    assert "| bayes_evolution | 2.00 |" in table
    assert "2 of 4 blocks" in table
    assert table.endswith("Not ranked, with less than half of the blocks: qnehvi.")
