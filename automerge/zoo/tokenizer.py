"""The zoo's character tokenizer."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CHARACTERS = "\nabcdefghijklmnopqrstuvwxyz0123456789:;,=+-? "
PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
STOP = "\n"


def build() -> PreTrainedTokenizerFast:
    """A fast tokenizer with one token per character, which adds no token of its own.

    Decoding joins the characters without spaces, so decode(encode(text)) == text for every text
    over CHARACTERS; any other character becomes the unknown token.
    """
    vocabulary = {token: number for number, token in enumerate([PAD, EOS, UNK, *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=128,
    )
