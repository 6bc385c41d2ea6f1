"""The plain data that goes into the learner and comes out of it. Importable without torch.

Rules: frozen; every setting is checked where it is made, so that the learner never meets a half-valid one.
Does not know how any of it is computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from mass_gov.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise SettingsError(f"{what}. Correct the setting and try again.")


@dataclass(frozen=True)
class LoraSettings:
    """The shape of the adapter: W + (alpha / rank) · B A on every module whose name ends in one of `targets`.

    Empty `targets` are chosen by architecture (`lora.default_targets`). `seed` draws the initial A; B starts at zero;
    unless `initial` names, by digest, the learned start of the model folder's own core.
    """

    rank: int = 8
    alpha: int = 16
    targets: tuple[str, ...] = ()
    seed: int = 0
    initial: str | None = None

    def __post_init__(self) -> None:
        _require(self.rank >= 1, f"LoRA rank must be at least 1, got {self.rank}")
        _require(self.alpha >= 1, f"LoRA alpha must be at least 1, got {self.alpha}")
        _require(all(self.targets), "LoRA target names must not be empty")


@dataclass(frozen=True, eq=False)
class Adapter:
    """A delta: float32 LoRA tensors by their names in a PEFT file.

    "base_model.model.<module>.lora_A.weight" is (rank, in), "...lora_B.weight" (out, rank).
    Immutable by contract: nobody writes into `tensors`. Its `settings` name the targets that were chosen.
    """

    settings: LoraSettings
    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        frozen = {name: self.tensors[name].detach() for name in sorted(self.tensors)}
        object.__setattr__(self, "tensors", MappingProxyType(frozen))

    def __repr__(self) -> str:
        return f"Adapter({self.settings}, {len(self.tensors)} tensors)"


@dataclass(frozen=True)
class SamplingSettings:
    """How samples are drawn: softmax(logits / temperature), at most `max_new_tokens` tokens each."""

    temperature: float = 1.0
    max_new_tokens: int = 96

    def __post_init__(self) -> None:
        positive = math.isfinite(self.temperature) and self.temperature > 0
        _require(positive, f"sampling temperature must be a finite number above 0, got {self.temperature}")
        _require(self.max_new_tokens >= 1, f"max_new_tokens must be at least 1, got {self.max_new_tokens}")


@dataclass(frozen=True)
class UpdateSettings:
    """How the adapter moves: `steps` (K) steps of `step_size` (alpha) on cross-entropy of logits / `softening`.

    `module_step_sizes` replaces the step size where a module's name ends in the given suffix (longest suffix wins).
    `max_norm` is the trust region: the largest relative Frobenius norm that one update may have in any module; where a
    module's step is longer it is scaled back, and both norms are reported. None leaves the step as taken.
    """

    steps: int = 1
    step_size: float = 1.0
    module_step_sizes: tuple[tuple[str, float], ...] = ()
    softening: float = 1.0
    max_norm: float | None = None

    def __post_init__(self) -> None:
        _require(self.steps >= 1, f"an update takes at least 1 step, got {self.steps}")
        sizes = (self.step_size, *(size for _, size in self.module_step_sizes))
        _require(all(math.isfinite(s) and s >= 0 for s in sizes), "step sizes must be finite and not negative")
        _require(math.isfinite(self.softening) and self.softening > 0, "softening must be finite and above 0")
        bounded = self.max_norm is None or (math.isfinite(self.max_norm) and self.max_norm > 0)
        _require(bounded, f"max_norm must be finite and above 0, got {self.max_norm}")

    def step_size_of(self, module: str) -> float:
        """The step size (alpha) of one module, by the longest matching suffix of its dotted name."""
        matching = [(len(suffix), size) for suffix, size in self.module_step_sizes if module.endswith(suffix)]
        return max(matching)[1] if matching else self.step_size


@dataclass(frozen=True)
class Generation:
    """One text that the model wrote, with everything needed to check it again.

    `tokens` are the ids as chosen, the stop token included; `finished` is False when the budget ran out first.
    `seed` is the one that was given, `index` the row's place in its batch of `batch_size` rows: together they name
    the random numbers used (None for greedy answers).
    """

    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    text: str
    finished: bool
    seed: int | None
    index: int
    batch_size: int


@dataclass(frozen=True)
class Reading:
    """How the frozen base reads one practice sample.

    surprise: mean negative log-likelihood (nats) of its tokens, end token included, after the practise prompt; score:
    what the core's scorer says of it, None where there is none.
    """

    surprise: float
    score: float | None


@dataclass(frozen=True)
class TrainingSample:
    """One question with a solution (working, marker, answer) and its weight in the loss."""

    question: str
    solution: str
    weight: float

    def __post_init__(self) -> None:
        weighable = math.isfinite(self.weight) and self.weight >= 0
        _require(weighable, f"a sample's weight must be finite and not negative, got {self.weight}")


@dataclass(frozen=True)
class ModuleNorms:
    """Relative norms in one module: ‖ΔW‖ / ‖W_base‖ against the parent state and against the base.

    Frobenius, and spectral ones where they were asked for.
    """

    module: str
    step: float
    cumulative: float
    step_spectral: float | None = None
    cumulative_spectral: float | None = None


class UpdateOutcome(StrEnum):
    """What became of an update. Only `stepped` changes the state; the others are results, not errors."""

    STEPPED = "stepped"
    NO_WEIGHT = "no-weight"
    UNMOVED = "unmoved"
    NON_FINITE = "non-finite"


@dataclass(frozen=True)
class UpdateResult:
    """An update as taken.

    `losses` and `gradient_norms` have one finite entry per step: the weighted loss before that step and the norm of
    its gradient over all adapter parameters. `norms` are those of the step as taken; `projection` is the smallest
    factor by which a module was then scaled back (1.0: none was) and `projected_norms` what came of it. `loss_after` is
    the weighted loss after the last step as taken, where it was asked for; it may be infinite or NaN. `divergences` are
    those of `adapter` from the base, token by token of each text, where they were asked for. Unless the outcome is
    `stepped`, `adapter` is the parent's and diverges by nothing that is known.
    """

    adapter: Adapter
    outcome: UpdateOutcome
    steps_done: int
    losses: tuple[float, ...] = ()
    gradient_norms: tuple[float, ...] = ()
    norms: tuple[ModuleNorms, ...] = ()
    projection: float = 1.0
    projected_norms: tuple[ModuleNorms, ...] = ()
    loss_after: float | None = None
    divergences: tuple[tuple[float, ...], ...] | None = None
