"""Many adapters at once: every task of a batch runs under LoRA tensors of its own, in one forward pass.

Rules: works on any Hugging Face causal LM through forward hooks on its projections, so nothing in the model is
replaced and the base weights may be trained; adapters are plain `{name: (tasks, ...)}` tensors named as in a PEFT
file, and everything is differentiable twice in them and in the base weights. Rows of one task lie together: row
r of the batch belongs to task r // (rows / tasks).

Does not know samples, losses or where an adapter came from. Sums run in another order than one by one (a batched
matrix product): equal up to rounding, not to the bit; `batched.run_inner_loops` is the one that keeps bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mass_gov.errors import SettingsError
from mass_gov.mass.lora import default_targets, initial_tensor, tensor_names
from mass_gov.mass.values import LoraSettings

Adapters = dict[str, Tensor]


class BatchedLora:
    """Hooks on the target projections of `model`; idle until `using` gives them adapters."""

    def __init__(self, model: nn.Module, settings: LoraSettings) -> None:
        self.model = model
        targets = settings.targets or default_targets(model)
        if not targets:
            raise SettingsError("no known module to adapt in this architecture. Name the LoRA targets.")
        self.settings = LoraSettings(settings.rank, settings.alpha, tuple(sorted(set(targets))), settings.seed)
        self._scale = settings.alpha / settings.rank
        self._current: Mapping[str, Tensor] | None = None
        self._tasks = 0
        self.modules = {name: module for name, module in model.named_modules() if self._is_target(name)}
        if not self.modules:
            raise SettingsError(f"this model has no module named {', '.join(targets)}. Name other LoRA targets.")
        for name, module in self.modules.items():
            module.register_forward_hook(self._hook(name))

    @contextmanager
    def using(self, adapters: Mapping[str, Tensor] | None) -> Iterator[nn.Module]:
        """The model with these adapters, or bare for None. Not reentrant."""
        self._current = adapters
        self._tasks = next(iter(adapters.values())).shape[0] if adapters else 0
        try:
            yield self.model
        finally:
            self._current = None

    def initial(self) -> dict[str, Tensor]:
        """PEFT's default start (see `lora.initial_tensor`): A random from the settings' seed, B zero; no task axis."""
        found: dict[str, Tensor] = {}
        for name, module in self.modules.items():
            inputs, outputs = _sizes(module)
            first, second = tensor_names(name)
            found[first] = initial_tensor(first, (self.settings.rank, inputs), self.settings.seed)
            found[second] = initial_tensor(second, (outputs, self.settings.rank), self.settings.seed)
        return found

    def _is_target(self, name: str) -> bool:
        return name.rpartition(".")[2] in self.settings.targets

    def _hook(self, name: str) -> Any:
        first, second = tensor_names(name)

        def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if self._current is None:
                return output
            x = inputs[0]
            grouped = x.reshape(self._tasks, -1, x.shape[-1]).to(self._current[first].dtype)
            low = torch.bmm(grouped, self._current[first].transpose(1, 2))
            added = torch.bmm(low, self._current[second].transpose(1, 2))
            return output + (self._scale * added.view(*x.shape[:-1], -1)).to(output.dtype)

        return add


def expand(tensors: Mapping[str, Tensor], tasks: int) -> Adapters:
    """A copy of the tensors for every one of `tasks` tasks: (tasks, ...), still on the graph of `tensors`."""
    return {name: tensor.expand(tasks, *tensor.shape).contiguous() for name, tensor in tensors.items()}


def pick(adapters: Mapping[str, Tensor], rows: list[int]) -> Adapters:
    """The adapters of the tasks with these indices, in this order; an index may repeat."""
    index = torch.tensor(rows)
    return {name: tensor.index_select(0, index) for name, tensor in adapters.items()}


def _sizes(module: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer; Conv1D keeps its weight transposed."""
    weight: Any = module.weight
    outputs, inputs = weight.shape
    return (outputs, inputs) if type(module).__name__ == "Conv1D" else (inputs, outputs)
