"""An adapter as the two files of a PEFT folder, byte for byte the same each time.

Rules: writing is deterministic (sorted keys, canonical JSON, no times, no versions, no paths), so that the delta's
digest is over the learning alone; reading accepts exactly what writing makes: no other file, key, shape or dtype, no
non-finite number, never a pickle. `PeftModel.from_pretrained` loads the folder.

Does not know signatures or where the bytes are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import rfc8785
import torch
from safetensors import SafetensorError
from safetensors.numpy import save
from safetensors.torch import load
from torch import Tensor

from mass_gov.errors import ModelError, SettingsError
from mass_gov.mass.model_folder import check_safetensors
from mass_gov.mass.values import Adapter, LoraSettings

CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"
_FIXED = {
    "base_model_name_or_path": None,
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "lora_dropout": 0,
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
}
_SHAPED = {"lora_alpha", "r", "target_modules"}


def write_adapter(adapter: Adapter) -> dict[str, bytes]:
    """The folder's files by name. `fan_in_fan_out` stays false: PEFT itself sets it where a layer is a Conv1D."""
    settings = adapter.settings
    config = {
        **_FIXED,
        "lora_alpha": settings.alpha,
        "r": settings.rank,
        "target_modules": list(settings.targets),
    }
    # The same file as by torch's own `save`, which takes three times as long to look at so many small tensors.
    tensors = {name: tensor.contiguous().numpy() for name, tensor in adapter.tensors.items()}
    return {CONFIG_FILE: rfc8785.dumps(config), TENSOR_FILE: save(tensors, metadata={"format": "pt"})}


def read_settings(files: Mapping[str, bytes]) -> LoraSettings:
    """The adapter's shape from its config file. Raises ModelError for files or keys that writing never makes."""
    if set(files) != {CONFIG_FILE, TENSOR_FILE}:
        raise _unusable(f"it must hold exactly {CONFIG_FILE} and {TENSOR_FILE}, found {sorted(files)}")
    try:
        config = json.loads(files[CONFIG_FILE])
        fixed = {key: value for key, value in config.items() if key not in _SHAPED}
        rank, alpha, targets = config["r"], config["lora_alpha"], config["target_modules"]
        typed = type(rank) is int and type(alpha) is int and all(isinstance(target, str) for target in targets)
        if fixed != _FIXED or not typed or targets != sorted(set(targets)) or not targets:
            raise ValueError("its keys or values are not those of a delta")
        return LoraSettings(rank, alpha, tuple(targets))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SettingsError) as error:
        raise _unusable(f"{CONFIG_FILE}: {error}") from error


def read_tensors(files: Mapping[str, bytes], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The adapter's tensors; every one of `shapes` and nothing else, float32 and finite. Raises ModelError."""
    stored = files[TENSOR_FILE]
    check_safetensors(stored, len(stored), f"the adapter's {TENSOR_FILE}")
    try:
        tensors = load(stored)
    except (SafetensorError, ValueError, KeyError) as error:
        raise _unusable(f"{TENSOR_FILE}: {error}") from error
    if set(tensors) != set(shapes):
        raise _unusable(f"tensors do not fit this model: {sorted(set(tensors) ^ set(shapes))[0]!r}")
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes[name] or tensor.dtype != torch.float32:
            raise _unusable(f"{name!r} is {tensor.dtype} {tuple(tensor.shape)}, expected float32 {shapes[name]}")
        if not bool(torch.isfinite(tensor).all()):
            raise _unusable(f"{name!r} holds a number that is not finite")
    return tensors


def _unusable(why: str) -> ModelError:
    return ModelError(f"this adapter cannot be used: {why}. Take it from the ledger again, with its own base model.")
