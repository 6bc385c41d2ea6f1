"""What an adaptation works with, in one place: model, ledger, keys, policy, suite, settings, clock.

`mass_gov.wiring` fills it. This module also reads where a change starts from: the pointer's state and its adapter.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from mass_gov.errors import RefusedError
from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.state import state_digest
from mass_gov.ledger import ChangeView, Ledger
from mass_gov.mass.learner import Learner
from mass_gov.mass.lora import Adapter
from mass_gov.mass.values import LoraSettings
from mass_gov.policy import Policy
from mass_gov.records.events import Actor
from mass_gov.records.settings import AdaptationSpec, LoraSpec
from mass_gov.stages.regression import RegressionRunner

ADAPTER_CONFIG, ADAPTER_MODEL = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Workbench:
    """Everything an adaptation needs besides the request."""

    learner: Learner
    ledger: Ledger
    keys: KeyStore
    policy: Policy
    runner: RegressionRunner
    spec: AdaptationSpec
    tenant: str
    deployment: str
    actor: Actor
    clock: Callable[[], dt.datetime]

    @property
    def base_state(self) -> str:
        """Digest of the frozen base as a state."""
        return state_digest(self.learner.base_digest, None)

    @property
    def config_digest(self) -> str:
        """Digest of everything that decides what an adaptation computes."""
        return sha256_hex(canonical_bytes(self.spec.document()))

    @property
    def template_digest(self) -> str:
        """Digest of how problems are put to the model."""
        return sha256_hex(self.learner.template.to_json())


@dataclass(frozen=True)
class Origin:
    """Where a change starts from."""

    state: str
    pointer_head: int | None
    adapter: Adapter | None
    """The state's delta; None for the frozen base."""
    start: Adapter
    """Where the inner loop starts: the state's delta, or for the base the initial LoRA that changes nothing."""


def current_origin(bench: Workbench) -> Origin:
    """Read the deployment's pointer.

    Raises:
        RefusedError: the pointer stands on another base model; deltas never carry over silently.
    """
    pointer = bench.ledger.pointer(bench.tenant, bench.deployment)
    return origin_of(bench, pointer.state or bench.base_state, pointer.head_index)


def origin_of(bench: Workbench, state: str, pointer_head: int | None) -> Origin:
    """Load the adapter of `state` from the ledger."""
    if state == bench.base_state:
        return Origin(state, pointer_head, None, bench.learner.initial_adapter(lora_settings(bench.spec.lora)))
    change = bench.ledger.change_of_state(state)
    if change is None or change.body.parents.base_model != bench.learner.base_digest:
        raise RefusedError(
            f"{bench.tenant}/{bench.deployment} stands on state {state[:12]}, which was not made from this base model. "
            "Use the model it was made from, or another --deployment."
        )
    adapter = bench.learner.read_adapter(delta_files(bench.ledger, change))
    return Origin(state, pointer_head, adapter, adapter)


def delta_files(ledger: Ledger, change: ChangeView) -> dict[str, bytes]:
    """Return the recorded delta's PEFT folder: the bytes whose digest stands in the leaf."""
    return {
        ADAPTER_CONFIG: ledger.artifact(change.entry, "delta.adapter_config"),
        ADAPTER_MODEL: ledger.artifact(change.entry, "delta.adapter_model"),
    }


def lora_settings(spec: LoraSpec) -> LoraSettings:
    """The learner's form of the recorded LoRA settings."""
    return LoraSettings(rank=spec.rank, alpha=spec.alpha, targets=spec.target_modules, seed=int(spec.seed))
