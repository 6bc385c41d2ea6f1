"""From a computed outcome to the events that record it: one change, its activation, the answer served.

Order inside the one transaction: the change with its artifacts, the freeze where it raised an alarm, then the
activation, then the response. A reader of the
log therefore never meets an answer before the change behind it.
"""

from __future__ import annotations

from uuid6 import uuid7

from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.evidence.keystore import new_subject_handle
from mass_gov.evidence.model_signing import sign_folder
from mass_gov.flows.exchange import Outcome, Request
from mass_gov.flows.handles import task_commitment
from mass_gov.flows.monitoring import freeze_after
from mass_gov.flows.standing import LogReading
from mass_gov.flows.timing import Timed
from mass_gov.flows.workbench import ADAPTER_CONFIG, ADAPTER_MODEL, Origin, Workbench
from mass_gov.policy import Policy
from mass_gov.records.artifacts import AnswerContent, ArtifactRole, RequestContent
from mass_gov.records.base import Record
from mass_gov.records.change import ChangeBody, Cost, Identity, Parents, Scope
from mass_gov.records.drafts import ArtifactDraft, EventDraft, Older
from mass_gov.records.events import Body, ChangeActivated, ChangeRecorded, ResponseServed
from mass_gov.stages.update import signed_by


def served_text(status: str, answer: AnswerContent, policy: Policy) -> tuple[str, str | None]:
    """Say whose answer a change of this status gives, and the text: the adapted one only where the change stands."""
    if status in ("applied", "active", "retired") and answer.adapted is not None:
        return "adapted", answer.adapted.text
    match policy.document.while_pending:
        case "base":
            return "base", answer.base.text
        case "parent":
            return "parent", answer.parent.text
        case "none":
            return "none", None


def change_drafts(
    change_id: str,
    request: Request,
    seed: int,
    requested_at: str,
    origin: Origin,
    outcome: Outcome,
    log: LogReading,
    timed: Timed,
    bench: Workbench,
) -> list[EventDraft]:
    """Draft the events of one adaptation."""
    # A handle of its own unless the caller says whose data it is: whatever is under one handle is erased together.
    subject = request.subject or new_subject_handle()
    learned = outcome.learned
    body = ChangeBody(
        identity=Identity(
            change_id=change_id,
            tenant=bench.tenant,
            deployment=bench.deployment,
            scope=request.scope,
            requester=bench.actor.principal,
            subject=subject,
            request_commitment=task_commitment(bench.keys, request.task_id),
            requested_at=requested_at,
            recorded_at=log.at,
        ),
        parents=_parents(seed, request.scope, origin, bench),
        synthesis=outcome.synthesis,
        update=signed_by(learned.summary, bench.keys.delta_signer.keyid),
        regression=outcome.regression[1] if outcome.regression else None,
        gates=outcome.gates,
        decision=outcome.decision,
        cost=Cost(flops=str(timed.cost.flops), generated_tokens=timed.cost.generated_tokens, seconds=timed.seconds),
        measures=tuple(sorted(outcome.measures, key=lambda measure: measure.name)) or None,
        log_size=log.size,
    )
    artifacts = _artifacts(request, outcome, subject, _older(origin, subject, bench), bench)
    recorded = _draft(ChangeRecorded(change=body), bench, artifacts)
    return [recorded, *freeze_after(body, bench), *_consequences(body, outcome, bench)]


def _parents(seed: int, scope: Scope, origin: Origin, bench: Workbench) -> Parents:
    return Parents(
        base_model=bench.learner.base_digest,
        parent_state=origin.state,
        pointer_head=origin.pointer_head,
        config=bench.config_digest,
        seed=str(seed),
        prompt_template=bench.template_digest,
        policy=bench.policy.digest,
        suite=bench.runner_for(scope).suite.digest,
        fingerprint=sha256_hex(canonical_bytes(bench.learner.fingerprint())),
    )


def _older(origin: Origin, subject: str, bench: Workbench) -> Older | None:
    """The parent's weights, to compress against: only the same subject's, so that whoever is erased is erased alone."""
    if origin.delta is None or origin.delta.change.body.identity.subject != subject:
        return None
    change = origin.delta.change
    ref = next(ref for ref in change.entry.predicate.artifacts if ref.role == "delta.adapter_model")
    stored = bench.ledger.stored_artifact(ref.digest)
    return Older(change.change_id, stored, origin.delta.files[ADAPTER_MODEL])


def _artifacts(
    request: Request, outcome: Outcome, subject: str, older: Older | None, bench: Workbench
) -> tuple[ArtifactDraft, ...]:
    content = RequestContent(question=request.question, task_id=request.task_id, source=request.source)
    documents: list[tuple[ArtifactRole, Record | dict[str, object]]] = [
        ("request", content),
        ("config", bench.spec),
        ("fingerprint", dict(bench.learner.fingerprint())),
        ("samples", outcome.samples),
        ("update", outcome.learned.content),
        ("answer", outcome.answer),
    ]
    if outcome.regression is not None:
        documents.append(("regression", outcome.regression[0]))
    plain = [(role, canonical(document)) for role, document in documents]
    if (files := outcome.learned.files) is not None:
        plain += [
            ("delta.adapter_config", files[ADAPTER_CONFIG]),
            ("delta.adapter_model", files[ADAPTER_MODEL]),
            ("delta.signature", sign_folder(files, "delta", bench.keys.delta_signer)),
        ]
    return tuple(
        ArtifactDraft(role, data, subject, older=older if role == "delta.adapter_model" else None)
        for role, data in plain
    )


def canonical(document: Record | dict[str, object]) -> bytes:
    """Return the canonical JSON of a record or a plain mapping."""
    return canonical_bytes(document.document() if isinstance(document, Record) else document)


def _consequences(body: ChangeBody, outcome: Outcome, bench: Workbench) -> list[EventDraft]:
    """Draft what follows from the decision: the pointer's move, and the answer that leaves."""
    drafts = []
    applies = body.decision.verdict == "apply"
    if applies and body.identity.scope == "deployment":
        activated = ChangeActivated(
            change_id=body.identity.change_id,
            expected_head=body.parents.pointer_head,
            from_state=body.parents.parent_state,
            to_state=body.update.state,
            cause="envelope",
        )
        drafts.append(_draft(activated, bench))
    served, text = served_text("applied" if applies else "held", outcome.answer, bench.policy)
    if text is not None:
        drafts.append(_draft(response_body(body, served, outcome.answer), bench))
    return drafts


def response_body(body: ChangeBody, served: str, answer: AnswerContent) -> ResponseServed:
    """Say which state's answer is served for this change."""
    states = {"adapted": answer.adapted, "parent": answer.parent, "base": answer.base}
    chosen = states[served]
    if chosen is None or served not in ("adapted", "parent", "base"):
        raise ValueError(f"no {served} answer to serve")
    return ResponseServed(
        response_id=str(uuid7()),
        change_id=body.identity.change_id,
        state=chosen.state,
        served=served,
        unadapted=None,
    )


def _draft(body: Body, bench: Workbench, artifacts: tuple[ArtifactDraft, ...] = ()) -> EventDraft:
    return EventDraft(bench.actor, bench.tenant, bench.deployment, body, artifacts)
