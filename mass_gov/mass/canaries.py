"""Three canaries: digests of fixed, tiny work, so that a difference between two machines names the stage it begins in.

    prefill   logits of two short prompts of unequal length, padded, under the adapter that a first change starts from
    decode    logits of one token after a cache of given numbers: the shape in which every sample and answer is written
    step      gradients and the moved adapter of one step on two weighted rows

Rules: the work runs on the open model, and not on a small stand-in: which kernel a library takes depends on the shapes,
the dtype, the attention and the modules that carry an adapter, and a stand-in of other shapes would agree where the
model does not. It also keeps the cost in proportion: a few dozen positions, where a change computes thousands. Nothing
that one canary computed goes into another, so that decode can differ alone; a step holds a forward pass, so where
prefill differs, step mostly does too, and the first of them in this order is where to look. Inputs are whole numbers
and exact fractions, no random generator, no tokenizer.

Does not know which machine is right, nor what happens at other shapes: agreeing canaries prove nothing about a change,
whose own digests do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from mass_gov.mass.decoding import left_padded
from mass_gov.mass.inner_loop import Loss, gradient_descent, run_inner_loop
from mass_gov.mass.losses import SolutionBatch, solution_batch
from mass_gov.mass.values import Adapter

_LENGTH = 9  # longest canary prompt, in tokens


def prefill(model: Any) -> str:
    """Read two prompts at once. `model` carries its adapter, as for the next two."""
    vocabulary = model.get_input_embeddings().num_embeddings
    ids, mask = left_padded([_ids(_LENGTH, 1, vocabulary), _ids(_LENGTH - 4, 2, vocabulary)], 0)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    return _digest([logits])


def decode(model: Any) -> str:
    """Write one token after a cache whose numbers are given and not computed."""
    cache = DynamicCache(config=model.config)
    first, then = _ids(_LENGTH, 1, vocabulary := model.get_input_embeddings().num_embeddings), _ids(1, 3, vocabulary)
    with torch.inference_mode():
        model(input_ids=torch.tensor([first]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        for layer in cache.layers:
            for held in (getattr(layer, "keys", None), getattr(layer, "values", None)):
                if isinstance(held, Tensor):
                    held.copy_(_fractions(held.shape))
        logits = model(
            input_ids=torch.tensor([then]),
            attention_mask=torch.ones(1, _LENGTH + 1, dtype=torch.long),
            position_ids=torch.tensor([[_LENGTH]]),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
    return _digest([logits])


def step(model: Any, start: Adapter, loss_of: Callable[[SolutionBatch, Tensor], Loss]) -> str:
    """Take one step from `start`; loss_of(batch, weights) is the inner loss as a function of the adapter's tensors."""
    vocabulary = model.get_input_embeddings().num_embeddings
    rows = [(_ids(4, 1, vocabulary), _ids(5, 2, vocabulary)), (_ids(3, 3, vocabulary), _ids(3, 4, vocabulary))]
    loss = loss_of(solution_batch(rows, 0), torch.tensor([0.75, 0.25]))
    sizes = dict.fromkeys(start.tensors, 0.5)
    trace = run_inner_loop(loss, dict(start.tensors), gradient_descent(sizes), 1, keep_steps=True, keep_gradients=(0,))
    gradients = trace.steps[0].gradients if trace.steps else None
    return _digest([*(gradients or {}).values(), *trace.parameters.values()])


def _ids(length: int, first: int, vocabulary: int) -> list[int]:
    return [(first + 7 * place) % vocabulary for place in range(length)]


def _fractions(shape: torch.Size) -> Tensor:
    """Sixteenths in [-1/2, 1/2], exact in every dtype."""
    return ((torch.arange(shape.numel()) * 5 % 17 - 8) / 16).view(shape)


def _digest(tensors: Iterable[Tensor]) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}\0".encode())
        found.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
