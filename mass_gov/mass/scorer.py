"""The scorer: a small head that says, from the model's own view of a practice sample, how much it should weigh.

    score = W_out · gelu(W_in · [h, u] + b_in) + b_out

h is the base model's last hidden state, after its final norm, at the last token of the practise prompt and the sample's
tokens as written (end token included), without any adapter; u is how much the sample surprised the model while it was
written: the mean and the largest negative log-likelihood of its tokens, in nats.

Rules: the head is a dict of tensors and every function is pure, so that training can differentiate through it; one
task's samples make one batch, padded on the right, since a hidden state's last bits depend on the batch. Weights over
the samples are the softmax of their scores.

Does not know which samples were dropped and why, files (`core`), or what a score is trained for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from mass_gov.errors import SettingsError
from mass_gov.mass.sampling import uniform_table

INPUT_WEIGHT, INPUT_BIAS = "input.weight", "input.bias"
OUTPUT_WEIGHT, OUTPUT_BIAS = "output.weight", "output.bias"
NAMES = (INPUT_BIAS, INPUT_WEIGHT, OUTPUT_BIAS, OUTPUT_WEIGHT)
WIDTH = 64
"""Hidden units of a head unless told otherwise."""

Head = Mapping[str, Tensor]
SURPRISES = 2  # the mean and the largest negative log-likelihood


def initial_head(features: int, width: int = WIDTH, seed: int = 0) -> dict[str, Tensor]:
    """A head that scores everything 0, so that all weights start equal: a seeded first layer, a last layer of zeros."""
    if features < 1 or width < 1:
        raise SettingsError(f"a scorer needs at least one unit per layer, got {features} and {width}. Correct it.")
    bound = features**-0.5
    return {
        INPUT_WEIGHT: ((2.0 * uniform_table(seed, width, features) - 1.0) * bound).float(),
        INPUT_BIAS: torch.zeros(width),
        OUTPUT_WEIGHT: torch.zeros(1, width),
        OUTPUT_BIAS: torch.zeros(1),
    }


def score(head: Head, seen: Tensor) -> Tensor:
    """Scores (..., n) of features (..., n, d + 2)."""
    inner = functional.gelu(functional.linear(seen, head[INPUT_WEIGHT], head[INPUT_BIAS]))
    return functional.linear(inner, head[OUTPUT_WEIGHT], head[OUTPUT_BIAS])[..., 0]


def weights(scores: Tensor, kept: Tensor) -> Tensor:
    """Softmax of scores (..., n) over the samples that `kept` (..., n), a bool, names; 0 for the others.

    They add up to 1, or are all 0 where nothing was kept. Differentiable in the scores. `mass_gov.policy.samples` says
    the same about recorded scores, in exact arithmetic.
    """
    none = ~kept.any(dim=-1, keepdim=True)
    masked = torch.where(kept | none, scores, torch.full_like(scores, float("-inf")))
    return torch.softmax(masked, dim=-1) * kept


@dataclass(frozen=True)
class ScoringBatch:
    """Prompts with samples, padded on the right.

    ids, mask, positions: (batch, length); last: (batch,), the place of each row's last token; written: (batch,
    length - 1), whether the token after that place belongs to the sample.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor
    last: Tensor
    written: Tensor

    @property
    def positions_computed(self) -> int:
        """batch x length, padding included: what one forward pass costs."""
        return self.ids.numel()


def scoring_batch(rows: Sequence[tuple[Sequence[int], Sequence[int]]], pad_id: int) -> ScoringBatch:
    """A batch of (practise prompt's tokens, sample's tokens); a prompt may not be empty."""
    joined = [[*prompt, *sample] for prompt, sample in rows]
    length = max(map(len, joined))
    ids = torch.tensor([row + [pad_id] * (length - len(row)) for row in joined])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in joined])
    positions = torch.arange(length).expand(len(rows), length)
    last = torch.tensor([len(row) - 1 for row in joined])
    after = torch.tensor([len(prompt) for prompt, _ in rows])
    following = torch.arange(1, length)
    written = (following >= after[:, None]) & (following <= last[:, None])
    return ScoringBatch(ids, mask, positions, last, written)


def features(model: Any, batch: ScoringBatch) -> Tensor:
    """(batch, d + 2): what the head reads, by one forward pass of any Hugging Face causal LM."""
    return seen_in(model(**reading(batch)), batch)


def reading(batch: ScoringBatch) -> dict[str, Any]:
    """The keyword arguments of that pass."""
    return {
        "input_ids": batch.ids,
        "attention_mask": batch.mask,
        "position_ids": batch.positions,
        "use_cache": False,
        "output_hidden_states": True,
    }


def seen_in(output: Any, batch: ScoringBatch) -> Tensor:
    """(batch, d + 2) float32: what the head reads, from what that pass returned.

    Gradients flow into the hidden state where the caller wants them, never into the surprise: a generator must not
    learn to look sure.
    """
    rows = torch.arange(len(batch.last), device=batch.last.device)
    hidden = output.hidden_states[-1][rows, batch.last].float()
    return torch.cat([hidden, surprises(output.logits.detach()[:, :-1].float(), batch)], dim=-1)


def surprises(logits: Tensor, batch: ScoringBatch) -> Tensor:
    """(batch, 2): mean and largest negative log-likelihood of each sample's tokens, by logits one place before."""
    losses = functional.cross_entropy(logits.flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none")
    counted = losses.view_as(batch.written) * batch.written
    mean = counted.sum(dim=1) / batch.written.sum(dim=1).clamp(min=1)
    return torch.stack([mean, counted.amax(dim=1)], dim=1)


def mean_surprises(seen: Tensor) -> Tensor:
    """(batch,): the mean negative log-likelihood of each sample's tokens, in nats, as it stands in the features."""
    return seen[..., -SURPRISES]


def feature_size(model: Any) -> int:
    """d + 2, with d what the model's own output head reads."""
    return int(model.get_output_embeddings().weight.shape[1]) + SURPRISES


def head_digest(head: Head) -> str:
    """SHA-256 (hex) of the head as one safetensors file: what a change's leaf names a scorer by."""
    return hashlib.sha256(save({name: head[name].contiguous() for name in sorted(head)})).hexdigest()
