"""Whether what tasks have a model read fits its context, counted before anything is evaluated.

A model reads every token but the last one of a text, which is only predicted::

    context_length(config, tokenizer)             # 128
    long_items({"sums": task}, tokenizer, 128)    # ["task 'sums': 3 of 500 items need more than ..."]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from automerge.protocols import Request, Task
from automerge.records import Split

NO_LIMIT = 10**9
"""Tokenizers that know no limit tell an astronomical one."""

SPECIAL = 16
"""Tokens that a tokenizer may add to a text, generously."""


class Need(NamedTuple):
    """Positions that an item of a split takes: its row number, and how many."""

    split: Split
    item: int
    n_positions: int


def context_length(config: Any, tokenizer: Any) -> int | None:
    """The most positions that a model can read by its configuration and its tokenizer, None if neither limits them."""
    text = config.get_text_config()
    limits = [getattr(text, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None)]
    return min((int(limit) for limit in limits if limit is not None and 0 < limit < NO_LIMIT), default=None)


def context_faults(tasks: Mapping[str, Task], folder: Path, tokenizer: Any, *, trust_remote_code: bool) -> list[str]:
    """A message for every task with items that do not fit the context of the model in the folder.

    Raises OSError or ValueError, as transformers does, for a folder without a configuration.
    """
    from transformers import AutoConfig  # noqa: PLC0415 (slow to import)

    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    context = context_length(config, tokenizer)
    return [] if context is None else long_items(tasks, tokenizer, context)


def long_items(tasks: Mapping[str, Task], tokenizer: Any, context: int) -> list[str]:
    """A message for every task with items that need more positions than the context has, with the longest of them."""
    found = []
    for name, task in tasks.items():
        long = [need for split in get_args(Split) for need in too_long(task.requests(split), split, tokenizer, context)]
        if long:
            longest = max(long, key=lambda need: need.n_positions)
            total = sum(task.size(split) for split in get_args(Split))
            found.append(
                f"task {name!r}: {len(long)} of {total} items need more than the context of {context} tokens, up to "
                f"{longest.n_positions} ({longest.split} item {longest.item}); shorten prompts or max_new_tokens, "
                "leave these items out, or, if the base can read more, raise max_position_embeddings in its "
                "config.json and model_max_length in its tokenizer_config.json"
            )
    return found


def too_long(requests: Sequence[Request], split: Split, tokenizer: Any, context: int) -> list[Need]:
    """The items that need more positions than the context has.

    Texts are tokenized only if they could be too long: a token is at least a byte.
    """
    texts: list[str] = []
    owners: list[tuple[int, int]] = []
    for item, request in enumerate(requests):
        for continuation in request.continuations or ("",):
            text = request.prompt + continuation
            if len(text.encode()) + SPECIAL + request.n_new_tokens > context:
                texts.append(text)
                owners.append((item, request.n_new_tokens))
    longest: dict[int, int] = {}
    # Without `verbose` tokenizers warn of long texts, which is what is looked for.
    for (item, n_new), ids in zip(owners, tokenizer(texts, verbose=False)["input_ids"] if texts else [], strict=True):
        longest[item] = max(longest.get(item, 0), len(ids) + n_new - 1)
    return [Need(split, item, length) for item, length in longest.items() if length > context]
