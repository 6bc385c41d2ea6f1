"""The decode loop: a batch of prompts in, tokens out, one forward pass per position with a key-value cache.

Rules: prompts are padded on the left to one length, and one that stands several times in a row is read once; the batch
keeps its composition until every row has finished (a finished row is fed padding and ignored), because a logit's last
bits depend on the shape of the batch; only the last position's logits are computed.

Does not know where a token comes from (the caller chooses) or what the text means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

BATCHING = "padded-left, repeated prompts read once, composition kept, v1"
"""Names this procedure in the fingerprint and changes with it."""

Choose = Callable[[Tensor, int], Tensor]  # (logits (batch, vocabulary), position) -> ids (batch,)
Ends = Callable[[list[int]], bool]  # the row's tokens so far -> whether it has finished


def left_padded(prompts: Sequence[Sequence[int]], pad_id: int, width: int = 0) -> tuple[Tensor, Tensor]:
    """ids and mask, both (batch, longest prompt, or `width` where that is more); mask 1 where a token is real."""
    length = max(width, *map(len, prompts))
    ids = torch.tensor([[pad_id] * (length - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


@torch.inference_mode()
def decode(
    model: Any, prompts: Sequence[Sequence[int]], pad_id: int, choose: Choose, ends: Ends, max_new_tokens: int
) -> tuple[list[list[int]], int]:
    """The tokens of every row, its end token included, and the number of positions computed (for the meter)."""
    device, repeats = model.device, repeated(prompts)
    ids, prompt_mask = (tensor.to(device) for tensor in left_padded(prompts[::repeats], pad_id))
    batch, length = len(prompts), ids.shape[1]
    mask = torch.ones(batch, length + max_new_tokens, dtype=torch.long, device=device)
    mask[:, :length] = prompt_mask.repeat_interleave(repeats, dim=0)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    rows: list[list[int]] = [[] for _ in prompts]
    active = list(range(batch))
    start, stop, computed = 0, length, 0
    for step in range(max_new_tokens):
        every = 1 if start else repeats  # the first pass reads each prompt once
        logits = model(
            input_ids=ids,
            attention_mask=mask[::every, :stop],
            position_ids=positions[::every, start:stop],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        computed += ids.numel()
        if every > 1:
            cache.batch_repeat_interleave(every)
            logits = logits.repeat_interleave(every, dim=0)
        chosen = choose(logits, step)
        active = _extend(rows, active, chosen.tolist(), ends)
        if not active:
            break
        ids = torch.full((batch, 1), pad_id, device=device)
        ids[active, 0] = chosen[active]
        start, stop = stop, stop + 1
    return rows, computed


def _extend(rows: list[list[int]], active: list[int], chosen: list[int], ends: Ends) -> list[int]:
    """Append each active row's token; return the rows that go on."""
    for row in active:
        rows[row].append(chosen[row])
    return [row for row in active if not ends(rows[row])]


def repeated(prompts: Sequence[Sequence[int]]) -> int:
    """The largest g such that the prompts are runs of g equal ones."""
    runs = [len(list(run)) for _, run in groupby(map(tuple, prompts))]
    return math.gcd(*runs)
