"""Which adaptation settings a model's folder asks for. Reads two small files; imports no torch.

A step that moves one model gently wrecks another, so it is the model's to say. `adaptation.json` recommends settings
for a plain base. A trained core (`core.json`) was trained for its own: where there is one, they hold for sampling, LoRA
and update, and `adaptation.json` is left with how answers are decoded.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from mass_gov.errors import ModelError
from mass_gov.mass.core_settings import CoreSettings, read_core_settings
from mass_gov.records.settings import AdaptationSpec, LoraSpec, SamplingSpec, UpdateSpec

ADAPTATION_FILE = "adaptation.json"
"""In a model's folder: the adaptation settings that suit it."""


def recommended(folder: Path) -> AdaptationSpec:
    """Return the settings that suit the model in `folder`, or the general defaults.

    Raises:
        ModelError: one of the files is there and is not what it should be.
    """
    spec, core = _recorded(folder / ADAPTATION_FILE), read_core_settings(folder)
    return spec if core is None else as_trained(core, spec)


def as_trained(core: CoreSettings, spec: AdaptationSpec) -> AdaptationSpec:
    """Return `spec` with the sampling, the LoRA start and the step sizes that a core was trained for."""
    sampling = SamplingSpec(
        count=core.samples,
        temperature=core.sampling.temperature,
        max_new_tokens=core.sampling.max_new_tokens,
    )
    lora = LoraSpec(
        rank=core.lora.rank,
        alpha=core.lora.alpha,
        target_modules=core.lora.targets,
        seed=str(core.lora.seed),
        initial=core.lora.initial,
    )
    update = UpdateSpec(steps=core.steps, softening=core.softening, step_sizes=dict(core.step_sizes))
    return spec.model_copy(update={"sampling": sampling, "lora": lora, "update": update})


def _recorded(path: Path) -> AdaptationSpec:
    if not path.is_file():
        return AdaptationSpec()
    try:
        return AdaptationSpec.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[-1].strip() if isinstance(error, OSError) else _first_fault(error)
        raise ModelError(f"{path} is no adaptation settings: {reason}. Mend or remove it.") from None


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'the file'}: {first['msg']}"
