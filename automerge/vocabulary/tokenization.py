"""Tokenizers of model folders: read, compared by how they split a text, and written with added tokens.

Two tokenizers split alike if their normalizers, pre-tokenizers and models (merges, pieces, words) agree; the ids and
the added tokens are free. What stands around a text (post-processor) and how ids become text again (decoder) change no
embedding, so differences there are told, not refused; truncation and padding are set anew at every call.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

FILES = ("tokenizer.json", "tokenizer_config.json", "tekken.json", "*.model", "*.tiktoken", "vocab.*", "merges.txt")
"""A folder with none of these has no tokenizer."""

CONFIG = "config.json"

GENERATION = "generation_config.json"

ChatTemplate = str | Mapping[str, str]
"""A Jinja template, or several by name."""


@dataclass(frozen=True, slots=True)
class Token:
    """An added token: its string, and the flags by which it is found in a text."""

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False


class Tokenization:
    """The tokenizer of one folder as `transformers` loads it. Holds that tokenizer.

    `model` is the folder of the model that it belongs to. Raises ValueError if it does not load.
    """

    def __init__(self, folder: Path, *, model: Path, trust_remote_code: bool = False) -> None:
        from transformers import AutoConfig, AutoTokenizer  # noqa: PLC0415 (slow to import)

        self.folder = folder
        options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
        try:
            # The class of a tokenizer, which may set its own pre-tokenizer, hangs on the kind of model beside it; a
            # folder with no model, such as an adapter's, must not load by another class than the base.
            if not (folder / CONFIG).is_file() and (model / CONFIG).is_file():
                options["config"] = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, **options)
        except Exception as fault:  # a broken tokenizer.json raises whatever its parser meets, even a bare Exception
            raise ValueError(
                f"the tokenizer of {folder} does not load ({type(fault).__name__}: {fault}); "
                "save it anew with the transformers that is installed here"
            ) from fault
        # `get_vocab` gives another order in every process.
        self.ids: Mapping[str, int] = dict(sorted(self.tokenizer.get_vocab().items(), key=lambda entry: entry[::-1]))
        self.backend_text: str | None = (
            self.tokenizer.backend_tokenizer.to_str() if getattr(self.tokenizer, "is_fast", False) else None
        )

    @cached_property
    def backend(self) -> dict[str, Any]:
        """The fast tokenizer's own description of itself, empty for a slow one."""
        described: dict[str, Any] = json.loads(self.backend_text or "{}")
        return described

    @cached_property
    def added(self) -> Mapping[str, Token]:
        """The added tokens by their strings."""
        tokens = [{key: value for key, value in token.items() if key != "id"} for token in self._added_tokens()]
        return {token["content"]: Token(**token) for token in tokens}

    @cached_property
    def core(self) -> frozenset[str]:
        """The tokens that the model itself makes of a text, without the added ones; empty for a slow tokenizer."""
        return frozenset(self.pieces.keys() - self.added.keys())

    @cached_property
    def pieces(self) -> Mapping[str, float]:
        """The model's vocabulary: by token its score if it has one, else 0."""
        vocabulary = self.backend.get("model", {}).get("vocab", {})
        if isinstance(vocabulary, dict):
            return dict.fromkeys(vocabulary, 0.0)
        return {piece: float(score) for piece, score in vocabulary}

    @property
    def eos_token(self) -> str | None:
        """The token that ends a text."""
        token: str | None = self.tokenizer.special_tokens_map.get("eos_token")
        return None if token is None else str(token)

    @cached_property
    def ends(self) -> tuple[str, ...]:
        """The tokens that end what this folder's model generates: the tokenizer's, then those of the configurations.

        Chat models often name the end of a turn in `generation_config.json` alone.
        """
        tokens = {row: token for token, row in self.ids.items()}
        named = [] if self.eos_token is None else [self.eos_token]
        for file in (GENERATION, CONFIG):
            told = _eos_token_ids(self.folder / file)
            if told:
                named += [tokens[row] for row in told if row in tokens]
                break
        return tuple(dict.fromkeys(named))

    @property
    def chat_template(self) -> ChatTemplate | None:
        """The chat template, wherever it is stored."""
        template: ChatTemplate | None = self.tokenizer.chat_template
        return template

    def extend(self, tokens: Sequence[Token]) -> list[int]:
        """Adds the tokens to the tokenizer held here and returns the ids that it gives them."""
        from tokenizers import AddedToken  # noqa: PLC0415 (slow to import)

        self.tokenizer.add_tokens([AddedToken(**asdict(token)) for token in tokens])
        return [int(self.tokenizer.convert_tokens_to_ids(token.content)) for token in tokens]

    def _added_tokens(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.backend.get("added_tokens", [])
        return listed


def read(folder: Path, *, model: Path, trust_remote_code: bool = False) -> Tokenization | None:
    """The tokenizer of a folder, None if it has none. Raises ValueError if it does not load."""
    if not any(True for pattern in FILES for _ in folder.glob(pattern)):
        return None
    return Tokenization(folder, model=model, trust_remote_code=trust_remote_code)


def differences(base: Tokenization, other: Tokenization) -> list[str]:
    """Every way in which the other tokenizer may split a text otherwise than the base's, each as one sentence."""
    if base.backend_text is None or other.backend_text is None:
        return _slow_differences(base, other)
    if base.backend_text == other.backend_text:
        return []
    found = []
    for part in ("normalizer", "pre_tokenizer"):
        unequal = list(_unequal(_plain(base.backend[part]), _plain(other.backend[part])))
        if unequal:
            found.append(f"its {part.replace('_', '-')} is another: {some(unequal)}")
    kinds = base.backend["model"]["type"], other.backend["model"]["type"]
    if kinds[0] != kinds[1]:
        return [*found, f"its model is {kinds[1]} instead of {kinds[0]}"]
    unequal = list(_unequal(_settings(base), _settings(other)))
    if unequal:
        found.append(f"its {kinds[0]} model has other settings: {some(unequal)}")
    gained = sorted(other.core - base.ids.keys())
    lost = sorted(base.core - other.ids.keys())
    if gained:
        found.append(f"it has {len(gained)} tokens in its core vocabulary that the base lacks: {some_tokens(gained)}")
    if lost:
        found.append(f"it lacks {len(lost)} tokens of the base's core vocabulary: {some_tokens(lost)}")
    return found + _merge_differences(base, other) + _score_differences(base, other)


def notes(base: Tokenization, other: Tokenization) -> list[str]:
    """What differs without changing how a text is split into known tokens; the base's holds in a merged model."""
    if base.backend_text == other.backend_text:
        return []
    found = []
    around = [_around(one.backend["post_processor"]) for one in (base, other)]
    if around[0] != around[1]:
        found.append(f"puts {some(around[1]) or 'nothing'} around a text, the base {some(around[0]) or 'nothing'}")
    unequal = list(_unequal(_decoder(base), _decoder(other)))
    if unequal:
        found.append(f"turns tokens into text by another decoder: {some(unequal)}")
    flags = sorted(token for token in base.added.keys() & other.added.keys() if base.added[token] != other.added[token])
    if flags:
        found.append(f"finds {len(flags)} added tokens by other flags than the base: {some_tokens(flags)}")
    core = sorted(base.core & other.added.keys())
    if core:
        found.append(f"never splits {len(core)} tokens that the base only makes by its model: {some_tokens(core)}")
    return found


def some(things: Sequence[str], limit: int = 8) -> str:
    """The first of the things, and how many more there are."""
    rest = f" and {len(things) - limit} more" if len(things) > limit else ""
    return ", ".join(things[:limit]) + rest


def some_tokens(tokens: Iterable[str], limit: int = 8) -> str:
    """The same of tokens, quoted."""
    return some([repr(token) for token in tokens], limit)


def _eos_token_ids(file: Path) -> list[int]:
    if not file.is_file():
        return []
    told = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
    return [] if told is None else told if isinstance(told, list) else [told]


def _slow_differences(base: Tokenization, other: Tokenization) -> list[str]:
    """Slow tokenizers are code, which cannot be compared; equal maps of a fine-tune and its base are trusted."""
    unequal = sorted({*base.ids.items()} ^ {*other.ids.items()})
    if not unequal:
        return []
    slow = " and ".join(whose for whose, one in (("the base's", base), ("its", other)) if one.backend_text is None)
    entries = some([f"{token!r} {row}" for token, row in unequal])
    return [
        f"its vocabulary differs from the base's in {len(unequal)} entries, such as {entries}, and {slow} tokenizer is "
        "a slow one, of which automerge cannot see how it splits a text; save it as a fast one (tokenizer.json)"
    ]


def _settings(one: Tokenization) -> dict[str, Any]:
    """The model's options that matter, with the several ways to say none made one."""
    model = one.backend["model"]
    options = {key: value or None for key, value in model.items() if key not in ("type", "vocab", "merges", "unk_id")}
    if model["type"] == "Unigram" and model["unk_id"] is not None:
        options["unk_token"] = model["vocab"][model["unk_id"]][0]
    if options.get("unk_token") is None:
        options.pop("fuse_unk", None)
    return options


def _merge_differences(base: Tokenization, other: Tokenization) -> list[str]:
    expected, got = _merges(base), _merges(other)
    if expected == got:
        return []
    more, fewer = sorted({*got} - {*expected}), sorted({*expected} - {*got})
    found = []
    if more:
        found.append(f"it has {len(more)} merges that the base lacks: {some_tokens(more)}")
    if fewer:
        found.append(f"it lacks {len(fewer)} merges of the base: {some_tokens(fewer)}")
    return found or ["it has the base's merges in another order"]


def _merges(one: Tokenization) -> list[str]:
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in one.backend["model"].get("merges", [])]


def _score_differences(base: Tokenization, other: Tokenization) -> list[str]:
    rescored = sorted(token for token in base.core & other.core if base.pieces[token] != other.pieces[token])
    return [f"it gives {len(rescored)} pieces other scores: {some_tokens(rescored)}"] if rescored else []


def _plain(part: Any) -> Any:
    """A normalizer, pre-tokenizer or decoder without what changes no token: offsets, sequences of one or none."""
    if isinstance(part, list):
        return [_plain(member) for member in part]
    if not isinstance(part, dict):
        return part
    if part.get("type") == "Sequence":
        members = next(value for value in part.values() if isinstance(value, list))
        steps = [step for step in map(_plain, members) if step is not None]
        return {"type": "Sequence", "steps": steps} if len(steps) > 1 else next(iter(steps), None)
    return {key: _plain(value) for key, value in part.items() if key != "trim_offsets"}


def _decoder(one: Tokenization) -> Any:
    """The decoder without options that it has for its name's sake: those of a byte-level one belong to splitting."""
    decoder = _plain(one.backend["decoder"])
    return {"type": "ByteLevel"} if decoder is not None and decoder["type"] == "ByteLevel" else decoder


def _around(part: Any) -> list[str]:
    """What a post-processor puts around a single text, as strings; empty if nothing."""
    if part is None or part["type"] == "ByteLevel":
        return []
    if part["type"] == "Sequence":
        return [put for member in part["processors"] for put in _around(member)]
    if part["type"] == "TemplateProcessing":
        shown = [item["SpecialToken"]["id"] if "SpecialToken" in item else "TEXT" for item in part["single"]]
        return [] if shown == ["TEXT"] else [" ".join(shown)]
    return [json.dumps(part, ensure_ascii=False)]


def _unequal(expected: Any, got: Any, where: str = "") -> Iterator[str]:
    """Yields the places in which two values of JSON differ."""
    if isinstance(expected, dict) and isinstance(got, dict) and expected.get("type") == got.get("type"):
        for key in sorted({*expected, *got}):
            yield from _unequal(expected.get(key), got.get(key), f"{where}.{key}" if where else key)
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for index, (one, other) in enumerate(zip(expected, got, strict=True)):
            yield from _unequal(one, other, f"{where}[{index}]")
    elif expected != got:
        yield f"{where + ' ' if where else ''}{_short(got)} instead of {_short(expected)}"


def _short(value: Any, limit: int = 200) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[:limit]}..."
