"""Incidents: what may not be said of one, who may say it, deadlines from the mapping, and what one reaches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mass_gov.errors import (
    InputError,
    IntegrityError,
    MassGovError,
    NotFoundError,
    PermissionRefusedError,
    RefusedError,
)
from mass_gov.evidence.canonical import canonical_bytes
from mass_gov.evidence.trust import TrustRoot
from mass_gov.flows.audit import verify
from mass_gov.flows.bundle_export import export_change
from mass_gov.flows.bundle_verify import verify_bundle
from mass_gov.flows.clause_files import shipped_clauses
from mass_gov.flows.erase import erase
from mass_gov.flows.incidents import About, close, open_incident, story, update
from mass_gov.ledger import IncidentView, Ledger
from mass_gov.records.artifacts import IncidentContent
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, Grade, IncidentClosed, IncidentOpened, IncidentUpdated
from tests.fakes.ledger_world import ADA, BOB, BOTH_SCOPES, EVE, REASON, SUBJECT, LedgerWorld, digest

pytestmark = pytest.mark.both_engines

AUDITOR, SYSTEM = Actor(principal="audra", role="auditor"), Actor(principal="system", role="system")
CLAUSES = shipped_clauses("eu-ai-act")
WORDS = IncidentContent(title="A wrong sum reached a pupil", description="Nobody noticed for a day.")
ID = "01890000-0000-7000-8000-00000000000a"
LATER, EARLIER = "2099-01-01T00:00:00.000000Z", "2020-01-01T00:00:00.000000Z"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    made = LedgerWorld.make(tmp_path / "home", BOTH_SCOPES)
    yield made
    made.close()


def place(world: LedgerWorld) -> tuple[str, str]:
    return world.tenant, world.deployment


def opened(world: LedgerWorld, severity: str = "serious", **options: Any) -> IncidentView:
    return open_incident(world.ledger, BOB, place(world), WORDS, severity, CLAUSES, **options)


def draft(world: LedgerWorld, actor: Actor = BOB, days: int | None = 15, **fields: Any) -> EventDraft:
    grade = Grade(severity="serious", report_within_days=days, clauses=CLAUSES.digest)
    given = {"incident_id": ID, "aware_at": EARLIER, "grade": grade, "changes": (), "responses": (), "events": ()}
    words = ("incident", canonical_bytes(WORDS.document()))
    return world.draft(IncidentOpened(**(given | fields)), actor, words, ("clauses", CLAUSES.source))


def step(world: LedgerWorld, view: IncidentView, actor: Actor = BOB, **fields: Any) -> EventDraft:
    given = {"incident_id": view.incident_id, "opened": view.opened, "step": "noted", "grade": None}
    rest = {"reported_at": None, "changes": (), "responses": (), "events": ()}
    return world.draft(IncidentUpdated(**(given | rest | fields)), actor, REASON)


def closing(world: LedgerWorld, view: IncidentView, actor: Actor = BOB, **fields: Any) -> EventDraft:
    given = {"incident_id": view.incident_id, "opened": view.opened, "outcome": "resolved"}
    return world.draft(IncidentClosed(**(given | fields)), actor, REASON)


def refused(world: LedgerWorld, one: EventDraft, kind: type[Exception], match: str) -> None:
    before = world.ledger.size
    with pytest.raises(kind, match=match):
        world.ledger.append([one])
    assert world.ledger.size == before


@pytest.mark.parametrize("actor", [ADA, AUDITOR, SYSTEM])
def test_who_may_neither_open_nor_update_nor_close(world: LedgerWorld, actor: Actor) -> None:
    view = opened(world)
    for one in (draft(world, actor), step(world, view, actor), closing(world, view, actor)):
        refused(world, one, PermissionRefusedError, "cannot open, update or close|can replay")


def test_an_incident_that_contradicts_itself_or_names_what_is_not_there_is_refused(world: LedgerWorld) -> None:
    refused(world, draft(world, aware_at=LATER), IntegrityError, "known of after it was opened")
    refused(world, draft(world, changes=(ID,)), RefusedError, "which acme/tutor does not have")
    refused(world, draft(world, responses=(ID,)), RefusedError, "which acme/tutor does not have")
    refused(world, draft(world, events=(world.ledger.size,)), RefusedError, "does not come before it")
    elsewhere = world.record("elsewhere")
    world.deployment = "other"
    refused(world, draft(world, changes=(elsewhere.change_id,)), RefusedError, "which acme/other does not have")


def test_what_is_said_of_an_incident_stands_where_it_stands_and_names_it(world: LedgerWorld) -> None:
    view = opened(world)
    refused(world, draft(world, incident_id=view.incident_id), RefusedError, "was opened before")
    refused(world, closing(world, view, opened=digest("other")), IntegrityError, "does not name the event that opened")
    refused(world, closing(world, view, incident_id=ID), NotFoundError, "There is no incident")
    world.deployment = "other"
    refused(world, step(world, view), IntegrityError, "cannot be moved between tenants")


def test_an_incident_is_closed_once_and_nothing_is_said_of_it_afterwards(world: LedgerWorld) -> None:
    view = close(world.ledger, opened(world).incident_id, BOB, "It was the data.", "resolved")
    refused(world, closing(world, view), RefusedError, "was closed by event")
    refused(world, step(world, view), RefusedError, "was closed by event")
    with pytest.raises(RefusedError, match="was closed"):
        close(world.ledger, view.incident_id, EVE, "Again.", "unfounded")


def test_a_step_carries_what_belongs_to_it_and_nothing_else(world: LedgerWorld) -> None:
    view = opened(world)
    grade = Grade(severity="death", report_within_days=10, clauses=CLAUSES.digest)
    for fields in (
        {"grade": grade},
        {"reported_at": view.aware_at},
        {"step": "regraded"},
        {"step": "reported"},
        {"step": "reported", "reported_at": view.aware_at, "grade": grade},
    ):
        refused(world, step(world, view, **fields), IntegrityError, "alone")
    for when in (EARLIER, LATER):
        late = step(world, view, step="reported", reported_at=when)
        refused(world, late, IntegrityError, "before anybody knew, or in the future")
    world.ledger.append([step(world, view, step="acknowledged")])
    refused(world, step(world, view, step="acknowledged"), RefusedError, "was acknowledged by event")
    with pytest.raises(InputError, match="takes one step"):
        update(world.ledger, view.incident_id, BOB, "Both.", acknowledge=True, reported_at=view.aware_at)


@pytest.mark.parametrize(
    ("severity", "due"), [("minor", None), ("serious", "16"), ("widespread", "03"), ("death", "11")]
)
def test_a_deadline_runs_from_when_somebody_knew_by_the_grade(
    world: LedgerWorld, severity: str, due: str | None
) -> None:
    view = opened(world, severity, aware_at=EARLIER)
    assert view.due_at == (None if due is None else f"2020-01-{due}T00:00:00.000000Z")
    assert view.overdue(LATER) == (due is not None)


def test_a_graver_incident_is_due_sooner_and_a_report_settles_it(world: LedgerWorld) -> None:
    view = opened(world)
    assert not view.overdue(view.opened_at) and view.overdue(LATER)
    graver = update(world.ledger, view.incident_id, EVE, "Somebody died.", regrade=("death", CLAUSES))
    assert view.due_at is not None and graver.due_at is not None
    assert graver.severity == "death" and graver.due_at < view.due_at
    update(world.ledger, view.incident_id, BOB, "On it.", acknowledge=True)
    told = update(world.ledger, view.incident_id, BOB, "The authority knows.", reported_at=view.aware_at)
    assert (told.status, told.overdue(LATER)) == ("acknowledged", False)
    done = close(world.ledger, view.incident_id, BOB, "Rolled back.", "resolved")
    assert done.status == "closed"
    assert verify(world.ledger).ok
    with pytest.raises(InputError, match="has no severity 'grave'"):
        opened(world, "grave")


def test_an_incident_reaches_what_stands_on_what_it_names(world: LedgerWorld) -> None:
    apart = world.record("apart")
    moved = world.record("moved", scope="deployment")
    later = world.record("later")
    view = opened(world, about=About(changes=(moved.change_id,)))
    found = story(world.ledger, view.incident_id)
    assert [one.change_id for one in found.reached.changes] == [moved.change_id, later.change_id]
    given = {one.change_id for one in found.reached.responses}
    assert {moved.change_id, later.change_id} <= given and apart.change_id not in given
    (answer,) = world.ledger.responses(change_id=apart.change_id)
    update(world.ledger, view.incident_id, BOB, "That one too.", about=About(responses=(answer.response_id,)))
    wider = story(world.ledger, view.incident_id).reached
    assert apart.change_id in {one.change_id for one in wider.changes}
    assert answer.response_id in {one.response_id for one in wider.responses}


def test_words_are_sealed_and_read_back_with_the_keys_alone(world: LedgerWorld, tmp_path: Path) -> None:
    view = opened(world)
    update(world.ledger, view.incident_id, EVE, "Looked at the samples.")
    close(world.ledger, view.incident_id, BOB, "It was a typing error.", "unfounded")
    found = story(world.ledger, view.incident_id)
    assert found.content == WORDS
    said = [(one.step, one.author, one.text) for one in found.told]
    assert said[1:] == [("noted", "eve", "Looked at the samples."), ("closed", "bob", "It was a typing error.")]
    for entry in world.ledger.entries():
        assert not [word for word in (b"pupil", b"samples.", b"typing") if word in entry.leaf]
    with Ledger.open(world.ledger.address, keys=None, checkpoints=tmp_path / "none") as sealed:
        blind = story(sealed, view.incident_id)
    assert blind.content is None and {one.text for one in blind.told} == {None}


def test_verify_finds_a_deadline_that_the_mapping_does_not_give(world: LedgerWorld) -> None:
    world.ledger.append([draft(world, days=90)])
    report = verify(world.ledger)
    assert "deadline: the leaf says 90, the artifact gives 15" in str(report.first_wrong)


def test_verify_finds_an_incident_that_somebody_closed_in_the_database(world: LedgerWorld) -> None:
    opened(world)
    with world.ledger._database.write() as connection:
        connection.exec_driver_sql("UPDATE incidents SET closed_index = 1, outcome = 'unfounded'")
    assert "incidents row" in str(verify(world.ledger).first_wrong)
    with pytest.raises(MassGovError, match="does not follow from it"):
        Ledger.open(world.ledger.address, keys=world.keys, checkpoints=world.folder / "checkpoints")


def test_what_was_erased_stays_named_and_proven_and_bundles_go_on(world: LedgerWorld) -> None:
    change = world.record("one")
    view = opened(world, about=About(changes=(change.change_id,)))
    assert verify_bundle(export_change(world.ledger, change).archive, public_key=TrustRoot(world.ledger.log_key)).ok
    erase(world.ledger, SUBJECT, BOB, "They asked for it.")
    assert [one.status for one in story(world.ledger, view.incident_id).reached.changes] == ["rolled_back"]
    report = verify(world.ledger)
    assert report.ok
    assert world.ledger.rebuild() == world.ledger.size
