"""The exact meta-gradient by one reverse sweep over the inner steps (DESIGN section 8).

With G_k = grad_phi sum_i s_i l_i(phi_k, theta) and phi_{k+1} = phi_k - alpha * G_k:

    v = grad_phi L_outer(phi_K, theta);  for k = K-1 .. 0, with w = alpha * v:
        ds_i    -= <grad_phi l_i(phi_k), w>
        dalpha  -= G_k * v                   (summed to alpha's shape)
        dtheta  -= grad_theta <G_k, w>       (on top of grad_theta L_outer)
        v       -= H_k w                     (v is dphi_0 in the end)

Rules: one double backward per step gives all of it, its activations are computed again and freed; across steps only the
states phi_k live. Where neither v nor dtheta is wanted any more, all <grad l_i, w> are one
forward-mode product without a graph. What the forward loop found is found again on the way back, or it is an error;
K steps forward and as many back are counted.

Does not know models, text, scorers or rewards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad as _forward_ad

from mass_gov.errors import ModelError
from mass_gov.mass.bilevel import BilevelTask, MetaGradient, SweepSettings, detached, step_size_tensors
from mass_gov.mass.inner_loop import (
    InnerTrace,
    Loss,
    Parameters,
    gradient_descent,
    nothing_hidden,
    run_inner_loop,
)

# Relative; rounding stays far below, dropout or a stale parameter far above. A slope is a sum that other kernels add
# up, in bfloat16 perhaps; a value is the same forward pass again.
VALUE_AGREEMENT, SLOPE_AGREEMENT = 1e-3, 5e-2
forward_ad: Any = _forward_ad  # untyped in torch


@dataclass(frozen=True)
class Adjoint:
    """What has been found on the way back: v and the sums so far. `steps` counts the steps gone back through."""

    parameters: Parameters
    scores: Tensor
    step_sizes: Parameters
    meta: Parameters
    steps: int = 0


@dataclass(frozen=True)
class StepBack:
    """One step's part: the inner loss as found again, G, (m,) <grad l_i, w>, H w and grad_theta <G, w>."""

    value: float
    gradients: Parameters
    scores: Tensor
    parameters: Parameters
    meta: Parameters


PullBack = Callable[[BilevelTask, SweepSettings, Parameters, Parameters, bool], StepBack]
"""(task, settings, phi_k, w, whether v is still wanted) -> this step's part."""


def meta_gradient(task: BilevelTask, settings: SweepSettings) -> MetaGradient:
    """Run K inner steps, the outer loss, and the sweep back.

    Raises SettingsError or ModelError for what cannot be differentiated as asked, AssertionError for a skipped step.

    Example:
        result = meta_gradient(BilevelTask(losses, outer, phi, {name: 0.1 for name in phi}, scores), SweepSettings(2))
        result.backward(task)  # into the scorer, the step sizes, the start and theta
    """
    return reverse_sweep(task, settings, double_backward)


def reverse_sweep(task: BilevelTask, settings: SweepSettings, pull_back: PullBack) -> MetaGradient:
    """The sweep with another way to go back through one step (an oracle's, say)."""
    trace = run_forward(task, settings)
    if not trace.finite:
        return nothing_learned(task, settings, trace, math.nan)
    outer, adjoint = _outer(task, settings, trace.parameters)
    for index in reversed(range(settings.steps - settings.steps_back, settings.steps)):
        adjoint = _go_back(task, settings, trace, index, adjoint, pull_back)
    if not adjoint.steps == settings.steps_back == settings.steps - index:
        raise AssertionError(f"the sweep went back through {adjoint.steps} of {settings.steps_back} steps")
    start = adjoint.parameters if settings.start_gradient else {}
    result = MetaGradient(
        outer,
        trace.parameters,
        adjoint.scores,
        adjoint.step_sizes,
        start,
        adjoint.meta,
        replace(trace, steps=()),
        adjoint.steps,
    )
    return result if is_finite(result) else nothing_learned(task, settings, trace, outer)


def run_forward(task: BilevelTask, settings: SweepSettings) -> InnerTrace:
    """The inner loop with every phi_k kept, and G_k where the way back will not compute it again."""
    scores, meta = task.scores.detach(), _constant(task.meta)

    def part(rows: slice) -> Loss:
        return lambda parameters: (scores[..., rows] * task.losses(parameters, meta, rows)).sum()

    optimizer = gradient_descent(step_size_tensors(task))
    parts, steps = [part(rows) for rows in settings.rows(scores)], range(settings.steps)
    keep = [k for k in steps if _needs_no_graph(task, settings, k)]
    return run_inner_loop(parts, _constant(task.start), optimizer, settings.steps, keep_steps=True, keep_gradients=keep)


def is_finite(result: MetaGradient) -> bool:
    """Whether the outer loss and every gradient are finite."""
    found = [result.scores, *result.step_sizes.values(), *result.start.values(), *result.meta.values()]
    return math.isfinite(result.outer_loss) and all(bool(torch.isfinite(tensor).all()) for tensor in found)


def _outer(task: BilevelTask, settings: SweepSettings, parameters: Parameters) -> tuple[float, Adjoint]:
    """L_outer and its direct gradients: v = dL/dphi_K and dL/dtheta."""
    leaves, meta = detached(parameters), detached(task.meta)
    with nothing_hidden():
        loss = task.outer(leaves, meta)
        gradients = torch.autograd.grad(loss, [*leaves.values(), *meta.values()], materialize_grads=True)
    found = dict(zip([*leaves, *(("meta", name) for name in meta)], gradients, strict=True))
    adjoint = Adjoint(
        {name: found[name] for name in leaves},
        torch.zeros_like(task.scores.detach()),
        {name: torch.zeros_like(size) for name, size in step_size_tensors(task).items()},
        {name: found["meta", name] for name in meta},
    )
    return float(loss.detach()), adjoint


def _wants_state(settings: SweepSettings, index: int) -> bool:
    """Whether v is wanted before this step, too."""
    return settings.start_gradient or index > settings.steps - settings.steps_back


def _needs_no_graph(task: BilevelTask, settings: SweepSettings, index: int) -> bool:
    """Whether a step gives nothing but attributions."""
    return settings.mode == "first-order" or not (_wants_state(settings, index) or task.meta)


def _go_back(
    task: BilevelTask, settings: SweepSettings, trace: InnerTrace, index: int, adjoint: Adjoint, pull_back: PullBack
) -> Adjoint:
    step, v, sizes = trace.steps[index], adjoint.parameters, step_size_tensors(task)
    w = {name: sizes[name] * tensor for name, tensor in v.items()}
    if step.gradients is not None:
        part = tangents(task, settings, step.parameters, w, step.gradients)
    else:
        part = pull_back(task, settings, step.parameters, w, _wants_state(settings, index))
    _check_again(part, w, task.scores.detach(), trace.losses[index], _step_along(trace, index, v))
    return Adjoint(
        {name: tensor - part.parameters[name] if name in part.parameters else tensor for name, tensor in v.items()},
        adjoint.scores - part.scores,
        {n: size - (part.gradients[n] * v[n]).sum_to_size(size.shape) for n, size in adjoint.step_sizes.items()},
        {name: tensor - part.meta[name] if name in part.meta else tensor for name, tensor in adjoint.meta.items()},
        adjoint.steps + 1,
    )


def double_backward(
    task: BilevelTask, settings: SweepSettings, parameters: Parameters, w: Parameters, wanted: bool
) -> StepBack:
    """Differentiate <G(phi, theta, s), w> by a second backward pass, micro-batch by micro-batch."""
    value, scores = 0.0, torch.zeros_like(task.scores.detach())
    found = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
    leaves, meta = detached(parameters), detached(task.meta)
    inputs = [*(leaves.values() if wanted else ()), *meta.values()]
    sums = [torch.zeros_like(tensor) for tensor in inputs]
    for rows in settings.rows(scores):
        weights = task.scores.detach()[..., rows].clone().requires_grad_()
        with nothing_hidden():
            loss = (weights * task.losses(leaves, meta, rows)).sum()
            gradients = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
            of_scores, *rest = torch.autograd.grad(
                gradients, [weights, *inputs], grad_outputs=[w[name] for name in leaves], materialize_grads=True
            )
        value += float(loss.detach())
        found = {name: total + more.detach() for (name, total), more in zip(found.items(), gradients, strict=True)}
        del loss, gradients  # the graph goes before the next one is built
        scores[..., rows] = of_scores
        sums = [total + more for total, more in zip(sums, rest, strict=True)]
    names = list(leaves) if wanted else []
    of_parameters = dict(zip(names, sums, strict=False))
    return StepBack(value, found, scores, of_parameters, dict(zip(meta, sums[len(names) :], strict=True)))


def tangents(
    task: BilevelTask, settings: SweepSettings, parameters: Parameters, w: Parameters, gradients: Parameters
) -> StepBack:
    """Every <grad l_i, w> by one forward-mode product of the loss vector, with no graph; no second derivatives."""
    weights, found, value = task.scores.detach(), [], 0.0
    meta = _constant(task.meta)
    for rows in settings.rows(weights):
        with torch.no_grad(), forward_ad.dual_level():
            dual = {name: forward_ad.make_dual(tensor.detach(), w[name]) for name, tensor in parameters.items()}
            losses, tangent = forward_ad.unpack_dual(task.losses(dual, meta, rows))
            found.append(torch.zeros_like(losses) if tangent is None else tangent)
            value += float((weights[..., rows] * losses).sum())
    return StepBack(value, gradients, torch.cat(found, dim=-1), {}, {})


def _step_along(trace: InnerTrace, index: int, v: Parameters) -> tuple[float, float]:
    """<phi_k - phi_{k+1}, v>, which is <G_k, w> as the forward loop had it, and what rounding may make of it."""
    here = trace.steps[index].parameters
    there = trace.steps[index + 1].parameters if index + 1 < len(trace.steps) else trace.parameters
    slope = sum(float(((here[n] - there[n]).double() * v[n].double()).sum()) for n in v)
    blur = sum(torch.finfo(v[n].dtype).eps * float((here[n] * v[n]).double().abs().sum()) for n in v)
    return slope, blur


def _check_again(part: StepBack, w: Parameters, scores: Tensor, value: float, along: tuple[float, float]) -> None:
    """What the forward loop found must be found again: the loss, and <G_k, w> = sum_i s_i <grad l_i, w>."""
    by_parameter = torch.stack([(part.gradients[n].double() * w[n].double()).sum() for n in w])
    by_sample = (scores.double() * part.scores.double()).flatten()
    (expected, blur), found = along, float(by_sample.sum())
    scale = float(by_parameter.abs().sum() + by_sample.abs().sum())
    terms = 1e-2 * float(scores.abs().sum())  # scores of both signs may cancel in the value, rounding does not
    off = abs(part.value - value) > VALUE_AGREEMENT * (abs(value) + terms)
    if off or abs(found - expected) > SLOPE_AGREEMENT * scale + blur:
        raise ModelError(
            f"the inner loss of a step was {value:.6g} going forward and {part.value:.6g} going back, its slope "
            f"{expected:.6g} and {found:.6g}. Switch dropout off and let the losses depend on their arguments alone."
        )


def nothing_learned(task: BilevelTask, settings: SweepSettings, trace: InnerTrace, outer: float) -> MetaGradient:
    """Of a task that diverged: zero gradients."""
    zeros = {name: torch.zeros_like(tensor.detach()) for name, tensor in task.start.items()}
    return MetaGradient(
        outer,
        trace.parameters,
        torch.zeros_like(task.scores.detach()),
        {name: torch.zeros_like(size) for name, size in step_size_tensors(task).items()},
        zeros if settings.start_gradient else {},
        {name: torch.zeros_like(tensor.detach()) for name, tensor in task.meta.items()},
        replace(trace, steps=()),
        0,
        finite=False,
    )


def _constant(tensors: Parameters) -> Parameters:
    return {name: tensor.detach() for name, tensor in tensors.items()}
