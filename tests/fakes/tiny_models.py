"""Tiny random models of three architectures as real Hugging Face folders, safetensors and fast tokenizer included.

They know nothing (their weights are random draws from a fixed seed) but take every path that a real model takes.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

ARCHITECTURES = ("llama", "qwen2", "gpt2")
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
CHARACTERS = "\n" + "".join(sorted(c for c in string.printable if c.isprintable()))
TEMPLATE = {
    "chat": False,
    "marker": "#",
    "practise": "T {question}\nP ",
    "separator": "\nA ",
    "solve": "Q {question}\nA ",
    "stop": [],
}


def make_tokenizer() -> Any:
    """One token per printable ASCII character and newline; <bos> is added by the post-processor."""
    from tokenizers import Tokenizer, decoders, models, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *CHARACTERS])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def make_config(architecture: str, *, layers: int = 2, width: int = 32, context: int = 256) -> Any:
    """A configuration of `architecture` with `layers` layers of `width` channels; Llama's and Qwen2's heads untied."""
    from transformers import GPT2Config, LlamaConfig, Qwen2Config

    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    size = len(SPECIAL) + len(CHARACTERS)
    if architecture == "gpt2":
        shape = {"n_embd": width, "n_layer": layers, "n_head": 4, "n_positions": context}
        return GPT2Config(vocab_size=size, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0, **shape, **ids)
    kind = {"llama": LlamaConfig, "qwen2": Qwen2Config}[architecture]
    return kind(
        vocab_size=size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        **ids,
    )


def make_model(folder: Path, architecture: str = "llama", *, seed: int = 0, **shape: int) -> Path:
    """Write a random model of `architecture` into `folder` and return it. Takes well under a second."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(make_config(architecture, **shape))
        with torch.no_grad():  # livelier than the default 0.02, so that logits differ enough to sample from
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(4.0)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    (folder / "prompt_template.json").write_text(json.dumps(TEMPLATE, separators=(",", ":"), sort_keys=True))
    return folder
