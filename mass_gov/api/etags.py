"""What a decision was made on: the ETag of a change, and whether it is still that."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from mass_gov.api.problems import Problem
from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.ledger import ChangeView

IfMatch = Annotated[
    str | None, Header(alias="If-Match", description="The `ETag` of the change that was looked at.", max_length=2000)
]


def etag(change: ChangeView) -> str:
    """The tag of everything that may happen to a change: another one as soon as anything did."""
    happened = [
        change.entry.leaf_hash,
        change.status,
        [approval.index for approval in change.approvals],
        change.activation_index,
        change.rejection_index,
        change.rollback_index,
    ]
    return f'"{sha256_hex(canonical_bytes(happened))[:32]}"'


def insist(change: ChangeView, if_match: str | None) -> None:
    """Raises the problem of a decision without a tag, or on what is not so any more. `*` is no tag of anything seen."""
    given = [tag.strip() for tag in (if_match or "").split(",") if tag.strip()]
    if not given or given == ["*"]:
        raise Problem("etag-required")
    if etag(change) not in given:
        raise Problem("stale")
