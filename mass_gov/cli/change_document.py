"""One change as a JSON object (docs/reference/cli.md lists the fields)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mass_gov.cli.change_contents import Contents
from mass_gov.cli.changes import response_document, summary
from mass_gov.ledger import ChangeView, ResponseView
from mass_gov.policy.decision import EXPLANATIONS
from mass_gov.records.artifacts import SamplesContent


def change_document(
    change: ChangeView, contents: Contents, responses: Sequence[ResponseView], *, full_samples: bool
) -> dict[str, Any]:
    """Everything that is known about a change; sealed contents are null and named in `sealed`."""
    return {
        **summary(change),
        "why": EXPLANATIONS.get(change.body.decision.reason, change.body.decision.reason),
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
