"""Changes and responses as JSON objects (docs/reference/cli.md lists the fields)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mass_gov.documents.contents import Contents
from mass_gov.flows.approve import Decided
from mass_gov.ledger import ChangeView, ResponseView
from mass_gov.ledger.marks import domains_of
from mass_gov.policy import Policy
from mass_gov.policy.decision import EXPLANATIONS
from mass_gov.policy.rules import PREFIX as RULE
from mass_gov.records.artifacts import SamplesContent
from mass_gov.records.change import GateResult


def summary(change: ChangeView) -> dict[str, object]:
    """What a list says about a change, as JSON."""
    body = change.body
    return {
        "change_id": change.change_id,
        "status": change.status,
        "scope": body.identity.scope,
        "tenant": body.identity.tenant,
        "deployment": body.identity.deployment,
        "requester": body.identity.requester,
        "domains": domains_of(body),
        "recorded_at": body.identity.recorded_at,
        "index": change.index,
        "decision": {
            "verdict": body.decision.verdict,
            "reason": body.decision.reason,
            "violated": list(body.decision.violated),
        },
        "forced": body.synthesis.forced,
        "self_approved": any(approval.self_approved for approval in change.approvals),
        "state_digest": body.update.state,
        "delta_digest": body.update.delta,
    }


def response_document(response: ResponseView) -> dict[str, object]:
    """A response as JSON."""
    return {
        "response_id": response.response_id,
        "change_id": response.change_id,
        "served": response.served,
        "state_digest": response.state,
        "index": response.index,
    }


def change_document(
    change: ChangeView, contents: Contents, responses: Sequence[ResponseView], *, full_samples: bool
) -> dict[str, Any]:
    """Everything that is known about a change; sealed contents are null and named in `sealed`."""
    return {
        **summary(change),
        "why": EXPLANATIONS.get(change.body.decision.reason, change.body.decision.reason),
        "rules": {
            gate.name: rule_told(gate, contents.policy)
            for gate in change.body.gates
            if gate.name.startswith(RULE) and gate.verdict != "pass"
        },
        "leaf_hash": change.entry.leaf_hash,
        "record": change.body.document(),
        "history": _history(change, contents),
        "responses": [response_document(response) for response in responses],
        "contents": {
            "request": contents.request.document() if contents.request else None,
            "config": contents.config.document() if contents.config else None,
            "samples": _samples(contents.samples, full_samples),
            "update": contents.update.document() if contents.update else None,
            "regression": contents.regression.document() if contents.regression else None,
            "answer": contents.answer.document() if contents.answer else None,
            "fingerprint": contents.fingerprint,
        },
        "sealed": contents.sealed,
    }


def decided_document(decided: Decided, shown: str | None) -> dict[str, Any]:
    """What a person's yes did."""
    return {
        "change_id": decided.change.change_id,
        "status": decided.change.status,
        "approvals": decided.approvals,
        "required": decided.required,
        "self_approved": decided.self_approved,
        "state_digest": decided.change.body.update.state,
        "shown": shown,
    }


def rule_told(gate: GateResult, policy: Policy | None) -> str:
    """What the policy tells people about a rule; where the policy is not at hand, where to read it."""
    rules = policy.document.rules if policy is not None else ()
    why = next((rule.why for rule in rules if f"{RULE}{rule.name}" == gate.name), None)
    return why or "a rule of the policy: `mass-gov policy show`"


def _history(change: ChangeView, contents: Contents) -> dict[str, Any]:
    return {
        "approvals": [
            {
                "index": approval.index,
                "approver": approval.approver,
                "meaning": approval.meaning,
                "required": approval.required,
                "self_approved": approval.self_approved,
                "reason": contents.reasons.get(approval.index),
            }
            for approval in change.approvals
        ],
        "activation_index": change.activation_index,
        "rejection_index": change.rejection_index,
        "rollback_index": change.rollback_index,
        "reasons": {str(index): text for index, text in contents.reasons.items()},
    }


def _samples(samples: SamplesContent | None, full: bool) -> dict[str, Any] | None:
    if samples is None:
        return None
    document = samples.document()
    if not full:
        document.pop("prompt_tokens")
        for sample in document["samples"]:
            sample.pop("tokens")
    return document
