"""A tiny random Qwen2 chat model as real ones come: a byte-level tokenizer, a chat template, no prompt template.

All layers are random; each class of tokens has a direction that is set, so that most samples have the form that the
generic chat prompt asks for (a question of 0-2, "\\nSolution:", working of 3-5, "####", an answer of 6-8, the end), or
so that every reply is one given text. What it writes has nothing to do with what it is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

SEPARATOR, MARKER, END, TURN = "\nSolution:", "####", "<|im_end|>", "<|im_start|>"
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_PRACTICE = (("\n",), ("0", "1", "2"), (SEPARATOR,), ("3", "4", "5"), (MARKER,), ("6", "7", "8"), (END,))
_VOCABULARY = 1000
_LIKELY = 11.0  # logit over the others' noise


def make_fluent_chat(folder: Path, texts: Sequence[str], *, reply: str = "", width: int = 32) -> Path:
    """Write the model into `folder`, its tokenizer trained on `texts`; with `reply` it says that, whatever is asked."""
    from transformers import AutoModelForCausalLM, Qwen2Config

    chain = (("\n",), (reply,), (END,)) if reply else _PRACTICE
    tokenizer = _tokenizer(texts, [SEPARATOR, MARKER, *([reply] if reply else [])])
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    _lead(folder / "model.safetensors", [[_id(tokenizer, one) for one in part] for part in chain])
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(texts: Sequence[str], whole: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=_VOCABULARY, initial_alphabet=alphabet))
    inner.add_special_tokens(["<|endoftext|>", TURN, END])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<|endoftext|>", eos_token=END)
    tokenizer.add_tokens(list(whole))
    tokenizer.chat_template = CHAT
    return tokenizer


def _id(tokenizer: Any, text: str) -> int:
    (found,) = tokenizer(text, add_special_tokens=False)["input_ids"]
    return int(found)


def _lead(path: Path, chain: list[list[int]]) -> None:
    """Give every part of the chain a direction of its own, in which the next part's output rows point."""
    tensors = load_file(path)
    inputs, outputs = tensors["model.embed_tokens.weight"], tensors["lm_head.weight"]
    width = inputs.shape[1]
    for place, (part, following) in enumerate(pairwise(chain)):
        inputs[part, place] += 1.0
        outputs[following, place] += _LIKELY / width**0.5
    save_file(tensors, path, metadata={"format": "pt"})
