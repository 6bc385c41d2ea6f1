"""The adapter: a value, and the place in the model where it is put to work.

Rules: an Adapter is a value (names as in a PEFT file -> float32 CPU tensors) and never changes; real PEFT layers are
injected into the model once per shape and their slots are filled by copying; the base weights are never written.

Does not know files (`adapter_files`), gradients (`inner_loop`) or text.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional

from mass_gov.errors import SettingsError
from mass_gov.mass.values import Adapter, LoraSettings

# Where an update goes unless told otherwise: what writes into the residual stream, and the head.
_OUTPUT_PROJECTIONS = (("o_proj", "down_proj"), ("c_proj",), ("out_proj", "fc2"), ("dense", "dense_4h_to_h"))
_HEAD = "lm_head"
_PREFIX, _SLOT = "base_model.model.", "default"


def default_targets(model: nn.Module) -> tuple[str, ...]:
    """The module-name suffixes to adapt: the output projections of attention and MLP, and an untied linear head.

    Empty for an architecture that has none of the known names.
    """
    linear = {name.rpartition(".")[2] for name, module in model.named_modules() if _is_projection(module)}
    found = next((names for names in _OUTPUT_PROJECTIONS if linear.intersection(names)), ())
    tied = bool(getattr(model.config, "tie_word_embeddings", False))
    wanted = (*found, _HEAD) if found and not tied else found
    return tuple(sorted(linear.intersection(wanted)))


def _is_projection(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


@dataclass
class Groups:
    """Which rows of a batch run under which adapter: the first `sizes[0]` under the first, and so on."""

    adapters: Sequence[Adapter]
    sizes: Sequence[int]


class LoraModel:
    """A causal language model with one LoRA slot per target module, empty until `using` fills it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model.requires_grad_(False)
        self.parameter_count = sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
        self._default_targets = default_targets(model)
        self._peft: Any = None
        self._settings: LoraSettings | None = None
        self.layers: dict[str, LoraLayer] = {}
        self._slots: dict[str, nn.Parameter] = {}

    def resolve(self, settings: LoraSettings) -> LoraSettings:
        """The same settings with the targets spelled out, sorted."""
        targets = settings.targets or self._default_targets
        if not targets:
            raise SettingsError("no known module to adapt in this architecture. Name the LoRA targets.")
        return LoraSettings(settings.rank, settings.alpha, tuple(sorted(set(targets))), settings.seed)

    def attach(self, settings: LoraSettings) -> None:
        """Make the slots fit `settings` (targets resolved); a no-op when they already do."""
        shape = (settings.rank, settings.alpha, settings.targets)
        if self._settings and shape == (self._settings.rank, self._settings.alpha, self._settings.targets):
            return
        self.detach()
        with warnings.catch_warnings():  # PEFT warns about merging into tied or transposed weights; we never merge
            warnings.simplefilter("ignore")
            try:
                self._peft = get_peft_model(self.model, _peft_config(settings))
            except ValueError as error:
                raise SettingsError(f"LoRA does not fit this model: {error}. Name other targets.") from error
        self.model = self._peft.get_base_model().requires_grad_(False).eval()
        self._settings = settings
        self.layers = {n: m for n, m in self.model.named_modules() if isinstance(m, LoraLayer)}
        self._slots = self._found_slots()

    def detach(self) -> nn.Module:
        """The model without any slots, as it was opened."""
        if self._peft is not None:
            self.model, self._peft, self._settings = self._peft.unload(), None, None
        return self.model

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensor name in a file -> shape, of the slots as attached."""
        return {name: tuple(slot.shape) for name, slot in self._slots.items()}

    def initial(self, settings: LoraSettings) -> Adapter:
        """A ~ U(-1/sqrt(in), 1/sqrt(in)) (PEFT's default law) from a generator keyed by seed and name; B = 0."""
        resolved = self.resolve(settings)
        self.attach(resolved)
        shapes = self.shapes().items()
        return Adapter(resolved, {name: initial_tensor(name, shape, settings.seed) for name, shape in shapes})

    @contextmanager
    def using(self, adapter: Adapter | None) -> Iterator[nn.Module]:
        """The model with this adapter in its slots, or the frozen base for None."""
        if adapter is not None:
            self._fill(adapter)
        elif self._peft is not None:
            self._peft.base_model.disable_adapter_layers()
        try:
            yield self.model
        finally:
            if adapter is None and self._peft is not None:
                self._peft.base_model.enable_adapter_layers()
                self.model.requires_grad_(False)  # enabling makes the slots trainable; steps are functional here

    @contextmanager
    def using_each(self, groups: Groups) -> Iterator[nn.Module]:
        """The model with adapter i for the i-th of several groups of rows: the frozen base, and beside it for each
        group the products that PEFT's layer would take. All adapters have one shape."""
        settings = groups.adapters[0].settings
        self.attach(settings)
        with self.using(None) as model, ExitStack() as hooks:
            for name, layer in self.layers.items():
                weights = [tuple(one.tensors[part] for part in tensor_names(name)) for one in groups.adapters]
                module: Any = layer
                hook = module.register_forward_hook(_adding(weights, groups, settings.alpha / settings.rank))
                hooks.callback(hook.remove)
            yield model

    def slot_names(self, adapter: Adapter) -> dict[str, str]:
        """Name in a file -> parameter name in `self.model`, for torch.func.functional_call."""
        return {name: _parameter_name(name) for name in adapter.tensors}

    def _fill(self, adapter: Adapter) -> None:
        self.attach(adapter.settings)
        with torch.no_grad():
            for name, tensor in adapter.tensors.items():
                self._slots[name].copy_(tensor)

    def _found_slots(self) -> dict[str, nn.Parameter]:
        slots: dict[str, Any] = {}
        for module, layer in self.layers.items():
            first, second = tensor_names(module)
            slots[first], slots[second] = layer.lora_A[_SLOT].weight, layer.lora_B[_SLOT].weight
        return slots


def tensor_names(module: str) -> tuple[str, str]:
    """The names, in a PEFT file, of A and B of an adapted module."""
    return f"{_PREFIX}{module}.lora_A.weight", f"{_PREFIX}{module}.lora_B.weight"


def module_of(name: str) -> str:
    """The dotted module name in the base model that a tensor of an adapter belongs to."""
    return name.removeprefix(_PREFIX).rsplit(".", 2)[0]


def pairs(adapter: Adapter) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(module, A (rank, in), B (out, rank)) of every adapted module, in name order."""
    for name, tensor in adapter.tensors.items():
        if name.endswith(".lora_A.weight"):
            yield module_of(name), tensor, adapter.tensors[name.replace(".lora_A.", ".lora_B.")]


def _adding(weights: Sequence[tuple[Tensor, ...]], groups: Groups, scale: float) -> Any:
    """A forward hook of a layer: to every group of rows what its (A, B) adds."""

    def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        sizes = list(groups.sizes)
        parts = []
        for x, out, (first, second) in zip(
            torch.split(inputs[0], sizes), torch.split(output, sizes), weights, strict=True
        ):
            low = functional.linear(x.to(first.dtype), first)
            parts.append((out + functional.linear(low, second) * scale).to(out.dtype))
        return torch.cat(parts)

    return add


def _parameter_name(name: str) -> str:
    return f"{name.removeprefix(_PREFIX).removesuffix('.weight')}.{_SLOT}.weight"


def _peft_config(settings: LoraSettings) -> LoraConfig:
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=list(settings.targets),
        lora_dropout=0.0,
        bias="none",
    )


def initial_tensor(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """The start of one LoRA tensor: zeros for B; A uniform in ±1/sqrt(in), keyed by seed and name."""
    if ".lora_B." in name:
        return torch.zeros(shape)
    key = hashlib.sha256(f"mass-gov lora init v1\0{seed}\0{name}".encode()).digest()[:16]
    raw = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(math.prod(shape))
    unit = (np.asarray(raw, dtype=np.uint64) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    bound = 1.0 / math.sqrt(shape[1])
    return torch.from_numpy(((2.0 * unit - 1.0) * bound).astype(np.float32).reshape(shape))
