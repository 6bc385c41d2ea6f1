"""A ledger with a row in every table, each change of a row among them."""

from __future__ import annotations

import datetime as dt

from mass_gov.config_data import DEFAULT_CLAUSES
from mass_gov.evidence.signing import Ed25519Signer
from mass_gov.flows.clause_files import shipped_clauses
from mass_gov.flows.erase import hold
from mass_gov.flows.incidents import close, open_incident, update
from mass_gov.flows.keys import rotate
from mass_gov.flows.principals import issue, register, revoke
from mass_gov.records.artifacts import IncidentContent
from mass_gov.records.base import timestamp
from mass_gov.records.events import Actor
from tests.fakes.ledger_world import BOB, SUBJECT, LedgerWorld


def fill_every_table(world: LedgerWorld) -> None:
    """Write events until each table has rows; `world` is governed by a policy that lets both scopes be asked for."""
    world.record("first")
    world.record("moves", scope="deployment")
    held = world.record("held", step_norm=0.7)
    world.ledger.append([world.approval(held)])
    world.promote(world.record("second"))
    world.ledger.append([world.rejection(world.record("no", step_norm=0.7))])
    last = world.record("undone", scope="deployment")
    world.ledger.append([world.rollback(last)])
    world.ledger.append([world.unadapted("01890000-0000-7000-8000-000000000001")])
    world.ledger.append([world.freeze()])
    hold(world.ledger, SUBJECT, BOB, "A claim is pending.")
    rotate(world.ledger, "delta", BOB)
    _close_an_incident(world)
    _say_who_may_act(world)


def _say_who_may_act(world: LedgerWorld) -> None:
    """An admin with a key, and two tokens of another one: one that expires, one that was revoked."""
    root = Actor(principal="root", role="admin")
    key = Ed25519Signer.generate().public_key
    register(world.ledger, "root", root, roles=["admin"], scopes=["instance"], public_key=key)
    register(world.ledger, "zoe", root, roles=["operator"], scopes=["deployment"], tenants=["acme"])
    issue(world.ledger, "zoe", root, expires_at=dt.datetime.now(dt.UTC) + dt.timedelta(days=30))
    revoke(world.ledger, issue(world.ledger, "zoe", root).view.token_id, root)


def _close_an_incident(world: LedgerWorld) -> None:
    """An incident that was taken note of, reported and closed."""
    words = IncidentContent(title="An answer was wrong", description="")
    view = open_incident(world.ledger, BOB, ("acme", "tutor"), words, "serious", shipped_clauses(DEFAULT_CLAUSES))
    reported = timestamp(world.ledger.now())
    update(world.ledger, view.incident_id, BOB, "It is looked at.", acknowledge=True)
    update(world.ledger, view.incident_id, BOB, "It was told.", reported_at=reported)
    close(world.ledger, view.incident_id, BOB, "Nothing is left to do.", "resolved")
