"""Tasks side by side and one by one: the same bits, on the reference model's LoRA."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mass_gov.mass import loading
from mass_gov.mass.adapter_losses import adapter_losses, pad, stack
from mass_gov.mass.batched import run_inner_loops
from mass_gov.mass.bilevel import BilevelTask, SweepSettings
from mass_gov.mass.inner_loop import Parameters, gradient_descent, run_inner_loop
from mass_gov.mass.lora import LoraModel
from mass_gov.mass.losses import SolutionBatch
from mass_gov.mass.meta_gradient import meta_gradient
from mass_gov.mass.reference_model import reference_folder
from mass_gov.mass.values import Adapter, LoraSettings
from tests.fakes.double_models import double_model, double_task, random_batch

TASKS, STEPS = 3, 2


@pytest.fixture(scope="module")
def model() -> LoraModel:
    return LoraModel(loading.load(reference_folder())[0])


@pytest.fixture(scope="module")
def adapter(model: LoraModel) -> Adapter:
    return model.initial(LoraSettings(rank=8, alpha=16))


def starts(adapter: Adapter) -> list[Parameters]:
    random = torch.Generator().manual_seed(3)
    return [
        {name: tensor + 0.02 * torch.randn(tensor.shape, generator=random) for name, tensor in adapter.tensors.items()}
        for _ in range(TASKS)
    ]


def batches() -> list[SolutionBatch]:
    """Tasks with different numbers of samples of different lengths."""
    random = torch.Generator().manual_seed(4)
    return [random_batch(random, rows) for rows in (4, 1, 6)]


def weighted(model: LoraModel, adapter: Adapter, stacked: SolutionBatch) -> list[Tensor]:
    """Inputs of the loss below: scores, then the batch's tensors; copies that fill up weigh nothing."""
    scores = torch.rand(stacked.ids.shape[:2], generator=torch.Generator().manual_seed(5))
    for task, batch in enumerate(batches()):
        scores[task, batch.ids.shape[0] :] = 0
    return [scores, stacked.ids, stacked.mask, stacked.positions, stacked.targets, stacked.counted]


@pytest.mark.parametrize(("rows", "length"), [(2, 0), (8, 24)])
def test_each_task_has_the_bits_that_it_has_alone(model: LoraModel, adapter: Adapter, rows: int, length: int) -> None:
    def loss(phi: Parameters, scores: Tensor, *tensors: Tensor) -> Tensor:
        batch = SolutionBatch(*tensors)
        return (scores * adapter_losses(model, adapter, batch, 3.0)(phi, {}, slice(0, len(scores)))).sum()

    inputs = weighted(model, adapter, stack(batches(), 0, rows=rows, length=length))
    optimizer = gradient_descent({name: 1.0 + 0.1 * i for i, name in enumerate(adapter.tensors)})
    together = run_inner_loops(loss, starts(adapter), inputs, optimizer, STEPS)
    for task, (start, trace) in enumerate(zip(starts(adapter), together, strict=True)):
        own = [tensor[task] for tensor in inputs]
        alone = run_inner_loop(lambda phi, own=own: loss(phi, *own), start, optimizer, STEPS, functional=True)  # type: ignore[misc]
        assert trace.steps_done == STEPS
        assert (trace.losses, trace.gradient_norms) == (alone.losses, alone.gradient_norms)
        assert all(torch.equal(trace.parameters[name], tensor) for name, tensor in alone.parameters.items())
        assert not any(torch.equal(start[name], tensor) for name, tensor in trace.parameters.items())


def test_padding_changes_no_loss_beyond_rounding(model: LoraModel, adapter: Adapter) -> None:
    batch, phi = batches()[0], starts(adapter)[0]
    larger = pad(batch, 0, rows=7, length=batch.ids.shape[1] + 5, kept=batch.targets.shape[1] + 6)
    expected = adapter_losses(model, adapter, batch)(phi, {}, slice(0, 4))
    found = adapter_losses(model, adapter, larger)(phi, {}, slice(0, 7))
    assert torch.allclose(found[:4], expected, rtol=1e-5)
    assert torch.allclose(found[4:], expected[0], rtol=1e-5)


def test_a_shape_that_is_too_small_is_refused() -> None:
    batch = batches()[0]
    with pytest.raises(ValueError, match="does not fit"):
        pad(batch, 0, rows=4, length=batch.ids.shape[1], kept=batch.targets.shape[1] - 1)


def test_a_task_that_diverges_stops_alone() -> None:
    def loss(phi: Parameters, steepness: Tensor) -> Tensor:
        return (steepness * phi["a"] ** 4).sum()

    steepness = torch.tensor([1.0, 1e30], dtype=torch.float64)
    start = [{"a": torch.tensor([0.5], dtype=torch.float64)}] * 2
    calm, wild = run_inner_loops(loss, start, [steepness], gradient_descent({"a": 0.1}), 9)
    alone = run_inner_loop(lambda phi: loss(phi, steepness[0]), start[0], gradient_descent({"a": 0.1}), 9)
    assert calm.finite and calm.losses == pytest.approx(alone.losses, rel=1e-12)
    assert not wild.finite and 0 < wild.steps_done < 9
    assert bool(torch.isfinite(wild.parameters["a"]).all())


def test_the_sweep_over_stacked_tasks_is_the_sweep_over_each() -> None:
    model = double_model("llama")
    template = double_task(model)
    adapter = model.initial(LoraSettings(rank=2, alpha=4, seed=0))
    random = torch.Generator().manual_seed(6)
    tasks = [random_batch(random, 3) for _ in range(2)]
    phis = [{n: t + 0.05 * i for n, t in template.start.items()} for i in range(2)]
    scores = torch.rand(2, 3, generator=random, dtype=torch.float64)

    def bilevel(batch: SolutionBatch, phi: Parameters, weights: Tensor) -> BilevelTask:
        gold = adapter_losses(model, adapter, batch)
        inner = adapter_losses(model, adapter, batch, softening=3.0)
        return replace(
            template,
            losses=inner,
            outer=lambda phi, theta: gold(phi, theta, slice(0, 1)).sum(),
            start=phi,
            scores=weights,
        )

    together = meta_gradient(
        bilevel(stack(tasks, 0), {n: torch.stack([phi[n] for phi in phis]) for n in phis[0]}, scores), SweepSettings(2)
    )
    alone = [
        meta_gradient(bilevel(*one), SweepSettings(2, micro_batch=2)) for one in zip(tasks, phis, scores, strict=True)
    ]
    close = {"rtol": 1e-10, "atol": 1e-13}
    assert torch.allclose(together.scores, torch.stack([one.scores for one in alone]), **close)
    assert together.outer_loss == pytest.approx(sum(one.outer_loss for one in alone), rel=1e-12)
    for name in template.start:
        assert torch.allclose(together.start[name], torch.stack([one.start[name] for one in alone]), **close)
        assert torch.allclose(together.step_sizes[name], sum(one.step_sizes[name] for one in alone), **close)
    for name in template.meta:
        assert torch.allclose(together.meta[name], sum(one.meta[name] for one in alone), **close)
