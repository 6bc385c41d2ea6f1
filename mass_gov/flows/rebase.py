"""Make a stale change again from where its pointer stands now, and gate it again.

Rules: a change that waits for a decision is stale once its pointer moved, and cannot be approved any more. Making it
again takes the same request, its own settings and its seed from the record, adapts from the pointer's present state
under the policy in force, and records a new change that names the old one; the old one is rejected in the same append.
Whoever asked stays the requester, so nobody approves their own request by making it again. What was only applied, and
could not be promoted since the pointer moved, keeps its own answer: ask its task under a new id. Where the pointer
moved to another base model meanwhile, settings that were made for the old one give way to the present ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from uuid6 import uuid7

from mass_gov.errors import FrozenError, RefusedError
from mass_gov.evidence.canonical import parse_canonical
from mass_gov.flows.adapt import compute
from mass_gov.flows.approve import reason_artifact
from mass_gov.flows.authority import authorise
from mass_gov.flows.drafting import change_drafts
from mass_gov.flows.exchange import Request
from mass_gov.flows.monitoring import watching
from mass_gov.flows.standing import LogReading, refuse_paused
from mass_gov.flows.timing import Timed
from mass_gov.flows.workbench import Workbench, current_origin, under_policy_in_force
from mass_gov.ledger import ChangeView
from mass_gov.records.artifacts import RequestContent, SamplesContent
from mass_gov.records.base import timestamp
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, ChangeRecorded, ChangeRejected
from mass_gov.records.settings import AdaptationSpec
from mass_gov.stages.synthesis import ForcedSample


@dataclass(frozen=True, slots=True)
class Rebased:
    """A change that took another one's place."""

    old: ChangeView
    new: ChangeView


def rebase(change_id: str, bench: Workbench, actor: Actor, reason: str) -> Rebased:
    """Make a stale change again.

    Raises:
        RefusedError: it does not wait for a decision, or is not stale.
        FrozenError: learning is frozen there.
        PausedError: a budget is spent, or the deployment cools down.
        StaleChangeError: the pointer moved again while this ran; nothing was written.
        NotRetainedError: its request was erased.
    """
    old = bench.ledger.change(change_id)
    place = (old.body.identity.tenant, old.body.identity.deployment)
    authorise(bench.ledger, actor, "rebase", place, change_id=old.change_id)
    bench = _as_asked(old, replace(under_policy_in_force(bench), actor=actor))
    _refuse(old, bench)
    refuse_paused(old.body.identity.scope, bench)
    recorded = RequestContent.model_validate(parse_canonical(bench.ledger.artifact(old.entry, "request")))
    identity, seed = old.body.identity, int(old.body.parents.seed)
    forced = _forced(old, bench)
    request = Request(
        recorded.question, recorded.task_id, recorded.source, identity.scope, seed, forced, identity.subject
    )
    made_id, requested_at, timed = str(uuid7()), timestamp(bench.clock()), Timed(bench.learner)
    with timed:
        origin = current_origin(bench)
        log = LogReading(request.scope, origin, bench)
        outcome = compute(
            request.question,
            request.scope,
            seed,
            origin,
            bench,
            forced=forced,
            watch=watching(made_id, bench),
            from_log=log.measures,
            timed=timed,
        )
    first, *rest = change_drafts(made_id, request, seed, requested_at, origin, outcome, log, timed, bench)
    # The freeze of an alarm stands right behind the change that raised it, so the old one's rejection comes last.
    bench.ledger.append([_in_place_of(old, first), *rest, _rejection(old, actor, reason)])
    return Rebased(bench.ledger.change(old.change_id), bench.ledger.change(made_id))


def _refuse(old: ChangeView, bench: Workbench) -> None:
    """What the ledger would refuse too, said before any work is done."""
    identity = old.body.identity
    if old.status not in ("held", "pending"):
        raise RefusedError(
            f"change {old.change_id} is {old.status.replace('_', ' ')}: only what waits for a decision is made again. "
            "Ask its task under a new id."
        )
    if (frozen := bench.ledger.frozen(identity.tenant, identity.deployment)) is not None:
        raise FrozenError(
            f"learning is frozen for {identity.tenant}/{identity.deployment} since event {frozen.index}. An operator "
            "ends that by `mass-gov unfreeze`."
        )
    if bench.ledger.pointer(identity.tenant, identity.deployment).head_index == old.body.parents.pointer_head:
        raise RefusedError(
            f"change {old.change_id} is not stale: the pointer stands where it was made from. Approve or reject it."
        )


def _as_asked(old: ChangeView, bench: Workbench) -> Workbench:
    """The bench at the change's own deployment, with its own settings while the base model is the same."""
    identity = old.body.identity
    bench = replace(bench, tenant=identity.tenant, deployment=identity.deployment)
    if old.body.parents.base_model != bench.learner.base_digest:
        return bench
    spec = AdaptationSpec.model_validate(parse_canonical(bench.ledger.artifact(old.entry, "config")))
    return replace(bench, spec=spec)


def _forced(old: ChangeView, bench: Workbench) -> Sequence[ForcedSample]:
    """Samples that the requester supplied are part of the request, taken apart as they were put together."""
    if not old.body.synthesis.forced:
        return ()
    samples = SamplesContent.model_validate(parse_canonical(bench.ledger.artifact(old.entry, "samples"))).samples
    parts = [sample.text.partition(bench.learner.template.separator) for sample in samples if not sample.real]
    return tuple(ForcedSample(question, solution) for question, _, solution in parts)


def _in_place_of(old: ChangeView, draft: EventDraft) -> EventDraft:
    if not isinstance(draft.body, ChangeRecorded):
        raise TypeError("the first draft of a change records it")
    change, named = draft.body.change, old.body.identity
    identity = change.identity.model_copy(
        update={
            "requester": named.requester,
            "request_commitment": named.request_commitment,
            "rebased_from": old.change_id,
        }
    )
    return replace(draft, body=ChangeRecorded(change=change.model_copy(update={"identity": identity})))


def _rejection(old: ChangeView, actor: Actor, reason: str) -> EventDraft:
    identity = old.body.identity
    body = ChangeRejected(change_id=old.change_id, recorded=old.entry.leaf_hash, cause="rebased")
    return EventDraft(actor, identity.tenant, identity.deployment, body, (reason_artifact(reason),))
