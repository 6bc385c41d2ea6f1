"""The two-level problem of one task, and what its meta-gradient is made of.

Symbols (DESIGN section 8): phi the adapter's tensors, theta the meta-parameters that both losses may read, s_i the
score of sample i, alpha the step sizes; phi_{k+1} = phi_k - alpha * grad_phi sum_i s_i l_i(phi_k, theta), K times, and
then L_outer(phi_K, theta).

Rules: values only; the tensors given may hang on anybody's autograd graph, the gradients found do not, and
`MetaGradient.backward` is the one place where they are handed over. A scorer that is off the graph is an error there.

Does not know how a gradient is computed (`meta_gradient`, `meta_gradient_oracles`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from mass_gov.errors import SettingsError
from mass_gov.mass.inner_loop import InnerTrace, Parameters, StepSize

Meta = Parameters
SampleLosses = Callable[[Parameters, Meta, slice], Tensor]
"""(phi, theta, rows) -> (..., rows): l_i of those samples, unweighted; a pure function of its arguments."""
OuterLoss = Callable[[Parameters, Meta], Tensor]
"""(phi_K, theta) -> (): what the adapted model should be good at."""
Mode = Literal["exact", "first-order"]


@dataclass(frozen=True)
class BilevelTask:
    """One task: samples with scores to practise on, and an outer loss to judge the result.

    scores: (m,), or (tasks, m) where the losses and phi are stacked over tasks (`batched`). step_sizes: by name in
    `start`, numbers or tensors that broadcast to the parameter, so () for a scalar learned per module.
    """

    losses: SampleLosses
    outer: OuterLoss
    start: Parameters
    step_sizes: Mapping[str, StepSize]
    scores: Tensor
    meta: Meta = field(default_factory=dict)


@dataclass(frozen=True)
class SweepSettings:
    """How far and how exactly to differentiate.

    steps: K. mode: `exact`, or `first-order`, which takes every second derivative as zero (FOMAML; Finn et al., 2017,
    arXiv 1703.03400, section 5.2). truncation: go back through the last t steps only (Shaban et al., 2019, arXiv
    1810.10667); phi_{K-t} then stands for the start. micro_batch: how many samples are computed at once.
    start_gradient: False saves the second derivatives of the earliest step where no theta wants them either
    (attribution only).
    """

    steps: int = 1
    mode: Mode = "exact"
    truncation: int | None = None
    micro_batch: int | None = None
    start_gradient: bool = True

    def __post_init__(self) -> None:
        """Raise SettingsError for numbers that mean nothing."""
        for name in ("steps", "truncation", "micro_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} is {value}. Give 1 or more.")
        if self.mode not in ("exact", "first-order"):
            raise SettingsError(f"there is no meta-gradient mode {self.mode!r}. Use exact or first-order.")

    @property
    def steps_back(self) -> int:
        """How many steps the sweep goes back through."""
        return min(self.steps, self.truncation or self.steps)

    def rows(self, scores: Tensor) -> list[slice]:
        """The samples, in parts of at most `micro_batch`."""
        count, size = scores.shape[-1], self.micro_batch or scores.shape[-1]
        return [slice(first, min(first + size, count)) for first in range(0, count, size)]


@dataclass(frozen=True)
class MetaGradient:
    """The outer loss and its exact derivatives, all detached.

    scores: dL/ds, the attribution g_i of each sample. step_sizes, meta: by name. start: dL/dphi_0, empty if not asked
    for. Where anything on the way was not finite, `finite` is False, every gradient is zero and the task teaches
    nothing.
    """

    outer_loss: float
    parameters: Parameters
    scores: Tensor
    step_sizes: Parameters
    start: Parameters
    meta: Parameters
    trace: InnerTrace
    steps_reversed: int
    finite: bool = True

    def backward(self, task: BilevelTask, weight: float = 1.0) -> None:
        """Add `weight` times these gradients to the `.grad` of whatever the task's tensors were computed from.

        Step sizes, start and meta-parameters may be constants; scores that no scorer can learn from are an error.
        """
        if not task.scores.requires_grad:
            raise SettingsError("the scores are detached: their scorer would learn nothing. Keep them on its graph.")
        given = {("scores", ""): task.scores} | {
            (kind, name): tensor
            for kind in ("step_sizes", "start", "meta")
            for name, tensor in getattr(task, kind).items()
            if name in getattr(self, kind) and isinstance(tensor, Tensor) and tensor.requires_grad
        }
        found = [self.scores if kind == "scores" else getattr(self, kind)[name] for kind, name in given]
        torch.autograd.backward(list(given.values()), [weight * gradient for gradient in found])


def detached(tensors: Parameters) -> Parameters:
    """The same values as leaves of a new graph."""
    return {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}


def step_size_tensors(task: BilevelTask) -> Parameters:
    """Every step size as a detached tensor beside its parameter. Raises SettingsError where one is missing."""
    missing = sorted(set(task.start) - set(task.step_sizes))
    if missing:
        raise SettingsError(f"there is no step size for {missing[0]}. Give one for every parameter.")
    sizes = {}
    for name, parameter in task.start.items():
        size = task.step_sizes[name]
        sizes[name] = torch.as_tensor(size, dtype=parameter.dtype, device=parameter.device).detach()
    return sizes
