"""Pointers, their movements, freezes and what a rollback did, as JSON objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mass_gov.documents.changes import response_document
from mass_gov.flows.rollback import RolledBack
from mass_gov.ledger import FreezeView, PointerMove, PointerView, StateView


def pointer_document(pointer: PointerView) -> dict[str, object]:
    """Where a pointer stands."""
    return {
        "tenant": pointer.tenant,
        "deployment": pointer.deployment,
        "state_digest": pointer.state,
        "change_id": pointer.change_id,
        "head_index": pointer.head_index,
        "base_model": pointer.base_model,
    }


def move_document(move: PointerMove) -> dict[str, object]:
    """One movement of a pointer."""
    return {
        "index": move.index,
        "cause": move.cause,
        "moved_by": move.moved_by,
        "from_state": move.from_state,
        "from_change": move.from_change,
        "to_state": move.to_state,
        "to_change": move.to_change,
        "base_model": move.base_model,
    }


def stack_document(stack: Sequence[StateView]) -> list[dict[str, Any]]:
    """The states that a pointer's present one stands on, oldest first."""
    return [
        {"state_digest": one.state, "change_id": one.change.change_id if one.change is not None else None}
        for one in stack
    ]


def freeze_document(freeze: FreezeView | None) -> dict[str, Any] | None:
    """A freeze of learning."""
    if freeze is None:
        return None
    return {
        "index": freeze.index,
        "extent": freeze.extent,
        "tenant": freeze.tenant,
        "deployment": freeze.deployment,
        "cause": freeze.cause,
        "monitor": freeze.monitor,
        "frozen_by": freeze.frozen_by,
        "ended_index": freeze.ended_index,
    }


def rolled_back_document(done: RolledBack, state: str | None) -> dict[str, object]:
    """What a rollback did; `state` is where the pointer stands now."""
    return {
        "rolled_back": [change.change_id for change in done.changes],
        "pointer_state": state,
        "standing": [change.change_id for change in done.standing],
        "served": [response_document(response) for response in done.responses],
    }
