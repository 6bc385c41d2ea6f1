"""Answer without adapting: the pointer's state answers, and the log says so. What is asked while learning is frozen
is answered so too.

Rules: an answer with no update behind it is recorded like any other, with what it was made from, so that it can be
traced and replayed. Nothing is served before its event is durable. The ledger takes the event only while the pointer
still stands where it was read: if it moved meanwhile, the answer is made again, once, from where it stands now.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from uuid6 import uuid7

from mass_gov.errors import FrozenError, PausedError, StaleChangeError
from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.evidence.keystore import new_subject_handle
from mass_gov.flows.adapt import adapt
from mass_gov.flows.answering import answer_from
from mass_gov.flows.authority import authorise
from mass_gov.flows.drafting import canonical
from mass_gov.flows.exchange import Ahead, Answered, Request
from mass_gov.flows.timing import Timed
from mass_gov.flows.workbench import Origin, Workbench, current_origin, under_policy_in_force
from mass_gov.ledger import ResponseView
from mass_gov.records.artifacts import AnswerText, ArtifactRole, RequestContent
from mass_gov.records.base import Record, timestamp
from mass_gov.records.change import Cost
from mass_gov.records.drafts import ArtifactDraft, EventDraft
from mass_gov.records.events import ResponseServed, Unadapted


@dataclass(frozen=True, slots=True)
class Responded:
    """A recorded response and its answer."""

    response: ResponseView
    answer: AnswerText
    origin: Unadapted
    note: str | None = None
    """Why nothing was learned, where learning was asked for."""


def adapt_or_respond(request: Request, bench: Workbench, ahead: Ahead | None = None) -> Answered | Responded:
    """Adapt to one request; while learning is frozen or paused answer it from the pointer's state, and learn nothing.

    `ahead`: as for `adapt`.

    Raises:
        TaskError, StaleChangeError, OutageError: as `adapt` and `respond`.
    """
    try:
        return adapt(request, bench, ahead)
    except (FrozenError, PausedError) as refusal:
        return replace(respond(request, bench), note=str(refusal))


def respond(request: Request, bench: Workbench) -> Responded:
    """Answer one request from the pointer's state, with no update.

    Raises:
        PermissionRefusedError: whoever asks may not.
        TaskError: the question cannot be posed to this model.
        StaleChangeError: the pointer moved twice while this ran; nothing was written and nothing is served.
        OutageError: the ledger or a key is unavailable; nothing was written and nothing is served.
    """
    authorise(bench.ledger, bench.actor, "solve", (bench.tenant, bench.deployment))
    requested_at = timestamp(bench.clock())
    try:
        return _respond_once(request, requested_at, under_policy_in_force(bench))
    except StaleChangeError:
        return _respond_once(request, requested_at, under_policy_in_force(bench))


def respond_unrecorded(request: Request, bench: Workbench) -> AnswerText:
    """Answer from the pointer's state and leave no event: only where an operator chose that for an outage of the log.

    The state is one that the log has; what is missing is that this answer was given.

    Raises:
        PermissionRefusedError, TaskError: as `respond`.
        OutageError: not even reading works; nothing is served.
    """
    authorise(bench.ledger, bench.actor, "solve", (bench.tenant, bench.deployment))
    origin = current_origin(bench)
    return answer_from(request.question, origin.state, origin.adapter, bench)


def _respond_once(request: Request, requested_at: str, bench: Workbench) -> Responded:
    timed = Timed(bench.learner, bench.wanted)
    with timed, timed.stage("answer"):
        origin = current_origin(bench)
        answer = answer_from(request.question, origin.state, origin.adapter, bench)
    plain = _origin(request, origin, requested_at, timed, bench)
    body = ResponseServed(
        response_id=str(uuid7()), change_id=None, state=origin.state, served="unadapted", unadapted=plain
    )
    artifacts = _artifacts(request, answer, plain.subject, bench)
    bench.wanted()
    bench.ledger.append([EventDraft(bench.actor, bench.tenant, bench.deployment, body, artifacts)])
    return Responded(bench.ledger.response(body.response_id), answer, plain)


def _origin(request: Request, origin: Origin, requested_at: str, timed: Timed, bench: Workbench) -> Unadapted:
    return Unadapted(
        base_model=bench.learner.base_digest,
        pointer_head=origin.pointer_head,
        config=bench.config_digest,
        prompt_template=bench.template_digest,
        policy=bench.policy.digest,
        fingerprint=sha256_hex(canonical_bytes(bench.learner.fingerprint())),
        subject=request.subject or new_subject_handle(),
        requested_at=requested_at,
        cost=Cost(flops=str(timed.cost.flops), generated_tokens=timed.cost.generated_tokens, seconds=timed.seconds),
    )


def _artifacts(request: Request, answer: AnswerText, subject: str, bench: Workbench) -> tuple[ArtifactDraft, ...]:
    documents: tuple[tuple[ArtifactRole, Record | dict[str, object]], ...] = (
        ("request", RequestContent(question=request.question, task_id=request.task_id, source=request.source)),
        ("config", bench.spec),
        ("fingerprint", dict(bench.learner.fingerprint())),
        ("answer", answer),
    )
    return tuple(ArtifactDraft(role, canonical(document), subject) for role, document in documents)
