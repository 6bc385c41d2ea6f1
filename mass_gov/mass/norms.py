"""How far an update moved the weights, in relative norm per module, and how to shorten it.

With W = W_base + s B A (s = alpha / rank), a step from (A, B) to (A', B') changes W by
s (B' A' - B A) = s [B' - B, B] [A' ; A' - A], a product U V of rank 2r. This form does not cancel when the step is
small. Two norms of it, relative to the same norm of W_base, all in float64:

- Frobenius, the length of the step: ‖U V‖_F² = tr(Uᵀ U · V Vᵀ), from two 2r x 2r Gram matrices
- spectral, the most that the step can do to one input: with U = Q R and Vᵀ = P S (QR), ‖U V‖_2 = ‖R Sᵀ‖_2, the largest
  singular value of a 2r x 2r matrix. Exact, and no singular value decomposition of a weight's size per update.

A base norm is computed once per model. Does not know limits or what to do about them: a gate judges the norms.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mass_gov.mass.inner_loop import InnerTrace
from mass_gov.mass.lora import LoraModel, pairs, tensor_names
from mass_gov.mass.values import Adapter, ModuleNorms, UpdateOutcome, UpdateResult

_HALVINGS = 40  # 2^-40 is finer than a float32 step can be scaled

Product = tuple[Tensor, Tensor]
"""A change of weights as left (out, k) times right (k, in)."""


class BaseNorms:
    """‖W_base‖_F and ‖W_base‖_2 of adapted modules, each computed when it is first asked for: base weights never move.

    A module whose base weights are all zero has no relative norm; its absolute norms stand in.
    """

    def __init__(self, model: LoraModel) -> None:
        self._model = model
        self._frobenius: dict[str, float] = {}
        self._spectral: dict[str, float] = {}

    def frobenius(self, module: str) -> float:
        """‖W_base‖_F of one module."""
        if module not in self._frobenius:
            self._frobenius[module] = float(self._weight(module).norm()) or 1.0
        return self._frobenius[module]

    def spectral(self, module: str) -> float:
        """‖W_base‖_2 of one module, from the eigenvalues of the smaller Gram matrix: cubic in the shorter side only."""
        if module not in self._spectral:
            weight = self._weight(module)
            gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
            self._spectral[module] = math.sqrt(max(float(torch.linalg.eigvalsh(gram)[-1]), 0.0)) or 1.0
        return self._spectral[module]

    def _weight(self, module: str) -> Tensor:
        layer: Any = self._model.layers[module]
        weight: Tensor = layer.get_base_layer().weight.detach().double()
        return weight


def update_norms(parent: Adapter, new: Adapter, base: BaseNorms, *, spectral: bool = False) -> tuple[ModuleNorms, ...]:
    """The relative norms of the step parent -> new, and of new against the base, per module.

    Spectral ones only where they are asked for.
    """
    scale = new.settings.alpha / new.settings.rank
    modules, steps, states = list[str](), list[Product](), list[Product]()
    for (module, *old), (_, *moved) in zip(pairs(parent), pairs(new), strict=True):
        modules.append(module)
        steps.append(_step(old, moved))
        states.append((moved[1].double(), moved[0].double()))
    found = []
    for module, step, state in zip(modules, steps, states, strict=True):
        unit = scale / base.frobenius(module)
        found.append(ModuleNorms(module, unit * _frobenius(*step), unit * _frobenius(*state)))
    if not spectral:
        return tuple(found)
    largest = zip(found, _spectral(steps), _spectral(states), strict=True)
    units = [scale / base.spectral(module) for module in modules]
    return tuple(
        replace(norms, step_spectral=unit * step, cumulative_spectral=unit * state)
        for unit, (norms, step, state) in zip(units, largest, strict=True)
    )


def project(
    parent: Adapter, new: Adapter, base: BaseNorms, limit: float, *, spectral: bool = False
) -> tuple[Adapter, float, tuple[ModuleNorms, ...]]:
    """The nearest point of the trust region: each module whose relative Frobenius norm exceeds `limit` is shortened.

    Modules that fit stay as they are, bit for bit. A module that does not moves to parent + factor * (new - parent);
    its factor is found by bisection, because a step in (A, B) is not linear in W. Returns the adapter, the smallest
    factor (1.0 if every module fitted) and the norms of what came of it, none of which exceeds `limit`.
    """
    tensors, smallest = dict(new.tensors), 1.0
    for norms in update_norms(parent, new, base):
        if norms.step > limit:
            factor = _fitting(norms.module, parent, new, base, limit)
            smallest = min(smallest, factor)
            for name in tensor_names(norms.module):
                tensors[name] = _between(parent.tensors[name], new.tensors[name], factor)
    shortened = Adapter(new.settings, tensors)
    return shortened, smallest, update_norms(parent, shortened, base, spectral=spectral)


def step_result(
    base: BaseNorms, parent: Adapter, trace: InnerTrace, limit: float | None, *, spectral: bool = False
) -> UpdateResult:
    """What became of the steps in `trace` from `parent`: measured, named, and shortened where `limit` says so."""
    done = (trace.steps_done, trace.losses, trace.gradient_norms)
    if not trace.finite:
        return UpdateResult(parent, UpdateOutcome.NON_FINITE, *done)
    new = Adapter(parent.settings, trace.parameters)
    norms = update_norms(parent, new, base, spectral=spectral)
    if not any(norm.step for norm in norms):
        return UpdateResult(parent, UpdateOutcome.UNMOVED, *done, norms)
    if limit is None:
        return UpdateResult(new, UpdateOutcome.STEPPED, *done, norms, 1.0, norms)
    projected, factor, shortened = project(parent, new, base, limit, spectral=spectral)
    if not any(norm.step for norm in shortened):  # a radius so small that nothing is left of the step
        return UpdateResult(parent, UpdateOutcome.UNMOVED, *done, norms)
    return UpdateResult(projected, UpdateOutcome.STEPPED, *done, norms, factor, shortened)


def _fitting(module: str, parent: Adapter, new: Adapter, base: BaseNorms, limit: float) -> float:
    """The largest factor, to 2^-40, by which one module's step fits. Measured on the float32 tensors it would leave."""
    names = tensor_names(module)
    old, moved = [parent.tensors[name] for name in names], [new.tensors[name] for name in names]
    unit = new.settings.alpha / new.settings.rank / base.frobenius(module)
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        tried = [_between(a, b, middle) for a, b in zip(old, moved, strict=True)]
        fits = unit * _frobenius(*_step(old, tried)) <= limit
        low, high = (middle, high) if fits else (low, middle)
    return low


def _between(old: Tensor, new: Tensor, factor: float) -> Tensor:
    return old + factor * (new - old)


def _step(old: list[Tensor], new: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(A, B) -> (A', B') as the product of [B' - B, B] (out, 2r) and [A' ; A' - A] (2r, in), float64."""
    a_old, b_old, a_new, b_new = (tensor.double() for tensor in (*old, *new))
    return torch.cat([b_new - b_old, b_old], dim=1), torch.cat([a_new, a_new - a_old])


def _frobenius(left: Tensor, right: Tensor) -> float:
    """‖left · right‖_F for float64 left (out, k) and right (k, in)."""
    squared = ((left.T @ left) * (right @ right.T)).sum()
    return math.sqrt(max(float(squared), 0.0))


def _spectral(products: Sequence[Product]) -> list[float]:
    """‖left · right‖_2 of each, for float64 left (out, k) and right (k, in)."""
    factors = _of_each(_triangle, [matrix for left, right in products for matrix in (left, right.T)])
    cores = [r @ s.T for r, s in zip(factors[::2], factors[1::2], strict=True)]
    return [float(norm) for norm in _of_each(_largest_singular_value, cores)]


def _triangle(matrices: Tensor) -> Tensor:
    triangles: Tensor = torch.linalg.qr(matrices, mode="r").R
    return triangles


def _largest_singular_value(matrices: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.matrix_norm(matrices, 2)
    return norms


def _of_each(work: Callable[[Tensor], Tensor], matrices: Sequence[Tensor]) -> list[Tensor]:
    """What `work` makes of each, those of one shape by one call: LAPACK goes from one to the next, to the same bits."""
    places = defaultdict[torch.Size, list[int]](list)
    for place, matrix in enumerate(matrices):
        places[matrix.shape].append(place)
    found: dict[int, Tensor] = {}
    for alike in places.values():
        found |= zip(alike, work(torch.stack([matrices[place] for place in alike])), strict=True)
    return [found[place] for place in range(len(matrices))]
