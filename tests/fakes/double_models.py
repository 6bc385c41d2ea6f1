"""Tiny random causal LMs that compute in float64 throughout, and a bilevel task on one.

transformers casts to float32 inside RMSNorm and inside the attention's softmax, whatever the model's dtype; a
derivative compared to 1e-12 must not pass through that. Here both keep the dtype, and nothing else is changed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForCausalLM
from transformers.masking_utils import eager_mask

from mass_gov.mass.adapter_losses import adapter_losses
from mass_gov.mass.bilevel import BilevelTask
from mass_gov.mass.inner_loop import Parameters
from mass_gov.mass.lora import LoraModel
from mass_gov.mass.losses import SolutionBatch, solution_batch
from mass_gov.mass.values import Adapter, LoraSettings
from tests.fakes.tiny_models import make_config

SAMPLES = 5
DOUBLE = "double"


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: object
) -> tuple[Tensor, Tensor]:
    """Eager attention, the softmax in the dtype of its input."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(2, 3) * scaling
    weights = (scores if mask is None else scores + mask.to(scores.dtype)).softmax(dim=-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class DoubleNorm(nn.Module):
    """RMSNorm in the dtype of its input."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.weight, self.epsilon = stock.weight, stock.variance_epsilon

    def forward(self, x: Tensor) -> Tensor:
        """x / rms(x) * weight."""
        return x * (x.square().mean(-1, keepdim=True) + self.epsilon).rsqrt() * self.weight


def double_model(architecture: str) -> LoraModel:
    """A random model of `architecture` in float64."""
    AttentionInterface.register(DOUBLE, attention)
    AttentionMaskInterface.register(DOUBLE, eager_mask)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(make_config(architecture), attn_implementation=DOUBLE)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6.0)  # lively enough for second derivatives to matter
    for name, module in list(model.named_modules()):
        if type(module).__name__.endswith("RMSNorm"):
            model.set_submodule(name, DoubleNorm(module))
    return LoraModel(model.double().eval())


def double_task(model: LoraModel) -> BilevelTask:
    """Samples of different lengths, learned start (B != 0), step sizes per tensor, one base matrix as theta."""
    random = torch.Generator().manual_seed(1)
    adapter = model.initial(LoraSettings(rank=2, alpha=4, seed=0))
    phi = {
        name: tensor.double() + 0.1 * torch.randn(tensor.shape, generator=random, dtype=torch.float64)
        for name, tensor in adapter.tensors.items()
    }
    theta_name, theta = next((n, p) for n, p in model.model.named_parameters() if p.ndim == 2 and ".0." in n)
    scores = torch.rand(SAMPLES, generator=random, dtype=torch.float64)
    return BilevelTask(
        adapter_losses(model, adapter, random_batch(random, SAMPLES), softening=2.0),
        _outer(model, adapter, random_batch(random, 1)),
        phi,
        {name: torch.tensor(0.2 + 0.05 * i, dtype=torch.float64) for i, name in enumerate(phi)},
        scores,
        {theta_name: theta.detach().clone()},
    )


def random_batch(random: torch.Generator, rows: int) -> SolutionBatch:
    """Random prompts of four tokens and more with random solutions."""

    def tokens(count: int) -> list[int]:
        return torch.randint(4, 90, (count,), generator=random).tolist()

    return solution_batch([(tokens(4 + i % 3), tokens(3 + i % 2)) for i in range(rows)], pad_id=0)


def _outer(model: LoraModel, adapter: Adapter, gold: SolutionBatch) -> Any:
    losses = adapter_losses(model, adapter, gold)

    def outer(phi: Parameters, theta: Parameters) -> Tensor:
        return losses(phi, theta, slice(0, 1)).sum()

    return outer
