"""With one objective: the recommended model beside every source and the best uniform merge, on the same test items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from automerge.history import History
from automerge.report.comparison import Difference, difference
from automerge.report.points import Point, Value
from automerge.report.volumes import item_scores


class Beside(NamedTuple):
    """A model that the recommended one is measured by, its test score, and how much more the recommended one has."""

    point: Point
    value: Value
    difference: Difference

    @property
    def is_clear(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        return self.difference.low > 0 or self.difference.high < 0


class Headline(NamedTuple):
    """The recommended model with its test score, beside the base and all sources, then the best uniform merge."""

    best: Point
    value: Value
    rows: tuple[Beside, ...]

    @property
    def source(self) -> Beside | None:
        """The source that is best on test items."""
        return _best([row for row in self.rows if row.point.kind == "source"])

    @property
    def uniform(self) -> Beside | None:
        """The uniform merge that is best on test items."""
        return _best([row for row in self.rows if row.point.kind == "uniform"])

    @property
    def title(self) -> str:
        """What the best uniform merge is called: another one if the recommended model is a uniform merge itself."""
        return f"best {'other ' * (self.best.kind == 'uniform')}uniform merge"

    @property
    def sentence(self) -> str:
        """What was found, in one sentence."""
        source = f"best {'other ' * (self.best.kind == 'source')}source"
        rivals = [(title, row) for title, row in ((source, self.source), (self.title, self.uniform)) if row]
        if self.best.kind in ("source", "uniform") and all(row.value.mean <= self.value.mean for _, row in rivals):
            return (
                f"On test items no recommended model beats the best source or uniform merge, {self.best.name}, which "
                f"reaches {_score(self.value)} and is recommended itself."
            )
        parts = [f"{_more(row)} than the {title}, {row.point.name}" for title, row in rivals]
        rest = f", {' and '.join(parts)}" if parts else ""
        return f"On test items the recommended model ({self.best.name}) reaches {_score(self.value)}{rest}."


def headline(history: History, recommended: Sequence[Point], references: Sequence[Point]) -> Headline | None:
    """The headline of a run with one objective; None if there are several, or no recommended model was tested.

    The best uniform merge is that with the highest test score, which is generous to it: the recommended model was
    chosen on search items.
    """
    if len(history.objectives) != 1:
        return None
    scores = item_scores(history)
    best = next(((point, value) for point in recommended if (value := point.test[0]) is not None), None)
    if best is None:
        return None
    rows = [
        Beside(point, value, difference(history.objectives[0], scores, point, best[0]))
        for point in references
        if (value := point.test[0]) is not None and point.trial.id != best[0].trial.id
    ]
    uniform = _best([row for row in rows if row.point.kind == "uniform"])
    sources = [row for row in rows if row.point.kind == "source"]
    return Headline(*best, (*sources, *([uniform] if uniform else [])))


def _best(rows: Sequence[Beside]) -> Beside | None:
    return max(rows, key=lambda row: row.value.mean, default=None)


def _score(value: Value) -> str:
    return f"{100 * value.mean:.1f} % ({100 * value.low:.1f}-{100 * value.high:.1f})"


def _more(row: Beside) -> str:
    """`3.2 points more (+1.1 to +5.4)`, with a warning if it could be chance."""
    gain = row.difference
    verb = "more" if gain.value >= 0 else "less"
    doubt = "" if row.is_clear else ", which could be chance"
    return f"{100 * abs(gain.value):.1f} points {verb} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f}{doubt})"
