"""Sources with aligned rows: values against a reference by token string, and models that compute what they computed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from automerge.protocols import LowRank
from automerge.recipe import BASE
from automerge.vocabulary.aligned_source import aligned, embedding_rows, vocabulary_tensors
from automerge.vocabulary.union import Vocabulary, unite
from tests import toy
from tests.vocabulary.test_union import N_TOKENS, START, STOP, WORD, renamed, words

EMBEDDING, HEAD, BIAS = "model.embed_tokens.weight", "lm_head.weight", "lm_head.bias"


class Stored:
    """A source of given tensors that counts how often each is read."""

    def __init__(self, name: str, tensors: Mapping[str, Tensor], folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.reads: Counter[str] = Counter()
        self._tensors = tensors

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        return {name: tensor.dtype for name, tensor in self._tensors.items()}

    def tensor(self, name: str) -> Tensor:
        self.reads[name] += 1
        return self._tensors[name]

    def low_rank(self, name: str) -> LowRank | None:
        tensor = self._tensors[name]
        return LowRank(up=torch.empty(len(tensor), 0), down=torch.empty(0, tensor[0].numel()), scale=1.0)


def random_source(folder: Path, n_rows: int, *, seed: int, dtype: torch.dtype = torch.bfloat16) -> Stored:
    """A model whose hidden size, number of positions and number of rows are all the same."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        EMBEDDING: (n_rows, n_rows),
        HEAD: (n_rows, n_rows),
        BIAS: (n_rows,),
        "model.norm.weight": (n_rows,),
        "model.embed_positions.weight": (n_rows, n_rows),
        "model.layers.0.self_attn.q_proj.weight": (n_rows, n_rows),
        "model.layers.0.self_attn.q_proj.bias": (n_rows,),
    }
    tensors = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}
    return Stored(folder.name, tensors, folder)


def narrowed(source: Stored, width: int) -> Stored:
    """The source with a hidden size of `width`."""
    tensors = {
        name: source.tensor(name)[:, :width] if name in (EMBEDDING, HEAD) else source.tensor(name)
        for name in (EMBEDDING, HEAD, BIAS)
    }
    return Stored(source.name, tensors, source.folder)


def vocabulary_of(sources: list[Stored]) -> Vocabulary:
    return unite(
        {source.name: source.folder for source in sources},
        {source.name: embedding_rows(source.shapes) for source in sources},
    )


def expected_rows(sources: list[Stored], name: str, tensor: str) -> dict[str, Tensor]:
    """By token the row that a source should have, worked out token by token from the original files."""
    ids = {source.name: AutoTokenizer.from_pretrained(source.folder).get_vocab() for source in sources}
    stored = {source.name: source.tensor(tensor) for source in sources}
    rows = {}
    for token in sorted(set().union(*ids.values())):
        having = [other for other in ids if ids[other].get(token, 10**9) < len(stored[other])]
        if name in having:
            rows[token] = stored[name][ids[name][token]]
        elif BASE in having:
            rows[token] = stored[BASE][ids[BASE][token]].to(stored[name].dtype)
        else:
            mean = torch.stack([stored[other][ids[other][token]].float() for other in having]).mean(dim=0)
            rows[token] = mean.to(stored[name].dtype)
    return rows


@pytest.fixture
def padded(tmp_path: Path) -> list[Stored]:
    """Sources whose added tokens clash, one renamed in place, with 40, 33 and 64 rows, one in another dtype."""
    return [
        narrowed(random_source(words(tmp_path / BASE), 40, seed=0), 6),
        narrowed(random_source(words(tmp_path / "left", START, WORD), 33, seed=1, dtype=torch.float16), 6),
        narrowed(random_source(renamed(words(tmp_path / "right", STOP, START), "<eos>", "<end>"), 64, seed=2), 6),
    ]


@pytest.mark.parametrize("tensor", [EMBEDDING, HEAD, BIAS])
def test_rows_are_those_of_the_reference_by_token_string(padded: list[Stored], tensor: str) -> None:
    vocabulary = vocabulary_of(padded)
    for own, source in zip(padded, aligned(padded, vocabulary), strict=True):
        merged = source.tensor(tensor)
        assert merged.dtype == source.dtypes[tensor] == own.dtypes[tensor]
        assert tuple(merged.shape) == source.shapes[tensor]
        assert len(merged) == vocabulary.n_rows == 40
        expected = expected_rows(padded, own.name, tensor)
        assert expected.keys() == vocabulary.tokens.keys()
        for token, row in expected.items():
            assert torch.equal(merged[vocabulary.tokens[token]], row), (own.name, token)
        padding = sorted({*range(40)} - {*vocabulary.tokens.values()})
        assert len(padding) == 40 - N_TOKENS - 4
        assert torch.equal(merged[padding], padded[0].tensor(tensor)[padding].to(merged.dtype))


def test_matrix_grows_where_padding_does_not_suffice(tmp_path: Path) -> None:
    sources = [
        narrowed(random_source(words(tmp_path / BASE), N_TOKENS + 1, seed=0), 6),
        narrowed(random_source(words(tmp_path / "left", START, STOP), N_TOKENS + 2, seed=1), 6),
    ]
    base, left = aligned(sources, vocabulary_of(sources))
    assert base.shapes[EMBEDDING] == (N_TOKENS + 2, 6)
    assert torch.equal(base.tensor(HEAD)[N_TOKENS:], sources[1].tensor(HEAD)[N_TOKENS:])
    assert left is sources[1]


def test_only_vocabulary_tensors_are_rearranged_though_all_sizes_are_equal(tmp_path: Path) -> None:
    sources = [
        random_source(words(tmp_path / BASE), N_TOKENS + 2, seed=0),
        random_source(words(tmp_path / "left", STOP, START), N_TOKENS + 2, seed=1),
        random_source(words(tmp_path / "right", START, STOP), N_TOKENS + 2, seed=2),
    ]
    assert vocabulary_tensors(sources[0].shapes) == {EMBEDDING, HEAD, BIAS}
    right = aligned([sources[0], sources[2], sources[1]], vocabulary_of([sources[0], sources[2], sources[1]]))[2]
    for name in sources[1].shapes:
        own = sources[1].tensor(name)
        swapped = own[[*range(N_TOKENS), N_TOKENS + 1, N_TOKENS]]
        assert torch.equal(right.tensor(name), swapped if name in (EMBEDDING, HEAD, BIAS) else own)
        assert (right.tensor(name) is own) == (name not in (EMBEDDING, HEAD, BIAS))


def test_equal_vocabularies_give_the_same_objects_and_read_nothing(tmp_path: Path) -> None:
    sources = [random_source(words(tmp_path / name), 32, seed=0) for name in (BASE, "left")]
    vocabulary = vocabulary_of(sources)
    assert vocabulary.identical
    assert all(one is other for one, other in zip(aligned(sources, vocabulary), sources, strict=True))
    assert not any(source.reads for source in sources)


def test_each_matrix_is_read_once_for_itself_and_once_for_all_others(padded: list[Stored]) -> None:
    for own in padded:
        own.reads.clear()
    for source in aligned(padded, vocabulary_of(padded)):
        assert source.tensor(EMBEDDING).isfinite().all()
    assert [own.reads[EMBEDDING] for own in padded] == [2, 2, 2]


def test_what_else_a_source_offers_passes_through(padded: list[Stored]) -> None:
    sources: list[Any] = [*aligned(padded, vocabulary_of(padded))]
    assert [source.name for source in sources] == [BASE, "left", "right"]
    assert [source.folder for source in sources] == [source.folder for source in padded]
    assert not hasattr(sources[1], "nonsense")
    with pytest.raises(KeyError, match="nonsense"):
        sources[1].tensor("nonsense")


def test_rearranged_tensors_are_stored_whole(tmp_path: Path) -> None:
    sources = [
        random_source(words(tmp_path / BASE), 30, seed=0),
        random_source(words(tmp_path / "left", START), 30, seed=1),
    ]
    base = aligned(sources, vocabulary_of(sources))[0]
    assert [name for name in base.shapes if base.low_rank(name) is None] == [EMBEDDING, HEAD, BIAS]


def test_head_that_only_some_store_is_filled_from_the_tied_embedding(tmp_path: Path) -> None:
    folders = {
        BASE: words(tmp_path / BASE),
        "left": words(tmp_path / "left", START),
        "right": words(tmp_path / "right"),
    }
    sources = []
    for seed, (name, folder) in enumerate(folders.items()):
        table = torch.randn(30, 4, generator=torch.Generator().manual_seed(seed))
        tied = {EMBEDDING: table, HEAD: table.clone()} if name == "right" else {EMBEDDING: table}
        sources.append(Stored(name, tied, folder))
    right = aligned(sources, vocabulary_of(sources))[2]
    assert torch.equal(right.tensor(HEAD), right.tensor(EMBEDDING))
    assert torch.equal(right.tensor(HEAD)[N_TOKENS], sources[1].tensor(EMBEDDING)[N_TOKENS])


def test_sources_of_another_size_than_planned_are_refused(padded: list[Stored], tmp_path: Path) -> None:
    vocabulary = vocabulary_of(padded)
    grown = narrowed(random_source(padded[1].folder, 50, seed=0), 6)
    with pytest.raises(ValueError, match="'left' has 50 embedding rows, the vocabulary was made for 33; unite"):
        aligned([padded[0], grown, padded[2]], vocabulary)


@pytest.mark.parametrize(
    "names",
    [
        ("transformer.wte.weight", "transformer.wpe.weight", "transformer.h.0.mlp.c_fc.weight"),
        ("gpt_neox.embed_in.weight", "embed_out.weight", "gpt_neox.layers.0.mlp.dense.weight"),
        ("transformer.word_embeddings.weight", "lm_head.weight", "transformer.h.0.mlp.up.weight"),
        (
            "model.decoder.embed_tokens.weight",
            "model.decoder.embed_positions.weight",
            "model.decoder.project_in.weight",
        ),
    ],
)
def test_embedding_is_found_by_name(names: tuple[str, str, str]) -> None:
    head = 32 if "embed_out" in names[1] or "lm_head" in names[1] else 64
    assert embedding_rows({names[0]: (32, 8), names[1]: (head, 8), names[2]: (16, 8), "norm.weight": (8,)}) == 32


def test_unknown_or_odd_matrices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got .*x\.weight.*automerge does not know this architecture"):
        embedding_rows({"x.weight": (32, 8), "y.weight": (16, 8)})
    odd = {EMBEDDING: (32, 8), "model.embed_tokens_per_layer.weight": (30, 8)}
    assert embedding_rows(odd) == 32
    with pytest.raises(ValueError, match=r"embed_tokens_per_layer\.weight': 30\}; automerge cannot tell"):
        vocabulary_tensors(odd)


def resized(folder: Path, n_rows: int) -> Stored:
    """The folder's model with embeddings of another size, all rows random, as a source; the folder holds it too."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.resize_token_embeddings(n_rows)
    torch.manual_seed(n_rows)
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_()
        if not model.config.tie_word_embeddings:
            model.get_output_embeddings().weight.normal_()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Stored(folder.name, load_file(folder / "model.safetensors"), folder)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_aligned_models_compute_what_their_sources_compute(tmp_path: Path, kind: str) -> None:
    folders = toy.make_family(tmp_path, kind=kind)
    words(folders["left"], START, WORD)
    renamed(words(folders["right"], STOP, START), "<eos>", "<end>")
    sources = [resized(folders[BASE], 30), resized(folders["left"], 30), resized(folders["right"], 64)]
    vocabulary = vocabulary_of(sources)
    assert vocabulary.n_rows > 30
    prompts = {BASE: "abc=12", "left": "ab<start>c= gag 1", "right": "<stop>ab<start>h<end>"}
    for source in aligned(sources, vocabulary):
        merged = tmp_path / f"merged {source.name}"
        merged.mkdir()
        save_file({name: source.tensor(name) for name in source.shapes}, merged / "model.safetensors", {"format": "pt"})
        config = json.loads((folders[BASE] / "config.json").read_text())
        (merged / "config.json").write_text(json.dumps({**config, "vocab_size": vocabulary.n_rows}))
        vocabulary.save_tokenizer(merged)
        expected = logits_by_token(folders[source.name], prompts[source.name])
        got = logits_by_token(merged, prompts[source.name])
        assert got.keys() == vocabulary.tokens.keys() >= expected.keys()
        for token, logits in expected.items():
            torch.testing.assert_close(got[token], logits, rtol=0, atol=1e-6)


def logits_by_token(folder: Path, prompt: str) -> dict[str, Tensor]:
    """What plain transformers computes from a folder: for every token its logits at all positions of the prompt."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0]
    return {token: logits[:, row] for token, row in tokenizer.get_vocab().items() if row < logits.shape[1]}
