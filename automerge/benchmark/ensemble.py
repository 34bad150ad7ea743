"""Ensembles: the bags of LightGBM boosters of one target in one text model, so that one call gives their mean.

The trees of all bags follow each other, their leaf values divided by the number of bags, so that the raw score of the
whole is the mean of the bags' raw scores; the header tells how many trees every bag has::

    path.write_bytes(gzip.compress(combine(bags).encode()))
    Ensemble.load(path).mean(X)      # what the objective makes of the mean raw score
    Ensemble.load(path).spread(X)    # how far the bags are apart

Any LightGBM reads the text. Only what predictions need is in it.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import lightgbm
import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

BAGS = "bags"
"""The key of the header that tells the numbers of trees, bag by bag. LightGBM skips keys that it does not know."""

HEADER = ("version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx", "objective")
"""What of a bag's header holds for all bags."""

NEEDED = ("num_leaves", "num_cat", "split_feature", "threshold", "decision_type", "left_child", "right_child")
"""What predictions need of a tree, but for its leaf values."""

DIGITS = 8
"""Significant digits of leaf values, a part of a logit each; more only make files larger."""

FIRST_TREE = "\nTree=0\n"
LAST_TREE = "\nend of trees"


def _sigmoid(raw: Values) -> Values:
    return np.asarray(1 / (1 + np.exp(-raw)))


def _identity(raw: Values) -> Values:
    return raw


LINKS: Mapping[str, Callable[[Values], Values]] = {
    "cross_entropy": _sigmoid,
    "binary": _sigmoid,
    "poisson": np.exp,
    "gamma": np.exp,
    "tweedie": np.exp,
    "regression": _identity,
    "regression_l1": _identity,
}
"""What objectives make of raw scores, by the first word of their line."""


def combine(bags: Sequence[lightgbm.Booster], *, bias: Sequence[float] = ()) -> str:
    """One LightGBM text model whose raw score is the mean of the bags' raw scores, to DIGITS digits a leaf.

    `bias` is added to the raw scores, one number a bag: a booster that was trained with initial scores does not hold
    them. Raises ValueError without bags, for another number of biases, and for bags of different features or
    objectives or with categorical features.
    """
    if not bags or len(bias) not in (0, len(bags)):
        raise ValueError(f"expected bags, and one bias a bag or none, got {len(bags)} bags and {len(bias)} biases")
    texts = [bag.model_to_string(num_iteration=-1) for bag in bags]
    headers = [_header(text) for text in texts]
    first = {key: headers[0][key] for key in HEADER}
    if any({key: header[key] for key in HEADER} != first for header in headers) or first["num_class"] != "1":
        raise ValueError(
            "expected bags of the same features and objective with one output, got "
            + "; ".join(f"{header['objective']} of {int(header['max_feature_idx']) + 1} features" for header in headers)
        )
    _link(first["objective"])
    trees: list[str] = []
    counts = []
    for text, added in zip(texts, bias or [0.0] * len(bags), strict=True):
        own = _trees(text)
        # A constant belongs to one tree: all others follow it.
        trees += [_scaled(tree, len(trees) + k, 1 / len(bags), added if k == 0 else 0.0) for k, tree in enumerate(own)]
        counts.append(len(own))
    n_features = int(first["max_feature_idx"]) + 1
    lines = [
        "tree",
        *(f"{key}={value}" for key, value in first.items()),
        "feature_names=" + " ".join(f"Column_{k}" for k in range(n_features)),
        "feature_infos=" + " ".join(["none"] * n_features),
        f"{BAGS}=" + " ".join(map(str, counts)),
        "tree_sizes=" + " ".join(str(len(tree)) for tree in trees),
    ]
    return "\n".join([*lines, "", "".join(trees) + LAST_TREE[1:], ""])


class Ensemble:
    """The bags of one target, read from the text of `combine`, or one booster as LightGBM writes it.

    Predictions take `threads` threads.
    """

    def __init__(self, text: str, *, threads: int = 1) -> None:
        """Raises ValueError for a text that is no model, and for objectives that are not among LINKS."""
        if FIRST_TREE not in text or LAST_TREE not in text:
            raise ValueError("expected a LightGBM text model, got something without its trees; export it again")
        header = _header(text)
        self._link = _link(header["objective"])
        try:
            self._booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as fault:
            raise ValueError(f"LightGBM does not read this model: {fault}; export it again") from fault
        self._counts = [int(count) for count in header.get(BAGS, str(self._booster.num_trees())).split()]
        if sum(self._counts) != self._booster.num_trees():
            raise ValueError(
                f"expected {sum(self._counts)} trees, got {self._booster.num_trees()}; the model is damaged"
            )
        self.n_features = int(self._booster.num_feature())
        self.threads = threads

    @staticmethod
    def load(path: Path, *, threads: int = 1) -> Ensemble:
        """The ensemble of a packed text model.

        Raises FileNotFoundError if there is none, ValueError if it is damaged.
        """
        if not path.is_file():
            raise FileNotFoundError(f"no model at {path}; export or copy the benchmark again")
        try:
            return Ensemble(gzip.decompress(path.read_bytes()).decode(), threads=threads)
        except (OSError, EOFError, zlib.error, ValueError, KeyError) as fault:
            raise ValueError(f"{path} is damaged ({fault}); export or copy the benchmark again") from fault

    @property
    def n_bags(self) -> int:
        """Number of bags."""
        return len(self._counts)

    @property
    def n_trees(self) -> int:
        """Number of trees of all bags, by which the time of a prediction grows."""
        return sum(self._counts)

    def mean(self, X: Values) -> Values:
        """The predictions of the mean raw scores for features of shape (n, n_features), shape (n,)."""
        return np.asarray(self._booster.predict(X, num_threads=self.threads), dtype=np.float64)

    def spread(self, X: Values) -> Values:
        """How far the bags are apart: the standard deviation of their own predictions, shape (n,); 0 of one bag.

        It is no standard error: bags differ by the luck of their training as well as by the rows that they saw.
        """
        raw = np.empty((self.n_bags, len(X)))
        start = 0
        for own, count in zip(raw, self._counts, strict=True):
            own[:] = self._booster.predict(
                X, raw_score=True, start_iteration=start, num_iteration=count, num_threads=self.threads
            )
            start += count
        return np.asarray(self._link(raw * self.n_bags).std(axis=0))


def _header(text: str) -> dict[str, str]:
    """The lines `KEY=VALUE` before the trees."""
    lines = text[: text.index(FIRST_TREE)].splitlines()
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def _link(objective: str) -> Callable[[Values], Values]:
    name, *options = objective.split()
    if name not in LINKS or (name == "binary" and "sigmoid:1" not in options):
        raise ValueError(f"expected one of the objectives {', '.join(LINKS)}, got {objective!r}")
    return LINKS[name]


def _trees(text: str) -> list[dict[str, str]]:
    """The lines `KEY=VALUE` of every tree."""
    inner = text[text.index(FIRST_TREE) + 1 : text.index(LAST_TREE)]
    blocks = [block for block in inner.split("Tree=") if block]
    trees = [dict(line.split("=", 1) for line in block.splitlines()[1:] if line) for block in blocks]
    if any(tree["num_cat"] != "0" or tree.get("is_linear", "0") != "0" for tree in trees):
        raise ValueError("expected trees with numerical splits and constant leaves; train without categorical features")
    return trees


def _scaled(tree: Mapping[str, str], number: int, factor: float, added: float) -> str:
    """The text of a tree under this number, with leaf values (value + added) * factor."""
    leaves = [f"{(float(value) + added) * factor:.{DIGITS}g}" for value in tree["leaf_value"].split()]
    lines = [f"{key}={tree[key]}" for key in NEEDED if key in tree]
    return (
        "\n".join([f"Tree={number}", *lines, f"leaf_value={' '.join(leaves)}", "is_linear=0", "shrinkage=1"]) + "\n\n\n"
    )
