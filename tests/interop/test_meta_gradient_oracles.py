"""Naive unrolling, forward-over-reverse and finite differences as second opinions on the meta-gradient, in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mass_gov.mass.bilevel import BilevelTask, MetaGradient, SweepSettings
from mass_gov.mass.inner_loop import Parameters
from mass_gov.mass.meta_gradient import meta_gradient
from mass_gov.mass.meta_gradient_oracles import forward_over_reverse, naive_unroll
from tests.conftest import ARCHITECTURES
from tests.fakes.double_models import double_model, double_task

STEPS = 3


@pytest.fixture(scope="module", params=ARCHITECTURES)
def task(request: pytest.FixtureRequest) -> BilevelTask:
    return double_task(double_model(request.param))


@pytest.fixture(scope="module")
def naive(task: BilevelTask) -> MetaGradient:
    return naive_unroll(task, SweepSettings(STEPS))


def groups(result: MetaGradient) -> dict[str, Parameters]:
    return {
        "scores": {"": result.scores},
        "step sizes": result.step_sizes,
        "start": result.start,
        "theta": result.meta,
    }


def error(found: MetaGradient, expected: MetaGradient) -> float:
    """The largest difference of a tensor's entries, over the largest entry of that tensor."""
    worst = abs(found.outer_loss / expected.outer_loss - 1)
    for name, theirs in groups(expected).items():
        ours = groups(found)[name]
        assert set(ours) == set(theirs)
        for key, tensor in theirs.items():
            worst = max(worst, float((ours[key] - tensor).abs().max() / tensor.abs().max()))
    return worst


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_the_sweep_is_naive_unrolling(task: BilevelTask, naive: MetaGradient, micro_batch: int | None) -> None:
    found = meta_gradient(task, SweepSettings(STEPS, micro_batch=micro_batch))
    assert found.steps_reversed == found.trace.steps_done == STEPS
    assert error(found, naive) <= 1e-12


def test_the_sweep_is_forward_over_reverse(task: BilevelTask, naive: MetaGradient) -> None:
    assert error(forward_over_reverse(task, SweepSettings(STEPS)), naive) <= 1e-12


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_attribution_alone_gives_the_same_attribution(
    task: BilevelTask, naive: MetaGradient, micro_batch: int | None
) -> None:
    alone = replace(task, meta={})
    found = meta_gradient(alone, SweepSettings(STEPS, micro_batch=micro_batch, start_gradient=False))
    assert not found.start
    assert error(found, replace(naive, start={}, meta={})) <= 1e-12


def moved(task: BilevelTask, group: str, direction: Parameters, by: float) -> BilevelTask:
    if group == "scores":
        return replace(task, scores=task.scores + by * direction[""])
    field = {"step sizes": "step_sizes", "start": "start", "theta": "meta"}[group]
    return replace(task, **{field: {n: t + by * direction[n] for n, t in getattr(task, field).items()}})


def outer_loss(task: BilevelTask) -> float:
    """The two-level problem written down once more, as plainly as it goes."""
    phi = task.start
    for _ in range(STEPS):
        phi = {name: tensor.detach().requires_grad_() for name, tensor in phi.items()}
        loss = task.scores @ task.losses(phi, task.meta, slice(0, len(task.scores)))
        gradients = torch.autograd.grad(loss, list(phi.values()))
        phi = {n: phi[n] - task.step_sizes[n] * g for n, g in zip(phi, gradients, strict=True)}
    return task.outer(phi, task.meta).item()


def test_the_sweep_agrees_with_finite_differences(task: BilevelTask) -> None:
    found, random, h = meta_gradient(task, SweepSettings(STEPS)), torch.Generator().manual_seed(2), 1e-4
    for group, gradients in groups(found).items():
        direction = {n: _unit(gradient, random) for n, gradient in gradients.items()}
        at = {by: outer_loss(moved(task, group, direction, by * h)) for by in (-2, -1, 1, 2)}
        slope = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)  # fourth order
        ours = sum(float((gradient * direction[n]).sum()) for n, gradient in gradients.items())
        assert ours == pytest.approx(slope, rel=1e-8), group


def _unit(gradient: Tensor, random: torch.Generator) -> Tensor:
    """A random direction that is not orthogonal to the gradient, of length 1 at most."""
    noise = torch.randn(gradient.shape, generator=random, dtype=gradient.dtype)
    return (gradient / gradient.norm() + 0.3 * noise / noise.norm()) / 2
