"""The inner loop for several tasks at once, each with its own adapter, samples and scores.

Rules: the tasks share nothing but the model, and what becomes of one does not touch another: a task that leaves the
finite numbers stops where it was, alone. Each task's bits are those of `run_inner_loop(..., functional=True)` on it, as
long as its tensors have the same padded shape there and hold at least two rows (`adapter_losses.stack`).

Does not know models or LoRA: it is given a loss of one task's parameters and inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from mass_gov.mass.inner_loop import (
    InnerOptimizer,
    InnerTrace,
    Parameters,
    all_finite,
    norm_of,
    nothing_hidden,
)

TaskLoss = Callable[..., Tensor]
"""(phi, *inputs) of one task -> (): its weighted inner loss."""


def run_inner_loops(
    loss: TaskLoss, starts: Sequence[Parameters], inputs: Sequence[Tensor], optimizer: InnerOptimizer, steps: int
) -> list[InnerTrace]:
    """Take `steps` steps of `optimizer` on every task at once; one trace per task, as `run_inner_loop` gives it.

    starts: phi_0 of each task. inputs: what `loss` takes besides, stacked, (tasks, ...). Raises AssertionError where a
    task that stayed finite has fewer steps than were asked for, and ModelError as `run_inner_loop` does.
    """
    stacked = {name: torch.stack([start[name].detach() for start in starts]) for name in starts[0]}
    traces = [InnerTrace(start, (), (), 0) for start in starts]
    state, step = optimizer.init(stacked), vmap(grad_and_value(loss))
    for _ in range(steps):
        with nothing_hidden(), torch.no_grad():
            gradients, values = step(stacked, *inputs)
        updates, state = optimizer.update(gradients, state, stacked)
        stacked = {name: tensor + updates[name] for name, tensor in stacked.items()}
        traces = [
            _extend(trace, values[i], unstack(gradients, i), unstack(stacked, i)) for i, trace in enumerate(traces)
        ]
    for trace in traces:
        if trace.finite and not trace.steps_done == state.step == steps:
            raise AssertionError(f"the inner loop took {min(trace.steps_done, state.step)} of {steps} steps")
    return traces


def unstack(tensors: Parameters, index: int) -> Parameters:
    """One task's part of stacked tensors."""
    return {name: tensor[index] for name, tensor in tensors.items()}


def _extend(trace: InnerTrace, value: Tensor, gradients: Parameters, moved: Parameters) -> InnerTrace:
    norm = norm_of(gradients)
    if not (trace.finite and torch.isfinite(value) and math.isfinite(norm) and all_finite(moved)):
        return replace(trace, finite=False)
    losses, norms = (*trace.losses, float(value)), (*trace.gradient_norms, norm)
    return InnerTrace({name: tensor.clone() for name, tensor in moved.items()}, losses, norms, trace.steps_done + 1)
