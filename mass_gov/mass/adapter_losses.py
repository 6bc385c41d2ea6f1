"""A model's losses as pure functions of the adapter's tensors, of one task or of several tasks stacked.

Shapes: a batch of one task is (rows, length); stacked, (tasks, rows, length), and every tensor of the adapter
(tasks, ...). All rows and tasks have one padded shape: `pad` makes it, and its measures are arguments, because bits
depend on them.

Rules: a row that fills up is a copy of the first one and must get the score 0; the model is never written, its
parameters are swapped while a loss is computed; any Hugging Face causal LM with eager attention.

Does not know steps, gradients or where samples come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from mass_gov.mass.bilevel import Meta, SampleLosses
from mass_gov.mass.inner_loop import Parameters
from mass_gov.mass.lora import LoraModel
from mass_gov.mass.losses import SolutionBatch, sample_losses
from mass_gov.mass.values import Adapter

NAMES = tuple(field.name for field in fields(SolutionBatch))


def adapter_losses(model: LoraModel, adapter: Adapter, batch: SolutionBatch, softening: float = 1.0) -> SampleLosses:
    """(phi, theta, rows) -> (..., rows), the token-mean cross-entropies of `batch`'s rows.

    phi is named as `adapter.tensors`, theta as the model's own parameters. For a stacked batch phi is stacked too
    and theta is shared. Keep `model` attached to the adapter's settings while it is used.
    """
    slots, stacked = model.slot_names(adapter), batch.ids.ndim == 3

    def of_task(phi: Parameters, theta: Meta, *tensors: Tensor) -> Tensor:
        swapped = {slots[name]: tensor for name, tensor in phi.items()} | theta

        def forward(**inputs: object) -> Tensor:
            logits: Tensor = functional_call(model.model, swapped, (), inputs).logits
            return logits

        return sample_losses(forward, SolutionBatch(*tensors), softening)

    def losses(phi: Parameters, theta: Meta, rows: slice) -> Tensor:
        tensors = [getattr(batch, name)[..., rows, :] for name in NAMES]
        if not stacked:
            return of_task(phi, theta, *tensors)
        found: Tensor = vmap(of_task, in_dims=(0, None, *[0] * len(tensors)))(phi, theta, *tensors)
        return found

    return losses


def pad(batch: SolutionBatch, pad_id: int, *, rows: int, length: int, kept: int) -> SolutionBatch:
    """The same samples in a larger shape: (rows, length), with logits at the last `kept` positions.

    Raises ValueError for a shape that they do not fit into.
    """
    more_rows, more_length = rows - batch.ids.shape[0], length - batch.ids.shape[1]
    before = kept - batch.targets.shape[1] - more_length
    if min(more_rows, more_length, before) < 0 or kept >= length:
        raise ValueError(f"{tuple(batch.ids.shape)} does not fit into {rows} rows of {length} with {kept} kept")
    repeat = torch.arange(rows).where(torch.arange(rows) < batch.ids.shape[0], torch.tensor(0))
    grow = torch.nn.functional.pad
    ids = grow(batch.ids, (0, more_length), value=pad_id)[repeat]
    return SolutionBatch(
        ids,
        grow(batch.mask, (0, more_length))[repeat],
        torch.arange(length).expand(rows, length),
        ids[:, length - kept :],
        grow(batch.counted, (before, more_length))[repeat],
    )


def stack(batches: Sequence[SolutionBatch], pad_id: int, *, rows: int = 2, length: int = 0) -> SolutionBatch:
    """Batches of different tasks as one, each padded to the largest; rows and length at least as given.

    A lone row is computed by other kernels than a row among several, hence two rows or more. A task alone has the
    bits that it has among others if it is stacked to the same rows and length, and to the same kept positions.
    """
    rows = max(rows, *(batch.ids.shape[0] for batch in batches))
    length = max(length, *(batch.ids.shape[1] for batch in batches))
    kept = length - min(batch.ids.shape[1] - batch.targets.shape[1] for batch in batches)
    padded = [pad(batch, pad_id, rows=rows, length=length, kept=kept) for batch in batches]
    return SolutionBatch(*(torch.stack([getattr(batch, name) for batch in padded]) for name in NAMES))
