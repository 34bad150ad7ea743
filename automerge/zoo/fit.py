"""The training loop: batches of drawn items, a loss in which every item counts alike, a pull towards the start."""

from collections.abc import Callable, Set

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from automerge.zoo.curriculum import Curriculum
from automerge.zoo.skills import Item

IGNORED = -100


class Stream:
    """Seeded batches of a curriculum's items, none of which has a held-out prompt."""

    def __init__(
        self, curriculum: Curriculum, tokenizer: PreTrainedTokenizerFast, held_out: Set[str], seed: int
    ) -> None:
        self._curriculum, self._held_out = curriculum, held_out
        self._ids: dict[str, int] = tokenizer.get_vocab()
        self._pad = self._ids[str(tokenizer.pad_token)]
        self._rng = np.random.default_rng(seed)
        shares = np.array([part.share for part in curriculum.parts])
        self._shares = shares / shares.sum()

    def batch(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The token numbers and labels of one batch, as two halves of alike length."""
        picked = self._rng.choice(len(self._shares), self._curriculum.batch, p=self._shares)
        items = sorted((self._item(int(part)) for part in picked), key=lambda i: len(i.prompt + i.target))
        middle = len(items) // 2
        return [self._collate(items[:middle]), self._collate(items[middle:])]

    def _item(self, part: int) -> Item:
        while True:
            item = self._curriculum.parts[part].draw(self._rng)
            if item.prompt.partition("=")[0] not in self._held_out:
                return item

    def _collate(self, items: list[Item]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(len(item.prompt) + len(item.target) + 1 for item in items)
        ids = torch.full((len(items), width), self._pad)
        labels = torch.full((len(items), width), IGNORED)
        for row, item in enumerate(items):
            text = item.prompt + item.target + item.end
            numbers = torch.tensor([self._ids[character] for character in text])
            ids[row, : len(text)] = numbers
            labels[row, len(item.prompt) : len(text)] = numbers[len(item.prompt) :]
        return ids, labels


def fit(
    model: torch.nn.Module, stream: Stream, curriculum: Curriculum, report: Callable[[int, float], None]
) -> torch.nn.Module:
    """The model, trained in place; report is told each step's number and loss."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    start = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.AdamW(weights, lr=curriculum.rate, weight_decay=0.0, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, curriculum.rate, total_steps=curriculum.steps, pct_start=0.15, cycle_momentum=False
    )
    model.train()
    for step in range(curriculum.steps):
        report(step, _step(model, stream.batch(), optimizer, weights))
        if curriculum.pull:
            _pull(weights, start, curriculum.pull * float(schedule.get_last_lr()[0]))
        schedule.step()
    return model.eval()


@torch.no_grad()
def _pull(weights: list[torch.nn.Parameter], start: list[torch.Tensor], strength: float) -> None:
    for weight, origin in zip(weights, start, strict=True):
        weight.lerp_(origin, strength)


def _step(
    model: torch.nn.Module,
    batch: list[tuple[torch.Tensor, torch.Tensor]],
    optimizer: torch.optim.Optimizer,
    weights: list[torch.nn.Parameter],
) -> float:
    optimizer.zero_grad(set_to_none=True)
    items = sum(len(ids) for ids, _ in batch)
    total = 0.0
    for ids, labels in batch:
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        wanted = labels[:, 1:]
        losses = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), wanted, ignore_index=IGNORED, reduction="none"
        )
        loss = (losses.sum(1) / (wanted != IGNORED).sum(1)).sum() / items
        torch.autograd.backward(loss)
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    return total
