"""What an adaptation works with, in one place: model, ledger, keys, policy, suite, settings, clock.

`mass_gov.wiring` fills it. This module also reads where a change starts from: the pointer's state and its adapter.

Rules: a recorded delta is used only if its bytes are the ones that its leaf names. The policy is the one in force when
the work begins, which may not be the one that the bench was laid with; the suites that it names come with it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mass_gov.errors import IntegrityError, RefusedError
from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.model_signing import delta_digest
from mass_gov.evidence.state import state_digest
from mass_gov.flows.initialise import register_suite
from mass_gov.flows.suite_runs import SuiteRunners
from mass_gov.ledger import ChangeView, Ledger
from mass_gov.mass.learner import Learner
from mass_gov.mass.values import Adapter, LoraSettings
from mass_gov.policy import Policy, load_policy
from mass_gov.records.artifacts import ArtifactRole
from mass_gov.records.change import SCOPES, Scope
from mass_gov.records.events import Actor
from mass_gov.records.settings import AdaptationSpec, LoraSpec
from mass_gov.stages.regression import RegressionRunner
from mass_gov.tasks.anchors import AnchorPool, shipped_pool

if TYPE_CHECKING:
    from mass_gov.flows.kept import Kept

ADAPTER_CONFIG, ADAPTER_MODEL = "adapter_config.json", "adapter_model.safetensors"
_DELTA_ROLES: dict[str, ArtifactRole] = {
    ADAPTER_CONFIG: "delta.adapter_config",
    ADAPTER_MODEL: "delta.adapter_model",
}


@dataclass(frozen=True)
class Workbench:
    """Everything an adaptation needs besides the request."""

    learner: Learner
    ledger: Ledger
    keys: KeyStore
    policy: Policy
    runners: SuiteRunners
    spec: AdaptationSpec
    tenant: str
    deployment: str
    actor: Actor
    clock: Callable[[], dt.datetime]
    anchors: AnchorPool = field(default_factory=shipped_pool)
    """Real tasks, for policies that mix them in or compare with them."""

    wanted: Callable[[], None] = lambda: None
    """Asked between stages, and last before anything is written; raises AbandonedError where nobody waits any more."""

    kept: Kept | None = None
    """Where a replay looks for the models and anchors of other releases."""

    recorded_runner: RegressionRunner | None = None
    """The runner of the recorded suite, where a change is computed again: whatever suite the policy names now."""

    def runner_for(self, scope: Scope) -> RegressionRunner:
        """The runner of the suite that tests an update of this scope under the policy."""
        if self.recorded_runner is not None:
            return self.recorded_runner
        return self.runners.named(self.policy.document.suite_for(scope), self.spec.answer)

    def cases_for(self, scope: Scope) -> dict[str, str]:
        """The questions of the suite that tests an update of this scope, by name: what no sample may ask."""
        return {case.case_id: case.question for case in self.runner_for(scope).suite.cases}

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
    """Where the inner loop starts: the state's delta; for the base the core's learned start, which the first delta then
    contains, or without a core the LoRA that changes nothing."""
    delta: RecordedDelta | None = None
    """Where the state's delta was read from; None for the frozen base."""


@dataclass(frozen=True)
class RecordedDelta:
    """A change and the PEFT folder that was recorded for it, checked against its leaf."""

    change: ChangeView
    files: dict[str, bytes]


def under_policy_in_force(bench: Workbench) -> Workbench:
    """Return the bench with the policy that decides now; suites that it names and the ledger lacks are registered.

    Raises:
        InputError: that policy tests on a suite that this release does not ship.
    """
    digest = bench.ledger.active_policy()
    if digest is None or digest == bench.policy.digest:
        return bench
    newer = replace(bench, policy=load_policy(bench.ledger.policy_bytes(digest)))
    register_suites(newer)
    return newer


def register_suites(bench: Workbench) -> None:
    """Register the suites that the bench's policy names, each once."""
    for name in dict.fromkeys(bench.policy.document.suite_for(scope) for scope in SCOPES):
        suite, source = bench.runners.suite(name), bench.runners.load(name)
        register_suite(
            bench.ledger, suite.digest, name, len(suite.cases), source, bench.actor, bench.tenant, bench.deployment
        )


def current_origin(bench: Workbench) -> Origin:
    """Read the deployment's pointer.

    Raises:
        RefusedError: the pointer stands on another base model; deltas never carry over silently.
    """
    pointer = bench.ledger.pointer(bench.tenant, bench.deployment)
    return origin_of(bench, pointer.state or bench.base_state, pointer.head_index)


def origin_of(bench: Workbench, state: str, pointer_head: int | None) -> Origin:
    """Load the adapter of `state` from the ledger.

    Raises:
        RefusedError: the state was made from another base model.
        IntegrityError: its recorded delta is missing, altered, or another one than its leaf names.
    """
    if state == bench.base_state:
        return Origin(state, pointer_head, None, bench.learner.initial_adapter(lora_settings(bench.spec.lora)))
    change = bench.ledger.change_of_state(state, (bench.tenant, bench.deployment))
    if change is None or change.body.parents.base_model != bench.learner.base_digest:
        raise RefusedError(
            f"{bench.tenant}/{bench.deployment} stands on state {state[:12]}, which was not made from this base model. "
            "Use the model it was made from, or another --deployment."
        )
    if change.body.update.state != state:
        raise IntegrityError(f"Change {change.change_id} did not make state {state[:16]}. Run `mass-gov verify`.")
    files = delta_files(bench.ledger, change)  # read once: what is checked there is what is loaded here
    adapter = bench.learner.read_adapter(files)
    return Origin(state, pointer_head, adapter, adapter, RecordedDelta(change, files))


def delta_files(ledger: Ledger, change: ChangeView) -> dict[str, bytes]:
    """Return the recorded delta's PEFT folder: the bytes whose digest stands in the leaf.

    Raises:
        IntegrityError: they are missing, altered, or others; the message names the artifacts.
    """
    files = {name: _recorded_file(ledger, change, role) for name, role in _DELTA_ROLES.items()}
    found, named = delta_digest(files), change.body.update.delta
    if found != named:
        raise IntegrityError(
            f"Artifacts {' and '.join(_DELTA_ROLES.values())} of change {change.change_id} are delta {found[:16]}, and "
            f"its leaf names {str(named)[:16]}: these weights are not the recorded ones and are not used. Restore them."
        )
    return files


def _recorded_file(ledger: Ledger, change: ChangeView, role: ArtifactRole) -> bytes:
    try:
        return ledger.artifact(change.entry, role)
    except IntegrityError as error:
        raise IntegrityError(f"Artifact {role} of change {change.change_id}: {error}") from error


def lora_settings(spec: LoraSpec) -> LoraSettings:
    """The learner's form of the recorded LoRA settings."""
    return LoraSettings(spec.rank, spec.alpha, spec.target_modules, int(spec.seed), spec.initial)
