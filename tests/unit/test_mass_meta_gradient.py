"""What would make a meta-gradient silently wrong is caught, and each mode is what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mass_gov.errors import ModelError, SettingsError
from mass_gov.mass import meta_gradient as module
from mass_gov.mass.adapter_losses import adapter_losses
from mass_gov.mass.bilevel import BilevelTask, SweepSettings
from mass_gov.mass.inner_loop import InnerOptimizer, InnerState, Parameters, gradient_descent
from mass_gov.mass.lora import LoraModel
from mass_gov.mass.meta_gradient import meta_gradient, run_forward
from mass_gov.mass.meta_gradient_oracles import naive_unroll
from mass_gov.mass.values import LoraSettings
from tests.fakes.double_models import random_batch

D = torch.float64
SAMPLES = torch.tensor([[1.0, -0.5], [0.25, 2.0], [-1.5, 0.75]], dtype=D)


def losses(phi: Parameters, theta: Parameters, rows: slice) -> Tensor:
    return ((SAMPLES[rows] @ phi["w"] - theta["t"]).sin() + phi["b"]) ** 2


def outer(phi: Parameters, theta: Parameters) -> Tensor:
    return (phi["w"].exp() * theta["t"]).sum() + phi["b"] ** 2


def small_task(scores: Tensor | None = None) -> BilevelTask:
    start = {"w": torch.tensor([0.3, -0.7], dtype=D), "b": torch.tensor(0.2, dtype=D)}
    if scores is None:
        scores = torch.tensor([0.5, 0.2, 0.3], dtype=D)
    return BilevelTask(losses, outer, start, {"w": 0.1, "b": 0.2}, scores, {"t": torch.tensor(0.4, dtype=D)})


def test_a_step_skipped_going_forward_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(gradients: Parameters, state: InnerState, parameters: Parameters) -> tuple[Parameters, InnerState]:
        return {name: torch.zeros_like(tensor) for name, tensor in gradients.items()}, state

    monkeypatch.setattr(module, "gradient_descent", lambda _: InnerOptimizer(gradient_descent({}).init, forgetful))
    with pytest.raises(AssertionError, match="took 0 of 2 steps"):
        meta_gradient(small_task(), SweepSettings(2))


def test_a_step_skipped_going_back_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    go_back = module._go_back

    def skipping(task: Any, settings: Any, trace: Any, index: int, adjoint: Any, pull_back: Any) -> Any:
        return adjoint if index == 1 else go_back(task, settings, trace, index, adjoint, pull_back)

    monkeypatch.setattr(module, "_go_back", skipping)
    with pytest.raises(AssertionError, match="back through 2 of 3 steps"):
        meta_gradient(small_task(), SweepSettings(3))


def test_a_detached_scorer_is_caught_and_an_attached_one_learns_what_naive_unrolling_would_teach_it() -> None:
    scorer = torch.tensor([0.3, -0.2, 0.1], dtype=D, requires_grad=True)
    task = small_task(scorer.softmax(0))
    result = meta_gradient(task, SweepSettings(2))
    with pytest.raises(SettingsError, match="detached"):
        result.backward(replace(task, scores=task.scores.detach()))
    result.backward(task, weight=0.5)
    naive = naive_unroll(task, SweepSettings(2)).scores
    expected = torch.autograd.functional.vjp(lambda x: x.softmax(0), scorer.detach(), 0.5 * naive)[1]
    assert scorer.grad is not None
    assert torch.allclose(scorer.grad, expected, rtol=1e-12, atol=0)


def test_gradients_reach_learned_step_sizes_start_and_meta_parameters() -> None:
    rate = torch.tensor(-2.0, dtype=D, requires_grad=True)
    origin = torch.tensor([0.15, -0.35], dtype=D, requires_grad=True)
    theta = torch.tensor(0.4, dtype=D, requires_grad=True)
    scores = torch.ones(3, dtype=D, requires_grad=True)

    def build() -> BilevelTask:
        start = {"w": 2 * origin, "b": torch.tensor(0.2, dtype=D)}
        return replace(
            small_task(scores), start=start, step_sizes={"w": rate.exp(), "b": rate.exp()}, meta={"t": theta}
        )

    task = build()
    result = meta_gradient(task, SweepSettings(2))
    result.backward(task)
    assert rate.grad is not None and origin.grad is not None and theta.grad is not None
    sizes = result.step_sizes["w"] + result.step_sizes["b"]
    assert rate.grad.item() == pytest.approx((sizes * rate.exp()).item(), rel=1e-12)
    assert torch.allclose(origin.grad, 2 * result.start["w"], rtol=1e-12, atol=0)
    assert torch.equal(theta.grad, result.meta["t"])


def lora_task(folder: Path, **loading: Any) -> tuple[Any, BilevelTask]:
    from transformers import AutoModelForCausalLM

    inner = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **loading)
    model, random = LoraModel(inner), torch.Generator().manual_seed(0)
    adapter = model.initial(LoraSettings(rank=2, alpha=4))
    phi = {n: t + 0.1 * torch.randn(t.shape, generator=random) for n, t in adapter.tensors.items()}
    inner_losses, gold = (adapter_losses(model, adapter, random_batch(random, rows)) for rows in (3, 1))
    task = BilevelTask(
        inner_losses,
        lambda phi, theta: gold(phi, theta, slice(0, 1)).sum(),
        phi,
        dict.fromkeys(phi, 0.1),
        torch.full((3,), 1 / 3),
    )
    return model.model, task


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_stale_parameter_under_checkpointing_is_caught(tiny_model: Callable[[str], Path], reentrant: bool) -> None:
    model, task = lora_task(tiny_model("llama"), attn_implementation="eager")
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in task.start.items()}

    def gradients() -> list[Tensor]:
        loss = task.losses(leaves, {}, slice(0, 3)).sum()
        return list(torch.autograd.grad(loss, list(leaves.values())))

    exact = gradients()
    model.train().activation_checkpointing_enable({"use_reentrant": reentrant})
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora" in name)
    if not reentrant:  # the danger is real: recomputed from the model's own slots after the swap, without a word
        assert not all(torch.allclose(a, b, rtol=1e-3) for a, b in zip(exact, gradients(), strict=True))
    for settings in (SweepSettings(2), SweepSettings(2, micro_batch=2), SweepSettings(1, start_gradient=False)):
        with pytest.raises(ModelError, match="activation_checkpointing_disable"):
            meta_gradient(task, settings)
    model.activation_checkpointing_disable()
    assert meta_gradient(task, SweepSettings(2)).finite


def test_an_attention_kernel_without_a_second_derivative_is_refused(tiny_model: Callable[[str], Path]) -> None:
    _, task = lora_task(tiny_model("llama"), attn_implementation="sdpa")
    with pytest.raises(ModelError, match="eager"):
        meta_gradient(task, SweepSettings(2))


def test_a_loss_that_is_another_one_on_the_way_back_is_caught() -> None:
    task, calls = small_task(), iter(range(1, 100))

    def dropping(phi: Parameters, theta: Parameters, rows: slice) -> Tensor:
        return losses(phi, theta, rows) * (1 + 0.1 * next(calls))

    with pytest.raises(ModelError, match="dropout"):
        meta_gradient(replace(task, losses=dropping), SweepSettings(2))


def test_first_order_carries_v_back_unchanged() -> None:
    task = small_task()
    found = meta_gradient(task, SweepSettings(2, mode="first-order"))
    phi, v = found.parameters, {}
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in phi.items()}
    v = dict(zip(leaves, torch.autograd.grad(outer(leaves, task.meta), list(leaves.values())), strict=True))
    assert all(torch.equal(found.start[name], v[name]) for name in v)
    jacobians = [
        torch.func.jacrev(losses)(step.parameters, task.meta, slice(0, 3))
        for step in run_forward(task, SweepSettings(2)).steps
    ]  # l_i by phi at both steps
    products = sum((j["w"] @ (0.1 * v["w"]) + j["b"] * (0.2 * v["b"])) for j in jacobians)
    assert torch.allclose(found.scores, -products, rtol=1e-12, atol=0)


def test_truncation_starts_where_it_stops() -> None:
    task = small_task()
    found = meta_gradient(task, SweepSettings(3, truncation=2))
    late = replace(task, start=run_forward(task, SweepSettings(3)).steps[1].parameters)
    whole = naive_unroll(late, SweepSettings(2))
    assert found.steps_reversed == 2
    assert found.trace.steps_done == 3
    assert torch.allclose(found.scores, whole.scores, rtol=1e-12, atol=0)
    assert torch.allclose(found.start["w"], whole.start["w"], rtol=1e-12, atol=0)
    assert torch.allclose(found.meta["t"], whole.meta["t"], rtol=1e-12, atol=0)


def test_a_task_that_diverges_teaches_nothing_and_says_so() -> None:
    task = replace(small_task(), step_sizes={"w": 1e300, "b": 1e300})
    found = meta_gradient(task, SweepSettings(4))
    assert not found.finite
    assert not any(bool(tensor.any()) for tensor in (found.scores, *found.start.values(), *found.meta.values()))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"micro_batch": 0}, {"truncation": 0}, {"mode": "fast"}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        SweepSettings(**wrong)


def test_a_parameter_without_a_step_size_is_refused() -> None:
    with pytest.raises(SettingsError, match="no step size for b"):
        meta_gradient(replace(small_task(), step_sizes={"w": 0.1}), SweepSettings(1))
