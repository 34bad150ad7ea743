"""Batched likelihoods and greedy generation of any causal `transformers` model.

Rows are sorted by length and padded on the left, so that the last positions of all rows are what is asked for and
only their logits are computed. Batches without padding need no mask and take the fast causal kernel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from automerge.protocols import Likelihood

MAX_LOGITS = 2**27
"""Bound on the number of logits that one batch holds at once."""


class InvalidModelError(ValueError):
    """The model's outputs are broken (NaN, collapsed): its scores would mean nothing."""


@dataclass
class Monitor:
    """What was seen of a model's outputs since the last reset: positions that could tell a collapse, tokens read,
    tokens predicted at those positions, seconds in forward passes.
    """

    n_positions: int = 0
    n_tokens: int = 0
    predicted: set[int] = field(default_factory=set)
    forward_seconds: float = 0.0

    def refuse_collapse(self, minimum: int = 64) -> None:
        """Raises InvalidModelError if at least `minimum` positions all predicted the same token."""
        if self.n_positions >= minimum and len(self.predicted) == 1:
            token = next(iter(self.predicted))
            raise InvalidModelError(f"collapsed: all {self.n_positions} positions predict token {token}")


class CausalLM:
    """A transformers model with its tokenizer, as tasks want to ask it.

    `batch_tokens` bounds rows times length of a batch; one that the device has no memory for is asked in halves. Holds
    a cache of token ids by text, and `monitor`.
    """

    def __init__(self, model: Any, tokenizer: Any, *, batch_tokens: int = 16384) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_tokens = batch_tokens
        self.monitor = Monitor()
        self._encoded: dict[tuple[str, str], tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self._prompts: dict[str, tuple[int, ...]] = {}
        self._stops: dict[str, Tensor] = {}

    @property
    def n_bytes(self) -> int:
        """Bytes of the model's parameters and buffers."""
        held = {tensor.data_ptr(): tensor for tensor in (*self.model.parameters(), *self.model.buffers())}
        return sum(tensor.numel() * tensor.element_size() for tensor in held.values())

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """For each (prompt, continuation) the likelihood of the continuation after the prompt.

        Rows with equal inputs, such as the one-token choices of a question, share a forward pass. Raises ValueError
        for an empty prompt or continuation, InvalidModelError if logits are not finite.
        """
        encoded = [self._encode(prompt, continuation) for prompt, continuation in pairs]
        # The last token of a continuation is predicted, never read.
        inputs: dict[tuple[int, ...], list[int]] = {}
        for index, (context, continuation) in enumerate(encoded):
            inputs.setdefault(context + continuation[:-1], []).append(index)
        answers: list[Likelihood | None] = [None] * len(pairs)
        rows = sorted(inputs, key=len)
        n_kept = [max(len(encoded[index][1]) for index in inputs[row]) for row in rows]

        def ask(batch: Sequence[int]) -> None:
            width = max(n_kept[i] for i in batch)
            logits = self._forward([rows[i] for i in batch], width)
            best = logits.argmax(dim=-1)
            owners = [(row, index) for row, i in enumerate(batch) for index in inputs[rows[i]]]
            row_of, targets, mask = self._targets(owners, [encoded[index][1] for _, index in owners], width)
            positions = torch.arange(width, device=logits.device)[None]
            log_probability = logits.log_softmax(dim=-1)[row_of[:, None], positions, targets]
            total = (log_probability * mask).sum(dim=1).tolist()
            right = ((best[row_of] == targets) | ~mask).all(dim=1).tolist()
            # After a prompt even a sound model may always favour one token (a blank, an option's letter), so only
            # continuations of several tokens tell whether it has collapsed.
            telling = mask & (mask.sum(dim=1, keepdim=True) > 1)
            self.monitor.predicted.update(torch.unique(best[row_of][telling]).tolist())
            self.monitor.n_positions += int(telling.sum())
            for (_, index), value, greedy in zip(owners, total, right, strict=True):
                answers[index] = Likelihood(value, len(encoded[index][1]), greedy)

        for batch in self._batches(rows, n_kept):
            self._in_parts(batch, ask)
        return [answer for answer in answers if answer is not None]

    def generate(self, prompts: Sequence[str], *, stop: Sequence[str], max_new_tokens: int) -> list[str]:
        """For each prompt the greedy continuation, cut before the first stop string or end-of-text token.

        Raises InvalidModelError if logits are not finite.
        """
        encoded = [self._prompt(prompt) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda index: len(encoded[index]))
        texts = [""] * len(prompts)
        rows = [encoded[index] for index in order]

        def ask(batch: Sequence[int]) -> None:
            tokens = self._decode([rows[i] for i in batch], stop, max_new_tokens)
            for i, row in zip(batch, tokens, strict=True):
                texts[order[i]] = _cut(self.tokenizer.decode(row, skip_special_tokens=True), stop)

        for batch in self._batches(rows, [1] * len(rows), extra=max_new_tokens):
            self._in_parts(batch, ask)
        return texts

    def _in_parts(self, batch: Sequence[int], ask: Callable[[Sequence[int]], None]) -> None:
        """Asks for the rows of a batch, in halves where the device has no memory for all of them.

        Raises torch.OutOfMemoryError if it has none for one.
        """
        try:
            ask(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        else:
            return
        # The fault that was caught held the tensors that were in the way.
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        for part in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
            self._in_parts(part, ask)

    def _encode(self, prompt: str, continuation: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        key = (prompt, continuation)
        if key not in self._encoded:
            # Tokens begin with the blank before a word: one that ends a prompt belongs to what follows.
            begun = prompt.rstrip(" ") or prompt
            continuation = prompt[len(begun) :] + continuation if continuation else continuation
            context = self._prompt(begun)
            whole = self._ids(begun + continuation)
            # Where the tokens of the joint text do not begin with the prompt's, generation could not produce them:
            # the continuation is then encoded by itself.
            joined = whole[: len(context)] == context
            tail = whole[len(context) :] if joined else self._continuation(continuation)
            if not context or not tail:
                raise ValueError(f"prompt and continuation must have tokens, got {prompt!r} and {continuation!r}")
            self._encoded[key] = (context, tail)
        return self._encoded[key]

    def _prompt(self, prompt: str) -> tuple[int, ...]:
        if prompt not in self._prompts:
            self._prompts[prompt] = self._ids(prompt)
        return self._prompts[prompt]

    def _ids(self, text: str) -> tuple[int, ...]:
        """The tokens of a text with what the tokenizer puts before it, and without what it puts behind.

        Texts of chat templates begin with the first token already.
        """
        first = self.tokenizer.bos_token
        if first and text.startswith(first):
            return self._continuation(text)
        ids = self.tokenizer(text)["input_ids"]
        return tuple(ids[: len(ids) - self._n_behind])

    @cached_property
    def _n_behind(self) -> int:
        """The number of tokens that the tokenizer puts behind a text, such as one that ends it."""
        plain = self._continuation("a")
        whole = tuple(self.tokenizer("a")["input_ids"])
        starts = [k for k in range(len(whole) - len(plain) + 1) if whole[k : k + len(plain)] == plain]
        return len(whole) - starts[0] - len(plain) if starts and plain else 0

    def _continuation(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _batches(self, rows: Sequence[tuple[int, ...]], n_kept: Sequence[int], extra: int = 0) -> Iterator[list[int]]:
        """Consecutive row numbers whose padded tokens and logits stay within bounds; rows come sorted by length."""
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        batch: list[int] = []
        width = 0
        for index, row in enumerate(rows):
            n, length = len(batch) + 1, len(row) + extra
            wider = max(width, n_kept[index])
            # A jump in length starts a new batch: padding would cost more than another forward pass, of which
            # generation would need up to one for each new token.
            ragged = bool(batch) and len(row) - len(rows[batch[0]]) > max(2, len(rows[batch[0]]) // 8) + extra
            if batch and (n * length > self.batch_tokens or n * wider * vocabulary > MAX_LOGITS or ragged):
                yield batch
                batch, wider = [], n_kept[index]
            batch.append(index)
            width = wider
        if batch:
            yield batch

    def _forward(self, rows: Sequence[tuple[int, ...]], width: int) -> Tensor:
        """Logits in float32 of the last `width` positions, shape (n_rows, width, vocabulary)."""
        start = time.perf_counter()
        batch = _left_padded(rows, self.model.device)
        with torch.inference_mode():
            logits: Tensor = self.model(**batch, logits_to_keep=width, use_cache=False).logits.float()
            finite = bool(torch.isfinite(logits).all())
        self.monitor.forward_seconds += time.perf_counter() - start
        self.monitor.n_tokens += sum(len(row) for row in rows)
        if not finite:
            raise InvalidModelError("the model's logits hold NaN or infinity")
        return logits

    def _targets(
        self, owners: Sequence[tuple[int, int]], continuations: Sequence[tuple[int, ...]], width: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Row of each continuation, its tokens flush right in shape (n, width), and the mask of true tokens."""
        targets = [[0] * (width - len(tokens)) + list(tokens) for tokens in continuations]
        lengths = torch.tensor([len(tokens) for tokens in continuations])
        mask = torch.arange(width)[None] >= width - lengths[:, None]
        device = self.model.device
        row_of = torch.tensor([row for row, _ in owners], device=device)
        return row_of, torch.tensor(targets, device=device), mask.to(device)

    def _decode(self, rows: Sequence[tuple[int, ...]], stop: Sequence[str], max_new_tokens: int) -> list[list[int]]:
        """Greedily decoded tokens of every row, up to its end, without the token that ends it."""
        from transformers import DynamicCache  # noqa: PLC0415 (only generation needs it)

        done: list[list[int]] = [[] for _ in rows]
        active = list(range(len(rows)))
        ends = _end_tokens(self.model, self.tokenizer)
        suspects = self._stop_suspects(stop)
        batch: dict[str, Any] = _left_padded(rows, self.model.device)
        cache = DynamicCache(config=self.model.config)
        for step in range(max_new_tokens):
            start = time.perf_counter()
            with torch.inference_mode():
                out = self.model(**batch, past_key_values=cache, use_cache=True, logits_to_keep=1)
                logits = out.logits[:, -1].float()
                finite = bool(torch.isfinite(logits).all())
                chosen = logits.argmax(dim=-1)
            self.monitor.forward_seconds += time.perf_counter() - start
            self.monitor.n_tokens += sum(len(row) for row in rows) if step == 0 else len(active)
            if not finite:
                raise InvalidModelError("the model's logits hold NaN or infinity")
            tokens = chosen.tolist()
            flagged = suspects[chosen].tolist()
            kept = []
            for position, (row, token) in enumerate(zip(active, tokens, strict=True)):
                if token in ends:
                    continue
                done[row].append(token)
                if not (flagged[position] and self._has_stop(done[row], stop)):
                    kept.append(position)
            if step > 0:
                # As in likelihoods the first token after a prompt tells nothing; nor does what ends a short answer.
                self.monitor.predicted.update(tokens[position] for position in kept)
                self.monitor.n_positions += len(kept)
            if not kept:
                break
            if len(kept) < len(active):
                index = torch.tensor(kept, device=self.model.device)
                cache.reorder_cache(index)  # type: ignore[arg-type]  # asks for a LongTensor, which it is
                chosen = chosen[index]
                batch = {key: value[index] for key, value in batch.items()}
                active = [active[position] for position in kept]
            batch = _advanced(batch, chosen)
        return done

    def _stop_suspects(self, stop: Sequence[str]) -> Tensor:
        """Mask over the vocabulary of tokens whose text holds the last character of a stop string.

        Only such a token can complete one, so only then the generated text is looked at.
        """
        key = "\0".join(stop)
        if key not in self._stops:
            size = int(self.model.config.get_text_config().vocab_size)
            texts = self.tokenizer.batch_decode([[token] for token in range(size)])
            mask = torch.tensor([any(text[-1] in piece for text in stop if text) for piece in texts])
            self._stops[key] = mask.to(self.model.device)
        return self._stops[key]

    def _has_stop(self, tokens: Sequence[int], stop: Sequence[str]) -> bool:
        text = self.tokenizer.decode(tokens)
        return any(part in text for part in stop)


def _left_padded(rows: Sequence[tuple[int, ...]], device: torch.device) -> dict[str, Tensor]:
    """Model inputs of shape (n_rows, longest); mask and positions only where lengths differ."""
    longest = max(len(row) for row in rows)
    if all(len(row) == longest for row in rows):
        return {"input_ids": torch.tensor(rows, device=device)}
    input_ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    mask = torch.arange(longest, device=device)[None] >= longest - lengths[:, None]
    return {
        "input_ids": input_ids,
        "attention_mask": mask.long(),
        "position_ids": (mask.long().cumsum(dim=1) - 1).clamp_min(0),
    }


def _advanced(batch: dict[str, Tensor], chosen: Tensor) -> dict[str, Tensor]:
    """Model inputs of the next decoding step, given the tokens chosen in this one."""
    inputs = {"input_ids": chosen[:, None]}
    if "attention_mask" in batch:
        mask = batch["attention_mask"]
        inputs["attention_mask"] = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        inputs["position_ids"] = batch["position_ids"][:, -1:] + 1
    return inputs


def _end_tokens(model: Any, tokenizer: Any) -> set[int]:
    ends = model.generation_config.eos_token_id if model.generation_config is not None else None
    listed = ends if isinstance(ends, list) else [ends]
    return {int(token) for token in (*listed, tokenizer.eos_token_id) if token is not None}


def _cut(text: str, stop: Sequence[str]) -> str:
    ends = [position for part in stop if part and (position := text.find(part)) >= 0]
    return text[: min(ends)] if ends else text
