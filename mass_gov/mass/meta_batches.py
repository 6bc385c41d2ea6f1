"""Token rows for meta-training, and their losses under any setting of the model's weights.

Rules: everything is a pure function of (theta, adapters); rows are padded on the right and carry how many of their
tokens count. Does not know tasks, rewards or optimizers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from mass_gov.mass import losses, scorer
from mass_gov.mass.batched_learner import moved
from mass_gov.mass.batched_lora import BatchedLora
from mass_gov.mass.inner_loop import Parameters
from mass_gov.mass.text import Tokens

Rows = Sequence[tuple[Tokens, Tokens]]  # (prompt, continuation)


class Network:
    """The model as a function: theta and adapters in, losses out."""

    def __init__(self, lora: BatchedLora, pad_id: int, device: torch.device) -> None:
        self.lora = lora
        self.device = device
        self._pad_id = pad_id

    def batch(self, rows: Rows) -> losses.SolutionBatch:
        """The rows as one padded batch on the model's device."""
        return moved(losses.solution_batch(rows, self._pad_id), self.device)

    def token_losses(
        self, theta: Parameters, adapters: Mapping[str, Tensor] | None, batch: losses.SolutionBatch, soft: float = 1.0
    ) -> Tensor:
        """(rows, kept): cross-entropy of each counted token, 0 elsewhere."""
        with self.lora.using(adapters) as model:

            def forward(**inputs: object) -> Tensor:
                logits: Tensor = functional_call(model, theta, (), inputs, tie_weights=True).logits
                return logits.float()

            return losses.token_losses(forward, batch, soft)

    def sample_losses(
        self, theta: Parameters, adapters: Mapping[str, Tensor] | None, batch: losses.SolutionBatch, soft: float = 1.0
    ) -> Tensor:
        """(rows,): the token mean of each row."""
        return self.token_losses(theta, adapters, batch, soft).sum(dim=1) / batch.counted.sum(dim=1)

    def read(self, theta: Parameters, rows: Rows, temperature: float) -> tuple[Tensor, Tensor]:
        """What the generator's own pass over its samples gives: (rows,) summed losses, (rows, features) of the scorer.

        The losses are those of the policy that sampled, softmax(logits / temperature). One forward pass for both; the
        surprise among the features carries no gradient and is the model's own, at temperature 1.
        """
        batch = moved(scorer.scoring_batch(rows, self._pad_id), self.device)
        with self.lora.using(None) as model:
            output = functional_call(model, theta, (), scorer.reading(batch), tie_weights=True)
        logits = output.logits[:, :-1].float()
        policy = (logits / temperature).flatten(0, 1)
        flat = torch.nn.functional.cross_entropy(policy, batch.ids[:, 1:].flatten(), reduction="none")
        summed = (flat.view_as(batch.written) * batch.written).sum(dim=1)
        return summed, scorer.seen_in(output, batch)
