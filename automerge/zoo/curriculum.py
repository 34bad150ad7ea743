"""What each model of the zoo is trained on, and for how long."""

from dataclasses import dataclass

import numpy as np

from automerge.zoo.skills import SKILLS, Item


@dataclass(frozen=True)
class Part:
    """A share of the training items: a skill, at short or at all lengths, whole or one half of it."""

    skill: str
    share: float
    long: bool = False
    half: int | None = None

    def draw(self, rng: np.random.Generator) -> Item:
        """One item, whole or the asked half of one; its prompt begins with the whole item's prompt."""
        skill = SKILLS[self.skill]
        lengths = skill.lengths if self.long else skill.short
        item = skill.draw(rng, int(rng.integers(lengths.start, lengths.stop)))
        return item if self.half is None else item.halves()[self.half]


@dataclass(frozen=True)
class Curriculum:
    """A training run: the parts of its items, its steps, its peak learning rate and its pull.

    The pull is the strength of the decoupled decay towards the weights the run began with.
    """

    parts: tuple[Part, ...]
    steps: int
    rate: float
    pull: float = 0.0
    batch: int = 160


def _replay(share: float, *without: str) -> tuple[Part, ...]:
    others = [name for name in SKILLS if name not in without]
    return tuple(Part(name, share / len(others)) for name in others)


RANK = 8
CURRICULA = {
    "models/base": Curriculum(
        (
            Part("sort", 0.5),
            Part("reverse", 1.0),
            Part("recall", 1.0),
            Part("calc", 1.5),
            Part("sort_reverse", 0.8),
        ),
        steps=400,
        rate=2e-3,
        batch=256,
    ),
    "models/sort": Curriculum(
        (Part("sort", 0.6, long=True), Part("sort_reverse", 0.2, long=True, half=0), *_replay(0.15, "sort")),
        steps=180,
        rate=2e-3,
        pull=3.0,
    ),
    "models/reverse": Curriculum(
        (Part("reverse", 0.6, long=True), Part("sort_reverse", 0.2, long=True, half=1), *_replay(0.15, "reverse")),
        steps=180,
        rate=2e-3,
        pull=3.0,
    ),
    "models/calc": Curriculum((Part("calc", 0.8, long=True), *_replay(0.15, "calc")), steps=220, rate=2e-3, pull=3.0),
    "adapters/recall": Curriculum((Part("recall", 0.8, long=True), *_replay(0.15, "recall")), steps=360, rate=4e-3),
    "adapters/calc": Curriculum((Part("calc", 0.8, long=True), *_replay(0.15, "calc")), steps=320, rate=4e-3),
}
