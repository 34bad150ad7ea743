"""Sources with their embeddings in the order of a common vocabulary.

The rows of the tensors that hold one row per token (embedding, head, the head's bias) are put where the vocabulary has
their tokens; a row that a source lacks is the base's, or else the mean over the sources that have it::

    n_rows = {source.name: embedding_rows(source.shapes) for source in sources}
    vocabulary = unite({source.name: source.folder for source in sources}, n_rows)
    sources = aligned(sources, vocabulary)    # those that need no other order are the same objects
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from automerge.alignment import place
from automerge.protocols import LowRank, Source
from automerge.recipe import BASE
from automerge.vocabulary.union import LACKS, Vocabulary

EMBEDDING = re.compile(
    r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|token_embedding|embeddings?)\.weight$"
)
NO_TOKENS = re.compile(r"(^|[._])(wpe|pos|positions?|positional|token_type|project_in|project_out)([._]|$)")


def embedding_rows(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The number of rows of a model's embedding, from the shapes of its tensors.

    Raises ValueError if no tensor, or several of different sizes, may be the embedding.
    """
    matrices = _outer_matrices(shapes)
    named = {name: size for name, size in matrices.items() if EMBEDDING.search(name)}
    sizes = set((named or matrices).values())
    if len(sizes) != 1:
        raise ValueError(
            f"expected one embedding such as model.embed_tokens.weight outside the layers, got {named or matrices}; "
            "automerge does not know this architecture's names"
        )
    return sizes.pop()


def vocabulary_tensors(shapes: Mapping[str, tuple[int, ...]]) -> frozenset[str]:
    """Names of the tensors with one row per token: the embedding, the head if it is stored, and the head's bias.

    Raises ValueError if a matrix outside the layers has another number of rows, since its rows may be tokens too.
    """
    n_rows = embedding_rows(shapes)
    matrices = _outer_matrices(shapes)
    odd = {name: size for name, size in matrices.items() if size != n_rows}
    if odd:
        raise ValueError(
            f"the embedding has {n_rows} rows, but these matrices outside the layers have others: {odd}; automerge "
            "cannot tell whether their rows are tokens, so use sources with the base's vocabulary"
        )
    biases = {f"{name.removesuffix('.weight')}.bias" for name in matrices}
    return frozenset(matrices) | {name for name in biases if shapes.get(name) == (n_rows,)}


def aligned(sources: Sequence[Source], vocabulary: Vocabulary) -> list[Source]:
    """The sources, one of them the base, with the rows of the vocabulary: those that are unchanged as they are.

    Raises ValueError for sources with other embeddings than the vocabulary was made for.
    """
    for source in sources:
        got, expected = embedding_rows(source.shapes), vocabulary.n_own_rows.get(source.name)
        if got != expected:
            raise ValueError(
                f"source {source.name!r} has {got} embedding rows, the vocabulary was made for {expected}; "
                "unite the vocabularies of these sources anew"
            )
    filling = _Filling(sources, vocabulary)
    return [
        source if source.name in vocabulary.unchanged else AlignedSource(source, vocabulary, filling)
        for source in sources
    ]


class AlignedSource:
    """A source whose vocabulary tensors come with the rows of a common vocabulary; all else is the source's own.

    Made by `aligned`; `unaligned` is the source with its own rows.
    """

    def __init__(self, source: Source, vocabulary: Vocabulary, filling: _Filling) -> None:
        self.name = source.name
        self.unaligned = source
        self._filling = filling
        self._n_rows = vocabulary.n_rows
        self._rows = torch.from_numpy(vocabulary.rows[source.name].copy())
        self._moved = vocabulary_tensors(source.shapes)

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor by name, those of the vocabulary with its number of rows."""
        shapes = self.unaligned.shapes
        return {**shapes, **{name: (self._n_rows, *shapes[name][1:]) for name in self._moved}}

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """What `tensor` returns for every name."""
        return self.unaligned.dtypes

    def tensor(self, name: str) -> Tensor:
        """The tensor of that name; rows that the source lacks are rounded to its dtype."""
        own = self.unaligned.tensor(name)
        if name not in self._moved:
            return own
        merged = own.new_empty(self.shapes[name])
        has = self._rows != LACKS
        merged[has] = own[self._rows[has]]
        if not bool(has.all()):
            merged[~has] = self._filling.rows(name, ~has).to(own.dtype)
        return merged

    @property
    def moved(self) -> Sequence[str]:
        """Names of the tensors whose rows are not those of the source itself."""
        return [name for name in sorted(self._moved) if not self._is_alike(name)]

    def _is_alike(self, name: str) -> bool:
        own = self.unaligned.tensor(name)
        return own.shape == self.shapes[name] and torch.equal(own, self.tensor(name))

    def low_rank(self, name: str) -> LowRank | None:
        """The source's own factors, None for a tensor of the vocabulary."""
        return None if name in self._moved else self.unaligned.low_rank(name)

    def __getattr__(self, name: str) -> Any:
        # Whatever else a kind of source offers, such as its folder, is not hidden.
        if name == "unaligned":
            raise AttributeError(name)
        return getattr(self.unaligned, name)


class _Filling:
    """The rows that some source lacks. Holds those few of every tensor that was asked for, in float32."""

    def __init__(self, sources: Sequence[Source], vocabulary: Vocabulary) -> None:
        self._sources = sources
        self._own = {name: torch.from_numpy(rows.copy()) for name, rows in vocabulary.rows.items()}
        self._lacked = torch.zeros(vocabulary.n_rows, dtype=torch.bool)
        for name, rows in self._own.items():
            if name not in vocabulary.unchanged:
                self._lacked |= rows == LACKS
        self._known: dict[str, Tensor] = {}

    def rows(self, name: str, wanted: Tensor) -> Tensor:
        """The rows of a vocabulary tensor where the mask `wanted` of shape (n_rows,) says so, in float32."""
        if name not in self._known:
            self._known[name] = self._compute(name)
        return self._known[name][wanted[self._lacked]]

    def _compute(self, name: str) -> Tensor:
        base = next(source for source in self._sources if source.name == BASE)
        own = self._own[BASE][self._lacked]
        stored = _stored(base, name)
        filled = torch.zeros((len(own), *stored.shape[1:]))
        missing = own == LACKS
        filled[~missing] = stored[own[~missing]].float()
        del stored  # one embedding in memory at a time
        count = torch.zeros(len(own), *[1] * (filled.ndim - 1))
        for source in self._sources:
            own = self._own[source.name][self._lacked]
            giving = missing & (own != LACKS)
            if bool(giving.any()):
                filled[giving] += _stored(source, name)[own[giving]].float()
                count[giving] += 1
        filled[missing] /= count[missing]
        return filled


def _stored(source: Source, name: str) -> Tensor:
    """The tensor, or the embedding where a source stores no head of its own because both are one."""
    if name in source.shapes:
        return source.tensor(name)
    embedding = next(name for name in sorted(vocabulary_tensors(source.shapes)) if EMBEDDING.search(name))
    return source.tensor(embedding)


def _outer_matrices(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """By name the rows of all matrices outside the layers that are no tables of positions and the like."""
    return {
        name: shape[0]
        for name, shape in shapes.items()
        if len(shape) == 2 and place(name).layer is None and not NO_TOKENS.search(name)
    }
