"""What `core.json` says: how a trained MASS core is meant to be used. Importable without torch.

The file stands beside a model's weights and holds exactly these keys (docs/reference/core.md):

    {"format": 1, "sampling": {"count", "temperature", "max_new_tokens"}, "lora": {"rank", "alpha", "targets"},
     "update": {"steps", "softening", "step_sizes": {module: number}}, "digests": {"initial", "step_sizes", "scorer"}}

Rules: read strictly; a key that is not known, a number that is not finite or a digest that is not the step sizes' own
is a ModelError. Does not know the tensors, which stand in `core.safetensors` (`core` reads those).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import rfc8785

from mass_gov.errors import ModelError, SettingsError
from mass_gov.mass.model_folder import CORE_SETTINGS, read_json
from mass_gov.mass.values import LoraSettings, SamplingSettings, UpdateSettings

FORMAT = 1
_KEYS = {
    "": {"format", "sampling", "lora", "update", "digests"},
    "sampling": {"count", "temperature", "max_new_tokens"},
    "lora": {"rank", "alpha", "targets"},
    "update": {"steps", "softening", "step_sizes"},
    "digests": {"initial", "step_sizes", "scorer"},
}
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class CoreSettings:
    """How a core writes samples and takes steps, and the digests of what it was trained to.

    samples: m; lora.initial: digest of phi_0; step_sizes: alpha by dotted module name, one per adapted module;
    scorer: digest of the head, None where all kept samples weigh the same.
    """

    samples: int
    sampling: SamplingSettings
    lora: LoraSettings
    steps: int
    softening: float
    step_sizes: Mapping[str, float]
    scorer: str | None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise SettingsError(f"a core writes at least 1 sample, got {self.samples}. Correct the setting.")
        if not self.step_sizes:
            raise SettingsError("a core has a step size for every adapted module. Give them.")
        object.__setattr__(self, "step_sizes", MappingProxyType(dict(sorted(self.step_sizes.items()))))
        self.update_settings()  # refuses numbers that no update can use

    def update_settings(self) -> UpdateSettings:
        """The inner loop as trained: every module has its own step size, so that the general one is never used."""
        return UpdateSettings(self.steps, 0.0, tuple(self.step_sizes.items()), self.softening)

    def to_json(self) -> bytes:
        """The bytes of `core.json`: RFC 8785, the same each time."""
        return rfc8785.dumps(
            {
                "format": FORMAT,
                "sampling": {
                    "count": self.samples,
                    "temperature": self.sampling.temperature,
                    "max_new_tokens": self.sampling.max_new_tokens,
                },
                "lora": {"rank": self.lora.rank, "alpha": self.lora.alpha, "targets": list(self.lora.targets)},
                "update": {
                    "steps": self.steps,
                    "softening": self.softening,
                    "step_sizes": dict(self.step_sizes),
                },
                "digests": {
                    "initial": self.lora.initial,
                    "step_sizes": step_sizes_digest(self.step_sizes),
                    "scorer": self.scorer,
                },
            }
        )


def step_sizes_digest(step_sizes: Mapping[str, float]) -> str:
    """SHA-256 (hex) of the canonical JSON {module: step size}: the digest that a change's leaf names them by."""
    return hashlib.sha256(rfc8785.dumps(dict(step_sizes))).hexdigest()


def read_core_settings(folder: Path) -> CoreSettings | None:
    """The settings in a model folder's core.json; None for a plain base, which has none.

    Raises:
        ModelError: the file is there and is not exactly what writing makes.
    """
    path = folder / CORE_SETTINGS
    if not path.exists():
        return None
    try:
        return _settings(read_json(path))
    except (ValueError, TypeError, SettingsError) as error:
        raise ModelError(
            f"{path} is no core: {error} Copy the trained folder again, or remove core.json and core.safetensors "
            "to use the plain base."
        ) from error


def _settings(raw: dict[str, Any]) -> CoreSettings:
    for part, keys in _KEYS.items():
        _check_keys(raw[part] if part else raw, keys, part or "the file")
    if raw["format"] != FORMAT or type(raw["format"]) is not int:
        raise ValueError(f"its format is {raw['format']!r}, and this release reads {FORMAT}.")
    sampling, lora, update, digests = raw["sampling"], raw["lora"], raw["update"], raw["digests"]
    sizes = update["step_sizes"]
    targets = lora["targets"]
    if not isinstance(sizes, dict) or not isinstance(targets, list) or targets != sorted(set(map(str, targets))):
        raise ValueError("step_sizes must be an object, and targets a sorted list of names.")
    settings = CoreSettings(
        samples=_whole(sampling, "count"),
        sampling=SamplingSettings(_number(sampling, "temperature"), _whole(sampling, "max_new_tokens")),
        lora=LoraSettings(
            _whole(lora, "rank"), _whole(lora, "alpha"), tuple(targets), initial=_digest(digests, "initial")
        ),
        steps=_whole(update, "steps"),
        softening=_number(update, "softening"),
        step_sizes={module: _number(sizes, module) for module in sizes},
        scorer=_digest(digests, "scorer") if digests["scorer"] is not None else None,
    )
    if not targets or step_sizes_digest(settings.step_sizes) != digests["step_sizes"]:
        raise ValueError("its targets are empty, or its step sizes are not those that their digest names.")
    return settings


def _check_keys(part: Any, keys: set[str], name: str) -> None:
    if not isinstance(part, dict) or set(part) != keys:
        found = sorted(part) if isinstance(part, dict) else type(part).__name__
        raise ValueError(f"{name} must hold exactly {sorted(keys)}, found {found}.")


def _whole(part: dict[str, Any], key: str) -> int:
    value = part[key]
    if type(value) is not int:
        raise TypeError(f"{key} must be a whole number, got {value!r}.")
    return value


def _number(part: dict[str, Any], key: str) -> float:
    value = part[key]
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(f"{key} must be a finite number, got {value!r}.")
    return float(value)


def _digest(part: dict[str, Any], key: str) -> str:
    value = part[key]
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError(f"the digest {key} is not 64 hexadecimal digits.")
    return value
