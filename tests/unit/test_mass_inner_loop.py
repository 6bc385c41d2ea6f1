"""The inner loop takes the steps it was asked for, along the gradient, and can be differentiated through."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mass_gov.mass.inner_loop import InnerOptimizer, InnerState, Parameters, gradient_descent, run_inner_loop

CURVATURE = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
START = {"a": torch.tensor([1.0, -2.0], dtype=torch.float64), "b": torch.tensor([0.5, 0.25], dtype=torch.float64)}


def quadratic(parameters: Parameters) -> Tensor:
    return 0.5 * parameters["a"] @ CURVATURE @ parameters["a"] + (parameters["a"] * parameters["b"].exp()).sum()


def test_a_silently_skipped_step_is_caught() -> None:
    def forgetful(gradients: Parameters, state: InnerState, parameters: Parameters) -> tuple[Parameters, InnerState]:
        return gradients, state

    broken = InnerOptimizer(gradient_descent({}).init, forgetful)
    with pytest.raises(AssertionError, match="took 0 of 2 steps"):
        run_inner_loop(quadratic, START, broken, 2)


def test_steps_agree_with_torchs_own_sgd_with_a_rate_per_parameter() -> None:
    rates = {"a": 0.02, "b": 0.05}
    trace = run_inner_loop(quadratic, START, gradient_descent(rates), 5)
    theirs = {name: tensor.clone().requires_grad_() for name, tensor in START.items()}
    optimizer = torch.optim.SGD([{"params": [theirs[name]], "lr": rate} for name, rate in rates.items()], lr=0.0)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = quadratic(theirs)
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert trace.steps_done == 5
    assert trace.losses == pytest.approx(losses, rel=1e-12)
    for name, tensor in theirs.items():
        assert torch.allclose(trace.parameters[name], tensor, rtol=1e-12, atol=0)


def test_the_starting_point_is_not_changed() -> None:
    before = {name: tensor.clone() for name, tensor in START.items()}
    run_inner_loop(quadratic, START, gradient_descent({"a": 0.1, "b": 0.1}), 3)
    assert all(torch.equal(before[name], tensor) and not tensor.requires_grad for name, tensor in START.items())


def test_gradient_norms_are_over_all_parameters() -> None:
    trace = run_inner_loop(quadratic, START, gradient_descent({"a": 0.1, "b": 0.1}), 1)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in START.items()}
    gradients = torch.autograd.grad(quadratic(leaves), list(leaves.values()))
    assert trace.gradient_norms[0] == pytest.approx(torch.cat(gradients).norm().item(), rel=1e-12)


def test_a_step_into_infinity_ends_the_loop_at_the_last_finite_point() -> None:
    def steep(parameters: Parameters) -> Tensor:
        return (parameters["a"] ** 4).sum() + parameters["b"].sum()

    trace = run_inner_loop(steep, START, gradient_descent({"a": 1e60, "b": 0.0}), 9)
    assert not trace.finite
    assert 0 < trace.steps_done < 9
    assert len(trace.losses) == trace.steps_done
    assert all(bool(torch.isfinite(tensor).all()) for tensor in trace.parameters.values())


def test_the_gradient_through_two_steps_agrees_with_finite_differences() -> None:
    def outer(rate: Tensor, shift: Tensor) -> Tensor:
        start = {"a": START["a"] + shift, "b": START["b"].clone().requires_grad_()}
        trace = run_inner_loop(quadratic, start, gradient_descent({"a": rate, "b": rate}), 2, differentiable=True)
        return (trace.parameters["a"] ** 2).sum() + trace.parameters["b"].sum()

    inputs = (
        torch.tensor(0.1, dtype=torch.float64, requires_grad=True),
        torch.zeros(2, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(outer, inputs)
