"""Random steps of a given length.

Rules: per task and module, directions for A and B are normal draws with the norms of the real step, then scaled
together until the change of the weights, BA - B0A0, has the real step's Frobenius norm. Draws depend on the task's seed
and the module's name alone.

Does not know what a step was taken on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mass_gov.mass.rivals.values import derived_seed

_ROUNDS = 30
_A, _B = ".lora_A.", ".lora_B."


def random_delta(start: Mapping[str, Tensor], moved: Mapping[str, Tensor], seeds: Sequence[int]) -> dict[str, Tensor]:
    """`start` plus a random step of each task and module, as long as the one to `moved`. Tensors are (tasks, ...)."""
    found: dict[str, Tensor] = {}
    for first in (name for name in start if _A in name):
        second = first.replace(_A, _B)
        a, b = start[first], start[second]
        step_a = _direction(moved[first] - a, seeds, first)
        step_b = _direction(moved[second] - b, seeds, second)
        wanted = _length(moved[first], moved[second], a, b)
        scale = _matching(a, b, step_a, step_b, wanted)
        found[first], found[second] = a + scale * step_a, b + scale * step_b
    return {name: found[name] for name in start}


def _direction(step: Tensor, seeds: Sequence[int], name: str) -> Tensor:
    """Normal draws (tasks, ...) with the norm of each task's step."""
    shape = tuple(step.shape[1:])
    rows = [np.random.default_rng(derived_seed(seed, name)).standard_normal(shape) for seed in seeds]
    drawn = torch.from_numpy(np.stack(rows)).to(step)
    return drawn * (_norm(step) / _norm(drawn))


def _matching(a: Tensor, b: Tensor, step_a: Tensor, step_b: Tensor, wanted: Tensor) -> Tensor:
    """The factor per task, (tasks, 1, 1), by bisection on its logarithm: the length grows with the factor."""
    low, high = torch.full_like(wanted, -12.0), torch.full_like(wanted, 12.0)
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        factor = middle.exp()
        short = _length(a + factor * step_a, b + factor * step_b, a, b) < wanted
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return ((low + high) / 2).exp()


def _length(a: Tensor, b: Tensor, a0: Tensor, b0: Tensor) -> Tensor:
    """(tasks, 1, 1): the Frobenius norm of BA - B0A0."""
    return _norm(torch.bmm(b, a) - torch.bmm(b0, a0))


def _norm(tensor: Tensor) -> Tensor:
    lengths: Tensor = tensor.flatten(1).norm(dim=1)
    return lengths[:, None, None]
