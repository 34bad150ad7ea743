"""Vocabularies united by token string: ids, refusals, summaries and the written tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from automerge.recipe import BASE
from automerge.vocabulary.union import LACKS, Vocabulary, unite
from tests import toy

N_TOKENS = len(toy.ALPHABET) + 2
MERGES = [("a", "b"), ("ab", "c"), ("c", "d")]
START = AddedToken("<start>", special=True, normalized=False)
STOP = AddedToken("<stop>", special=True, lstrip=True, normalized=False)
WORD = AddedToken("gag", special=False, single_word=True, rstrip=True, normalized=True)

Edit = Callable[[dict[str, Any]], object]


def words(folder: Path, *added: AddedToken) -> Path:
    """The toy's tokenizer over characters with these added tokens, saved."""
    tokenizer = toy.make_tokenizer()
    tokenizer.add_tokens([*added])
    tokenizer.save_pretrained(folder)
    return folder


def bpe(
    folder: Path,
    merges: Sequence[tuple[str, str]] = MERGES,
    *,
    added: Sequence[AddedToken] = (),
    turned: bool = False,
    extra: Sequence[str] = (),
) -> Path:
    """A byte-level BPE with two special tokens saved; `turned` numbers its core vocabulary backwards."""
    core = sorted(pre_tokenizers.ByteLevel.alphabet()) + ["".join(merge) for merge in merges] + [*extra]
    vocabulary = {token: row for row, token in enumerate(reversed(core) if turned else core)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[*merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast: Any = PreTrainedTokenizerFast
    wrapped = fast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")  # noqa: S106 (no password)
    wrapped.add_tokens([*added])
    wrapped.save_pretrained(folder)
    return folder


def unigram(folder: Path, scores: dict[str, float]) -> Path:
    """A unigram tokenizer with these pieces saved."""
    fast: Any = PreTrainedTokenizerFast
    pieces = [("<unk>", 0.0), *scores.items()]
    fast(tokenizer_object=Tokenizer(models.Unigram(pieces, unk_id=0)), unk_token="<unk>").save_pretrained(folder)  # noqa: S106 (no password)
    return folder


def edited(folder: Path, edit: Edit, file: str = "tokenizer.json") -> Path:
    """The folder after an edit of one of its JSON files."""
    content = json.loads((folder / file).read_text())
    edit(content)
    (folder / file).write_text(json.dumps(content))
    return folder


def renamed(folder: Path, old: str, new: str) -> Path:
    """The folder with a token renamed in place: same id, other string."""
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_text((folder / file).read_text().replace(json.dumps(old), json.dumps(new)))
    return folder


def united(folders: dict[str, Path], chat_template: str | None = None, **n_rows: int) -> Vocabulary:
    """The vocabulary of the folders whose embeddings have one row per token where `n_rows` says nothing else."""
    rows = {name: n_rows.get(name) or len(AutoTokenizer.from_pretrained(folder)) for name, folder in folders.items()}
    return unite(folders, rows, chat_template=chat_template)


def told(vocabulary: Vocabulary) -> str:
    """The summary as one text."""
    return "\n".join(vocabulary.summary)


@pytest.fixture
def clashing(tmp_path: Path) -> dict[str, Path]:
    """Sources that added two tokens of their own each and one in common, so that equal ids are other tokens."""
    return {
        BASE: words(tmp_path / BASE),
        "left": words(tmp_path / "left", START, WORD),
        "right": words(tmp_path / "right", STOP, START),
    }


def test_equal_vocabularies_are_identical(tmp_path: Path) -> None:
    folders = {BASE: words(tmp_path / BASE), "left": words(tmp_path / "left")}
    vocabulary = united(folders, base=32, left=32)
    assert vocabulary.identical
    assert not vocabulary.changes_tokenizer
    assert vocabulary.n_rows == 32
    assert vocabulary.summary == (f"merged models have {N_TOKENS} tokens in 32 embedding rows",)


def test_new_tokens_come_after_the_base_by_source_and_id(clashing: dict[str, Path]) -> None:
    vocabulary = united(clashing)
    base = AutoTokenizer.from_pretrained(clashing[BASE]).get_vocab()
    assert {token: vocabulary.tokens[token] for token in base} == base
    assert [(new.token.content, new.id, new.sources) for new in vocabulary.new] == [
        ("<start>", N_TOKENS, ("left", "right")),
        ("gag", N_TOKENS + 1, ("left",)),
        ("<stop>", N_TOKENS + 2, ("right",)),
    ]
    assert vocabulary.n_rows == N_TOKENS + 3
    assert not vocabulary.identical
    assert vocabulary.rows[BASE][N_TOKENS:].tolist() == [LACKS] * 3
    assert vocabulary.rows["left"][N_TOKENS:].tolist() == [N_TOKENS, N_TOKENS + 1, LACKS]
    assert vocabulary.rows["right"][N_TOKENS:].tolist() == [N_TOKENS + 1, LACKS, N_TOKENS]


def test_summary_tells_who_brings_moves_and_lacks_what(clashing: dict[str, Path]) -> None:
    vocabulary = united(clashing)
    assert vocabulary.summary == (
        "merged models have 31 tokens in 31 embedding rows, the base has 28 rows",
        "base lacks 3 tokens and takes the sources' mean: '<start>', 'gag', '<stop>'",
        "left brings 2 tokens: '<start>' (id 28), 'gag' (id 29)",
        "left lacks 1 tokens and takes the sources' mean: '<stop>'",
        "right brings 2 tokens: '<start>' (id 28), '<stop>' (id 30)",
        "right has 2 tokens in other rows: '<stop>' 28 -> 30, '<start>' 29 -> 28",
        "right lacks 1 tokens and takes the sources' mean: 'gag'",
    )


def test_padding_rows_of_the_base_are_used_before_the_matrix_grows(clashing: dict[str, Path]) -> None:
    vocabulary = united(clashing, base=40, left=30, right=64)
    assert vocabulary.n_rows == 40
    assert [new.id for new in vocabulary.new] == [28, 29, 30]
    assert vocabulary.rows[BASE].tolist() == [*range(28), LACKS, LACKS, LACKS, *range(31, 40)]
    assert vocabulary.rows["right"].tolist() == [*range(28), 29, LACKS, 28, *[LACKS] * 9]


def test_other_padding_alone_adds_no_token(tmp_path: Path) -> None:
    vocabulary = united({BASE: words(tmp_path / BASE), "left": words(tmp_path / "left")}, base=28, left=64)
    assert vocabulary.n_rows == 28
    assert not vocabulary.changes_tokenizer
    assert vocabulary.unchanged == {BASE}
    assert vocabulary.rows["left"].tolist() == [*range(28)]


def test_a_source_that_has_the_common_vocabulary_already_is_unchanged(tmp_path: Path) -> None:
    folders = {BASE: words(tmp_path / BASE), "chat": words(tmp_path / "chat", START, STOP)}
    vocabulary = united(folders, base=32, chat=32)
    assert vocabulary.unchanged == {"chat"}


def test_token_renamed_in_place_is_another_token(tmp_path: Path) -> None:
    folders = {BASE: words(tmp_path / BASE), "chat": renamed(words(tmp_path / "chat"), "<eos>", "<|im_end|>")}
    vocabulary = united(folders)
    assert vocabulary.tokens["<eos>"] == 1
    assert vocabulary.tokens["<|im_end|>"] == N_TOKENS
    assert vocabulary.rows["chat"].tolist() == [0, LACKS, *range(2, N_TOKENS), 1]
    assert "chat lacks 1 tokens and takes the base's embeddings: '<eos>'" in vocabulary.summary
    assert "chat ends texts with '<|im_end|>', the base with '<eos>'" in vocabulary.summary
    assert "max_new_tokens; end the answers of tasks by a `stop` in plain text" in vocabulary.warnings[0]


def test_core_vocabulary_under_other_ids_is_aligned(tmp_path: Path) -> None:
    folders = {BASE: bpe(tmp_path / BASE), "turned": bpe(tmp_path / "turned", turned=True, added=[START])}
    vocabulary = united(folders)
    own = AutoTokenizer.from_pretrained(folders["turned"]).get_vocab()
    assert {token: vocabulary.rows["turned"][row] for token, row in vocabulary.tokens.items()} == own
    assert own["a"] != vocabulary.tokens["a"]


def test_folder_without_tokenizer_has_the_vocabulary_of_the_base(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    folders = {BASE: words(tmp_path / BASE), "adapter": adapter, "chat": words(tmp_path / "chat", START)}
    rows = {BASE: 30, "adapter": 30, "chat": 29}
    assert unite({name: folders[name] for name in (BASE, "adapter")}, {BASE: 30, "adapter": 30}).identical
    vocabulary = unite(folders, rows)
    assert vocabulary.rows["adapter"].tolist() == [*range(28), LACKS, LACKS]
    with pytest.raises(ValueError, match=r"'adapter': it has 29 embedding rows, the base 30.*put its tokenizer into"):
        unite(folders, {**rows, "adapter": 29})


def test_tokenizer_of_an_adapter_loads_by_the_class_of_the_base(tmp_path: Path) -> None:
    folders = {BASE: bpe(tmp_path / BASE), "adapter": bpe(tmp_path / "adapter")}
    (folders[BASE] / "config.json").write_text('{"model_type": "qwen2"}')
    assert type(AutoTokenizer.from_pretrained(folders[BASE])).__name__ == "Qwen2Tokenizer"
    assert type(AutoTokenizer.from_pretrained(folders["adapter"])).__name__ == "TokenizersBackend"
    assert unite(folders, dict.fromkeys(folders, 300)).identical


def test_tokens_without_embedding_are_left_out(tmp_path: Path) -> None:
    folders = {BASE: words(tmp_path / BASE), "left": words(tmp_path / "left", START)}
    vocabulary = united(folders, left=N_TOKENS)
    assert vocabulary.identical
    assert "<start>" not in vocabulary.tokens
    assert "left has no embedding for 1 tokens of its tokenizer: '<start>'" in vocabulary.summary


def test_token_that_the_base_has_no_embedding_of_is_taken_from_a_source(tmp_path: Path) -> None:
    folders = {BASE: words(tmp_path / BASE, START), "left": words(tmp_path / "left", START)}
    vocabulary = united(folders, base=N_TOKENS)
    assert vocabulary.n_rows == N_TOKENS + 1
    assert vocabulary.rows[BASE][-1] == LACKS
    assert not vocabulary.changes_tokenizer


def test_rows_that_nobody_has_are_refused(tmp_path: Path) -> None:
    folders = {BASE: words(tmp_path / BASE, START), "left": words(tmp_path / "left", STOP)}
    with pytest.raises(ValueError, match=r"tokens without an embedding \('<start>'\).*resize the base's embeddings"):
        united(folders, base=N_TOKENS)


def test_ids_that_the_tokenizer_would_give_twice_are_refused(tmp_path: Path) -> None:
    def gap(content: dict[str, Any]) -> None:
        content["model"]["vocab"]["?"] = N_TOKENS

    folders = {BASE: edited(words(tmp_path / BASE), gap), "left": edited(words(tmp_path / "left", START), gap)}
    with pytest.raises(ValueError, match=r"gaps up to 28.*taken: '<start>'; number its vocabulary without gaps"):
        united(folders, base=40, left=40)


def test_other_merges_are_refused_with_all_differences_of_all_sources(tmp_path: Path) -> None:
    folders = {
        BASE: bpe(tmp_path / BASE),
        "longer": bpe(tmp_path / "longer", [*MERGES, ("d", "e")]),
        "shorter": bpe(tmp_path / "shorter", MERGES[:2]),
        "sorted": bpe(tmp_path / "sorted", MERGES[::-1]),
        "same": bpe(tmp_path / "same", added=[START]),
    }
    with pytest.raises(ValueError, match="the vocabularies cannot be aligned") as refusal:
        united(folders)
    assert str(refusal.value).splitlines()[1:] == [
        "  - source 'longer': it has 1 tokens in its core vocabulary that the base lacks: 'de'",
        "  - source 'longer': it has 1 merges that the base lacks: 'd e'",
        "  - source 'shorter': it lacks 1 tokens of the base's core vocabulary: 'cd'",
        "  - source 'shorter': it lacks 1 merges of the base: 'c d'",
        "  - source 'sorted': it has the base's merges in another order",
    ]


def lowered(content: dict[str, Any]) -> None:
    content["normalizer"] = {"type": "Lowercase"}


def prefixed(content: dict[str, Any]) -> None:
    content["pre_tokenizer"]["add_prefix_space"] = True


def byted(content: dict[str, Any]) -> None:
    content["model"]["byte_fallback"] = True


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lowered, 'its normalizer is another: {"type": "Lowercase"} instead of null'),
        (prefixed, "its pre-tokenizer is another: add_prefix_space true instead of false"),
        (byted, "its BPE model has other settings: byte_fallback true instead of null"),
    ],
)
def test_tokenizers_that_split_otherwise_are_refused(tmp_path: Path, edit: Edit, reason: str) -> None:
    folders = {BASE: bpe(tmp_path / BASE), "left": edited(bpe(tmp_path / "left"), edit)}
    with pytest.raises(ValueError, match="cannot be aligned") as refusal:
        united(folders)
    fault, hint = str(refusal.value).splitlines()[1:]
    assert fault == f"  - source 'left': {reason}"
    assert f"move the tokenizer files out of {folders['left']}, and the base's is used" in hint


def test_other_kind_of_model_is_refused(tmp_path: Path) -> None:
    folders = {BASE: bpe(tmp_path / BASE), "left": words(tmp_path / "left")}
    with pytest.raises(ValueError, match="source 'left': its model is WordLevel instead of BPE"):
        united(folders)


def test_other_scores_of_pieces_are_refused_and_other_ids_are_not(tmp_path: Path) -> None:
    base = unigram(tmp_path / BASE, {"a": -1.0, "b": -2.0})
    turned = unigram(tmp_path / "turned", {"b": -2.0, "a": -1.0})
    assert united({BASE: base, "turned": turned}).rows["turned"].tolist() == [0, 2, 1]
    other = unigram(tmp_path / "other", {"a": -1.0, "b": -3.0})
    with pytest.raises(ValueError, match="source 'other': it gives 1 pieces other scores: 'b'"):
        united({BASE: base, "other": other})


def test_differences_that_split_nothing_otherwise_are_told(tmp_path: Path) -> None:
    def harmless(content: dict[str, Any]) -> None:
        content["truncation"] = {"max_length": 7, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [content["pre_tokenizer"]]}
        content["pre_tokenizer"]["pretokenizers"][0]["trim_offsets"] = False
        content["model"] |= {"continuing_subword_prefix": "", "fuse_unk": True}
        content["decoder"] = {"type": "Fuse"}
        template = processors.TemplateProcessing(single="<eos> $A", special_tokens=[("<eos>", 259)])
        content["post_processor"] = json.loads(template.__getstate__())
        next(token for token in content["added_tokens"] if token["content"] == "<pad>")["rstrip"] = True

    folders = {BASE: bpe(tmp_path / BASE), "left": edited(bpe(tmp_path / "left"), harmless)}
    vocabulary = united(folders)
    assert vocabulary.identical
    assert vocabulary.summary[1:] == (
        "left puts <eos> TEXT around a text, the base nothing; the base's way is kept",
        'left turns tokens into text by another decoder: {"type": "Fuse"} instead of {"type": "ByteLevel"}; '
        "the base's way is kept",
        "left finds 1 added tokens by other flags than the base: '<pad>'; the base's way is kept",
    )


def test_slow_tokenizers_need_equal_maps(tmp_path: Path) -> None:
    ByT5Tokenizer(extra_ids=3).save_pretrained(tmp_path / BASE)
    ByT5Tokenizer(extra_ids=3).save_pretrained(tmp_path / "same")
    ByT5Tokenizer(extra_ids=4).save_pretrained(tmp_path / "more")
    folders = {name: tmp_path / name for name in (BASE, "same", "more")}
    assert unite({name: folders[name] for name in (BASE, "same")}, {BASE: 384, "same": 384}).identical
    with pytest.raises(ValueError, match=r"'more'.*the base's and its tokenizer is a slow one.*save it as a fast one"):
        unite(folders, dict.fromkeys(folders, 384))


def test_tokenizers_that_do_not_load_are_listed_together(tmp_path: Path) -> None:
    folders = {BASE: tmp_path / BASE, "left": words(tmp_path / "left"), "right": words(tmp_path / "right")}
    folders[BASE].mkdir()
    for name in ("left", "right"):
        (folders[name] / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"the base .* has no tokenizer; put its tokenizer\.json") as refusal:
        unite(folders, dict.fromkeys(folders, 28))
    assert all(f"source '{name}': the tokenizer of" in str(refusal.value) for name in ("left", "right"))


def test_saved_tokenizer_gives_the_planned_ids_and_keeps_flags(clashing: dict[str, Path], tmp_path: Path) -> None:
    vocabulary = united(clashing, base=40)
    vocabulary.save_tokenizer(tmp_path / "merged")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert loaded.get_vocab() == vocabulary.tokens
    by_string = {str(token): token for token in loaded.added_tokens_decoder.values()}
    for expected in (START, STOP, WORD):
        assert repr(by_string[expected.content]) == repr(expected)
    assert loaded("a<start>b gag a")["input_ids"][1] == 28
    assert loaded.decode(loaded("a<start>b<stop>")["input_ids"], skip_special_tokens=True) == "ab"
    assert loaded.eos_token_id == 1


@pytest.mark.parametrize("kind", ["TokenizersBackend", "Qwen2Tokenizer"])
def test_saved_bpe_splits_as_its_sources_do(tmp_path: Path, kind: str) -> None:
    def as_kind(content: dict[str, Any]) -> None:
        content["tokenizer_class"] = kind

    folders = {
        name: edited(bpe(tmp_path / name, added=added), as_kind, "tokenizer_config.json")
        for name, added in {BASE: [], "left": [WORD, START], "right": [START, STOP]}.items()
    }
    vocabulary = united(folders, base=300)
    vocabulary.save_tokenizer(tmp_path / "merged")
    merged = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert type(merged).__name__ == kind
    for name, text in {BASE: "abcd cd", "left": "abc<start> cd gag", "right": "<start>ab<stop>dcd"}.items():
        own = AutoTokenizer.from_pretrained(folders[name])
        assert merged.tokenize(text) == own.tokenize(text)
        ids = merged(text)["input_ids"]
        assert [vocabulary.rows[name][row] for row in ids] == own(text)["input_ids"]


def test_a_base_that_has_changed_is_not_saved(clashing: dict[str, Path], tmp_path: Path) -> None:
    vocabulary = united(clashing)
    words(clashing[BASE], STOP)
    with pytest.raises(RuntimeError, match=r"in 6 entries, such as \[\('<start>', 28\).*align them anew"):
        vocabulary.save_tokenizer(tmp_path / "merged")


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("additional_chat_templates/tool.jinja", "x", "has other chat_template"),
        ("added_tokens.json", '{"<stale>": 77}', r"in 1 entries, such as \[\('<stale>', 31\)\]"),
    ],
)
def test_a_folder_whose_files_spoil_the_tokenizer_is_told(
    clashing: dict[str, Path], tmp_path: Path, file: str, content: str, reason: str
) -> None:
    stale = tmp_path / "merged" / file
    stale.parent.mkdir(parents=True)
    stale.write_text(content)
    with pytest.raises(RuntimeError, match=f"{reason}; save into a folder without other tokenizer files"):
        united(clashing).save_tokenizer(tmp_path / "merged")


def with_template(folder: Path, template: Any, *, eos: str, jinja: bool) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.eos_token = eos
    tokenizer.save_pretrained(folder, save_jinja_files=jinja)
    assert (folder / "chat_template.jinja").exists() == jinja
    return folder


@pytest.mark.parametrize("jinja", [True, False])
@pytest.mark.parametrize("template", ["{{ messages[0].content }}<stop>", {"default": "x", "tool_use": "y"}])
def test_chat_template_and_end_of_text_come_from_the_named_source(tmp_path: Path, template: Any, jinja: bool) -> None:
    folders = {
        BASE: with_template(words(tmp_path / BASE), "plain", eos="<eos>", jinja=True),
        "chat": with_template(words(tmp_path / "chat", STOP), template, eos="<stop>", jinja=jinja),
    }
    for chosen, expected, end in ((None, "plain", "<eos>"), (BASE, "plain", "<eos>"), ("chat", template, "<stop>")):
        vocabulary = united(folders, chosen)
        vocabulary.save_tokenizer(tmp_path / f"merged {chosen}")
        loaded = AutoTokenizer.from_pretrained(tmp_path / f"merged {chosen}")
        assert loaded.chat_template == expected
        assert loaded.eos_token == end
        assert vocabulary.eos_token_ids == ((N_TOKENS, 1) if chosen == "chat" else ())
    told = "merged models have the chat template of chat, and end texts with '<stop>' and '<eos>'"
    assert vocabulary.summary[-1] == told
    assert "chat has a chat template of its own" in united(folders).summary
    assert vocabulary.warnings == ()
    (warning,) = united(folders).warnings
    assert "'chat' ends texts with '<stop>', merged models with '<eos>'" in warning
    assert "write source.chat_template=chat to end texts as it does, or end the answers" in warning


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_what_ends_a_turn_may_stand_in_a_configuration_alone(tmp_path: Path, file: str) -> None:
    """As Gemma's `<end_of_turn>`, which its tokenizer does not call an end of text."""
    folders = {
        BASE: words(tmp_path / BASE),
        "chat": with_template(words(tmp_path / "chat", STOP), "x", eos="<eos>", jinja=True),
    }
    (folders["chat"] / file).write_text(json.dumps({"model_type": "llama", "eos_token_id": [1, N_TOKENS, 999]}))
    (warning,) = united(folders).warnings
    assert "'chat' ends texts with '<stop>', merged models with '<eos>'" in warning
    vocabulary = united(folders, "chat")
    assert vocabulary.eos_token_ids == (1, N_TOKENS)
    assert vocabulary.tokenizer().eos_token == "<eos>"  # noqa: S105 (no password)
    assert vocabulary.warnings == ()


def test_chat_template_alone_changes_the_tokenizer(tmp_path: Path) -> None:
    folders = {
        BASE: words(tmp_path / BASE),
        "chat": with_template(words(tmp_path / "chat"), "x", eos="<eos>", jinja=True),
    }
    vocabulary = united(folders, "chat")
    assert vocabulary.identical
    assert vocabulary.changes_tokenizer
    assert vocabulary.eos_token_ids == ()


def test_chat_template_of_a_source_without_one_is_refused(clashing: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="chat_template: 'left' has no chat template; those with one: none"):
        united(clashing, "left")


def test_end_of_text_without_embedding_is_refused(tmp_path: Path) -> None:
    chat = with_template(words(tmp_path / "chat", STOP), "x", eos="<stop>", jinja=True)
    with pytest.raises(ValueError, match="'chat' ends texts with '<stop>', for which it has no embedding; resize"):
        united({BASE: words(tmp_path / BASE), "chat": chat}, "chat", chat=N_TOKENS)


def test_folders_and_rows_must_name_the_same_sources(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected folders and rows of 'base' and sources, got \['left'\]"):
        unite({"left": tmp_path}, {"left": 3})
