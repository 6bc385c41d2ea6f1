"""A small real ledger: real keys, real signatures, real policies, plausible changes. Only the learner is missing.

Every change that a world records passes `verify`: its counts agree with its artifacts, its gates and its decision are
what its policy yields, its delta is signed. `step_norm` steers the decision: 0.05 applies, 0.7 is held (outside the
envelope), 0.9 is rejected (a gate fails).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from uuid6 import uuid7

from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.model_signing import delta_digest, sign_folder
from mass_gov.evidence.state import state_digest
from mass_gov.flows.behaviour import read_behaviour
from mass_gov.flows.handles import SYSTEM_SUBJECT, task_commitment
from mass_gov.ledger import ChangeView, Entry, Ledger
from mass_gov.policy import Facts, Policy, decide, judge, load_policy
from mass_gov.policy.approving import must_be_shown
from mass_gov.policy.bounds import paired_lower_bound
from mass_gov.records.artifacts import (
    AnswerContent,
    AnswerText,
    ArtifactRole,
    CaseContent,
    ModuleStep,
    ReasonContent,
    RegressionContent,
    RequestContent,
    SampleContent,
    SamplesContent,
    UpdateContent,
)
from mass_gov.records.base import timestamp
from mass_gov.records.change import (
    ChangeBody,
    Cost,
    Identity,
    PairedCounts,
    Parents,
    RegressionSummary,
    Scope,
    UpdateSummary,
)
from mass_gov.records.drafts import ArtifactDraft, EventDraft
from mass_gov.records.events import (
    Actor,
    Body,
    ChangeActivated,
    ChangeApproved,
    ChangeRecorded,
    ChangeRejected,
    ChangeRolledBack,
    ControlFrozen,
    ControlUnfrozen,
    ModelRegistered,
    PolicyActivated,
    ResponseServed,
    SuiteRegistered,
    Unadapted,
)
from mass_gov.records.settings import AdaptationSpec, SamplingSpec, UpdateSpec
from mass_gov.stages.gates import gate_samples
from tests.fakes.engines import address_of, furnished_address
from tests.fakes.policies import lean_source

SUBJECT = "s-" + "5" * 32
ADA = Actor(principal="ada", role="requester")
BOB = Actor(principal="bob", role="operator")
EVE = Actor(principal="eve", role="operator")
CASES = 40
SPEC = AdaptationSpec(sampling=SamplingSpec(count=2), update=UpdateSpec(steps=1, step_size=0.5))
BOTH_SCOPES = load_policy(lean_source(scopes=("instance", "deployment")))
"""The solo policy without later gates, with deployment-scope changes inside its envelope."""


def digest(text: str) -> str:
    """A digest that stands for something that this world does not have."""
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def shipped_policy(name: str) -> Policy:
    """Load a policy that comes with the program, without the later gates: no learner measures anything here."""
    return load_policy(lean_source(base=name))


BASE_MODEL = digest("base model")
TEMPLATE = digest("prompt template")
SUITE_FILE = b"".join(
    canonical_bytes(
        {
            "case_id": f"c{i}",
            "domain": "nested",
            "split": "hard",
            "question": f"What is {i} - {i} + 1?",
            "answer": "1",
            "critical": i < 4,
        }
    )
    + b"\n"
    for i in range(CASES)
)
SUITE = sha256_hex(SUITE_FILE)


REASON: tuple[ArtifactRole, bytes] = ("reason", canonical_bytes(ReasonContent(text="It was looked at.").document()))


@dataclass
class LedgerWorld:
    """One home: its ledger, key store and checkpoint folder."""

    folder: Path
    ledger: Ledger
    keys: KeyStore
    policy: Policy
    tenant: str = "acme"
    deployment: str = "tutor"

    @classmethod
    def make(cls, folder: Path, policy: Policy | None = None, **options: Any) -> LedgerWorld:
        """Make a home, or open the one that is there; furnish the ledger with policy, model and suite once.

        With `options`, which are about how a ledger is opened, a new file's schema is made by the ledger itself.
        """
        keys = KeyStore.open(folder / "keys", create=True)
        where = address_of(folder) if options else furnished_address(folder)
        ledger = Ledger.open(where, keys=keys, checkpoints=folder / "checkpoints", create=True, **options)
        world = cls(folder, ledger, keys, policy or shipped_policy("solo"))
        if not ledger.has_model(BASE_MODEL):
            ledger.append(world.furniture())
        return world

    def furniture(self) -> list[EventDraft]:
        """What a ledger must hold before its first change."""
        document = self.policy.document
        activated = PolicyActivated(
            policy=self.policy.digest,
            name=document.name,
            version=document.version,
            replaces=None,
            approvers=("bob",),
            self_approved=True,
        )
        return [
            self.draft(activated, BOB, ("policy", self.policy.source)),
            self.draft(ModelRegistered(model=BASE_MODEL, prompt_template=TEMPLATE, parameters="200000"), BOB),
            self.draft(
                SuiteRegistered(suite=SUITE, name=document.suite_for("instance"), cases=CASES),
                BOB,
                ("suite", SUITE_FILE),
            ),
        ]

    def draft(
        self, body: Body, actor: Actor = ADA, *artifacts: tuple[ArtifactRole, bytes], of: str = SUBJECT
    ) -> EventDraft:
        """Draft an event of this tenant and deployment; only changes and answers hold a person's data."""
        of_a_person = body.type in ("change.recorded", "response.served")
        subject = of if of_a_person else SYSTEM_SUBJECT
        sealed = tuple(ArtifactDraft(role, plaintext, subject) for role, plaintext in artifacts)
        return EventDraft(actor, self.tenant, self.deployment, body, sealed)

    def record(self, task_id: str, **options: Any) -> ChangeView:
        """Record one change with what follows from its decision."""
        drafts = self.change_drafts(task_id, **options)
        self.ledger.append(drafts)
        body = drafts[0].body
        assert isinstance(body, ChangeRecorded)
        return self.ledger.change(body.change.identity.change_id)

    def change_drafts(
        self,
        task_id: str,
        *,
        scope: Scope = "instance",
        step_norm: float = 0.05,
        learned: bool = True,
        forced: bool = False,
        consequences: bool = True,
        subject: str = SUBJECT,
    ) -> list[EventDraft]:
        """Draft a change, its activation where it applies by itself, and the response."""
        pointer = self.ledger.pointer(self.tenant, self.deployment)
        parent = pointer.state or state_digest(BASE_MODEL, None)
        files = {"adapter_config.json": b'{"r":8}', "adapter_model.safetensors": os.urandom(200)} if learned else None
        question = f"What is {task_id}?"
        samples, synthesis = gate_samples(_samples(learned, forced), question, self.policy, parent)
        update = self._update(files, parent, step_norm)
        regression = _regression() if learned else None
        facts = Facts(scope, synthesis, update, regression[1] if regression else None)
        gates = judge(facts, self.policy)
        body = ChangeBody(
            identity=self._identity(task_id, scope, subject),
            parents=self._parents(parent, pointer.head_index),
            synthesis=synthesis,
            update=update,
            regression=regression[1] if regression else None,
            gates=gates,
            decision=decide(gates, update, scope, self.policy),
            cost=Cost(flops="123456789012345678901", generated_tokens=44, seconds={"synthesis": 0.25}),
        )
        answer = _answer(body)
        documents: list[tuple[ArtifactRole, bytes]] = [
            ("request", _json(RequestContent(question=question, task_id=task_id, source="test"))),
            ("config", _json(SPEC)),
            ("fingerprint", canonical_bytes({"torch": "none"})),
            ("samples", _json(samples)),
            ("update", _json(_update_content(update))),
            ("answer", _json(answer)),
        ]
        if files is not None and regression is not None:
            documents += [
                ("delta.adapter_config", files["adapter_config.json"]),
                ("delta.adapter_model", files["adapter_model.safetensors"]),
                ("delta.signature", sign_folder(files, "delta", self.keys.delta_signer)),
                ("regression", _json(regression[0])),
            ]
        drafts = [self.draft(ChangeRecorded(change=body), ADA, *documents, of=subject)]
        return drafts + (self._consequences(body) if consequences else [])

    def unadapted(self, response_id: str, **overrides: Any) -> EventDraft:
        """Draft an answer that no update stands behind, from the state that the pointer has now."""
        pointer = self.ledger.pointer(self.tenant, self.deployment)
        state = pointer.state or state_digest(BASE_MODEL, None)
        fields = {
            "base_model": BASE_MODEL,
            "pointer_head": pointer.head_index,
            "config": sha256_hex(_json(SPEC)),
            "prompt_template": TEMPLATE,
            "policy": self.policy.digest,
            "fingerprint": sha256_hex(canonical_bytes({"torch": "none"})),
            "subject": SUBJECT,
            "requested_at": _now(),
            "cost": Cost(flops="1", generated_tokens=2, seconds={}),
        }
        body = ResponseServed(
            response_id=response_id,
            change_id=None,
            state=state,
            served="unadapted",
            unadapted=Unadapted(**(fields | overrides)),
        )
        answer = AnswerText(state=state, tokens=(7,), text="= 2", answer="2", finished=True)
        return self.draft(
            body,
            ADA,
            ("request", _json(RequestContent(question="What is it?", task_id=response_id, source="test"))),
            ("config", _json(SPEC)),
            ("fingerprint", canonical_bytes({"torch": "none"})),
            ("answer", _json(answer)),
            of=str((fields | overrides)["subject"]),
        )

    def approval(
        self,
        change: ChangeView,
        actor: Actor = BOB,
        meaning: Literal["apply", "promote"] = "apply",
        **overrides: Any,
    ) -> EventDraft:
        """Draft a yes, bound to what stands in the ledger now."""
        parents = change.body.parents
        fields = {
            "change_id": change.change_id,
            "recorded": change.entry.leaf_hash,
            "parent_state": parents.parent_state,
            "expected_head": parents.pointer_head,
            "policy": parents.policy,
            "suite": parents.suite,
            "meaning": meaning,
            "self_approved": actor.principal == change.body.identity.requester,
            "approvals": sum(given.meaning == meaning for given in change.approvals) + 1,
            "required": self.policy.document.approvals.required,
        }
        if must_be_shown(self.policy) and "shown" not in overrides and actor.role in ("operator", "admin"):
            fields["shown"] = read_behaviour(self.ledger, change).digest
        return self.draft(ChangeApproved(**(fields | overrides)), actor, REASON)

    def activation(
        self, change: ChangeView, cause: Literal["envelope", "approval", "promotion"], **overrides: Any
    ) -> EventDraft:
        """Draft a movement of the pointer to a change."""
        fields = {
            "change_id": change.change_id,
            "expected_head": change.body.parents.pointer_head,
            "from_state": change.body.parents.parent_state,
            "to_state": change.body.update.state,
            "cause": cause,
        }
        return self.draft(ChangeActivated(**(fields | overrides)), BOB)

    def rejection(self, change: ChangeView) -> EventDraft:
        """Draft a no."""
        return self.draft(ChangeRejected(change_id=change.change_id, recorded=change.entry.leaf_hash), BOB, REASON)

    def rollback(self, change: ChangeView, **overrides: Any) -> EventDraft:
        """Draft the undoing of a change that is applied or the newest active one."""
        moved = change.status == "active"
        pointer = self.ledger.pointer(self.tenant, self.deployment)
        fields = {
            "change_id": change.change_id,
            "moved_pointer": moved,
            "expected_head": pointer.head_index if moved else None,
            "from_state": change.body.update.state,
            "to_state": change.body.parents.parent_state,
            "cascade_of": None,
            "affected_responses": self.ledger.affected_responses(change.body.update.state),
        }
        return self.draft(ChangeRolledBack(**(fields | overrides)), BOB, REASON)

    def freeze(self, actor: Actor = BOB, **overrides: Any) -> EventDraft:
        """Draft a freeze of this deployment."""
        fields = {"extent": "deployment", "cause": "operator", "monitor": None, "policy": self.policy.digest}
        return self.draft(ControlFrozen(**(fields | overrides)), actor, REASON)

    def unfreeze(self, frozen: int, actor: Actor = BOB, **overrides: Any) -> EventDraft:
        """Draft the end of the freeze that the event `frozen` made."""
        fields = {"extent": "deployment", "frozen": frozen, "policy": self.policy.digest}
        return self.draft(ControlUnfrozen(**(fields | overrides)), actor, REASON)

    def promote(self, change: ChangeView) -> Entry:
        """Approve and activate an applied change, as `changes promote` does where one approval is enough."""
        drafts = [self.approval(change, BOB, "promote"), self.activation(change, "promotion")]
        return self.ledger.append(drafts)[-1]

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def _identity(self, task_id: str, scope: Scope, subject: str) -> Identity:
        return Identity(
            change_id=str(uuid7()),
            tenant=self.tenant,
            deployment=self.deployment,
            scope=scope,
            requester=ADA.principal,
            subject=subject,
            request_commitment=task_commitment(self.keys, task_id),
            requested_at=_now(),
            recorded_at=_now(),
        )

    def _parents(self, parent: str, head: int | None) -> Parents:
        return Parents(
            base_model=BASE_MODEL,
            parent_state=parent,
            pointer_head=head,
            config=sha256_hex(_json(SPEC)),
            seed="9007199254740993",
            prompt_template=TEMPLATE,
            policy=self.policy.digest,
            suite=SUITE,
            fingerprint=sha256_hex(canonical_bytes({"torch": "none"})),
        )

    def _update(self, files: dict[str, bytes] | None, parent: str, step_norm: float) -> UpdateSummary:
        delta = delta_digest(files) if files is not None else None
        return UpdateSummary(
            outcome="stepped" if delta else "no_valid_samples",
            steps=1 if delta else 0,
            modules=1 if delta else 0,
            not_finite=0,
            step_sizes=sha256_hex(canonical_bytes({"layers.0.o_proj": 0.5})) if delta else None,
            step_norm=step_norm if delta else None,
            cumulative_norm=step_norm if delta else None,
            projected=False,
            projected_norm=None,
            loss_first=1.5 if delta else None,
            loss_last=1.5 if delta else None,
            anchor_kl=None,
            delta=delta,
            retained="delta",
            delta_key=self.keys.delta_signer.keyid if delta else None,
            state=state_digest(BASE_MODEL, delta) if delta else parent,
        )

    def _consequences(self, body: ChangeBody) -> list[EventDraft]:
        change_id, applies = body.identity.change_id, body.decision.verdict == "apply"
        drafts = []
        if applies and body.identity.scope == "deployment":
            activated = ChangeActivated(
                change_id=change_id,
                expected_head=body.parents.pointer_head,
                from_state=body.parents.parent_state,
                to_state=body.update.state,
                cause="envelope",
            )
            drafts.append(self.draft(activated))
        served = ResponseServed(
            response_id=str(uuid7()),
            change_id=change_id,
            state=body.update.state if applies else state_digest(BASE_MODEL, None),
            served="adapted" if applies else "base",
            unadapted=None,
        )
        return [*drafts, self.draft(served)]


def _samples(learned: bool, forced: bool) -> SamplesContent:
    samples = (_sample(0, learned), _sample(1, False))
    return SamplesContent(prompt_tokens=(1, 2), batch_size=2, forced=forced, samples=samples)


def _sample(index: int, parses: bool) -> SampleContent:
    return SampleContent(
        index=index,
        seed=str(index),
        tokens=(3, 4, 5),
        text="1 + 1 = 2" if parses else "1 + 1",
        finished=parses,
        question="1 + 1" if parses else None,
        solution="2" if parses else None,
        answer="2" if parses else None,
        unparseable=None if parses else "no answer",
        score=None,
        weight=0.0,
        gates=(),
        dropped_by=(),
    )


def _update_content(update: UpdateSummary) -> UpdateContent:
    return UpdateContent(
        losses=(1.5,) if update.modules else (),
        gradient_norms=(0.1,) if update.modules else (),
        modules=tuple(
            ModuleStep(
                module="layers.0.o_proj",
                step_size=0.5,
                step_norm=update.step_norm,
                cumulative_norm=update.cumulative_norm,
            )
            for _ in range(update.modules)
        ),
    )


def regression_run() -> tuple[bytes, RegressionSummary]:
    """A run of the suite as an artifact, and its counts, for events that no change stands behind."""
    content, summary = _regression()
    return _json(content), summary


def _regression() -> tuple[RegressionContent, RegressionSummary]:
    cases = tuple(
        CaseContent(
            case_id=f"c{i}",
            domain="nested",
            critical=i < 4,
            before=i % 2 == 0,
            after=i % 2 == 0,
            base=i % 2 == 0,
            before_answer="1" if i % 2 == 0 else "2",
            after_answer="1" if i % 2 == 0 else None,
            base_answer="1" if i % 2 == 0 else "",
        )
        for i in range(CASES)
    )
    counts = PairedCounts(
        both_right=CASES // 2,
        lost=0,
        gained=0,
        both_wrong=CASES // 2,
        difference=0.0,
        lower_bound=paired_lower_bound(0, 0, CASES),
        margin=0.1,
    )
    content = RegressionContent(suite=SUITE, batch_size=16, cases=cases)
    summary = RegressionSummary(n=CASES, against_previous=counts, against_base=counts, critical_n=4, critical_lost=0)
    return content, summary


def _answer(body: ChangeBody) -> AnswerContent:
    def text(state: str) -> AnswerText:
        return AnswerText(state=state, tokens=(7, 8), text="= 2", answer="2", finished=True)

    adapted = text(body.update.state) if body.update.delta is not None else None
    return AnswerContent(
        adapted=adapted, parent=text(body.parents.parent_state), base=text(state_digest(BASE_MODEL, None))
    )


def _now() -> str:
    return timestamp(dt.datetime.now(dt.UTC))


def _json(record: Any) -> bytes:
    return canonical_bytes(record.document())
