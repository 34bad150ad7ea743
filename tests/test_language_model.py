"""Likelihoods and generation against plain transformers, one text at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from automerge.language_model import CausalLM, InvalidModelError, Monitor
from automerge.model import load_causal_lm
from tests.toy import ALPHABET


@pytest.fixture(params=["llama", "qwen2"])
def lm(request: pytest.FixtureRequest) -> CausalLM:
    folders: dict[str, Path] = request.getfixturevalue(request.param)
    return load_causal_lm(folders["left"])


def texts(n: int, seed: int = 0, longest: int = 20) -> list[str]:
    rng = np.random.default_rng(seed)
    letters = list(ALPHABET.strip())
    return ["".join(rng.choice(letters, size=rng.integers(1, longest))) for _ in range(n)]


def generated(lm: CausalLM, prompt: str, n: int) -> str:
    """Greedy continuation by `transformers`' own generate, without batching."""
    inputs = lm.tokenizer(prompt, return_tensors="pt")
    out = lm.model.generate(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=n, do_sample=False
    )
    return str(lm.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def test_likelihoods_agree_with_the_plain_model_one_by_one(lm: CausalLM) -> None:
    pairs = list(zip(texts(40), texts(40, seed=1, longest=6), strict=True))
    for (prompt, continuation), answer in zip(pairs, lm.likelihoods(pairs), strict=True):
        ids = lm.tokenizer(prompt + continuation, return_tensors="pt")["input_ids"]
        n = len(lm.tokenizer(prompt)["input_ids"])
        with torch.inference_mode():
            logp = lm.model(input_ids=ids).logits[0, n - 1 : -1].log_softmax(-1)
        expected = logp.gather(1, ids[0, n:, None]).sum()
        assert answer.log_probability == pytest.approx(float(expected), abs=1e-4)
        assert answer.n_tokens == ids.shape[1] - n


def test_one_forward_pass_tells_exactly_what_greedy_generation_would_yield(lm: CausalLM) -> None:
    prompts = texts(80, seed=2)
    truths = [generated(lm, prompt, 4) for prompt in prompts]
    # Right references, references that go wrong at every possible place, and references cut short.
    pairs, expected = [], []
    for prompt, truth in zip(prompts, truths, strict=True):
        if len(truth) < 4:
            continue
        pairs.append((prompt, truth))
        for place in range(4):
            other = "a" if truth[place] != "a" else "b"
            pairs.append((prompt, truth[:place] + other + truth[place + 1 :]))
        pairs.append((prompt, truth[:2]))
    expected = [generated(lm, prompt, len(reference)) == reference for prompt, reference in pairs]
    assert [answer.greedy for answer in lm.likelihoods(pairs)] == expected
    assert 0.2 < np.mean(expected) < 0.5
    assert len(pairs) >= 200


def test_generation_agrees_with_transformers_one_by_one(lm: CausalLM) -> None:
    prompts = texts(40, seed=3)
    batched = lm.generate(prompts, stop=[], max_new_tokens=12)
    assert batched == [generated(lm, prompt, 12) for prompt in prompts]


def test_generation_stops_before_the_first_stop_string_and_others_go_on(lm: CausalLM) -> None:
    prompts = texts(40, seed=3)
    free = lm.generate(prompts, stop=[], max_new_tokens=12)
    stop = [max(ALPHABET, key=lambda c: sum(c in text for text in free)), free[0][3:5]]
    stopped = lm.generate(prompts, stop=stop, max_new_tokens=12)
    expected = [min((text.split(part)[0] for part in stop), key=len) for text in free]
    assert stopped == expected
    assert any(text != whole for text, whole in zip(stopped, free, strict=True))


def test_prompts_of_unlike_lengths_take_their_steps_together(lm: CausalLM) -> None:
    # A batch for every length would pass through the model up to 20 times as often.
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    with lm.model.register_forward_hook(count):
        lm.generate(["a" * length for length in range(1, 21)], stop=[], max_new_tokens=24)
    assert passes <= 24


def test_small_batches_give_the_same_answers(lm: CausalLM) -> None:
    pairs = list(zip(texts(30), texts(30, seed=1, longest=6), strict=True))
    whole = lm.likelihoods(pairs)
    texts_whole = lm.generate([prompt for prompt, _ in pairs], stop=["a"], max_new_tokens=6)
    lm.batch_tokens = 32
    for one, other in zip(whole, lm.likelihoods(pairs), strict=True):
        assert one.greedy == other.greedy
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)
    assert lm.generate([prompt for prompt, _ in pairs], stop=["a"], max_new_tokens=6) == texts_whole


def test_choices_of_one_token_share_a_forward_pass(lm: CausalLM) -> None:
    lm.monitor = Monitor()
    lm.likelihoods([("abc", letter) for letter in "abcd"])
    assert lm.monitor.n_tokens == 3


def test_empty_texts_are_refused(lm: CausalLM) -> None:
    with pytest.raises(ValueError, match="must have tokens"):
        lm.likelihoods([("abc", "")])


def test_logits_that_are_not_finite_make_the_model_invalid(lm: CausalLM) -> None:
    with torch.no_grad():
        next(lm.model.parameters()).fill_(float("nan"))
    with pytest.raises(InvalidModelError, match="NaN or infinity"):
        lm.likelihoods([("abc", "d")])
    with pytest.raises(InvalidModelError, match="NaN or infinity"):
        lm.generate(["abc"], stop=[], max_new_tokens=2)


def test_a_blank_that_ends_a_prompt_belongs_to_what_follows() -> None:
    """As in SentencePiece, where a word's token begins with the blank before it."""
    pieces = Tokenizer(models.Unigram([("<unk>", 0.0), ("\u2581a", -1.0), ("\u2581", -3.0), ("a", -2.0)], unk_id=0))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    fast: Any = PreTrainedTokenizerFast
    lm = CausalLM(nn.Linear(1, 1), fast(tokenizer_object=pieces))
    for prompt, continuation in (("a ", "a"), ("a", " a")):
        assert lm._encode(prompt, continuation) == ((1,), (1,))
    with pytest.raises(ValueError, match="must have tokens"):
        lm._encode("a ", "")


def test_what_a_tokenizer_puts_around_a_text_stands_there_once(lm: CausalLM) -> None:
    tokenizer = lm.tokenizer
    tokenizer.bos_token = "<pad>"  # noqa: S105 (no password)
    around = processors.TemplateProcessing("<pad> $A <eos>", special_tokens=[("<pad>", 0), ("<eos>", 1)])
    tokenizer.backend_tokenizer.post_processor = around
    assert tokenizer("ab")["input_ids"] == [0, 2, 3, 1]
    for prompt in ("ab", "<pad>ab"):
        assert lm._encode(prompt, "c") == ((0, 2, 3), (4,))


def test_batches_that_do_not_fit_are_asked_in_halves(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = list(zip(texts(30), texts(30, seed=1, longest=6), strict=True))
    prompts = [prompt for prompt, _ in pairs]
    likely, written = lm.likelihoods(pairs), lm.generate(prompts, stop=["a"], max_new_tokens=6)
    forward = lm.model.forward
    sizes = []

    def small(**inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > limit:
            raise torch.OutOfMemoryError("no room")
        return forward(**inputs)

    monkeypatch.setattr(lm.model, "forward", small)
    limit = 2
    assert [one.greedy for one in lm.likelihoods(pairs)] == [one.greedy for one in likely]
    assert lm.generate(prompts, stop=["a"], max_new_tokens=6) == written
    assert max(sizes) > limit
    limit = 0
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        lm.likelihoods(pairs)


def test_answers_of_one_token_are_no_collapse(lm: CausalLM) -> None:
    """That end a text at once or after one token, as those of chat models to yes-or-no questions."""
    with torch.no_grad():
        head = lm.model.get_output_embeddings().weight
        head.zero_()
    lm.model.generation_config.eos_token_id = [0]
    lm.monitor = Monitor()
    assert lm.generate(texts(80), stop=[], max_new_tokens=3) == [""] * 80
    lm.monitor.refuse_collapse()
    lm.model.generation_config.eos_token_id = []
    lm.tokenizer.eos_token = None
    lm.generate(texts(80), stop=[], max_new_tokens=3)
    with pytest.raises(InvalidModelError, match="positions predict token 0"):
        lm.monitor.refuse_collapse()


def test_one_token_for_everything_is_collapse_only_over_many_positions() -> None:
    Monitor(n_positions=63, predicted={5}).refuse_collapse()
    Monitor(n_positions=64, predicted={5, 6}).refuse_collapse()
    with pytest.raises(InvalidModelError, match="collapsed: all 64 positions predict token 5"):
        Monitor(n_positions=64, predicted={5}).refuse_collapse()
