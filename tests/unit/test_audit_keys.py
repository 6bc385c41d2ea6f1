"""Attacks on keys: every forgery that private keys, stolen or made, allow is named by its step and its first index."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mass_gov.errors import IntegrityError
from mass_gov.evidence.dsse import PAYLOAD_TYPE, sign_envelope
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.model_signing import sign_folder
from mass_gov.evidence.signing import Ed25519Signer, P256Signer, Signer
from mass_gov.flows.audit import VerificationReport, verify
from mass_gov.flows.keys import rotate
from mass_gov.ledger.entries import statement_bytes
from mass_gov.records.events import KeyRotated, Predicate
from tests.fakes.engines import address_of
from tests.fakes.key_thief import rewritten
from tests.fakes.ledger_world import BOB, LedgerWorld
from tests.fakes.tamper import tampering

pytestmark = pytest.mark.both_engines


class Rotated(LedgerWorld):
    """A world whose log and delta keys were rotated, and what a thief took before: its first private keys."""

    first_log: Signer
    first_delta: Signer
    new_log: Signer
    new_delta: Signer
    log_at: int
    delta_at: int

    def log_signer(self, index: int) -> Signer:
        """The log key that is valid at an index."""
        return self.first_log if index <= self.log_at else self.new_log

    def event_signers(self, index: int) -> list[Signer]:
        """Who signs an event of this log."""
        if index == self.log_at:
            return [self.first_log, self.new_log]
        if index == self.delta_at:
            return [self.log_signer(index), self.first_delta, self.new_delta]
        return [self.log_signer(index)]

    def head_signers(self, index: int) -> list[Signer]:
        """Who signs the head that ends with an event."""
        return [self.first_log, self.new_log] if index == self.log_at else [self.log_signer(index)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Rotated]:
    """Two changes before the log key's rotation, one between it and the delta key's, one after."""
    plain = LedgerWorld.make(tmp_path / "home")
    world = Rotated(plain.folder, plain.ledger, plain.keys, plain.policy)
    world.first_log, world.first_delta = world.keys.log_signer, world.keys.delta_signer
    world.record("one")
    world.record("two")
    world.log_at = rotate(world.ledger, "log", BOB).index
    world.record("three")
    world.delta_at = rotate(world.ledger, "delta", BOB).index
    world.record("four")
    world.new_log, world.new_delta = world.keys.log_signer, world.keys.delta_signer
    yield world
    world.close()


def judged(home: Path, **options: Any) -> VerificationReport:
    """Verify a home with its keys."""
    return verify(address_of(home), keys=KeyStore.open(home / "keys"), checkpoints=home / "checkpoints", **options)


def fast(home: Path, world: Rotated) -> VerificationReport:
    """Verify every signature of a home from the first key, and no more."""
    pinned = world.first_log.public_key
    return verify(address_of(home), public_key=pinned, only="signatures")


def first_wrong(report: VerificationReport) -> tuple[int, int | None, str]:
    """Step, index and words of the first fault."""
    assert report.first_wrong is not None
    assert not report.ok
    return report.first_wrong.step, report.first_wrong.index, report.first_wrong.what


def predicates(world: Rotated) -> list[Predicate]:
    """What every event says."""
    return [entry.predicate for entry in world.ledger.entries()]


def test_a_rewriting_with_the_right_signers_is_sound(world: Rotated, tmp_path: Path) -> None:
    home = rewritten(world, tmp_path / "copy", world.event_signers, world.head_signers)
    for report in (judged(home), fast(home, world)):
        assert report.ok, report.first_wrong


def test_a_rotation_without_the_new_keys_signature_is_refused(world: Rotated, tmp_path: Path) -> None:
    def alone(index: int) -> list[Signer]:
        return [world.first_log] if index == world.log_at else world.event_signers(index)

    rewritten(world, tmp_path / "copy", alone, world.head_signers)
    assert first_wrong(judged(tmp_path / "copy"))[:2] == (2, 0)  # to the key store's key nothing was handed over
    report = judged(tmp_path / "copy", public_key=world.first_log.public_key)
    assert first_wrong(report)[:2] == (3, world.log_at)
    assert "each of them must" in first_wrong(report)[2]


def test_a_rotation_forged_by_the_new_key_alone_is_refused(world: Rotated, tmp_path: Path) -> None:
    thief = Ed25519Signer.generate()
    forged = predicates(world)
    body = forged[world.log_at].body
    assert isinstance(body, KeyRotated)
    public = base64.b64encode(thief.public_key.spki).decode("ascii")
    mine = body.model_copy(update={"new_key": thief.keyid, "new_public_key": public})
    forged[world.log_at] = forged[world.log_at].model_copy(update={"body": mine})

    def signers(index: int) -> list[Signer]:
        if index < world.log_at:
            return [world.first_log]
        return [thief, thief] if index == world.log_at else [thief]

    home = rewritten(world, tmp_path / "copy", signers, lambda i: signers(i)[:1], forged[: world.log_at + 2])
    report = judged(home, public_key=world.first_log.public_key)
    assert first_wrong(report)[:2] == (3, world.log_at)
    assert first_wrong(report)[2].startswith(
        f"Event {world.log_at}: The leaf cannot be trusted: it is signed by the key"
    )


def test_a_rotation_of_the_delta_key_needs_the_log_key_the_old_and_the_new_one(world: Rotated, tmp_path: Path) -> None:
    for number, left in enumerate(([0, 1], [0, 2], [1, 2], [0, 2, 1])):

        def signers(index: int, left: list[int] = left) -> list[Signer]:
            every = world.event_signers(index)
            return [every[i] for i in left] if index == world.delta_at else every

        home = rewritten(world, tmp_path / f"copy{number}", signers, world.head_signers)
        assert first_wrong(judged(home, public_key=world.first_log.public_key))[:2] == (3, world.delta_at)
        assert f"Event {world.delta_at}:" in first_wrong(fast(home, world))[2]


def test_a_retired_key_that_signs_again_is_refused_at_the_first_index_after_its_end(
    world: Rotated, tmp_path: Path
) -> None:
    def signers(index: int) -> list[Signer]:
        return [world.first_log] if index == world.log_at + 1 else world.event_signers(index)

    home = rewritten(world, tmp_path / "copy", signers, world.head_signers)
    for report in (judged(home), fast(home, world)):
        step, index, what = first_wrong(report)
        assert (step, index) == (3, world.log_at + 1)
        assert world.first_log.keyid[:16] in what


def test_a_key_that_signs_before_it_was_named_is_refused(world: Rotated, tmp_path: Path) -> None:
    def signers(index: int) -> list[Signer]:
        return [world.new_log] if index == world.log_at - 1 else world.event_signers(index)

    step, index, what = first_wrong(judged(rewritten(world, tmp_path / "copy", signers, world.head_signers)))
    assert (step, index) == (3, world.log_at - 1)
    assert world.new_log.keyid[:16] in what


def test_a_head_by_a_retired_key_or_without_both_keys_of_a_rotation_is_refused(world: Rotated, tmp_path: Path) -> None:
    for number, (at, signer) in enumerate(
        [(world.log_at, world.first_log), (world.log_at, world.new_log), (world.log_at + 2, world.first_log)]
    ):

        def heads(index: int, at: int = at, signer: Signer = signer) -> list[Signer]:
            return [signer] if index == at else world.head_signers(index)

        report = judged(rewritten(world, tmp_path / f"copy{number}", world.event_signers, heads))
        assert first_wrong(report)[:2] == (5, at)


def test_a_fork_with_the_stolen_first_key_is_caught_by_the_later_key_and_by_the_head_outside(
    world: Rotated, tmp_path: Path
) -> None:
    world.ledger.outside.flush()
    stolen = [world.first_log]
    forged = predicates(world)[: world.log_at]  # and the thief goes on as if nothing had been handed over
    home = rewritten(world, tmp_path / "fork", lambda i: stolen, lambda i: stolen, forged)
    alone = verify(address_of(home), public_key=world.first_log.public_key)
    assert alone.ok  # the first key alone cannot tell: it is the genuine key, on a log that ends early
    later = verify(address_of(home), public_key=world.new_log.public_key)
    assert first_wrong(later)[:2] == (2, 0)
    outside = verify(address_of(home), public_key=world.first_log.public_key, checkpoints=world.folder / "checkpoints")
    assert first_wrong(outside)[0] == 6


def test_another_history_under_a_genuine_rotation_is_refused(world: Rotated, tmp_path: Path) -> None:
    """Who has only the first key can put the genuine rotation behind other events, and sign no head for it."""
    genuine = predicates(world)
    forged = [p for i, p in enumerate(genuine[: world.log_at + 1]) if not (4 <= i < world.log_at)]
    at = len(forged) - 1

    def signers(index: int) -> list[Signer]:
        return [world.first_log, world.new_log] if index == at else [world.first_log]

    home = rewritten(world, tmp_path / "fork", signers, lambda i: [world.first_log], forged)
    for pinned in (world.first_log, world.new_log):
        report = verify(address_of(home), public_key=pinned.public_key)
        assert first_wrong(report)[:2] == (5, at)


def test_an_edited_event_is_refused_without_a_key_and_with_another(world: Rotated, tmp_path: Path) -> None:
    forged = predicates(world)
    edited = world.log_at + 2
    forged[edited] = forged[edited].model_copy(update={"time": "2001-01-01T00:00:00.000000Z"})
    stranger = Ed25519Signer.generate()

    def signers(index: int) -> list[Signer]:
        return [stranger] if index == edited else world.event_signers(index)

    home = rewritten(world, tmp_path / "other key", signers, world.head_signers, forged)
    assert first_wrong(judged(home))[:2] == (3, edited)


def _leaf(world: Rotated, index: int, **fields: Any) -> bytes:
    document = json.loads(world.ledger.entry(index).leaf) | fields
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.sqlite_only("the bytes of a leaf are the same on both")
def test_a_stripped_or_swapped_signature_or_payload_type_is_refused(world: Rotated) -> None:
    rotation, other = (json.loads(world.ledger.entry(i).leaf) for i in (world.log_at, world.log_at + 1))
    signatures = rotation["signatures"]
    attacks = {
        "stripped": (world.log_at, {"signatures": signatures[:1]}),
        "only the new": (world.log_at, {"signatures": signatures[1:]}),
        "swapped": (world.log_at, {"signatures": signatures[::-1]}),
        "none": (world.log_at, {"signatures": []}),
        "another's": (world.log_at, {"signatures": [other["signatures"][0], signatures[1]]}),
        "one too many": (world.log_at + 1, {"signatures": [*other["signatures"], signatures[1]]}),
        "type": (world.log_at + 1, {"payloadType": "application/json"}),
        "payload": (world.log_at + 1, {"payload": rotation["payload"]}),
    }
    genuine = {index: world.ledger.entry(index).leaf for index in (world.log_at, world.log_at + 1)}
    for name, (index, fields) in attacks.items():
        with tampering(world.ledger.address) as connection:
            connection.execute(
                'UPDATE log_events SET leaf = ? WHERE "index" = ?', (_leaf(world, index, **fields), index)
            )
        report = verify(world.ledger, public_key=world.first_log.public_key)
        assert first_wrong(report)[:2] == (3, index), name
        with tampering(world.ledger.address) as connection:
            connection.execute('UPDATE log_events SET leaf = ? WHERE "index" = ?', (genuine[index], index))
    assert verify(world.ledger).ok


def test_a_delta_by_a_retired_or_an_unknown_delta_key_is_refused(world: Rotated, tmp_path: Path) -> None:
    """The ledger itself refuses it (`test_keys`); a forger with the log key writes it all the same."""
    from tests.fakes.forger import events_of, forged

    for number, signer in enumerate((world.first_delta, P256Signer.generate())):
        plain = LedgerWorld.make(tmp_path / f"plain{number}")
        plain.record("one")
        events = events_of(plain)
        change = next(event for event in events if event.body["type"] == "change.recorded")
        files = {
            "adapter_config.json": change.sheet("delta.adapter_config").plain,
            "adapter_model.safetensors": change.sheet("delta.adapter_model").plain,
        }
        change.sheet("delta.signature").plain = sign_folder(files, "delta", signer)
        home = forged(plain, events, tmp_path / f"copy{number}")
        plain.close()
        report = judged(home)
        assert first_wrong(report)[:2] == (9, events.index(change))


def test_a_key_is_never_learned_from_a_row(world: Rotated) -> None:
    """Whoever edits the projection can hide a key, and cannot bring one in."""
    thief = Ed25519Signer.generate()
    with tampering(world.ledger.address) as connection:
        connection.execute("UPDATE log_keys SET key = ? WHERE key = ?", (thief.keyid, world.new_log.keyid))
    assert thief.keyid not in {tenure.key.keyid for tenure in world.ledger.key_ring}
    entry = world.ledger.entry(world.log_at + 1)
    leaf = sign_envelope(statement_bytes(entry.predicate, entry.predicate.document()), PAYLOAD_TYPE, thief)
    with tampering(world.ledger.address) as connection:
        connection.execute('UPDATE log_events SET leaf = ? WHERE "index" = ?', (leaf, entry.index))
    with pytest.raises(IntegrityError, match=f"Event {entry.index}"):
        world.ledger.entry(entry.index)
