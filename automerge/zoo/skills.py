"""The zoo's skills: seeded generators of items, short and long."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from automerge.zoo.tokenizer import STOP

LETTERS = "abcdefghijklmnop"
REPEATED = "abcdefgh"
CHOICES = 4


@dataclass(frozen=True)
class Item:
    """One question: its prompt, the text a model writes after it, and how that is judged."""

    prompt: str
    target: str
    answer: str
    choices: tuple[str, ...] = ()
    end: str = STOP

    def halves(self) -> tuple["Item", "Item"]:
        """The item's working and its final answer, as two items of their own."""
        working, _, answer = self.target.partition(";")
        first = Item(self.prompt, working, working, end=";")
        return first, Item(f"{self.prompt}{working};", answer, answer)

    def record(self) -> dict[str, object]:
        """The item as one object of a task file."""
        if self.choices:
            return {
                "prompt": self.prompt,
                "choices": list(self.choices),
                "label": self.choices.index(self.answer),
            }
        if self.target != self.answer:
            return {"prompt": self.prompt, "solution": self.target, "answer": self.answer}
        return {"prompt": self.prompt, "answer": self.answer}


@dataclass(frozen=True)
class Skill:
    """A way to draw items of a given length, the lengths called short, and all lengths.

    The length counts letters, or operations.
    """

    name: str
    draw: Callable[[np.random.Generator, int], Item]
    short: range
    lengths: range

    def items(self, rng: np.random.Generator, lengths: range) -> Iterator[Item]:
        """An endless stream of items whose length is uniform over the given ones."""
        while True:
            yield self.draw(rng, int(rng.integers(lengths.start, lengths.stop)))


def _letters(rng: np.random.Generator, length: int) -> str:
    return "".join(LETTERS[i] for i in rng.permutation(len(LETTERS))[:length])


def _repeated(rng: np.random.Generator, length: int) -> str:
    return "".join(REPEATED[i] for i in rng.integers(len(REPEATED), size=length))


def _sort(rng: np.random.Generator, length: int) -> Item:
    text = _repeated(rng, length)
    answer = "".join(sorted(text))
    return Item(f"sort:{text}=", answer, answer)


def _reverse(rng: np.random.Generator, length: int) -> Item:
    text = _letters(rng, length)
    return Item(f"rev:{text}=", text[::-1], text[::-1])


def _sort_reverse(rng: np.random.Generator, length: int) -> Item:
    text = _repeated(rng, length)
    rising = "".join(sorted(text))
    return Item(f"down:{text}=", f"{rising};{rising[::-1]}", rising[::-1])


def _recall(rng: np.random.Generator, length: int) -> Item:
    text = _letters(rng, length)
    place = int(rng.integers(length))
    others = text[:place] + text[place + 1 :]
    shown = [others[i] for i in rng.permutation(len(others))[: CHOICES - 1]] + [text[place]]
    choices = tuple(shown[i] for i in rng.permutation(len(shown)))
    return Item(f"get:{text}?{place}=", text[place], text[place], choices)


def _calc(rng: np.random.Generator, length: int) -> Item:
    total = int(rng.integers(10))
    prompt, steps = f"calc:{total}", []
    for _ in range(length):
        plus, number = bool(rng.integers(2)), int(rng.integers(1, 4))
        prompt += f"{'+' if plus else '-'}{number}"
        total = (total + number if plus else total - number) % 10
        steps.append(str(total))
    return Item(f"{prompt}=", f"{','.join(steps)};{total}", str(total))


SKILLS: dict[str, Skill] = {
    skill.name: skill
    for skill in (
        Skill("sort", _sort, range(3, 7), range(4, 14)),
        Skill("reverse", _reverse, range(3, 7), range(4, 12)),
        Skill("recall", _recall, range(3, 7), range(4, 13)),
        Skill("calc", _calc, range(1, 5), range(3, 11)),
        Skill("sort_reverse", _sort_reverse, range(3, 6), range(4, 11)),
    )
}


def split(skill: Skill, rng: np.random.Generator, size: int) -> tuple[list[Item], list[Item]]:
    """The search items and the test items of a task: no prompt occurs twice in the two together."""
    unique: dict[str, Item] = {}
    stream = skill.items(rng, skill.lengths)
    while len(unique) < 2 * size:
        item = next(stream)
        unique.setdefault(item.prompt, item)
    items = list(unique.values())
    return items[:size], items[size:]


def write(items: list[Item], file: Path) -> None:
    """Writes the items into the file, one JSON object a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(item.record()) + "\n" for item in items), encoding="utf-8")
