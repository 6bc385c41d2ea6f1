"""How far an update moved the weights, in relative Frobenius norm per module, and how to shorten it.

With W = W_base + s B A (s = alpha / rank), a step from (A, B) to (A', B') changes W by
s (B' A' - B A) = s [B' - B, B] [A' ; A' - A], a product of rank 2r whose norm needs only two 2r x 2r Gram matrices:
‖U V‖_F² = tr(Uᵀ U · V Vᵀ). This form does not cancel when the step is small. All in float64.

Does not know limits or what to do about them: a gate judges the norms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mass_gov.mass.inner_loop import InnerTrace
from mass_gov.mass.lora import LoraModel, pairs
from mass_gov.mass.values import Adapter, ModuleNorms, UpdateOutcome, UpdateResult

_HALVINGS = 40  # 2^-40 is finer than a float32 step can be scaled


def base_norms(model: LoraModel) -> dict[str, float]:
    """‖W_base‖_F of every adapted module."""
    layers: dict[str, Any] = dict(model.layers)
    return {name: float(layer.get_base_layer().weight.detach().double().norm()) for name, layer in layers.items()}


def update_norms(parent: Adapter, new: Adapter, base: Mapping[str, float]) -> tuple[ModuleNorms, ...]:
    """The relative norms of the step parent -> new, and of new against the base, per module.

    A module whose base weights are all zero has no relative norm; its absolute norms stand in.
    """
    scale = new.settings.alpha / new.settings.rank
    found = []
    for (module, *old), (_, *moved) in zip(pairs(parent), pairs(new), strict=True):
        a_old, b_old, a_new, b_new = (tensor.double() for tensor in (*old, *moved))
        unit = scale / (base[module] or 1.0)
        step = _product_norm(torch.cat([b_new - b_old, b_old], dim=1), torch.cat([a_new, a_new - a_old]))
        found.append(ModuleNorms(module, unit * step, unit * _product_norm(b_new, a_new)))
    return tuple(found)


def project(
    parent: Adapter, new: Adapter, base: Mapping[str, float], limit: float
) -> tuple[Adapter, float, tuple[ModuleNorms, ...]]:
    """Shorten the step so that no module's relative norm exceeds `limit`; one factor for all, to keep its direction.

    Returns the adapter at parent + factor * (new - parent), the factor (1.0 if the step already fits) and its norms.
    The factor is found by bisection, because a step in (A, B) is not linear in W.
    """
    norms = update_norms(parent, new, base)
    if _largest(norms) <= limit:
        return new, 1.0, norms
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        fits = _largest(update_norms(parent, _between(parent, new, middle), base)) <= limit
        low, high = (middle, high) if fits else (low, middle)
    shortened = _between(parent, new, low)
    return shortened, low, update_norms(parent, shortened, base)


def step_result(model: LoraModel, parent: Adapter, trace: InnerTrace, limit: float | None) -> UpdateResult:
    """What became of the steps in `trace` from `parent`: measured, named, and shortened where `limit` says so."""
    done = (trace.steps_done, trace.losses, trace.gradient_norms)
    if not trace.finite:
        return UpdateResult(parent, UpdateOutcome.NON_FINITE, *done)
    new = Adapter(parent.settings, trace.parameters)
    base = base_norms(model)
    norms = update_norms(parent, new, base)
    if not any(norm.step for norm in norms):
        return UpdateResult(parent, UpdateOutcome.UNMOVED, *done, norms)
    if limit is None:
        return UpdateResult(new, UpdateOutcome.STEPPED, *done, norms, 1.0, norms)
    projected, factor, shortened = project(parent, new, base, limit)
    return UpdateResult(projected, UpdateOutcome.STEPPED, *done, norms, factor, shortened)


def _between(parent: Adapter, new: Adapter, factor: float) -> Adapter:
    old = parent.tensors
    return Adapter(new.settings, {name: old[name] + factor * (t - old[name]) for name, t in new.tensors.items()})


def _largest(norms: tuple[ModuleNorms, ...]) -> float:
    return max(norm.step for norm in norms)


def _product_norm(left: Tensor, right: Tensor) -> float:
    """‖left · right‖_F for float64 left (out, k) and right (k, in)."""
    squared = ((left.T @ left) * (right @ right.T)).sum()
    return math.sqrt(max(float(squared), 0.0))
