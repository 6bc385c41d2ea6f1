"""How far a state's behaviour moved from the base: KL(base ‖ state) per token, on given texts.

Teacher-forced: both models read the same prompt and solution, and at every solution token the divergence of their two
next-token distributions is taken over the whole vocabulary, in nats and in float64,

    KL_t = sum_v p_base(v | x_<t) (log p_base(v | x_<t) - log p_state(v | x_<t)).

Nothing is generated. The texts' tokens and what the base gives depend on the texts alone, so they are kept between
calls, for one set of texts and up to `MOST_KEPT` bytes; the figures are the same bits with and without.

Does not know where the texts come from or how much is too much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from mass_gov.mass.losses import SolutionBatch

MOST_KEPT = 256 * 2**20
"""Bytes of base logits: 256 MiB are 100,000 tokens of a small vocabulary and 430 of a large one."""


@dataclass(frozen=True)
class ReadByBase:
    """One set of texts as the base reads it: batches, the (tokens, vocabulary) logits of each, and whose rows they are.

    A text that cannot be put to the model has no row; `places` names the others.
    """

    batches: Sequence[SolutionBatch]
    logits: Sequence[Tensor]
    places: Sequence[int]
    count: int
    """Of texts, with those that have no row."""

    def divergences(self, state: Sequence[Tensor]) -> tuple[tuple[float, ...], ...]:
        """KL(base ‖ state) at the solution tokens of every text, from the state's logits of each batch."""
        rows: list[tuple[float, ...]] = []
        for batch, before, after in zip(self.batches, self.logits, state, strict=True):
            values: list[float] = divergences(before, after).tolist()
            ends = batch.counted.sum(dim=1).long().cumsum(dim=0).tolist()
            rows += [tuple(values[start:end]) for start, end in pairwise([0, *ends])]
        by_place = dict(zip(self.places, rows, strict=True))
        return tuple(by_place.get(place, ()) for place in range(self.count))


class Remembered:
    """The last set of texts that the base read."""

    def __init__(self) -> None:
        self._name: object = None
        self._kept: ReadByBase | None = None

    def of(self, name: object, read: Callable[[], ReadByBase]) -> ReadByBase:
        """What `read` gives for the texts called `name`, from memory if they were the last."""
        if self._kept is not None and self._name == name:
            return self._kept
        found = read()
        fits = sum(tensor.nbytes for tensor in found.logits) <= MOST_KEPT
        self._name, self._kept = (name, found) if fits else (None, None)
        return found


def divergences(base: Tensor, state: Tensor) -> Tensor:
    """(tokens,): KL(base ‖ state) in nats, from two (tokens, vocabulary) logits.

    Rounding can leave a divergence of nothing a hair below zero; it is then zero.
    """
    p, q = (torch.log_softmax(logits.double(), dim=-1) for logits in (base, state))
    return torch.clamp((p.exp() * (p - q)).sum(dim=-1), min=0.0)
