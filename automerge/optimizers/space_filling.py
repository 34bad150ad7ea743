"""Samples that fill the space, to collect the data of a benchmark: nothing that was measured steers them.

What optimizers log crowds where scores are high, and a model of the landscape that saw nothing else is wrong elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge.fidelity import Ladder
from automerge.ledger import Ledger
from automerge.mating import mate
from automerge.options import refuse, whole_faults
from automerge.protocols import Space
from automerge.records import REFERENCE, Constraint, Objective, Proposal, Trial
from automerge.tied_samples import tied
from automerge.variation import N_TRIES, Layout, new_sample

SHARES = {"sample": 0.35, "tied_sample": 0.2, "walk": 0.25, "slot_change": 0.2}
"""Parts of the proposals by operator, unless options say others."""

TIED = 0.3
"""Share of a walk's moves over blocks of depth that move the whole depth."""

Made = tuple[NDArray[np.float64], Mapping[str, Any]]
"""A canonical genotype, shape (n_genes,), and what is known of its origin beside the operator."""


class SpaceFilling:
    """Proposes new genotypes of four operators in given shares, each once, and promotes none.

    `sample` is a sample of the space, `tied_sample` one all layers of which share one setting, `walk` takes 1 to
    `n_steps` small moves from a source, a uniform merge or a given recipe (from a tied sample where the space holds
    none of them), and `slot_change` draws one slot of a known model anew. `shares` are those of the operators and need
    not add up to 1; one that is not named has none. `stops` are the shares of proposals to be evaluated up to each
    rung, the lowest first; null evaluates all on all items. Holds the trials told and the genotypes asked.
    """

    def __init__(
        self,
        *,
        space: Space,
        objectives: Sequence[Objective],
        ladder: Ladder,
        seed: int,
        constraints: Sequence[Constraint] = (),
        shares: Mapping[str, float] | None = None,
        stops: Sequence[float] | None = None,
        n_steps: int = 12,
    ) -> None:
        refuse(whole_faults(1, n_steps=n_steps))
        self._makers: Mapping[str, Callable[[np.random.Generator], Made]] = {
            "sample": self._sample,
            "tied_sample": self._tied_sample,
            "walk": self._walk,
            "slot_change": self._slot_change,
        }
        shares = SHARES if shares is None else shares
        if unknown := sorted(shares.keys() - self._makers.keys()):
            raise ValueError(f"unknown operators {', '.join(unknown)} in shares: they are {', '.join(self._makers)}")
        self._shares = _parts("shares", [shares.get(name, 0.0) for name in self._makers])
        self._stops = _parts("stops", [0.0] * (len(ladder.rungs) - 1) + [1.0] if stops is None else stops)
        if len(self._stops) != len(ladder.rungs):
            rungs = ", ".join(map(str, ladder.rungs))
            raise ValueError(f"expected a share in stops for each of the rungs {rungs}, got {len(self._stops)} shares")
        self._space = space
        self._layout = Layout.of(space.genes)
        slots: dict[tuple[int, str], list[int]] = {}
        for column, gene in enumerate(space.genes):
            slots.setdefault((gene.depth, gene.component), []).append(column)
        self._slots = list(slots.values())
        self._seed = seed
        self._n_steps = n_steps
        self._ledger = Ledger(objectives=objectives, ladder=ladder, constraints=constraints, halving=False)
        self._n_asked = 0

    def ask(self) -> Proposal:
        """A new genotype of an operator drawn by its share; a sample if none of N_TRIES of its genotypes is new.

        It is a known one only if `new_sample` finds no other, as where the space is used up.
        """
        self._n_asked += 1
        rng = np.random.default_rng([self._seed, self._n_asked])
        stop = int(rng.choice(self._ledger.ladder.rungs, p=self._stops))
        operator = str(rng.choice(list(self._makers), p=self._shares))
        for _ in range(N_TRIES):
            genotype, more = self._makers[operator](rng)
            if self._ledger.is_new(genotype):
                break
        else:
            operator, more = "sample", {}
            genotype = new_sample(self._space, self._ledger.seen, rng)
        self._ledger.see(genotype)
        return Proposal(genotype, stop, {"operator": operator, **more})

    def tell(self, trial: Trial) -> None:
        """Takes the state of a trial."""
        self._ledger.tell(trial)

    def promising(self, n: int) -> list[int]:
        """Ids of at most n partly evaluated trials that most likely belong on the front, best first."""
        return self._ledger.promising(n)

    def _sample(self, rng: np.random.Generator) -> Made:
        return self._space.sample(1, rng)[0], {}

    def _tied_sample(self, rng: np.random.Generator) -> Made:
        return tied(self._space.sample(1, rng)[0], self._space, rng), {}

    def _walk(self, rng: np.random.Generator) -> Made:
        starts = [trial for trial in self._ledger.alive if trial.origin["operator"] == REFERENCE]
        n_steps = int(rng.integers(1, self._n_steps + 1))
        more: dict[str, Any] = {"steps": n_steps}
        if starts:
            start = starts[rng.integers(len(starts))]
            x, more["parents"] = start.genotype, [start.id]
        else:
            x, _ = self._tied_sample(rng)
        for _ in range(n_steps):
            # Of parents that are one and the same only a mutant comes.
            x = self._space.repair(mate(x, x, self._layout, rng, tied=TIED)[0][None])[0]
        return x, more

    def _slot_change(self, rng: np.random.Generator) -> Made:
        known = self._ledger.alive
        donor = self._space.sample(1, rng)[0]
        columns = self._slots[rng.integers(len(self._slots))]
        more: dict[str, Any] = {}
        if known:
            parent = known[rng.integers(len(known))]
            x, more["parents"] = parent.genotype.copy(), [parent.id]
        else:
            x, _ = self._tied_sample(rng)
        x[columns] = donor[columns]
        return np.asarray(self._space.repair(x[None])[0]), more


def _parts(name: str, shares: Sequence[float]) -> NDArray[np.float64]:
    """Shares that add up to 1. Raises ValueError if one is no share or all are 0."""
    parts = np.array(shares, dtype=np.float64)
    if not (parts >= 0).all() or not 0 < parts.sum() < math.inf:
        raise ValueError(f"{name} must be 0 or more, and one of them more, got {list(shares)}")
    return np.asarray(parts / parts.sum())
