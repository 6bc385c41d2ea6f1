"""Cross-entropy of solutions given their prompts.

Rules: a loss is a token mean per sample, so that a long solution weighs no more than a short one; only solution
tokens (the end token included) count; logits are computed only from the shortest prompt's end on.

Does not know weights over samples or what the gradient is for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

BATCHING = "padded-right, one batch, logits from the shortest prompt on, v1"
"""Names this procedure in the fingerprint and changes with it."""

Forward = Callable[..., Tensor]  # the model's keyword arguments -> logits (batch, kept positions, vocabulary)


@dataclass(frozen=True, eq=False)
class SolutionBatch:
    """Prompts with solutions, padded on the right.

    ids, mask, positions: (batch, length); targets, counted: (batch, kept), the ids to predict at the last `kept`
    positions but one, and 1.0 where that id belongs to the solution.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor
    targets: Tensor
    counted: Tensor

    @property
    def positions_computed(self) -> int:
        """batch x length, padding included: what one forward pass costs."""
        return self.ids.numel()


def solution_batch(pairs: Sequence[tuple[Sequence[int], Sequence[int]]], pad_id: int) -> SolutionBatch:
    """A batch of (prompt tokens, solution tokens); neither may be empty."""
    length = max(len(prompt) + len(solution) for prompt, solution in pairs)
    kept = length - min(len(prompt) for prompt, _ in pairs)
    rows, masks, counted = [], [], []
    for prompt, solution in pairs:
        padding = length - len(prompt) - len(solution)
        rows.append([*prompt, *solution, *[pad_id] * padding])
        masks.append([1] * (length - padding) + [0] * padding)
        counted.append(([0.0] * len(prompt) + [1.0] * len(solution) + [0.0] * padding)[length - kept :])
    ids = torch.tensor(rows)
    positions = torch.arange(length).expand(len(rows), length)
    return SolutionBatch(ids, torch.tensor(masks), positions, ids[:, length - kept :], torch.tensor(counted))


def target_logits(forward: Forward, batch: SolutionBatch) -> Tensor:
    """(batch, kept, vocabulary): what the model gives for each target's place."""
    return forward(
        input_ids=batch.ids,
        attention_mask=batch.mask,
        position_ids=batch.positions,
        use_cache=False,
        logits_to_keep=batch.targets.shape[1] + 1,
    )[:, :-1]


def token_losses(forward: Forward, batch: SolutionBatch, softening: float = 1.0) -> Tensor:
    """(batch, kept): -log softmax(logits / softening) of each target, 0 where it is not counted."""
    flat = (target_logits(forward, batch) / softening).flatten(0, 1)
    losses = functional.cross_entropy(flat, batch.targets.flatten(), reduction="none")
    return losses.view_as(batch.targets) * batch.counted


def sample_losses(forward: Forward, batch: SolutionBatch, softening: float = 1.0) -> Tensor:
    """(batch,): the token mean l_i of each sample."""
    return token_losses(forward, batch, softening).sum(dim=1) / batch.counted.sum(dim=1)


def counted_losses(logits: Tensor, batch: SolutionBatch, softening: float = 1.0) -> Tensor:
    """(batch,): what `sample_losses` gives, from the (tokens, vocabulary) logits at the counted targets alone."""
    counted = batch.counted.bool()
    losses = functional.cross_entropy(logits / softening, batch.targets[counted], reduction="none")
    return torch.zeros_like(batch.counted).masked_scatter(counted, losses).sum(dim=1) / batch.counted.sum(dim=1)
