"""Decoding many short prompts at once, to measure a model. Not the learner's sampler: nothing here is recorded.

Prompts of one length go together, so nothing is padded and every row is exact. Does not know what the texts mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel

from mass_gov.mass.character_tokenizer import BOS_ID, EOS_ID, PAD_ID, VOCABULARY, encode

_TEXT = {index: token for token, index in VOCABULARY.items() if len(token) == 1}


@torch.no_grad()
def complete(
    model: PreTrainedModel, prompts: Sequence[str], max_new: int, *, temperature: float = 0.0, seed: int = 0
) -> list[str]:
    """What the model writes after each prompt, up to `<eos>` or `max_new` tokens, in the order of the prompts.

    Args:
        temperature: 0 is greedy; above, samples from one generator seeded by `seed`.
    """
    generator = torch.Generator().manual_seed(seed)
    texts = [""] * len(prompts)
    for rows in _same_length(prompts, batch=256):
        ids = torch.tensor([[BOS_ID, *encode(prompts[row])] for row in rows])
        for row, tokens in zip(rows, _decode(model, ids, max_new, temperature, generator).tolist(), strict=True):
            texts[row] = "".join(_TEXT.get(token, "") for token in tokens)
    return texts


def _same_length(prompts: Sequence[str], batch: int) -> Iterator[list[int]]:
    by_length: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(row)
    for length in sorted(by_length):
        rows = by_length[length]
        yield from (rows[start : start + batch] for start in range(0, len(rows), batch))


def _decode(
    model: PreTrainedModel, ids: torch.Tensor, max_new: int, temperature: float, generator: torch.Generator
) -> torch.Tensor:
    """New token ids (batch, <= max_new); what follows `<eos>` in a row is padding. `ids` is (batch, time)."""
    done = torch.zeros(len(ids), dtype=torch.bool)
    cache, tokens, step = None, [], ids
    for _ in range(max_new):
        output = model(input_ids=step, past_key_values=cache, use_cache=True)
        cache, logits = output.past_key_values, output.logits[:, -1]
        if temperature == 0:
            chosen = logits.argmax(-1)
        else:
            chosen = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
        chosen[done] = PAD_ID
        done |= chosen == EOS_ID
        tokens.append(chosen)
        if bool(done.all()):
            break
        step = chosen[:, None]
    return torch.stack(tokens, 1)
