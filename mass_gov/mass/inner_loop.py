"""The inner loop: K gradient steps on the adapter, phi_{k+1} = phi_k - alpha * grad_phi L(phi_k).

Rules: an optimiser is an (init, update) pair of pure functions over `{name: tensor}` (the shape of optax's
GradientTransformation); parameters are never changed in place, so every phi_k stays valid; the loop proves that it
took the steps it was asked for. With `differentiable`, each step stays on the autograd graph (naive unrolling). A loss
that hides work from autograd (gradient checkpointing, saved-tensor hooks) is refused: parameters are swapped into the
model only while the loss is computed, so what is recomputed later would silently use others.

Does not know models, samples or LoRA: it is given a loss of the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mass_gov.errors import ModelError

Parameters = dict[str, Tensor]
Loss = Callable[[Parameters], Tensor]
StepSize = float | Tensor
_HIDING = ("saved tensor hooks", "use_reentrant")  # in the messages of torch, where it sees checkpointing


@dataclass(frozen=True)
class InnerState:
    """How many updates were made."""

    step: int


class InnerOptimizer(NamedTuple):
    """init(parameters) -> state; update(gradients, state, parameters) -> (additive updates, state)."""

    init: Callable[[Parameters], InnerState]
    update: Callable[[Parameters, InnerState, Parameters], tuple[Parameters, InnerState]]


def gradient_descent(step_sizes: Mapping[str, StepSize]) -> InnerOptimizer:
    """Plain descent, u = -alpha_name * g_name, with a step size per parameter (a number or a learned scalar)."""

    def init(parameters: Parameters) -> InnerState:
        return InnerState(step=0)

    def update(gradients: Parameters, state: InnerState, parameters: Parameters) -> tuple[Parameters, InnerState]:
        updates = {name: -step_sizes[name] * gradient for name, gradient in gradients.items()}
        return updates, InnerState(state.step + 1)

    return InnerOptimizer(init, update)


class InnerStep(NamedTuple):
    """Where a step started, phi_k, and the gradient of the inner loss there, if it was asked for."""

    parameters: Parameters
    gradients: Parameters | None


@dataclass(frozen=True)
class InnerTrace:
    """What K steps did: phi_K, the loss before each step, each gradient's norm over all parameters, K as counted.

    A non-finite loss or gradient ends the loop early, `finite` is then False and `parameters` is the last finite phi.
    `steps` is empty unless the loop was asked to keep them.
    """

    parameters: Parameters
    losses: tuple[float, ...]
    gradient_norms: tuple[float, ...]
    steps_done: int
    finite: bool = True
    steps: tuple[InnerStep, ...] = ()


def run_inner_loop(
    loss: Loss | Sequence[Loss],
    parameters: Parameters,
    optimizer: InnerOptimizer,
    steps: int,
    *,
    differentiable: bool = False,
    functional: bool = False,
    keep_steps: bool = False,
    keep_gradients: Collection[int] = (),
) -> InnerTrace:
    """Take `steps` steps of `optimizer` on `loss`, from `parameters` (not changed).

    A sequence of losses stands for their sum; the graph of one is freed before the next is built. `functional` takes
    the gradient by torch.func, with the bits that the loop batched over tasks has (`batched`). keep_steps puts every
    phi_k into the trace, and G_k too for the k in keep_gradients.

    Raises AssertionError if fewer steps ran than were asked for while everything stayed finite: a loop that silently
    takes one step has happened to others. Raises ModelError for a loss that hides work from autograd.
    """
    parts = (loss,) if callable(loss) else tuple(loss)
    state, losses, norms, kept = optimizer.init(parameters), list[float](), list[float](), list[InnerStep]()
    for k in range(steps):
        value, gradients = _value_and_gradients(parts, parameters, differentiable, functional)
        norm = norm_of(gradients)
        updates, moved_state = optimizer.update(gradients, state, parameters)
        moved = {name: parameter + updates[name] for name, parameter in parameters.items()}
        if not (torch.isfinite(value) and math.isfinite(norm) and all_finite(moved)):
            return InnerTrace(parameters, tuple(losses), tuple(norms), state.step, False, tuple(kept))
        if keep_steps:
            kept.append(InnerStep(parameters, gradients if k in keep_gradients else None))
        parameters, state = moved, moved_state
        losses.append(float(value))
        norms.append(norm)
    if not state.step == len(losses) == steps:
        raise AssertionError(f"the inner loop took {state.step} of {steps} steps")
    return InnerTrace(parameters, tuple(losses), tuple(norms), state.step, True, tuple(kept))


@contextmanager
def nothing_hidden() -> Iterator[None]:
    """While a loss and its gradient are computed: refuse what would make them silently wrong. Raises ModelError."""
    try:
        with torch.autograd.graph.disable_saved_tensors_hooks("saved tensor hooks are refused"):
            yield
    except RuntimeError as error:
        if any(sign in str(error) for sign in _HIDING):
            raise ModelError(
                "the loss recomputes or moves activations behind autograd's back (gradient checkpointing, offloading), "
                "which gives wrong gradients here. Call model.activation_checkpointing_disable() and use micro_batch."
            ) from error
        if "scaled_dot_product" in str(error):
            raise ModelError(
                "the model's attention kernel has no second derivative. Load it with attn_implementation='eager'."
            ) from error
        if "not have been used in the graph" in str(error):
            raise ModelError(
                "a parameter has no part in the loss: the model does not use it, or gradient checkpointing hides it. "
                "Adapt other modules, or call model.activation_checkpointing_disable()."
            ) from error
        raise


def _value_and_gradients(
    parts: Sequence[Loss], parameters: Parameters, differentiable: bool, functional: bool
) -> tuple[Tensor, Parameters]:
    gradient = _functional_gradient if functional else _graph_gradient
    value, gradients = gradient(parts[0], parameters, differentiable)
    for part in parts[1:]:
        more, added = gradient(part, parameters, differentiable)
        value, gradients = value + more, {name: tensor + added[name] for name, tensor in gradients.items()}
    return value, gradients


def _graph_gradient(loss: Loss, parameters: Parameters, differentiable: bool) -> tuple[Tensor, Parameters]:
    leaves = {
        name: p if differentiable and p.requires_grad else p.detach().requires_grad_() for name, p in parameters.items()
    }
    with nothing_hidden():
        value = loss(leaves)
        gradients = torch.autograd.grad(value, list(leaves.values()), create_graph=differentiable)
    return value.detach(), dict(zip(leaves, gradients, strict=True))


def _functional_gradient(loss: Loss, parameters: Parameters, differentiable: bool) -> tuple[Tensor, Parameters]:
    with nothing_hidden(), torch.set_grad_enabled(differentiable):
        gradients, value = torch.func.grad_and_value(loss)(parameters)
    return value.detach(), gradients


def norm_of(tensors: Parameters) -> float:
    """The norm over all of them, in float64. By the processor's square root: torch's is MKL's, and inexact."""
    squares = [tensor.detach().double().square().sum() for tensor in tensors.values()]
    return math.sqrt(float(torch.stack(squares).sum()))


def all_finite(tensors: Parameters) -> bool:
    """Whether no entry is infinite or NaN."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
