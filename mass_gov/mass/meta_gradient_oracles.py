"""Two other ways to the same meta-gradient, kept as judges of the sweep: slower, larger, and independent of it.

Rules: same arguments and result as `meta_gradient.meta_gradient`, so that anything that calls one can be judged by
the others. Finite differences, the third judge, need no code here.

Does not know how the sweep goes back through a step.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mass_gov.errors import SettingsError
from mass_gov.mass.bilevel import BilevelTask, MetaGradient, SweepSettings, detached, step_size_tensors
from mass_gov.mass.inner_loop import Parameters, gradient_descent, run_inner_loop
from mass_gov.mass.meta_gradient import StepBack, nothing_learned, reverse_sweep


def naive_unroll(task: BilevelTask, settings: SweepSettings) -> MetaGradient:
    """Keep all K steps on one autograd graph and differentiate once: memory grows with K."""
    if settings.mode != "exact" or settings.truncation is not None:
        raise SettingsError("naive unrolling is exact and whole. Use the sweep for other modes.")
    start, meta, sizes = detached(task.start), detached(task.meta), detached(step_size_tensors(task))
    scores = task.scores.detach().clone().requires_grad_()

    def loss(parameters: Parameters) -> Tensor:
        return (scores * task.losses(parameters, meta, slice(0, scores.shape[-1]))).sum()

    trace = run_inner_loop(loss, start, gradient_descent(sizes), settings.steps, differentiable=True)
    if not trace.finite:
        return nothing_learned(task, settings, trace, math.nan)
    outer = task.outer(trace.parameters, meta)
    inputs = [scores, *sizes.values(), *start.values(), *meta.values()]
    found = iter(torch.autograd.grad(outer, inputs, materialize_grads=True))
    of_scores = next(found)
    of_sizes, of_start, of_meta = ({name: next(found) for name in group} for group in (sizes, start, meta))
    parameters = {name: tensor.detach() for name, tensor in trace.parameters.items()}
    done = trace.steps_done
    return MetaGradient(
        float(outer.detach()),
        parameters,
        of_scores,
        of_sizes,
        of_start,
        of_meta,
        replace(trace, parameters=parameters),
        done,
    )


def forward_over_reverse(task: BilevelTask, settings: SweepSettings) -> MetaGradient:
    """The sweep, going back through a step by the forward-mode derivative of its gradient along w."""
    return reverse_sweep(task, settings, _tangent_of_gradient)


def _tangent_of_gradient(
    task: BilevelTask, settings: SweepSettings, parameters: Parameters, w: Parameters, wanted: bool
) -> StepBack:
    scores, meta = task.scores.detach(), {name: tensor.detach() for name, tensor in task.meta.items()}

    def loss(phi: Parameters, theta: Parameters, weights: Tensor) -> Tensor:
        return (weights * task.losses(phi, theta, slice(0, weights.shape[-1]))).sum()

    def gradients(phi: Parameters) -> tuple[tuple[Parameters, Parameters, Tensor], Tensor]:
        found: tuple[tuple[Parameters, Parameters, Tensor], Tensor] = torch.func.grad_and_value(loss, (0, 1, 2))(
            phi, meta, scores
        )
        return found

    phi = {name: tensor.detach() for name, tensor in parameters.items()}
    jvp: Any = torch.func.jvp
    ((found, _, _), value), ((of_parameters, of_meta, of_scores), _) = jvp(gradients, (phi,), (w,))
    return StepBack(float(value), found, of_scores, of_parameters if wanted else {}, of_meta)
