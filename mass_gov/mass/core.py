"""The trained MASS core beside a model's weights: where the inner loop starts, how far it steps, and the scorer's head.

Two files in the model folder: `core.json` (`core_settings`) and `core.safetensors`, whose tensors are phi_0 as
"initial.<name in a PEFT file>" and the head as "scorer.<name>". A folder with neither is a plain base; one without the
other is refused. Rules: both belong to the base model's digest; writing makes the same bytes each time; reading accepts
exactly what writing makes for this model: every shape, float32, finite, and the digests that core.json names.

Does not know how any of it was learned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import rfc8785
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mass_gov.errors import ModelError, SettingsError
from mass_gov.mass import adapter_files, scorer
from mass_gov.mass.core_settings import CoreSettings, read_core_settings
from mass_gov.mass.lora import LoraModel, module_of
from mass_gov.mass.model_folder import CORE_SETTINGS, CORE_TENSORS, check_safetensors
from mass_gov.mass.values import Adapter, LoraSettings, SamplingSettings, UpdateSettings

_INITIAL, _SCORER = "initial.", "scorer."


@dataclass(frozen=True, eq=False)
class Core:
    """What meta-training learned besides the model's own weights, and the settings that it was learned for.

    adapter: phi_0, its targets spelled out; step_sizes: alpha by dotted module name, one for every adapted module;
    scorer: the head's four tensors, or None; steps: K; samples: m. Immutable by contract, as an adapter is, so that its
    digests are computed once. Raises SettingsError for what does not fit together.
    """

    adapter: Adapter
    step_sizes: Mapping[str, float]
    scorer: Mapping[str, Tensor] | None
    steps: int = 1
    samples: int = 6
    temperature: float = 1.0
    max_new_tokens: int = 120
    softening: float = 3.0

    def __post_init__(self) -> None:
        modules = {module_of(name) for name in self.adapter.tensors}
        if set(self.step_sizes) != modules:
            odd = sorted(set(self.step_sizes) ^ modules)[:1]
            raise SettingsError(f"a core needs one step size for every adapted module and no other: {odd}. Mend it.")
        if self.scorer is not None and set(self.scorer) != set(scorer.NAMES):
            raise SettingsError(f"a scorer's head has the tensors {', '.join(scorer.NAMES)}. Give exactly those.")
        object.__setattr__(self, "step_sizes", MappingProxyType(dict(sorted(self.step_sizes.items()))))
        if self.scorer is not None:
            frozen = {name: self.scorer[name].detach() for name in sorted(self.scorer)}
            object.__setattr__(self, "scorer", MappingProxyType(frozen))
        self.settings()  # refuses numbers that nothing can use

    @cached_property
    def lora(self) -> LoraSettings:
        """The settings that `Learner.initial_adapter` gives phi_0 for."""
        return replace(self.adapter.settings, seed=0, initial=initial_digest(self.adapter))

    @cached_property
    def scorer_digest(self) -> str | None:
        """What names the head in a change's leaf; None where there is no head."""
        return scorer.head_digest(self.scorer) if self.scorer is not None else None

    def sampling_settings(self) -> SamplingSettings:
        """How the core's generator writes."""
        return SamplingSettings(self.temperature, self.max_new_tokens)

    def update_settings(self) -> UpdateSettings:
        """The inner loop as trained."""
        return self.settings().update_settings()

    def settings(self) -> CoreSettings:
        """What core.json says about it."""
        sampling = self.sampling_settings()
        return CoreSettings(
            self.samples, sampling, self.lora, self.steps, self.softening, self.step_sizes, self.scorer_digest
        )


def initial_digest(adapter: Adapter) -> str:
    """SHA-256 (hex) of the canonical JSON {file: SHA-256 hex} of phi_0 as an adapter's folder."""
    files = adapter_files.write_adapter(adapter)
    return hashlib.sha256(
        rfc8785.dumps({name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
    ).hexdigest()


def write_core(core: Core, folder: Path) -> None:
    """Write (or replace) the two files in a model folder. The base model's digest changes with them."""
    tensors = {f"{_INITIAL}{name}": tensor for name, tensor in core.adapter.tensors.items()}
    tensors |= {f"{_SCORER}{name}": tensor for name, tensor in (core.scorer or {}).items()}
    stored = save({name: tensor.float().contiguous() for name, tensor in tensors.items()}, metadata={"format": "pt"})
    (folder / CORE_TENSORS).write_bytes(stored)
    (folder / CORE_SETTINGS).write_bytes(core.settings().to_json())


def read_core(folder: Path, model: LoraModel) -> Core | None:
    """The core in `folder`, for the model that lies there; None for a plain base.

    Raises:
        ModelError: one file is there without the other, or they are not exactly what `write_core` makes for this model.
    """
    settings, path = read_core_settings(folder), folder / CORE_TENSORS
    if settings is None:
        if path.exists():
            raise _unusable(folder, f"it holds {CORE_TENSORS} without {CORE_SETTINGS}")
        return None
    if not path.is_file():
        raise _unusable(folder, f"it holds {CORE_SETTINGS} without {CORE_TENSORS}")
    try:
        core = _core(settings, _tensors(path), model)
    except (SettingsError, ValueError) as error:
        raise _unusable(folder, str(error)) from error
    if core.lora != settings.lora or core.scorer_digest != settings.scorer:
        raise _unusable(folder, f"{CORE_TENSORS} is not what the digests in {CORE_SETTINGS} name")
    return core


def _core(settings: CoreSettings, tensors: Mapping[str, Tensor], model: LoraModel) -> Core:
    model.attach(settings.lora)
    shapes = {f"{_INITIAL}{name}": shape for name, shape in model.shapes().items()}
    if settings.scorer is not None:
        shapes |= _head_shapes(tensors, scorer.feature_size(model.model))
    _check(tensors, shapes)
    head = {name: tensors[_SCORER + name] for name in scorer.NAMES} if settings.scorer is not None else None
    return Core(
        adapter=Adapter(replace(settings.lora, initial=None), _part(tensors, _INITIAL)),
        step_sizes=settings.step_sizes,
        scorer=head,
        steps=settings.steps,
        samples=settings.samples,
        temperature=settings.sampling.temperature,
        max_new_tokens=settings.sampling.max_new_tokens,
        softening=settings.softening,
    )


def _tensors(path: Path) -> dict[str, Tensor]:
    stored = path.read_bytes()
    check_safetensors(stored, len(stored), str(path))
    try:
        return load(stored)
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path.name}: {error}") from error


def _head_shapes(tensors: Mapping[str, Tensor], features: int) -> dict[str, tuple[int, ...]]:
    """The head's own width is free; everything else about it follows."""
    bias = tensors.get(_SCORER + scorer.INPUT_BIAS)
    width = bias.numel() if bias is not None else 0
    shapes = {
        scorer.INPUT_WEIGHT: (width, features),
        scorer.INPUT_BIAS: (width,),
        scorer.OUTPUT_WEIGHT: (1, width),
        scorer.OUTPUT_BIAS: (1,),
    }
    return {_SCORER + name: shape for name, shape in shapes.items()}


def _check(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    if set(tensors) != set(shapes):
        raise ValueError(f"its tensors do not fit this model: {sorted(set(tensors) ^ set(shapes))[0]!r}")
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes[name] or tensor.dtype != torch.float32 or not tensor.numel():
            raise ValueError(f"{name!r} is {tensor.dtype} {tuple(tensor.shape)}, expected float32 {shapes[name]}")
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name!r} holds a number that is not finite")


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _unusable(folder: Path, why: str) -> ModelError:
    return ModelError(
        f"the core in {folder} cannot be used: {why}. Copy the trained folder again, or remove {CORE_SETTINGS} and "
        f"{CORE_TENSORS} to use the plain base."
    )
