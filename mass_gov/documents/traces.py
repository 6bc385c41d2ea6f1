"""An answer, traced: its base model, every delta on the way, what each learned from, and who said yes."""

from __future__ import annotations

from typing import Any

from mass_gov.documents.changes import response_document
from mass_gov.ledger import ChangeView, Ledger, ResponseView
from mass_gov.records.events import ResponseServed, Unadapted


def trace_document(ledger: Ledger, response: ResponseView) -> dict[str, Any]:
    """A response with everything that stands behind it; `deltas` is in the order in which they were learned."""
    entry = ledger.entry(response.index)
    change = ledger.change(response.change_id) if response.change_id is not None else None
    body = entry.predicate.body
    plain = body.unadapted if isinstance(body, ResponseServed) else None
    line = _line(ledger, response, change, plain)
    base = change.body.parents.base_model if change is not None else plain.base_model if plain is not None else None
    policy = change.body.parents.policy if change is not None else plain.policy if plain is not None else None
    return {
        **response_document(response),
        "tenant": response.tenant,
        "deployment": response.deployment,
        "time": entry.predicate.time,
        "base_model": base,
        "policy": _policy(ledger, policy),
        "change": _behind(ledger, change) if change is not None else None,
        "deltas": [_behind(ledger, one) for one in line],
    }


def _line(
    ledger: Ledger, response: ResponseView, change: ChangeView | None, plain: Unadapted | None
) -> list[ChangeView]:
    """The changes whose deltas lie between the base model and the state that answered, oldest first.

    Followed from event to event, not from state to state: another change, of another tenant too, may have made the same
    state.
    """
    line: list[ChangeView] = []
    head = change.body.parents.pointer_head if change is not None else plain.pointer_head if plain is not None else None
    if response.served == "base":
        head = None
    elif change is not None and response.served == "adapted" and change.body.update.delta is not None:
        line.append(change)
    while head is not None and (maker := ledger.move(head).to_change) is not None:
        line.append(ledger.change(maker))
        head = line[-1].body.parents.pointer_head
    return line[::-1]


def _behind(ledger: Ledger, change: ChangeView) -> dict[str, Any]:
    samples = next((ref for ref in change.entry.predicate.artifacts if ref.role == "samples"), None)
    return {
        "change_id": change.change_id,
        "index": change.index,
        "status": change.status,
        "state_digest": change.body.update.state,
        "delta_digest": change.body.update.delta,
        "samples": {
            "generated": change.body.synthesis.generated,
            "kept": change.body.synthesis.kept,
            "artifact": samples.digest if samples is not None else None,
        },
        "policy": _policy(ledger, change.body.parents.policy),
        "verdict": change.body.decision.verdict,
        "approvers": [
            {"approver": one.approver, "meaning": one.meaning, "index": one.index, "self_approved": one.self_approved}
            for one in change.approvals
        ],
    }


def _policy(ledger: Ledger, digest: str | None) -> dict[str, Any] | None:
    if digest is None:
        return None
    found = ledger.registered("policy", digest=digest, limit=1)
    return {"digest": digest, "name": found[0].name if found else None}
