"""Whether learning goes on: freezes, what ends them, and what may not happen while one is in force.

Rules:

- a freeze is of one deployment, or of the whole ledger; of each there is one at a time, and a deployment learns again
  only when both have ended
- an operator, an admin or the system (a monitor, a regression test that failed) freezes; only a person unfreezes
- while frozen no change is recorded, approved or activated and no pointer moves to another base model. Rejecting and
  rolling back go on, and so does serving: what was learned before is served as before
- events are judged in the order of the log, so the change that raised an alarm may come before the freeze in one append
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.engine import Connection, RowMapping

from mass_gov.errors import FrozenError, IntegrityError, PermissionRefusedError, RefusedError, StaleChangeError
from mass_gov.ledger.entries import Entry
from mass_gov.ledger.lookups import active_policy
from mass_gov.ledger.rows import alter, put
from mass_gov.ledger.schema import controls
from mass_gov.records.events import ControlFrozen, ControlUnfrozen


def freeze(connection: Connection, entry: Entry, body: ControlFrozen) -> None:
    """Stop learning.

    Raises:
        PermissionRefusedError: by somebody who may not.
        IntegrityError: the cause and the monitor do not fit each other, or the one who caused it.
        RefusedError: it is frozen already; StaleChangeError when another policy came into force meanwhile.
    """
    _check_actor(entry, ("operator", "admin") if body.cause == "operator" else ("system",), body.type)
    if (body.monitor is not None) != (body.cause == "monitor"):
        raise IntegrityError(f"Event {entry.index}: a freeze names a monitor if and only if one raised the alarm.")
    check_policy_in_force(connection, entry, body.policy)
    place = (entry.predicate.tenant, entry.predicate.deployment)
    if (standing := _standing(connection, body.extent, place)) is not None:
        raise RefusedError(
            f"Learning is frozen {where(standing)} already, since event {standing['index']}: `mass-gov unfreeze`."
        )
    row = {"tenant": place[0], "deployment": place[1], "extent": body.extent, "cause": body.cause}
    named = {"index": entry.index, "monitor": body.monitor, "frozen_by": entry.predicate.actor.principal}
    put(connection, controls, row | named)


def unfreeze(connection: Connection, entry: Entry, body: ControlUnfrozen) -> None:
    """Let learning go on.

    Raises:
        PermissionRefusedError: by neither an operator nor an admin.
        RefusedError: the freeze that it names is not in force, or is another one.
    """
    _check_actor(entry, ("operator", "admin"), body.type)
    check_policy_in_force(connection, entry, body.policy)
    standing = _standing(connection, body.extent, (entry.predicate.tenant, entry.predicate.deployment))
    if standing is None or standing["index"] != body.frozen:
        now = "none is in force there" if standing is None else f"the one in force is event {standing['index']}"
        raise RefusedError(f"The freeze of event {body.frozen} cannot be ended: {now}. Look at what is frozen again.")
    alter(connection, controls, standing, {"ended_index": entry.index})


def refuse_frozen(connection: Connection, tenant: str, deployment: str, what: str) -> None:
    """Refuse what would teach a deployment something, or move its pointer on.

    Raises:
        FrozenError: learning is frozen there, or everywhere.
    """
    row = frozen_row(connection, tenant, deployment)
    if row is not None:
        raise FrozenError(
            f"{what}: learning is frozen {where(row)} since event {row['index']}. Un-adapted answers go on; an "
            "operator ends the freeze by `mass-gov unfreeze`."
        )


def frozen_row(connection: Connection, tenant: str, deployment: str) -> RowMapping | None:
    """The freeze in force for a deployment, the one of everything first; None while it may learn."""
    place = (tenant, deployment)
    return _standing(connection, "everywhere", place) or _standing(connection, "deployment", place)


def where(row: RowMapping) -> str:
    """The extent of a freeze, for people."""
    return "everywhere" if row["extent"] == "everywhere" else f"for {row['tenant']}/{row['deployment']}"


def _standing(connection: Connection, extent: str, place: tuple[str, str]) -> RowMapping | None:
    wanted = (controls.c.extent == extent) & controls.c.ended_index.is_(None)
    if extent == "deployment":
        wanted &= (controls.c.tenant == place[0]) & (controls.c.deployment == place[1])
    return connection.execute(select(controls).where(wanted)).mappings().first()


def check_policy_in_force(connection: Connection, entry: Entry, policy: str) -> None:
    """An event of control stands under the policy in force.

    Raises:
        StaleChangeError: it names another one.
    """
    if active_policy(connection) != policy:
        raise StaleChangeError(
            f"Event {entry.index} names policy {policy[:16]}, which is not in force. Look at the policy in force."
        )


def _check_actor(entry: Entry, roles: tuple[str, ...], kind: str) -> None:
    actor = entry.predicate.actor
    if actor.role not in roles:
        raise PermissionRefusedError(
            f"Event {entry.index}: {actor.principal} acts as {actor.role} and cannot cause this {kind}. "
            "Let an operator do it."
        )
