"""Item by item answers of a model of known expected score, as the real model would give them.

Items differ in difficulty: a model of ability t answers item i rightly with probability sigma(t + d_i) (Rasch 1960),
where t is such that the mean over all items is the expected score. Whether it does is decided by a number that belongs
to the world's seed, the model and the item alone. So the answers on more items begin with those on fewer, the mean over
a subset has the subset's own difficulty, the same for all models, and nothing depends on the order of the calls::

    world = Responses("zoo", "math", "search", difficulties)
    world.respond(p, keys(genotypes), rows, seed=0)   # (n, n_rows) of 0 and 1

Numbers are drawn by position: the generator SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) maps any counter to its
number at once, here the item's row, started from a hash of everything else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""The step of SplitMix64, 2^64 over the golden ratio."""

ABILITIES = np.linspace(-14.0, 14.0, 449)
"""Where expected scores are tabulated, beyond the easiest and the hardest item; abilities between are interpolated."""

CELLS = 1 << 15
"""Answers that are drawn together: their numbers stay in the processor's cache."""


def mix(z: Hashes) -> Hashes:
    """The output function of SplitMix64, which spreads every bit of a counter over its number, of the same shape."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def keys(genotypes: NDArray[np.float64]) -> Hashes:
    """A hash of every canonical genotype, shape (n,): equal bytes have equal hashes."""
    bits = np.ascontiguousarray(genotypes, dtype=np.float64).view(np.uint64)
    places = np.arange(1, bits.shape[1] + 1, dtype=np.uint64) * GOLDEN
    return mix(np.add.reduce(mix(bits ^ places), axis=1, dtype=np.uint64))


def text_key(*words: str) -> np.uint64:
    """A hash of some words, the same on every machine."""
    return np.uint64(int.from_bytes(hashlib.sha256("\0".join(words).encode()).digest()[:8], "little"))


def started(keys: Hashes, world: np.uint64, seed: int) -> Hashes:
    """The states from which the numbers of models of these keys are drawn in a world of this hash and seed; (n,)."""
    return mix(keys ^ _stream(world, seed))


def uniforms(states: Hashes, counters: NDArray[np.int64]) -> NDArray[np.float64]:
    """The numbers in [0, 1) of all states, shape (n,), and counters from 0, shape (m,); shape (n, m)."""
    steps = (counters.astype(np.uint64) + np.uint64(1)) * GOLDEN
    # The 53 bits that a float holds.
    return np.asarray((mix(states[:, None] + steps) >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


@lru_cache
def _stream(world: np.uint64, seed: int) -> np.uint64:
    return np.uint64(mix(world ^ mix(np.array([seed], dtype=np.uint64)))[0])


class Responses:
    """The answers on the items of a task's split, told by their difficulties, shape (n_items,), by row; more is easier.

    `name` is the benchmark's: worlds of other names are others.
    """

    def __init__(self, name: str, task: str, split: str, difficulties: NDArray[np.float64]) -> None:
        self._world = text_key(name, task, split)
        self._ease = np.exp(difficulties)
        # On the scale of logits the expected score is almost a straight line, so few points will do.
        low, high = -difficulties.max(initial=0.0), -difficulties.min(initial=0.0)
        self._abilities = np.interp(ABILITIES, ABILITIES[[0, -1]], [ABILITIES[0] + low, ABILITIES[-1] + high])
        shares = [np.mean(1 / (1 + np.exp(-(ability + difficulties)))) for ability in self._abilities]
        self._logits = np.log(shares) - np.log1p(-np.array(shares))

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self._ease)

    def respond(self, p: NDArray[np.float64], keys: Hashes, rows: NDArray[np.int64], *, seed: int) -> NDArray[np.uint8]:
        """The answers of models of expected score p and these keys, both of shape (n,), on items; (n, n_rows)."""
        found = np.empty((len(p), len(rows)), dtype=np.uint8)
        for some, right in self._drawn(p, keys, rows, seed):
            found[some] = right
        return found

    def count(self, p: NDArray[np.float64], keys: Hashes, rows: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
        """The numbers of right answers that `respond` gives, shape (n,)."""
        found = np.empty(len(p), dtype=np.int64)
        for some, right in self._drawn(p, keys, rows, seed):
            found[some] = right.sum(axis=1)
        return found

    def _drawn(
        self, p: NDArray[np.float64], keys: Hashes, rows: NDArray[np.int64], seed: int
    ) -> Iterator[tuple[slice, NDArray[np.bool_]]]:
        """Which answers are right, some models at a time."""
        states, odds, ease = started(keys, self._world, seed), self._odds(p), self._ease[rows]
        step = max(1, CELLS // max(1, len(rows)))
        for start in range(0, len(p), step):
            some = slice(start, start + step)
            chances = odds[some, None] * ease
            chances /= 1 + chances
            yield some, uniforms(states[some], rows) < chances

    def _odds(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        """The exponentials of the abilities of models of expected score p, shape (n,)."""
        inside = np.clip(p, 1e-12, 1 - 1e-12)
        return np.asarray(np.exp(np.interp(np.log(inside / (1 - inside)), self._logits, self._abilities)))
