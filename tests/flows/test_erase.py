"""Erasing a subject: what is refused, what it takes with it, what stays proven, and what a crash at any step leaves."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from uuid6 import uuid7

from mass_gov.errors import (
    InputError,
    IntegrityError,
    NotFoundError,
    NotRetainedError,
    PermissionRefusedError,
    RefusedError,
    StaleChangeError,
)
from mass_gov.evidence import keystore as keystore_module
from mass_gov.evidence.keystore import SYSTEM_SUBJECT, KeyStore
from mass_gov.evidence.state import state_digest
from mass_gov.flows import erase as erase_module
from mass_gov.flows.audit import VerificationReport, verify
from mass_gov.flows.erase import STEPS, erase, hold, release
from mass_gov.flows.lineage import to_undo, trace
from mass_gov.flows.rollback import rollback
from mass_gov.ledger import ChangeView, Entry, Ledger
from mass_gov.ledger.writing import STEPS as WRITE_STEPS
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, ChangeRolledBack, ModelRegistered, ResponseServed, SubjectErased
from tests.fakes.engines import address_of, copy_home
from tests.fakes.ledger_world import ADA, BOB, BOTH_SCOPES, REASON, TEMPLATE, LedgerWorld, digest
from tests.fakes.tamper import editing
from tests.flows.test_ledger_crash import in_child, kill_at
from tests.unit.test_change_states import base_move

PERSON, OTHER = "s-" + "a" * 32, "s-" + "b" * 32
pytestmark = pytest.mark.both_engines
AUDITOR = Actor(principal="aud", role="auditor")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    """A home with nobody's data in it yet."""
    world = LedgerWorld.make(tmp_path / "home", BOTH_SCOPES)
    yield world
    world.close()


def statuses(world: LedgerWorld, *changes: ChangeView) -> list[str]:
    return [world.ledger.change(change.change_id).status for change in changes]


def lived_in(world: LedgerWorld) -> tuple[ChangeView, ChangeView, ChangeView, ChangeView]:
    """The other's change, the person's on top of it, and the other's two on top of that."""
    return (
        world.record("before", scope="deployment", subject=OTHER),
        world.record("own", scope="deployment", subject=PERSON),
        world.record("later", scope="deployment", subject=OTHER),
        world.record("instance", subject=OTHER),
    )


def report(home: Path) -> VerificationReport:
    return verify(address_of(home), keys=KeyStore.open(home / "keys"), checkpoints=home / "checkpoints")


def test_a_legal_hold_refuses_and_says_why_and_nothing_changes(world: LedgerWorld) -> None:
    _, own, later, _ = lived_in(world)
    held = hold(world.ledger, PERSON, BOB, "a court asked for it")
    size = world.ledger.size
    with pytest.raises(RefusedError, match=rf"event {held.held_index} \(a court asked for it\).*subjects release"):
        erase(world.ledger, PERSON, BOB, "asked")
    assert (world.ledger.size, statuses(world, own, later)) == (size, ["active", "active"])
    assert world.keys.subject_key(PERSON)
    with pytest.raises(RefusedError, match="held already"):
        hold(world.ledger, PERSON, BOB, "twice")
    assert release(world.ledger, PERSON, BOB, "it is over").held_index is None
    with pytest.raises(RefusedError, match="no legal hold"):
        release(world.ledger, PERSON, BOB, "twice")
    assert erase(world.ledger, PERSON, BOB, "asked").index == world.ledger.size - 1
    with pytest.raises(RefusedError, match="destroyed"):
        hold(world.ledger, PERSON, BOB, "too late")


def test_neither_requester_nor_auditor_decides_about_a_subject(world: LedgerWorld) -> None:
    lived_in(world)
    size = world.ledger.size
    for actor in (ADA, AUDITOR):
        for decide in (erase, hold, release):
            with pytest.raises(PermissionRefusedError, match="operator"):
                decide(world.ledger, PERSON, actor, "why")
    claim = SubjectErased(subject=PERSON, artifacts=1, deltas=3, rolled_back=3)
    with pytest.raises(PermissionRefusedError):  # nor past the flow, by an event alone
        world.ledger.append([world.draft(claim, ADA, REASON)])
    assert world.ledger.size == size and world.keys.subject_key(PERSON)


def test_the_system_and_strangers_cannot_be_erased(world: LedgerWorld) -> None:
    with pytest.raises(RefusedError, match="system"):
        erase(world.ledger, SYSTEM_SUBJECT, BOB, "why")
    with pytest.raises(NotFoundError, match="Nothing is recorded"):
        erase(world.ledger, PERSON, BOB, "why")
    with pytest.raises((NotFoundError, InputError)):
        erase(world.ledger, "../../etc", BOB, "why")


def test_erasing_takes_what_stands_on_it_and_leaves_what_it_stood_on(world: LedgerWorld) -> None:
    before, own, later, instance = lived_in(world)
    waiting = world.record("waiting", step_norm=0.7, subject=PERSON)
    done = erase(world.ledger, PERSON, BOB, "asked")
    assert statuses(world, before, own, later, instance, waiting) == [
        "active",
        "rolled_back",
        "rolled_back",
        "rolled_back",
        "rejected",
    ]
    assert [change.change_id for change in done.rolled_back] == [
        instance.change_id,
        later.change_id,
        own.change_id,
    ], "answers first, then the pointer's movements, newest first"
    assert [change.change_id for change in done.rejected] == [waiting.change_id]
    assert world.ledger.pointer("acme", "tutor").state == before.body.update.state
    body = world.ledger.entry(done.index).predicate.body
    assert isinstance(body, SubjectErased)
    refs = len(own.entry.predicate.artifacts) + len(waiting.entry.predicate.artifacts)
    assert (body.artifacts, body.deltas, body.rolled_back) == (refs, 4, 3)


def test_what_was_erased_cannot_be_read_what_was_on_top_can_and_everything_still_proves(world: LedgerWorld) -> None:
    _, own, later, _ = lived_in(world)
    done = erase(world.ledger, PERSON, BOB, "asked")
    for ref in own.entry.predicate.artifacts:
        with pytest.raises(NotRetainedError, match=f"erased by event {done.index}"):
            world.ledger.artifact(own.entry, ref.role)
        assert world.ledger.stored_artifact(ref.digest), "the proof needs the stored bytes"
    assert world.ledger.artifact(later.entry, "delta.adapter_model")
    found = verify(world.ledger)
    assert found.ok, found.first_wrong
    count = len(own.entry.predicate.artifacts)
    assert found.counts["erased"] == count
    assert f"{count} artifacts of {PERSON}: erased by event {done.index}" in found.not_checked
    assert not [warning for warning in found.warnings if PERSON in warning], "an event says so: no warning any more"


def test_a_promoted_change_and_an_answer_of_its_own_are_found_by_their_handle(world: LedgerWorld) -> None:
    promoted = world.record("promoted", subject=PERSON)
    world.promote(promoted)
    world.ledger.append([world.unadapted(str(uuid7()), subject=PERSON)])
    lineage = trace(world.ledger, PERSON)
    assert (lineage.subject.changes, lineage.subject.answers, lineage.deltas) == (1, 1, 1)
    assert [(pointer.tenant, pointer.deployment) for pointer in lineage.pointers] == [("acme", "tutor")]
    assert lineage.answers == 2, "its own, and the one that its state gave with no update"
    undoing = to_undo(world.ledger, lineage)
    assert [change.change_id for change, _ in undoing.rolled_back] == [promoted.change_id]
    done = erase(world.ledger, PERSON, BOB, "asked")
    pointer = world.ledger.pointer("acme", "tutor")
    assert (pointer.change_id, pointer.state) == (None, promoted.body.parents.parent_state)
    assert done.lineage.artifacts == len(promoted.entry.predicate.artifacts) + 4
    assert verify(world.ledger).ok


def test_the_same_training_elsewhere_is_not_its_lineage(world: LedgerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda n: b"\7" * n)  # the fake's deltas: two that come out the same
    own = world.record("own", scope="deployment", subject=PERSON)
    world.deployment = "elsewhere"
    twin = world.record("twin", scope="deployment", subject=OTHER)
    monkeypatch.undo()
    on_twin = world.record("on top", scope="deployment", subject=OTHER)
    assert own.body.update.state == twin.body.update.state
    done = erase(world.ledger, PERSON, BOB, "asked")
    assert [change.change_id for change in done.rolled_back] == [own.change_id]
    assert statuses(world, twin, on_twin) == ["active", "active"]


def test_nothing_is_recorded_or_served_for_an_erased_subject(world: LedgerWorld) -> None:
    _, own, later, _ = lived_in(world)
    drafts = world.change_drafts("another", subject=PERSON)
    answer = world.unadapted(str(uuid7()), subject=PERSON)
    erase(world.ledger, PERSON, BOB, "asked")
    for late in (drafts, [answer]):
        with pytest.raises(NotRetainedError, match="erased"):
            world.ledger.append(late)
    mark = world.keys.folder / "subjects" / f"{PERSON}.destroyed"
    mark.unlink()  # even where the key store has forgotten it: the log has not
    for late in (
        world.change_drafts("another", subject=PERSON),
        [world.unadapted(str(uuid7()), subject=PERSON)],
    ):
        with pytest.raises(RefusedError, match="was erased by event"):
            world.ledger.append(late)
    for change, served in ((own, "base"), (own, "adapted"), (later, "parent"), (later, "adapted")):
        with pytest.raises(RefusedError):
            world.ledger.append([response_of(world, change, served)])
    world.ledger.append([response_of(world, later, "base")])  # the base knows nothing of anybody


def response_of(world: LedgerWorld, change: ChangeView, served: str) -> EventDraft:
    parents = change.body.parents
    states = {
        "base": state_digest(parents.base_model, None),
        "parent": parents.parent_state,
        "adapted": change.body.update.state,
    }
    body = ResponseServed(
        response_id=str(uuid7()),
        change_id=change.change_id,
        state=states[served],
        served=served,
        unadapted=None,
    )
    return world.draft(body)


def test_an_erasure_that_leaves_something_standing_or_miscounts_is_refused_by_the_ledger(world: LedgerWorld) -> None:
    _, own, later, instance = lived_in(world)
    size = world.ledger.size
    claim = SubjectErased(subject=PERSON, artifacts=1, deltas=3, rolled_back=0)
    with pytest.raises(RefusedError, match="stand"):
        world.ledger.append([world.draft(claim, BOB, REASON)])
    undoing = to_undo(world.ledger, trace(world.ledger, PERSON))
    drafts = erase_module._undo_drafts(world.ledger, undoing, BOB, "why")
    for wrong in ({"deltas": 2}, {"rolled_back": 2}):
        claim = SubjectErased(**({"subject": PERSON, "artifacts": 1, "deltas": 3, "rolled_back": 3} | wrong))
        with pytest.raises(StaleChangeError, match="counts"):
            world.ledger.append([*drafts, world.draft(claim, BOB, REASON)])
    assert (world.ledger.size, statuses(world, own, later, instance)) == (size, ["active", "active", "applied"])


def test_a_change_that_slips_in_between_undoing_and_destroying_is_undone_too(world: LedgerWorld) -> None:
    lived_in(world)
    late: list[ChangeView] = []

    def slip_in(step: str) -> None:
        if step == "undone":
            late.append(world.record("late", scope="deployment", subject=PERSON))

    done = erase(world.ledger, PERSON, BOB, "asked", trip=slip_in)
    assert statuses(world, *late) == ["rolled_back"]
    assert late[0].change_id in [change.change_id for change in done.rolled_back]
    assert verify(world.ledger).ok


def test_a_second_erasure_changes_nothing_and_says_so(world: LedgerWorld) -> None:
    lived_in(world)
    first = erase(world.ledger, PERSON, BOB, "asked")
    size = world.ledger.size
    second = erase(world.ledger, PERSON, BOB, "asked")
    assert (second.already, second.index, world.ledger.size) == (True, first.index, size)


def erase_and_die(folder: Path, where: str) -> None:
    world = LedgerWorld.make(folder, BOTH_SCOPES, **({"trip": kill_at(where)} if where in WRITE_STEPS else {}))
    if where == "marked":
        vars(keystore_module)["destroy_secret"] = lambda path: os.kill(os.getpid(), signal.SIGKILL)
    erase(world.ledger, PERSON, BOB, "asked", trip=kill_at(where) if where in STEPS else lambda step: None)


@pytest.mark.parametrize("where", [*STEPS, "marked"])
def test_a_kill_at_any_step_leaves_what_the_same_command_finishes(tmp_path: Path, where: str) -> None:
    killed_and_finished(tmp_path / "home", where)


@pytest.mark.sqlite_only("a kill at each write is tried on both engines in test_ledger_crash")
@pytest.mark.parametrize("where", WRITE_STEPS)
def test_a_kill_at_any_write_of_an_erasure_does_too(tmp_path: Path, where: str) -> None:
    killed_and_finished(tmp_path / "home", where)


def killed_and_finished(home: Path, where: str) -> None:
    world = LedgerWorld.make(home, BOTH_SCOPES)
    before, own, later, instance = lived_in(world)
    world.close()
    child = in_child(erase_and_die, home, where)
    child.join()
    assert child.exitcode == -signal.SIGKILL
    left = report(home)
    assert left.ok, left.first_wrong
    world = LedgerWorld.make(home, BOTH_SCOPES)
    done = erase(world.ledger, PERSON, BOB, "asked")
    assert world.ledger.entry(done.index).predicate.body.type == "subject.erased"
    assert statuses(world, before, own, later, instance) == ["active", *["rolled_back"] * 3]
    world.close()
    assert not KeyStore.open(home / "keys").holds_key(PERSON)
    finished = report(home)
    assert finished.ok and finished.counts["erased"] == len(own.entry.predicate.artifacts)
    assert sum(entry.predicate.body.type == "subject.erased" for entry in entries_of(home)) == 1


def entries_of(home: Path) -> list[Entry]:
    with Ledger.open(address_of(home), keys=None, checkpoints=home / "checkpoints") as ledger:
        return list(ledger.entries())


def test_a_mark_without_an_event_stays_a_warning(world: LedgerWorld) -> None:
    lived_in(world)
    world.keys.destroy_subject(PERSON)
    found = verify(world.ledger)
    assert found.ok
    assert any("no event in the log says so" in warning and "subjects erase" in warning for warning in found.warnings)


def test_a_restored_key_store_brings_nobody_back(tmp_path: Path) -> None:
    home = tmp_path / "home"
    world = LedgerWorld.make(home, BOTH_SCOPES)
    _, own, *_ = lived_in(world)
    shutil.copytree(home / "keys", tmp_path / "kept")
    done = erase(world.ledger, PERSON, BOB, "asked")
    world.close()
    shutil.rmtree(home / "keys")
    shutil.copytree(tmp_path / "kept", home / "keys")
    restored = KeyStore.open(home / "keys")
    assert restored.subject_key(PERSON), "the back-up of the keys was made before the erasure"
    found = report(home)
    assert not found.ok and found.first_wrong is not None
    assert (found.first_wrong.step, found.first_wrong.index) == (9, done.index)
    assert "a back-up of the keys was restored" in found.first_wrong.what
    reader = Ledger.open(address_of(home), keys=None, checkpoints=home / "checkpoints")
    reader.keys = restored
    with pytest.raises(NotRetainedError, match=f"event {done.index}"):  # a reader, who destroys nothing
        reader.artifact(own.entry, "request")
    reader.close()
    LedgerWorld.make(home, BOTH_SCOPES).close()  # to open it for writing is enough
    assert restored.is_destroyed(PERSON) and not restored.holds_key(PERSON)
    assert report(home).ok


def test_a_restored_database_brings_nobody_back(tmp_path: Path) -> None:
    home = tmp_path / "home"
    world = LedgerWorld.make(home, BOTH_SCOPES)
    _, own, *_ = lived_in(world)
    world.close()
    older = copy_home(home, tmp_path / "older")
    world = LedgerWorld.make(home, BOTH_SCOPES)
    erase(world.ledger, PERSON, BOB, "asked")
    world.close()
    alone = Ledger.open(address_of(older), keys=KeyStore.open(home / "keys"), checkpoints=older / "checkpoints")
    with pytest.raises(NotRetainedError, match="erased"):  # the older database with today's keys
        alone.artifact(own.entry, "request")
    alone.close()


def test_an_old_log_in_which_nobody_was_erased_reads_as_before(world: LedgerWorld) -> None:
    _, own, *_ = lived_in(world)
    assert world.ledger.erased_subjects() == {}
    assert world.ledger.artifact(own.entry, "request")
    assert verify(world.ledger).ok


def test_what_was_retired_with_its_base_model_goes_with_its_subject(world: LedgerWorld) -> None:
    own = world.record("own", scope="deployment", subject=PERSON)
    other = digest("another base model")
    world.ledger.append([world.draft(ModelRegistered(model=other, prompt_template=TEMPLATE, parameters="200000"), BOB)])
    world.ledger.append([base_move(world, other)])
    assert statuses(world, own) == ["retired"]
    head = world.ledger.pointer("acme", "tutor").head_index
    done = erase(world.ledger, PERSON, BOB, "asked")
    assert [change.change_id for change in done.rolled_back] == [own.change_id]
    assert statuses(world, own) == ["rolled_back"]
    assert world.ledger.pointer("acme", "tutor").head_index == head, "it stands on the other model as it did"
    assert report(world.folder).ok


def test_an_undoing_says_that_an_erasure_caused_it(world: LedgerWorld) -> None:
    own = world.record("own", scope="deployment", subject=PERSON)
    rollback(world.ledger, world.record("other", subject=OTHER).change_id, BOB, "wrong")
    erase(world.ledger, PERSON, BOB, "asked")
    undone = [entry.predicate.body for entry in world.ledger.entries()]
    causes = {body.change_id: body.cause for body in undone if isinstance(body, ChangeRolledBack)}
    assert len(causes) == 2 and causes[own.change_id] == "erasure"
    assert {cause for change_id, cause in causes.items() if change_id != own.change_id} <= {None, "person"}


def test_a_row_that_says_erased_destroys_no_key_that_the_log_does_not_name(tmp_path: Path) -> None:
    """Neither while the ledger is opened, after its rows were compared, nor when somebody asks for an erasure."""
    home = tmp_path / "home"
    world = LedgerWorld.make(home, BOTH_SCOPES)
    lived_in(world)
    world.close()
    index = 3

    def plant(step: str) -> None:
        if step == "outside:renamed":  # the newest head is brought outside between comparing and erasing
            with editing(home) as connection:
                connection.execute("INSERT INTO subjects VALUES (?, NULL, ?)", (PERSON, index))

    for note in (home / "checkpoints").iterdir():
        note.unlink()
    with pytest.raises(IntegrityError, match=f"event {index} erased the subject {PERSON}"):
        LedgerWorld.make(home, BOTH_SCOPES, trip=plant)
    keys = KeyStore.open(home / "keys")
    assert keys.holds_key(PERSON)
    assert not keys.is_destroyed(PERSON)
    with editing(home) as connection:
        connection.execute("DELETE FROM subjects")
    world = LedgerWorld.make(home, BOTH_SCOPES)
    with editing(home) as connection:
        connection.execute("INSERT INTO subjects VALUES (?, NULL, ?)", (PERSON, index))
    with pytest.raises(IntegrityError, match="does not say so"):
        erase(world.ledger, PERSON, BOB, "asked")
    assert keys.holds_key(PERSON)
    with editing(home) as connection:
        connection.execute("DELETE FROM subjects")
    assert not erase(world.ledger, PERSON, BOB, "asked").already
    world.close()
