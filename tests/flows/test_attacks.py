"""Every attack on a log that docs/reference/attacks.md lists, on both engines: which step sees it, which index first.

Who attacks: a thief of the database, who has no key; whoever stole the log's key; and the operator, who has every key
and writes the log again from its first event. Outside stand the heads of sizes 7 and 11.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mass_gov.evidence.canonical import canonical_bytes
from mass_gov.evidence.dsse import PAYLOAD_TYPE, sign_envelope
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.merkle import Frontier, leaf_hash
from mass_gov.evidence.signing import Ed25519Signer
from mass_gov.flows.audit import VerificationReport, verify
from mass_gov.records.events import ChangeRecorded, Predicate
from tests.fakes.bundles import exported, judged, root_of
from tests.fakes.engines import address_of, copy_ledger, database_of
from tests.fakes.forger import Event, events_of, forged
from tests.fakes.key_thief import rewritten
from tests.fakes.ledger_world import SUBJECT, LedgerWorld
from tests.fakes.tamper import tampering

pytestmark = pytest.mark.both_engines

POLICY, SUITE, ONE, SERVED, TWO, YES, THREE, SIZE = 1, 3, 4, 5, 6, 8, 9, 11
KEPT = (7, SIZE)
DELTA = ("delta.adapter_config", "delta.adapter_model", "delta.signature")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerWorld]:
    made = LedgerWorld.make(tmp_path_factory.mktemp("genuine") / "home")
    made.record("one")
    held = made.record("two", step_norm=0.7)
    made.ledger.append([made.approval(held)])
    made.record("three")
    assert made.ledger.size == SIZE
    yield made
    made.close()


@pytest.fixture
def home(world: LedgerWorld, tmp_path: Path) -> Path:
    """The genuine log on this test's engine, with heads outside."""
    return planted(world, tmp_path / "home")


def planted(world: LedgerWorld, home: Path, predicates: list[Predicate] | None = None) -> Path:
    """Write a log with the genuine log key; every artifact is the genuine one."""
    signers = [world.keys.log_signer]
    rewritten(world, home, lambda index: signers, lambda index: signers, predicates)
    keep_heads(home)
    return home


def keep_heads(home: Path) -> None:
    with tampering(home) as thief:
        rows = thief.execute("SELECT size, note FROM log_checkpoints").fetchall()
    for size, note in rows:
        if size in KEPT:
            (home / "checkpoints" / f"{size:020d}.checkpoint").write_bytes(note)


def report_on(home: Path, **options: Any) -> VerificationReport:
    given = {"keys": KeyStore.open(home / "keys"), "checkpoints": home / "checkpoints"} | options
    return verify(address_of(home), **given)


def seen(home: Path, **options: Any) -> tuple[int, int | None, str]:
    """Step and index of the first wrong thing, and what is printed."""
    report = report_on(home, **options)
    assert not report.ok and report.first_wrong is not None
    return report.first_wrong.step, report.first_wrong.index, str(report.first_wrong)


def leaf_at(home: Path, index: int) -> bytes:
    with tampering(home) as thief:
        return bytes(thief.execute('SELECT leaf FROM log_events WHERE "index" = ?', (index,)).fetchone()[0])


def put(home: Path, leaves: Mapping[int, bytes], *, hashes: bool = True) -> None:
    """Put other leaves into the log; with `hashes` every root and every node is what they then have to be."""
    frontier = Frontier()
    with tampering(home) as thief:
        for index, genuine in thief.execute('SELECT "index", leaf FROM log_events ORDER BY "index"').fetchall():
            leaf, before = leaves.get(index, bytes(genuine)), frontier.root()
            nodes = frontier.append(leaf_hash(leaf))
            thief.execute('UPDATE log_events SET leaf = ? WHERE "index" = ?', (leaf, index))
            if hashes:
                roots = (before, frontier.root(), index)
                thief.execute('UPDATE log_events SET prev_root = ?, root = ? WHERE "index" = ?', roots)
                rows = [(node.hash, node.level, node.position) for node in nodes]
                thief.executemany("UPDATE log_nodes SET hash = ? WHERE level = ? AND position = ?", rows)


def edited(leaf: bytes) -> bytes:
    """The same event at another time; its signature is the genuine one's."""
    envelope = json.loads(leaf)
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["time"] = "2001-01-01T00:00:00.000000Z"
    return canonical_bytes(envelope | {"payload": base64.b64encode(canonical_bytes(statement)).decode()})


def signed_by_another(leaf: bytes) -> bytes:
    return sign_envelope(base64.b64decode(json.loads(edited(leaf))["payload"]), PAYLOAD_TYPE, Ed25519Signer.generate())


# --- a thief of the database --------------------------------------------------------------------------------------


def edit(home: Path) -> None:
    put(home, {ONE: edited(leaf_at(home, ONE))}, hashes=False)


def edit_and_hash_again(home: Path) -> None:
    put(home, {ONE: edited(leaf_at(home, ONE))})


def edit_and_sign_with_another_key(home: Path) -> None:
    put(home, {ONE: signed_by_another(leaf_at(home, ONE))})


def delete(home: Path) -> None:
    with tampering(home) as thief:
        thief.execute('DELETE FROM log_events WHERE "index" = ?', (TWO,))


def reorder(home: Path) -> None:
    put(home, {ONE: leaf_at(home, TWO), TWO: leaf_at(home, ONE)}, hashes=False)


def reorder_and_hash_again(home: Path) -> None:
    put(home, {ONE: leaf_at(home, TWO), TWO: leaf_at(home, ONE)})


def insert(home: Path) -> None:
    """Everything from the second change on one place up, and an old answer there."""
    with tampering(home) as thief:
        for index in range(SIZE - 1, TWO - 1, -1):
            thief.execute('UPDATE log_events SET "index" = ? WHERE "index" = ?', (index + 1, index))
        copied = 'INSERT INTO log_events SELECT ?, leaf, prev_root, root FROM log_events WHERE "index" = ?'
        thief.execute(copied, (TWO, SERVED))


def append_an_old_event(home: Path) -> None:
    with tampering(home) as thief:
        copied = 'INSERT INTO log_events SELECT ?, leaf, prev_root, root FROM log_events WHERE "index" = ?'
        thief.execute(copied, (SIZE, SERVED))


def strip_the_signature(home: Path) -> None:
    put(home, {ONE: canonical_bytes(json.loads(leaf_at(home, ONE)) | {"signatures": []})})


def swap_signatures(home: Path) -> None:
    theirs = json.loads(leaf_at(home, TWO))["signatures"]
    put(home, {ONE: canonical_bytes(json.loads(leaf_at(home, ONE)) | {"signatures": theirs})})


def another_payload_type(home: Path) -> None:
    put(home, {ONE: canonical_bytes(json.loads(leaf_at(home, ONE)) | {"payloadType": "application/json"})})


def cut(home: Path, size: int) -> None:
    """Take events off the end, with every node, head and derived row that stood on them."""
    with tampering(home) as thief:
        thief.execute('DELETE FROM log_events WHERE "index" >= ?', (size,))
        thief.execute("DELETE FROM log_nodes WHERE (position + 1) << level > ?", (size,))
        thief.execute("DELETE FROM log_checkpoints WHERE size > ?", (size,))
        for table in ("changes", "responses", "approvals"):
            thief.execute(f'DELETE FROM {table} WHERE "index" >= ?', (size,))


def delete_the_tail(home: Path) -> None:
    cut(home, THREE)


def swap_stored(home: Path, first: tuple[int, str], second: tuple[int, str]) -> None:
    """Let two artifacts change places in the table."""
    digests = []
    for index, role in (first, second):
        statement = json.loads(base64.b64decode(json.loads(leaf_at(home, index))["payload"]))
        refs = statement["predicate"]["artifacts"]
        digests.append(bytes.fromhex(next(ref["digest"] for ref in refs if ref["role"] == role)))
    with tampering(home) as thief:
        stored = [thief.execute("SELECT stored FROM artifacts WHERE digest = ?", (d,)).fetchone()[0] for d in digests]
        for digest, other in zip(digests, reversed(stored), strict=True):
            thief.execute("UPDATE artifacts SET stored = ? WHERE digest = ?", (other, digest))


def swap_adapter_bytes(home: Path) -> None:
    swap_stored(home, (ONE, "delta.adapter_model"), (TWO, "delta.adapter_model"))


def swap_the_policy_for_the_suite(home: Path) -> None:
    swap_stored(home, (POLICY, "policy"), (SUITE, "suite"))


@pytest.mark.parametrize(
    ("attack", "step", "index", "words"),
    [
        (edit, 3, ONE, "log_events row 4, leaf"),
        (edit_and_hash_again, 3, ONE, "log_events row 4, leaf"),
        (edit_and_sign_with_another_key, 3, ONE, "is trusted"),
        (delete, 3, TWO, "6 was expected here"),
        (reorder, 4, ONE, "the tree was made over another event"),
        (reorder_and_hash_again, 5, ONE, "It is no head of this log at size 5"),
        (insert, 3, TWO, "log_events row 6"),
        (append_an_old_event, 3, SIZE, "is an earlier event's"),
        (strip_the_signature, 3, ONE, "log_events row 4, leaf"),
        (swap_signatures, 3, ONE, "log_events row 4, leaf"),
        (another_payload_type, 3, ONE, "log_events row 4, leaf"),
        (delete_the_tail, 6, THREE, "Events were taken away"),
        (swap_adapter_bytes, 7, ONE, "artifact delta.adapter_model[0]"),
        (swap_the_policy_for_the_suite, 7, POLICY, "artifact policy[0]"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_thief_of_the_database_does_is_named(
    home: Path, attack: Callable[[Path], None], step: int, index: int, words: str
) -> None:
    attack(home)
    found = seen(home)
    assert found[:2] == (step, index), found
    assert words in found[2]


def test_a_cut_below_a_head_that_an_auditor_kept_is_named_although_the_folder_beside_it_was_cut_too(home: Path) -> None:
    kept = home.parent / "auditor"
    kept.mkdir()
    (home / "checkpoints" / f"{SIZE:020d}.checkpoint").rename(kept / f"{SIZE:020d}.checkpoint")
    cut(home, KEPT[0] + 1)
    assert report_on(home).steps[5].verdict == "ok"  # nothing that lies beside the database is missing
    step, index, text = seen(home, checkpoints=kept)
    assert (step, index) == (6, KEPT[0] + 1)
    assert f"the log has {KEPT[0] + 1} events, and a signed head of {SIZE} is known" in text


def test_a_subjects_key_that_was_replaced_opens_nothing(home: Path) -> None:
    for path in (home / "keys" / "subjects").glob(f"{SUBJECT}*"):
        path.unlink()
    KeyStore.open(home / "keys").subject_key(SUBJECT, create=True)
    step, index, text = seen(home)
    assert (step, index) == (9, ONE), text
    assert "does not open with its subject's key" in text


def test_a_flipped_bit_in_the_file_that_the_engines_own_check_misses_is_named(home: Path, engine: str) -> None:
    with tampering(home) as thief:
        row = thief.execute('SELECT prev_root, root FROM log_events WHERE "index" = ?', (SERVED,)).fetchone()
    before, after = map(bytes, row)
    if engine == "sqlite":
        flip_after(address_of(home).file, before + after, len(before))
        with sqlite3.connect(address_of(home).file) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    else:
        flip_on_the_server(home, before + b"\x43" + after, len(before) + 1)  # 0x43: 32 bytes follow
    step, index, text = seen(home)
    assert (step, index) == (4, SERVED), text
    assert "log_events row 5, root" in text


def flip_after(path: Path, wanted: bytes, offset: int) -> None:
    data = bytearray(path.read_bytes())
    assert data.count(wanted) == 1
    data[data.index(wanted) + offset] ^= 1
    path.write_bytes(data)


def flip_on_the_server(home: Path, wanted: bytes, offset: int) -> None:
    """Flip a bit in a table's file, and read it through a copy of the database, with page checksums out of the way."""
    from tests.fakes.postgres_server import server

    if not server().is_own:
        pytest.skip("writes into the files of the server, which is not this run's own")
    with tampering(home) as thief:
        thief.execute("CHECKPOINT")
        (data, path) = thief.execute(
            "SELECT current_setting('data_directory'), pg_relation_filepath('log_events')"
        ).fetchone()
    flip_after(Path(data) / path, wanted, offset)
    copy_ledger(home, home)
    server().execute(f"ALTER DATABASE {database_of(home)} SET ignore_checksum_failure = on")


# --- whoever stole the log's key ----------------------------------------------------------------------------------


def predicates(world: LedgerWorld) -> list[Predicate]:
    return [entry.predicate for entry in world.ledger.entries()]


def move_to_another_tenant(events: list[Predicate]) -> None:
    body = events[ONE].body
    assert isinstance(body, ChangeRecorded)
    identity = body.change.identity.model_copy(update={"tenant": "other"})
    moved = body.model_copy(update={"change": body.change.model_copy(update={"identity": identity})})
    events[ONE] = events[ONE].model_copy(update={"tenant": "other", "body": moved})
    events[SERVED] = events[SERVED].model_copy(update={"tenant": "other"})


def give_refs(events: list[Predicate], to: int, source: int, *roles: str) -> None:
    taken = {ref.role: ref for ref in events[source].artifacts if ref.role in roles}
    refs = tuple(taken.get(ref.role, ref) for ref in events[to].artifacts)
    events[to] = events[to].model_copy(update={"artifacts": refs})


def swap_requests(events: list[Predicate]) -> None:
    one = list(events)
    give_refs(events, ONE, THREE, "request")
    events[THREE] = one[THREE]
    give_refs(one, THREE, ONE, "request")
    events[THREE] = one[THREE]


def old_adapter_under_a_new_event(events: list[Predicate]) -> None:
    give_refs(events, THREE, ONE, *DELTA)


def another_key_for_the_ciphertext(events: list[Predicate]) -> None:
    """Whoever may choose the key can make one ciphertext say two things: the leaf commits to one key."""
    other = next(ref for ref in events[THREE].artifacts if ref.role == "request")
    refs = [
        r.model_copy(update={"commitment": other.commitment}) if r.role == "request" else r
        for r in events[ONE].artifacts
    ]
    events[ONE] = events[ONE].model_copy(update={"artifacts": tuple(refs)})


@pytest.mark.parametrize(
    ("attack", "step", "index", "words"),
    [
        (move_to_another_tenant, 9, ONE, "belongs elsewhere"),
        (swap_requests, 9, ONE, "belongs elsewhere"),
        (old_adapter_under_a_new_event, 7, THREE, "delta"),
        (another_key_for_the_ciphertext, 9, ONE, "commit"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_the_holder_of_the_log_key_does_is_named(
    world: LedgerWorld,
    tmp_path: Path,
    attack: Callable[[list[Predicate]], None],
    step: int,
    index: int,
    words: str,
) -> None:
    events = predicates(world)
    attack(events)
    found = seen(planted(world, tmp_path / "forged", events))
    assert found[:2] == (step, index), found
    assert words in found[2]


# --- the operator, with every key ---------------------------------------------------------------------------------


def other_decision(events: list[Event]) -> None:
    """A change outside the envelope is applied and served, and nobody was asked."""
    events[TWO].change["decision"] |= {"verdict": "apply", "violated": [], "reason": "inside_envelope"}
    events[TWO + 1].body.update(served="adapted", state=events[TWO].change["update"]["state"])
    del events[YES]


def lax_policy(events: list[Event]) -> None:
    sheet = events[POLICY].sheet("policy")
    sheet.plain = sheet.plain.replace(b"margin: 0.1\n", b"margin: 0.9\n")


def easier_suite(events: list[Event]) -> None:
    sheet = events[SUITE].sheet("suite")
    sheet.plain = sheet.plain.replace(b"What is 0 - 0 + 1?", b"What is 1?")


def other_adapter_bytes(events: list[Event]) -> None:
    events[ONE].sheet("delta.adapter_model").plain = os.urandom(200)


def sealed_old_adapter(events: list[Event]) -> None:
    for role in DELTA:
        events[THREE].sheet(role).plain = events[ONE].sheet(role).plain


@pytest.mark.parametrize(
    ("attack", "step", "index", "words"),
    [
        (other_decision, 10, TWO, "decision"),
        (lax_policy, 9, POLICY, "artifact policy"),
        (easier_suite, 9, SUITE, "artifact suite"),
        (other_adapter_bytes, 9, ONE, "delta"),
        (sealed_old_adapter, 9, THREE, "delta"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_the_operator_writes_with_every_key_is_named(
    world: LedgerWorld, tmp_path: Path, attack: Callable[[list[Event]], None], step: int, index: int, words: str
) -> None:
    events = events_of(world)
    attack(events)
    found = seen(forged(world, events, tmp_path / "forged"))
    assert found[:2] == (step, index), found
    assert words in found[2]


def test_a_bundle_with_the_attackers_own_keys_proves_nothing_under_the_genuine_key(
    world: LedgerWorld, tmp_path: Path
) -> None:
    theirs = LedgerWorld.make(tmp_path / "attacker")
    members = exported(theirs, theirs.record("mine").change_id)
    theirs.close()
    assert judged(members, None).trust == "consistency only"
    report = judged(members, root_of(world.ledger))
    assert report.first_wrong is not None
    assert (report.first_wrong.step, "trust" in report.first_wrong.what) == (2, True)
