"""What meta-training moves: theta, phi_0, log step sizes and the scorer's head, with their optimizer.

Rules: theta is the model's own parameters, or LoRA tensors whose product is added to them; either way `theta()` is the
model's weights as tensors on the graph of what is learned. Does not know losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mass_gov.mass import scorer
from mass_gov.mass.batched_lora import BatchedLora
from mass_gov.mass.inner_loop import Parameters
from mass_gov.mass.lora import initial_tensor
from mass_gov.mass.meta_values import MetaSettings


class MetaWeights:
    """The learned tensors of one run."""

    def __init__(self, model: Any, lora: BatchedLora, settings: MetaSettings) -> None:
        self._model = model
        self._low_rank = settings.meta_parameters == "lora"
        device = next(model.parameters()).device
        self.begun = {name: p.detach().clone() for name, p in model.named_parameters()}
        self._low = self._initial_low_rank(settings) if self._low_rank else {}
        self._sums: Parameters = {}
        self._leaves: Parameters = {}
        model.requires_grad_(not self._low_rank)
        self.start = {n: t.to(device).requires_grad_() for n, t in lora.initial().items()}
        self.log_sizes = {
            name: torch.tensor(math.log(settings.step_size), device=device, requires_grad=True) for name in lora.modules
        }
        head = scorer.initial_head(scorer.feature_size(model), seed=settings.seed)
        self.head = {name: tensor.to(device).requires_grad_() for name, tensor in head.items()}
        rates = settings.rates
        groups = [
            (list(self._low.values()) if self._low_rank else list(model.parameters()), rates.model),
            (list(self.start.values()), rates.start),
            (list(self.log_sizes.values()), rates.step_sizes),
            (list(self.head.values()), rates.scorer),
        ]
        self.optimizer = torch.optim.AdamW(
            [{"params": params, "lr": rate, "peak": rate} for params, rate in groups],
            betas=(0.9, 0.95),
            weight_decay=0.0,
        )

    def theta(self) -> Parameters:
        """The model's weights by name, as leaves whose gradients `average` collects."""
        if not self._low_rank:
            return dict(self._model.named_parameters())
        self._sums = self._merged()
        self._leaves = {name: tensor.detach().requires_grad_() for name, tensor in self._sums.items()}
        return dict(self._leaves)

    def write(self) -> None:
        """Put theta into the model itself, where generation reads it; the whole model is there already."""
        with torch.no_grad():
            for name, tensor in (self._merged() if self._low_rank else {}).items():
                self._model.get_parameter(name).copy_(tensor)

    def named(self) -> dict[str, Tensor]:
        """Everything learned, by name: what a snapshot keeps."""
        own = self._low if self._low_rank else dict(self._model.named_parameters())
        return (
            {f"theta.{n}": t for n, t in own.items()}
            | {f"start.{n}": t for n, t in self.start.items()}
            | {f"log_size.{n}": t for n, t in self.log_sizes.items()}
            | {f"scorer.{n}": t for n, t in self.head.items()}
        )

    def average(self, reduce: Callable[[list[Tensor]], None], *, finite: bool = True) -> float:
        """Average the gradients over processes; the norm of all of them. What was not reached has gradient zero.

        Arguments:
            finite: whether this process's gradient was; if not, the norm is NaN, and so it is in every process.
        """
        reached = [name for name, leaf in self._leaves.items() if leaf.grad is not None]
        torch.autograd.backward([self._sums[n] for n in reached], [self._leaves[n].grad for n in reached])
        gradients = []
        for tensor in self._learned():
            if tensor.grad is None:
                tensor.grad = torch.zeros_like(tensor)
            gradients.append(tensor.grad)
        if not finite:  # what was handed on instead is zeros
            gradients[0].fill_(torch.nan)
        reduce(gradients)
        return float(torch.stack([gradient.double().square().sum() for gradient in gradients]).sum().sqrt())

    def move(self, factor: float, clip: float, norm: float) -> None:
        """One AdamW step at `factor` of the peak rates, on gradients scaled to at most `clip`."""
        for tensor in self._learned():
            if tensor.grad is not None and norm > clip:
                tensor.grad.mul_(clip / norm)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        self.optimizer.step()
        self.forget()

    def forget(self) -> None:
        """Drop the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def _learned(self) -> list[Tensor]:
        return [tensor for group in self.optimizer.param_groups for tensor in group["params"]]

    def _merged(self) -> Parameters:
        names = sorted({name.rpartition(".")[0] for name in self._low})
        return {name: self.begun[name] + self._low[f"{name}.B"] @ self._low[f"{name}.A"] for name in names}

    def _initial_low_rank(self, settings: MetaSettings) -> dict[str, Tensor]:
        """A random, B zero, for every matrix of the model's layers."""
        found: dict[str, Tensor] = {}
        for name, weight in self.begun.items():
            if weight.ndim != 2 or "embed" in name:
                continue
            outputs, inputs = weight.shape
            first = initial_tensor(f"{name}.lora_A.", (settings.lora_meta_rank, inputs), settings.seed)
            found[f"{name}.A"] = first.to(weight).requires_grad_()
            found[f"{name}.B"] = torch.zeros(outputs, settings.lora_meta_rank).to(weight).requires_grad_()
        return found
