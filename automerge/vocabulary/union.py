"""The vocabulary of merged models: which row of every source's embedding holds which token.

Fine-tunes add tokens, pad their embeddings and rename special tokens, so equal rows of two sources may belong to other
tokens. Rows are therefore aligned by the tokens' strings::

    vocabulary = unite({BASE: base, "chat": chat}, {BASE: 32, "chat": 34})
    vocabulary.tokens["<|im_start|>"]         # 28: the base has 28 tokens, so a padding row of it is used
    vocabulary.rows["chat"][28]               # 33: the row of chat that holds this token

Every token of the base keeps its id; tokens that only sources have come after them. A source that lacks a token takes
the base's embedding of it, and where the base lacks it too, the mean over the sources that have it: so it is done in
`aligned_source`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge.recipe import BASE
from automerge.vocabulary.tokenization import (
    ChatTemplate,
    Token,
    Tokenization,
    differences,
    notes,
    read,
    some,
    some_tokens,
)

LACKS = -1
"""Stands in `Vocabulary.rows` where a source has no row."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that the base lacks: its id in merged models and the sources that have an embedding of it."""

    token: Token
    id: int
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A chat template taken from a source.

    `eos_token` is that source's end of text where it is not the base's; `ends` are all tokens that end what merged
    models generate, the source's and then the base's, none where they are the base's.
    """

    source: str
    text: ChatTemplate
    eos_token: str | None
    ends: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What `unite` decided.

    `tokens` gives the id of every token in merged models, whose embeddings have `n_rows` rows. `rows` gives for every
    source an int64 array of shape (n_rows,): the source's own row, LACKS where it has none. `n_own_rows` counts the
    rows that each source has, `unchanged` names those that need no new order. `summary` tells all of it to a reader,
    `warnings` what of it may spoil a search.
    """

    base: Path
    tokens: Mapping[str, int]
    n_rows: int
    new: tuple[NewToken, ...]
    rows: Mapping[str, NDArray[np.int64]]
    n_own_rows: Mapping[str, int]
    unchanged: frozenset[str]
    template: Template | None
    summary: tuple[str, ...]
    warnings: tuple[str, ...]
    trust_remote_code: bool

    @property
    def identical(self) -> bool:
        """Whether all sources share the base's tokens and number of rows, so that no row has to move."""
        return self.unchanged == self.rows.keys()

    @property
    def changes_tokenizer(self) -> bool:
        """Whether merged models need another tokenizer than the base's files."""
        return bool(self.new) or self.template is not None

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The ids that end what merged models generate where they are not the base's, else none."""
        ends = () if self.template is None else self.template.ends
        # A token without an embedding is never generated.
        return tuple(row for token in ends if (row := self.tokens.get(token, self.n_rows)) < self.n_rows)

    def tokenizer(self) -> Any:
        """The `transformers` tokenizer of merged models.

        Raises RuntimeError if the base's folder no longer gives what was planned.
        """
        own = Tokenization(self.base, model=self.base, trust_remote_code=self.trust_remote_code)
        own.extend([new.token for new in self.new])
        if self.template is not None:
            text = self.template.text
            own.tokenizer.chat_template = text if isinstance(text, str) else dict(text)
            if self.template.eos_token is not None:
                own.tokenizer.eos_token = self.template.eos_token
        mend = "put the files back that were there when the sources were aligned, or align them anew"
        self._check(own.tokenizer.get_vocab(), f"of {self.base}", mend)
        return own.tokenizer

    def save_tokenizer(self, folder: Path) -> None:
        """Writes the tokenizer of merged models into a folder that holds no other tokenizer's files.

        Added tokens keep their flags; ids, flags, chat template and end of text are compared after loading them again
        with plain `AutoTokenizer`. Raises RuntimeError where they are not as planned.
        """
        made = self.tokenizer()
        made.save_pretrained(folder)
        loaded = Tokenization(folder, model=self.base, trust_remote_code=self.trust_remote_code)
        mend = "save into a folder without other tokenizer files"
        self._check(loaded.ids, f"loaded again from {folder}", mend)
        lost = [repr(new.token) for new in self.new if loaded.added.get(new.token.content) != new.token]
        lost += [key for key in ("chat_template", "eos_token") if getattr(loaded, key) != getattr(made, key)]
        if lost:
            raise RuntimeError(f"the tokenizer loaded again from {folder} has other {some(lost)}; {mend}")

    def _check(self, ids: Mapping[str, int], whose: str, mend: str) -> None:
        wrong = sorted({*ids.items()} ^ {*self.tokens.items()})
        if wrong:
            raise RuntimeError(
                f"the tokenizer {whose} differs from the planned vocabulary in {len(wrong)} entries, such as "
                f"{wrong[:4]}; {mend}"
            )


def unite(
    folders: Mapping[str, Path],
    n_rows: Mapping[str, int],
    *,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
) -> Vocabulary:
    """The vocabulary of models merged from these folders, one of them BASE, in which tokenizers are looked for.

    `n_rows` gives the rows of each one's embedding, as `aligned_source.embedding_rows` counts them. A folder without
    tokenizer, such as an adapter's, has the base's vocabulary. `chat_template` names the source whose chat template
    and end of text merged models take. Raises ValueError listing every reason of every source why rows cannot be
    aligned by token.
    """
    found, faults = _read(folders, n_rows, trust_remote_code=trust_remote_code)
    if BASE in found:
        for name, own in found.items():
            unlike = differences(found[BASE], own)
            faults += [f"source {name!r}: {fault}" for fault in unlike]
            if unlike and own.ids == found[BASE].ids:
                faults.append(
                    f"source {name!r}: its tokens have the base's ids all the same; if it was trained with the base's "
                    f"tokenizer, move the tokenizer files out of {own.folder}, and the base's is used"
                )
    template = None
    if chat_template is not None:
        template, fault = _template(chat_template, found)
        faults += fault
    _refuse(faults)
    base = found[BASE]
    # A token beyond the matrix has no embedding: its model cannot read it.
    own_rows = {
        name: {token: row for token, row in found.get(name, base).ids.items() if row < n_rows[name]} for name in folders
    }
    new = _new_tokens(base, found, own_rows)
    tokens = {**base.ids, **{one.token.content: one.id for one in new}}
    _refuse(_clashes(base, new, template, tokens))
    size = max([n_rows[BASE]] + [1 + tokens[token] for owned in own_rows.values() for token in owned])
    rows = {
        name: _rows(name, owned, tokens, new, size=size, n_base_rows=n_rows[BASE]) for name, owned in own_rows.items()
    }
    _refuse(_orphans(rows, tokens))
    within = {token: row for token, row in tokens.items() if row < size}
    unchanged = frozenset(name for name, owned in own_rows.items() if n_rows[name] == size and owned == within)
    return Vocabulary(
        base=folders[BASE],
        tokens=tokens,
        n_rows=size,
        new=new,
        rows=rows,
        n_own_rows=dict(n_rows),
        unchanged=unchanged,
        template=template,
        summary=(*_changes(own_rows, tokens, new, n_rows, size=size), *_notes(found, n_rows, template)),
        warnings=tuple(_end_warnings(found, template)),
        trust_remote_code=trust_remote_code,
    )


def _read(
    folders: Mapping[str, Path], n_rows: Mapping[str, int], *, trust_remote_code: bool
) -> tuple[dict[str, Tokenization], list[str]]:
    """The tokenizers of the folders that have one, and the faults met."""
    if BASE not in folders or folders.keys() != n_rows.keys():
        raise ValueError(f"expected folders and rows of {BASE!r} and sources, got {[*folders]} and {[*n_rows]}")
    found, faults = {}, []
    for name, folder in folders.items():
        try:
            own = read(folder, model=folders[BASE], trust_remote_code=trust_remote_code)
        except ValueError as fault:
            faults.append(f"source {name!r}: {fault}")
            continue
        if own is not None:
            found[name] = own
        elif name == BASE:
            faults.append(f"the base {folder} has no tokenizer; put its tokenizer.json and tokenizer_config.json there")
        elif n_rows[name] != n_rows[BASE]:
            faults.append(
                f"source {name!r}: it has {n_rows[name]} embedding rows, the base {n_rows[BASE]}, and no tokenizer "
                f"that says which tokens they are; put its tokenizer into {folder}"
            )
    return found, faults


def _template(source: str, found: Mapping[str, Tokenization]) -> tuple[Template | None, list[str]]:
    own = found.get(source)
    if own is None or own.chat_template is None:
        able = sorted(name for name, other in found.items() if other.chat_template is not None)
        return None, [f"chat_template: {source!r} has no chat template; those with one: {', '.join(able) or 'none'}"]
    base = found.get(BASE)
    if base is None or source == BASE:
        return None, []
    differs = own.eos_token is not None and own.eos_token != base.eos_token
    ends = tuple(dict.fromkeys([*own.ends, *base.ends])) if set(own.ends) - set(base.ends) else ()
    return Template(source, own.chat_template, own.eos_token if differs else None, ends), []


def _new_tokens(
    base: Tokenization, found: Mapping[str, Tokenization], own_rows: Mapping[str, Mapping[str, int]]
) -> tuple[NewToken, ...]:
    """The tokens that only sources have, by order of the sources and then of their ids."""
    new: dict[str, Token] = {}
    for name, own in found.items():
        for token in sorted(own_rows[name].keys() - base.ids.keys(), key=own_rows[name].__getitem__):
            new.setdefault(token, own.added[token])
    ids = base.extend([*new.values()]) if new else []
    return tuple(
        NewToken(token, number, tuple(name for name, owned in own_rows.items() if token.content in owned))
        for token, number in zip(new.values(), ids, strict=True)
    )


def _clashes(
    base: Tokenization, new: Sequence[NewToken], template: Template | None, tokens: Mapping[str, int]
) -> list[str]:
    """Faults of ids that the base's tokenizer gives to new tokens, and of an end of text that has none."""
    faults = []
    taken = set(base.ids.values())
    clashing = [one.token.content for one in new if one.id in taken]
    if clashing:
        faults.append(
            f"the base's tokenizer numbers its {len(base.ids)} tokens with gaps up to {max(taken)}, so it gives new "
            f"tokens numbers that are taken: {some_tokens(clashing)}; number its vocabulary without gaps"
        )
    if template is not None and template.eos_token is not None and template.eos_token not in tokens:
        faults.append(
            f"chat_template: {template.source!r} ends texts with {template.eos_token!r}, for which it has no "
            "embedding; resize its embeddings, or choose another source's template"
        )
    return faults


def _rows(
    name: str,
    owned: Mapping[str, int],
    tokens: Mapping[str, int],
    new: Sequence[NewToken],
    *,
    size: int,
    n_base_rows: int,
) -> NDArray[np.int64]:
    """For every row of the vocabulary the source's own row that holds its token, or LACKS."""
    rows = np.full(size, LACKS, dtype=np.int64)
    if name == BASE:
        rows[:n_base_rows] = np.arange(n_base_rows)
        rows[[one.id for one in new]] = LACKS
    else:
        rows[[tokens[token] for token in owned]] = list(owned.values())
    rows.flags.writeable = False
    return rows


def _orphans(rows: Mapping[str, NDArray[np.int64]], tokens: Mapping[str, int]) -> list[str]:
    """Faults of rows between others for which neither the base nor any source has an embedding."""
    empty = set(np.flatnonzero(np.all([own == LACKS for own in rows.values()], axis=0)).tolist())
    names = sorted(token for token, row in tokens.items() if row in empty)
    if not empty:
        return []
    return [
        f"the base's tokenizer has tokens without an embedding ({some_tokens(names)}), and new tokens come after "
        "them; resize the base's embeddings to its tokenizer"
    ]


def _changes(
    own_rows: Mapping[str, Mapping[str, int]],
    tokens: Mapping[str, int],
    new: Sequence[NewToken],
    n_rows: Mapping[str, int],
    *,
    size: int,
) -> list[str]:
    """What happens to rows and tokens, as sentences."""
    told = [f"merged models have {len(tokens)} tokens in {size} embedding rows"]
    if size > n_rows[BASE]:
        told[0] += f", the base has {n_rows[BASE]} rows"
    for name, owned in own_rows.items():
        brought = [f"{one.token.content!r} (id {one.id})" for one in new if name in one.sources]
        moved = [f"{token!r} {row} -> {tokens[token]}" for token, row in owned.items() if tokens[token] != row]
        lacked = [token for token, row in tokens.items() if row < size and token not in owned]
        means = [token for token in lacked if token not in own_rows[BASE]]
        if brought:
            told.append(f"{name} brings {len(brought)} tokens: {', '.join(brought)}")
        if moved:
            told.append(f"{name} has {len(moved)} tokens in other rows: {some(moved)}")
        if len(lacked) > len(means):
            others = [token for token in lacked if token in own_rows[BASE]]
            told.append(f"{name} lacks {len(others)} tokens and takes the base's embeddings: {some_tokens(others)}")
        if means:
            told.append(f"{name} lacks {len(means)} tokens and takes the sources' mean: {some_tokens(means)}")
    return told


def _notes(found: Mapping[str, Tokenization], n_rows: Mapping[str, int], template: Template | None) -> list[str]:
    """What differs without moving a row, and whose chat template holds, as sentences."""
    base = found[BASE]
    told = []
    for name, own in found.items():
        unread = [token for token, row in own.ids.items() if row >= n_rows[name]]
        if unread:
            told.append(f"{name} has no embedding for {len(unread)} tokens of its tokenizer: {some_tokens(unread)}")
        told += [f"{name} {note}; the base's way is kept" for note in notes(base, own)]
        if template is not None and template.source == name:
            continue
        if own.ends != base.ends:
            told.append(f"{name} ends texts with {_named(own.ends)}, the base with {_named(base.ends)}")
        if own.chat_template is not None and own.chat_template != base.chat_template:
            told.append(f"{name} has a chat template of its own")
    if template is not None:
        end = f", and end texts with {_named(template.ends)}" if template.ends else ""
        told.append(f"merged models have the chat template of {template.source}{end}")
    return told


def _end_warnings(found: Mapping[str, Tokenization], template: Template | None) -> list[str]:
    """A message for every source beside the base that ends texts with a token which does not end merged models'."""
    ends = template.ends if template is not None and template.ends else found[BASE].ends
    told = []
    for name, own in found.items():
        if name != BASE and (others := [token for token in own.ends if token not in ends]):
            take = f"write source.chat_template={name} to end texts as it does, or " if own.chat_template else ""
            told.append(
                f"source {name!r} ends texts with {_named(others)}, merged models with {_named(ends)}, so what they "
                f"generate may run on to max_new_tokens; {take}end the answers of tasks by a `stop` in plain text"
            )
    return told


def _named(ends: Sequence[str]) -> str:
    return " and ".join(map(repr, ends)) or "no token"


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise ValueError(f"the vocabularies cannot be aligned:\n{listed}")
