"""Asking the ledger: everything that was recorded comes back, and nothing that was altered does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from mass_gov.errors import InputError, IntegrityError, NotFoundError, NotRetainedError
from mass_gov.evidence.canonical import parse_canonical
from mass_gov.evidence.checkpoint import verify_checkpoint
from mass_gov.evidence.merkle import leaf_hash, verify_consistency, verify_inclusion
from mass_gov.flows.handles import task_commitment
from mass_gov.ledger.log_writer import log_writer
from mass_gov.records.artifacts import RequestContent
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import AccessDenied, Actor
from tests.fakes.ledger_world import BASE_MODEL, BOTH_SCOPES, SUBJECT, SUITE, SUITE_FILE, LedgerWorld, digest
from tests.fakes.tamper import tampering

pytestmark = pytest.mark.both_engines


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    made = LedgerWorld.make(tmp_path / "home", BOTH_SCOPES)
    yield made
    made.close()


def test_an_unknown_change_says_where_to_look(world: LedgerWorld) -> None:
    for unknown in ("01890000-0000-7000-8000-000000000001", "nonsense", "%", "0189"):
        with pytest.raises(NotFoundError, match="mass-gov changes list"):
            world.ledger.change(unknown)


def test_an_ambiguous_beginning_of_an_id_is_not_guessed(world: LedgerWorld) -> None:
    one, two = world.record("one"), world.record("two")
    if one.change_id[:8] != two.change_id[:8]:  # they begin with the time, and its 65th second may have passed between
        one = world.record("three")
    shared = next(i for i in range(36) if one.change_id[i] != two.change_id[i])
    with pytest.raises(InputError, match="more characters"):
        world.ledger.change(one.change_id[:8])
    assert world.ledger.change(one.change_id[: shared + 1]).change_id == one.change_id


def test_an_altered_leaf_is_an_error_and_never_an_answer(world: LedgerWorld) -> None:
    change = world.record("one")
    with tampering(world.ledger.address) as connection:
        leaf = bytearray(change.entry.leaf)
        leaf[200] ^= 1
        connection.execute('UPDATE log_events SET leaf = ? WHERE "index" = ?', (bytes(leaf), change.index))
    for read in (lambda: world.ledger.change(change.change_id), lambda: world.ledger.entry(change.index)):
        with pytest.raises(IntegrityError, match=f"Event {change.index}"):
            read()


def test_an_altered_artifact_is_an_error_and_never_an_answer(world: LedgerWorld) -> None:
    change = world.record("one")
    with tampering(world.ledger.address) as connection:
        connection.execute("UPDATE artifacts SET stored = zeroblob(length(stored))")
    with pytest.raises(IntegrityError, match="not what was recorded"):
        world.ledger.artifact(change.entry, "request")


def test_nothing_is_signed_above_a_damaged_tree(world: LedgerWorld, tmp_path: Path) -> None:
    with tampering(world.ledger.address) as connection:
        connection.execute("UPDATE log_nodes SET hash = zeroblob(32) WHERE level = 2")
    # Whoever wrote the tree knows its edge and signs the true root; whoever opens the ledger now has only the rows.
    with pytest.raises(IntegrityError, match="the tree disagree"):
        LedgerWorld.make(tmp_path / "home", BOTH_SCOPES).record("one")


def test_artifacts_come_back_as_they_went_in(world: LedgerWorld) -> None:
    change = world.record("one")
    request = RequestContent.model_validate(parse_canonical(world.ledger.artifact(change.entry, "request")))
    assert request.task_id == "one"
    assert world.ledger.suite_bytes(SUITE) == SUITE_FILE
    assert world.ledger.policy_bytes(BOTH_SCOPES.digest) == BOTH_SCOPES.source
    with pytest.raises(NotFoundError, match="has no artifact"):
        world.ledger.artifact(change.entry, "reason")


def test_an_erased_subjects_artifacts_are_gone_and_its_change_is_not(world: LedgerWorld) -> None:
    change = world.record("one")
    world.keys.destroy_subject(SUBJECT)
    with pytest.raises(NotRetainedError):
        world.ledger.artifact(change.entry, "request")
    assert world.ledger.change(change.change_id).body == change.body


def test_every_event_is_proven_under_every_later_head(world: LedgerWorld) -> None:
    for number in range(4):
        world.record(f"task-{number}")
    ledger = world.ledger
    head = ledger.latest_checkpoint()
    checkpoint = verify_checkpoint(head.note, ledger.origin, ledger.log_key)
    assert (checkpoint.size, checkpoint.root.hex()) == (head.size, head.root) == (ledger.size, head.root)
    for entry in ledger.entries():
        proof = ledger.inclusion_proof(entry.index)
        verify_inclusion(leaf_hash(entry.leaf), entry.index, head.size, proof, checkpoint.root)
    for path in sorted(ledger.checkpoints.glob("*.checkpoint")):
        old = verify_checkpoint(path.read_bytes(), ledger.origin, ledger.log_key)
        verify_consistency(old.size, head.size, ledger.consistency_proof(old.size), old.root, checkpoint.root)


def test_a_proof_reads_its_nodes_in_one_statement_and_as_many_as_the_logs_logarithm(
    world: LedgerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    with world.ledger._database.read() as connection:
        kind = type(log_writer(connection))
    read = kind.nodes

    def counted(self: object, connection: object, places: list[tuple[int, int]]) -> object:
        asked.append(len(places))
        return read(self, connection, places)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "nodes", counted)
    denied = AccessDenied(action="a", policy=digest("policy"), change_id=None, count=1)
    draft = EventDraft(Actor(principal="p", role="operator"), "acme", "tutor", denied)
    world.ledger.append([draft] * 200)
    size = world.ledger.size
    for prove in (lambda: world.ledger.inclusion_proof(1, size), lambda: world.ledger.consistency_proof(9, size)):
        asked.clear()
        assert prove()
        assert len(asked) == 1
        assert asked[0] <= 3 * size.bit_length()


def test_changes_come_in_pages_in_both_directions(world: LedgerWorld) -> None:
    made = [world.record(f"task-{number}", step_norm=0.7 if number == 2 else 0.05).change_id for number in range(5)]
    first = world.ledger.changes(limit=2)
    rest = world.ledger.changes(limit=10, cursor=first[-1].index)
    assert [change.change_id for change in [*first, *rest]] == made[::-1]
    assert [change.change_id for change in world.ledger.changes(newest_first=False)] == made
    assert [change.change_id for change in world.ledger.changes(status="held")] == [made[2]]


def test_a_task_a_state_and_a_response_lead_to_their_change(world: LedgerWorld) -> None:
    change, ledger = world.record("one", scope="deployment"), world.ledger
    commitment = task_commitment(world.keys, "one")
    assert ledger.change_by_request("acme", "tutor", commitment) == change
    assert ledger.change_by_request("other", "tutor", commitment) is None
    assert ledger.change_of_state(change.body.update.state) == change
    assert ledger.change_of_state(digest("other")) is None
    (response,) = ledger.responses(change_id=change.change_id)
    assert ledger.response(response.response_id) == response
    assert ledger.responses(state=change.body.update.state, between=(0, ledger.size)) == [response]
    assert ledger.responses(between=(0, response.index)) == []


def test_responses_under_a_state_include_those_of_updates_made_from_it(world: LedgerWorld) -> None:
    moved = world.record("moves", scope="deployment")
    after = world.record("made from it")
    under = world.ledger.responses_under(moved.body.update.state)
    assert [response.change_id for response in under] == [moved.change_id, after.change_id]


def test_later_active_changes_are_the_dependents(world: LedgerWorld) -> None:
    first, second, third = (world.record(name, scope="deployment") for name in ("a", "b", "c"))
    assert [change.change_id for change in world.ledger.active_after(first.change_id)] == [
        third.change_id,
        second.change_id,
    ]
    assert world.ledger.active_after(third.change_id) == []
    assert world.ledger.active_after(world.record("instance").change_id) == []


def test_registrations_are_found_by_digest(world: LedgerWorld) -> None:
    ledger = world.ledger
    assert ledger.has_model(BASE_MODEL) and ledger.has_suite(SUITE) and ledger.has_policy(BOTH_SCOPES.digest)
    assert not ledger.has_model(SUITE)
    assert ledger.active_policy() == BOTH_SCOPES.digest
    assert ledger.model(BASE_MODEL).parameters == "200000"
    with pytest.raises(NotFoundError, match="not registered"):
        ledger.model(digest("other"))


def test_projections_dropped_and_rebuilt_say_the_same(world: LedgerWorld) -> None:
    change = world.record("one", scope="deployment")
    with tampering(world.ledger.address) as connection:
        connection.execute("UPDATE changes SET status = 'rejected'")
        connection.execute("DELETE FROM pointers")
    world.ledger.rebuild()
    assert world.ledger.change(change.change_id) == change
    assert world.ledger.pointer("acme", "tutor").change_id == change.change_id


def test_times_are_written_as_the_clock_says_even_backwards(tmp_path: Path) -> None:
    moments = iter(dt.datetime(2026, 1, 1, tzinfo=dt.UTC) - dt.timedelta(days=n) for n in range(100))
    world = LedgerWorld.make(tmp_path / "home", clock=lambda: next(moments))
    times = [entry.predicate.time for entry in world.ledger.entries()]
    assert times == sorted(times, reverse=True)
    world.close()


def test_a_checkpoint_is_kept_outside_at_every_stop(tmp_path: Path) -> None:
    world = LedgerWorld.make(tmp_path / "home")
    world.record("one")
    world.close()
    newest = max((tmp_path / "home" / "checkpoints").iterdir())
    assert verify_checkpoint(newest.read_bytes(), world.ledger.origin, world.ledger.log_key).size == 6
