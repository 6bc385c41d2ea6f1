"""The reference model's tokenizer: one token per printable ASCII character, and one for the new line.

Rules: ids are fixed by the order below, so that weights and tokenizer can't drift apart; every text starts with
`<bos>`, which the tokenizer adds by itself. Does not know prompts or tasks.
"""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"
_SPECIAL = (PAD, BOS, EOS, UNK)
_CHARACTERS = ("\n", *(chr(code) for code in range(32, 127)))
VOCABULARY: dict[str, int] = {token: index for index, token in enumerate((*_SPECIAL, *_CHARACTERS))}
PAD_ID, BOS_ID, EOS_ID, UNK_ID = (VOCABULARY[token] for token in _SPECIAL)


def build_tokenizer(max_length: int) -> PreTrainedTokenizerFast:
    """A fast tokenizer over `VOCABULARY` (100 tokens) that AutoTokenizer loads from a folder without any code."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, BOS_ID)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def encode(text: str) -> list[int]:
    """Token ids of `text` without `<bos>`: what `build_tokenizer` gives, without its overhead."""
    return [VOCABULARY.get(character, UNK_ID) for character in text]
