"""Policies as JSON objects."""

from __future__ import annotations

from typing import Any

from mass_gov.policy import Policy


def policy_document(policy: Policy, in_force: bool | None) -> dict[str, Any]:
    """A policy with everything that its file says; `in_force` is None where that was not looked up."""
    document: dict[str, Any] = policy.document.model_dump(mode="json", by_alias=True)
    return {"policy": policy.label, "digest": policy.digest, "in_force": in_force, "document": document}
