"""Single rows that the rules of projection ask for, inside the caller's transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.sql import ColumnElement

from mass_gov.errors import NotFoundError
from mass_gov.ledger.schema import approvals, changes, pointer_moves, pointers, registrations, responses


def change_row(connection: Connection, change_id: str) -> RowMapping:
    """The change's row.

    Raises:
        NotFoundError: there is none.
    """
    row = connection.execute(select(changes).where(changes.c.change_id == change_id)).mappings().first()
    if row is None:
        raise NotFoundError(f"There is no change {change_id} in this ledger. `mass-gov changes list` shows them.")
    return row


def pointer_row(connection: Connection, tenant: str, deployment: str) -> RowMapping | None:
    """The pointer's row, None when it never moved."""
    wanted = (pointers.c.tenant == tenant) & (pointers.c.deployment == deployment)
    return connection.execute(select(pointers).where(wanted)).mappings().first()


def move_row(connection: Connection, index: int) -> RowMapping | None:
    """The pointer movement that the event at `index` made."""
    return connection.execute(select(pointer_moves).where(pointer_moves.c.index == index)).mappings().first()


def newest_of_task(connection: Connection, tenant: str, deployment: str, commitment: str) -> RowMapping | None:
    """The newest change of a task; None when it was never asked."""
    wanted = (
        (changes.c.tenant == tenant)
        & (changes.c.deployment == deployment)
        & (changes.c.request_commitment == commitment)
    )
    query = select(changes).where(wanted).order_by(changes.c.index.desc()).limit(1)
    return connection.execute(query).mappings().first()


def active_policy(connection: Connection) -> str | None:
    """Digest of the policy that decides now."""
    query = select(registrations.c.digest).where(registrations.c.kind == "policy")
    return _text(connection.execute(query.order_by(registrations.c.index.desc()).limit(1)).scalar())


def proposers(connection: Connection, policy: str) -> dict[str, int]:
    """Who proposed a policy in the place of the one in force, and by which event."""
    in_force = select(func.max(registrations.c.index)).where(registrations.c.kind == "policy").scalar_subquery()
    wanted = (registrations.c.kind == "proposal") & (registrations.c.digest == policy)
    rows = connection.execute(
        select(registrations.c.name, registrations.c.index).where(wanted & (registrations.c.index > in_force))
    )
    return {str(name): int(index) for name, index in rows}


def registration_index(connection: Connection, kind: str, digest: str, before: int | None = None) -> int | None:
    """Log index of the last event, `before` a given one or of all, that registered a model, a suite or a policy."""
    wanted = (registrations.c.kind == kind) & (registrations.c.digest == digest)
    if before is not None:
        wanted &= registrations.c.index < before
    index = connection.execute(select(func.max(registrations.c.index)).where(wanted)).scalar()
    return None if index is None else int(index)


def registered_name(connection: Connection, kind: str, digest: str) -> str | None:
    """What the last registration of a digest called it (`schema.registrations`); None when there is none."""
    wanted = (registrations.c.kind == kind) & (registrations.c.digest == digest)
    query = select(registrations.c.name).where(wanted).order_by(registrations.c.index.desc()).limit(1)
    return _text(connection.execute(query).scalar())


def approvers(connection: Connection, change_id: str, meaning: str) -> dict[str, int]:
    """Who approved a change for `meaning`, and how many approvals each of them was told it takes."""
    wanted = (approvals.c.change_id == change_id) & (approvals.c.meaning == meaning)
    rows = connection.execute(select(approvals.c.approver, approvals.c.required).where(wanted))
    return {str(approver): int(required) for approver, required in rows}


def later_active(connection: Connection, row: RowMapping) -> list[str]:
    """Active changes of the same pointer that were activated after `row`, newest first."""
    wanted = (
        (changes.c.tenant == row["tenant"])
        & (changes.c.deployment == row["deployment"])
        & (changes.c.status == "active")
        & (changes.c.activation_index > row["activation_index"])
    )
    query = select(changes.c.change_id).where(wanted).order_by(changes.c.activation_index.desc())
    return [str(change_id) for change_id in connection.execute(query).scalars()]


def affected_responses(connection: Connection, state: str) -> int:
    """How many answers a state gave, or an update made from it: what its rollback has to own up to."""
    made_from = select(changes.c.change_id).where(changes.c.parent_state == state)
    wanted = ((responses.c.state == state) | responses.c.change_id.in_(made_from)) & (responses.c.served != "base")
    return int(connection.execute(select(func.count()).select_from(responses).where(wanted)).scalar_one())


def exists(connection: Connection, condition: ColumnElement[bool]) -> bool:
    """Whether any row fulfils `condition`."""
    return bool(connection.execute(select(select(1).where(condition).exists())).scalar())


def known_target(connection: Connection, target: str) -> bool:
    """Whether `target` is a change or a response of this ledger."""
    return exists(connection, changes.c.change_id == target) or exists(connection, responses.c.response_id == target)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
