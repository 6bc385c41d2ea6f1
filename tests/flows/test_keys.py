"""Keys come and go: the log goes on and verifies under every key it had, and a crash leaves nothing half done."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mass_gov.errors import (
    InputError,
    IntegrityError,
    KeyUnavailableError,
    NotFoundError,
    PermissionRefusedError,
    RefusedError,
    StaleChangeError,
)
from mass_gov.evidence import master_key
from mass_gov.evidence.checkpoint import verify_checkpoint
from mass_gov.evidence.dsse import envelope_keyids
from mass_gov.evidence.keyring import Purpose
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.signers import signing_files
from mass_gov.evidence.signing import Ed25519Signer, P256Signer, Signer
from mass_gov.evidence.witness_policy import parse_witness_policy
from mass_gov.flows import keys as flow
from mass_gov.flows.audit import verify
from mass_gov.flows.keys import revoke, rotate, witnessed_size
from mass_gov.ledger import Ledger
from mass_gov.ledger.writing import STEPS
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, KeyRotated
from tests.fakes.engines import address_of
from tests.fakes.ledger_world import ADA, BOB, LedgerWorld
from tests.fakes.neighbours import NOW, Neighbours

pytestmark = pytest.mark.both_engines

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LedgerWorld]:
    """A home with one change."""
    world = LedgerWorld.make(tmp_path / "home")
    world.record("first")
    yield world
    world.close()


def again(folder: Path, **options: Any) -> Ledger:
    """Open a home as another process does."""
    keys = KeyStore.open(folder / "keys")
    return Ledger.open(address_of(folder), keys=keys, checkpoints=folder / "checkpoints", **options)


def sound(folder: Path) -> None:
    """Verify a home with its keys, as its owner and under the first key, as an auditor."""
    with Ledger.open(address_of(folder), keys=None, checkpoints=folder / "checkpoints") as ledger:
        first = ledger.log_key
    for pinned in (None, first):
        report = verify(
            address_of(folder),
            keys=KeyStore.open(folder / "keys"),
            checkpoints=folder / "checkpoints",
            public_key=pinned,
        )
        assert report.ok, report.first_wrong
        assert report.trusted_size is None


@pytest.mark.parametrize("purpose", ["log", "delta"])
def test_the_log_goes_on_under_a_new_key_and_verifies_under_every_one_it_had(
    world: LedgerWorld, purpose: Purpose
) -> None:
    first = world.ledger.key_ring.in_use(purpose)
    done = [rotate(world.ledger, purpose, BOB)]
    world.record("second")
    done.append(rotate(world.ledger, purpose, BOB))
    world.record("third")
    assert [d.old.keyid for d in done] == [first.keyid, done[0].new.keyid]
    assert len(signing_files(world.folder / "keys")) == 2
    sound(world.folder)
    if purpose == "log":
        for pinned in (first, done[0].new, done[1].new):
            report = verify(world.ledger, public_key=pinned)
            assert (report.ok, report.log_key) == (True, pinned.keyid)
    with again(world.folder) as ledger:
        assert ledger.key_ring.in_use(purpose).keyid == done[1].new.keyid
        assert [change.status for change in ledger.changes()] == ["applied"] * 3


def test_a_rotation_is_signed_by_old_and_new_and_so_is_the_head_that_ends_with_it(world: LedgerWorld) -> None:
    log, delta = world.keys.log_signer.keyid, world.keys.delta_signer.keyid
    of_delta, of_log = rotate(world.ledger, "delta", BOB), rotate(world.ledger, "log", BOB)
    signed = [envelope_keyids(world.ledger.entry(done.index).leaf) for done in (of_delta, of_log)]
    assert signed == [(log, delta, of_delta.new.keyid), (log, of_log.new.keyid)]
    head = world.ledger.latest_checkpoint()
    for key in (of_log.old, of_log.new):  # whoever pinned only one of them can check the head
        assert verify_checkpoint(head.note, world.ledger.origin, key).size == of_log.index + 1
    world.record("next")
    with pytest.raises(IntegrityError, match="signed by the key"):
        verify_checkpoint(world.ledger.latest_checkpoint().note, world.ledger.origin, of_log.old)


def test_a_delta_that_was_signed_before_a_rotation_is_refused_after_it_and_can_be_made_again(
    world: LedgerWorld,
) -> None:
    late = world.change_drafts("late")
    rotate(world.ledger, "delta", BOB)
    with pytest.raises(StaleChangeError, match="Ask the task again"):
        world.ledger.append(late)
    world.record("late")
    sound(world.folder)


@pytest.mark.parametrize("actor", [ADA, Actor(principal="olga", role="auditor")])
def test_only_operators_and_admins_decide_about_keys(world: LedgerWorld, actor: Actor) -> None:
    rotate(world.ledger, "log", BOB)
    old = world.ledger.log_key.keyid
    with pytest.raises(PermissionRefusedError, match="operators and admins"):
        rotate(world.ledger, "log", actor)
    with pytest.raises(PermissionRefusedError, match="operators and admins"):
        revoke(world.ledger, old, actor, "It leaked.", compromised=True)
    new = Ed25519Signer.generate()
    body = flow._rotation("log", world.ledger.key_ring.in_use(), new)
    world.keys._held["log"] = {**world.keys._held["log"], new.keyid: new}
    with pytest.raises(PermissionRefusedError):  # and the ledger itself insists
        world.ledger.append([EventDraft(actor, "system", "keys", body)])


def test_a_key_in_use_cannot_be_revoked_and_none_twice_and_an_unknown_one_is_named(world: LedgerWorld) -> None:
    old = rotate(world.ledger, "log", BOB).old
    in_use = world.ledger.key_ring.in_use()
    with pytest.raises(RefusedError, match="rotate it first"):
        revoke(world.ledger, in_use.keyid, BOB, "It leaked.", compromised=True)
    with pytest.raises(InputError, match="believed up to size 99"):
        revoke(world.ledger, old.keyid, BOB, "It leaked.", compromised=True, trusted_size=99)
    tenure = revoke(world.ledger, old.keyid[:12], BOB, "Its machine was given away.", compromised=False)
    assert tenure.revoked is not None
    assert not tenure.revoked.compromised
    with pytest.raises(RefusedError, match="revoked before"):
        revoke(world.ledger, old.keyid, BOB, "It leaked.", compromised=True)
    for unknown in ("ff" * 32, "", old.keyid[:7]):
        with pytest.raises(NotFoundError, match="keys list"):
            revoke(world.ledger, unknown, BOB, "It leaked.", compromised=True)
    sound(world.folder)


def test_after_a_compromise_verify_says_where_trust_ends_and_for_whom(world: LedgerWorld) -> None:
    world.record("seen by witnesses")
    seen = world.ledger.size
    world.record("seen by nobody")
    done = rotate(world.ledger, "log", BOB)
    revoke(world.ledger, done.old.keyid, BOB, "A laptop was stolen.", compromised=True, trusted_size=seen)
    size = world.ledger.size
    early, late = (verify(world.ledger, public_key=key) for key in (done.old, done.new))
    assert (early.ok, early.trusted_size) == (True, seen)
    assert any(f"events {seen} to {size - 1}" in what for what in early.not_checked)
    assert late.trusted_size == seen
    assert any(f"events {seen} to {done.index}:" in what for what in late.not_checked)
    assert not any(f"to {size - 1}" in what for what in late.not_checked)
    assert any("was compromised" in warning for warning in early.warnings)


def test_the_trusted_size_is_that_of_the_newest_head_a_quorum_cosigned(world: LedgerWorld, tmp_path: Path) -> None:
    neighbours = Neighbours.of(world.ledger, tmp_path / "witnesses")
    assert witnessed_size(world.ledger, neighbours.policy, NOW) == 0
    neighbours.cosign(world.ledger, 0, 1)
    seen = world.ledger.size
    world.record("seen by one")
    neighbours.cosign(world.ledger, 2)
    assert witnessed_size(world.ledger, neighbours.policy, NOW) == seen
    assert witnessed_size(world.ledger, parse_witness_policy(b"quorum none\n"), NOW) == 0
    old = rotate(world.ledger, "log", BOB).old
    neighbours.cosign(world.ledger, 0, 1)  # the head that ends with a rotation is signed by both keys
    assert witnessed_size(world.ledger, neighbours.policy, NOW) == world.ledger.size
    revoke(world.ledger, old.keyid, BOB, "It leaked.", compromised=True, trusted_size=seen)
    assert verify(world.ledger, public_key=old).trusted_size == seen


def test_a_stolen_log_key_whose_every_event_was_witnessed_takes_nothing_with_it(world: LedgerWorld) -> None:
    done = rotate(world.ledger, "log", BOB)
    revoke(world.ledger, done.old.keyid, BOB, "It leaked.", compromised=True, trusted_size=world.ledger.size)
    sound(world.folder)


def test_deltas_that_a_stolen_delta_key_signed_are_named(world: LedgerWorld) -> None:
    seen = world.ledger.size
    change = world.record("after")
    done = rotate(world.ledger, "delta", BOB)
    world.record("under the new key")
    revoke(world.ledger, done.old.keyid, BOB, "It leaked.", compromised=True, trusted_size=seen)
    report = verify(world.ledger)
    assert (report.ok, report.trusted_size) == (True, None)
    named = [what for what in report.not_checked if "deltas signed by the stolen key" in what]
    assert [change.change_id in what for what in named] == [True]
    assert "1 deltas" in named[0]


def kill_at(wanted: str) -> Callable[[str], None]:
    """A trip that ends the process at a step as a power cut would."""

    def trip(step: str) -> None:
        if step == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    return trip


def rotate_and_die(folder: Path, purpose: Purpose, step: str) -> None:
    """A process that is killed while it rotates."""
    trip = kill_at(step)
    if step == "half destroyed":

        def nothing_more(path: Path) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        from mass_gov.evidence import signers

        signers.destroy_secret = nothing_more
    with again(folder, trip=trip) as ledger:
        rotate(ledger, purpose, BOB, trip=trip)


@pytest.mark.parametrize("step", [*flow.STEPS, "half destroyed", *(s for s in STEPS if not s.startswith("outside"))])
def test_a_rotation_killed_at_any_step_is_finished_or_undone_by_the_next_opening(tmp_path: Path, step: str) -> None:
    folder = tmp_path / "home"
    world = LedgerWorld.make(folder)
    old, size = world.keys.log_signer.keyid, world.ledger.size
    world.close()
    process = FORK.Process(target=rotate_and_die, args=(folder, "log", step))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with again(folder) as ledger:
        assert ledger.keys is not None
        rotated = ledger.size == size + 1
        assert rotated == (step in ("recorded", "destroyed", "half destroyed", "committed", "done"))
        assert (ledger.keys.log_signer.keyid == old) == (not rotated)
        assert len(signing_files(folder / "keys")) == 2
        assert not list((folder / "keys").glob(".*.retired"))
        rotate(ledger, "log", BOB)
    sound(folder)


def test_of_two_processes_that_rotate_at_once_one_wins_and_the_other_is_refused(world: LedgerWorld) -> None:
    with again(world.folder) as other:
        refused = []

        def meanwhile(step: str) -> None:
            if step == "made":  # the lock is held, and two keys are in the store
                with pytest.raises(RefusedError, match="rotating a key right now") as caught:
                    rotate(other, "delta", BOB)
                refused.append(caught)
                again(world.folder).close()  # an opening leaves the key that is about to be named alone

        done = rotate(world.ledger, "log", BOB, trip=meanwhile)
        assert refused
        with pytest.raises(StaleChangeError, match="another process"):
            rotate(other, "log", BOB)
        assert rotate(other, "log", BOB).old.keyid == done.new.keyid  # who looked again may
    sound(world.folder)


def test_a_process_with_a_retired_key_in_memory_takes_the_new_one_or_refuses(
    world: LedgerWorld, tmp_path: Path
) -> None:
    shutil.copytree(world.folder / "keys", tmp_path / "elsewhere")
    elsewhere = KeyStore.open(tmp_path / "elsewhere")
    with (
        again(world.folder) as beside,
        Ledger.open(address_of(world.folder), keys=elsewhere, checkpoints=world.folder / "checkpoints") as apart,
    ):
        done = rotate(world.ledger, "log", BOB)
        (entry,) = beside.append([world.furniture()[1]])
        assert envelope_keyids(entry.leaf) == (done.new.keyid,)
        with pytest.raises(KeyUnavailableError, match="lacks the log key"):
            apart.append([world.furniture()[1]])
        assert world.ledger.size == entry.index + 1
        assert apart.entry(entry.index).leaf == entry.leaf  # reading needs no private key
    sound(world.folder)


def test_a_back_up_of_the_keys_from_before_a_rotation_cannot_continue_the_log(
    world: LedgerWorld, tmp_path: Path
) -> None:
    shutil.copytree(world.folder / "keys", tmp_path / "back-up")
    rotate(world.ledger, "log", BOB)
    world.close()
    shutil.rmtree(world.folder / "keys")
    shutil.copytree(tmp_path / "back-up", world.folder / "keys")
    before = signing_files(world.folder / "keys")
    with pytest.raises(KeyUnavailableError, match="newer back-up of the keys"):
        again(world.folder)
    assert signing_files(world.folder / "keys") == before  # and nothing was destroyed on the way


def test_a_rotation_is_the_last_event_of_its_append(world: LedgerWorld) -> None:
    new = world.keys.make_signer("log")
    body = flow._rotation("log", world.ledger.key_ring.in_use(), new)
    size = world.ledger.size
    with pytest.raises(InputError, match="write the rotation last"):
        world.ledger.append([EventDraft(BOB, "system", "keys", body), world.furniture()[1]])
    assert world.ledger.size == size


@pytest.mark.sqlite_only("it is about files of keys")
def test_a_new_key_is_protected_as_the_first_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_key, "SCRYPT_N", 2**10)
    keys = KeyStore.open(tmp_path / "keys", "correct horse", create=True)
    ledger = Ledger.open(tmp_path / "ledger.db", keys=keys, checkpoints=tmp_path / "checkpoints", create=True)
    with ledger:
        for purpose in ("log", "delta"):
            rotate(ledger, purpose, BOB)  # type: ignore[arg-type]
    for name in signing_files(tmp_path / "keys"):
        path = tmp_path / "keys" / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(TypeError, match="encrypted"):
            load_pem_private_key(path.read_bytes(), None)
    for passphrase in (None, "wrong"):
        with pytest.raises(KeyUnavailableError, match="passphrase"):
            KeyStore.open(tmp_path / "keys", passphrase)
    assert KeyStore.open(tmp_path / "keys", "correct horse").log_signer.keyid != ledger.log_key.keyid


class Device:
    """Signing keys that live where no file is: what a KMS is to the key store."""

    def __init__(self) -> None:
        self.keys: dict[Purpose, dict[str, Signer]] = {"log": {}, "delta": {}}
        for purpose in self.keys:
            self.make(purpose)

    def held(self, purpose: Purpose) -> Mapping[str, Signer]:
        """Every key that is not destroyed."""
        return dict(self.keys[purpose])

    def make(self, purpose: Purpose) -> Signer:
        """A new key."""
        signer: Signer = Ed25519Signer.generate() if purpose == "log" else P256Signer.generate()
        self.keys[purpose][signer.keyid] = signer
        return signer

    def destroy(self, purpose: Purpose, keyid: str) -> None:
        """Forget a key."""
        self.keys[purpose].pop(keyid, None)

    def tidy(self) -> None:
        """Nothing is ever left half done."""

    def needs_tidying(self) -> bool:
        """Never."""
        return False


@pytest.mark.sqlite_only("it is about where keys live")
def test_signing_keys_may_live_in_a_device_and_no_file_is_ever_made_of_them(tmp_path: Path) -> None:
    device = Device()
    keys = KeyStore.open(tmp_path / "keys", create=True, source=device)
    with Ledger.open(tmp_path / "ledger.db", keys=keys, checkpoints=tmp_path / "c", create=True) as ledger:
        done = [rotate(ledger, purpose, BOB) for purpose in ("log", "delta")]  # type: ignore[arg-type]
        assert verify(ledger).ok
    assert [list(device.keys[d.purpose]) for d in done] == [[d.new.keyid] for d in done]
    assert signing_files(tmp_path / "keys") == []
    with pytest.raises(KeyUnavailableError, match="missing"):
        KeyStore.open(tmp_path / "keys")
    assert KeyStore.open(tmp_path / "keys", source=device).log_signer.keyid == done[0].new.keyid


def test_a_rotation_record_names_keys_and_nothing_secret(world: LedgerWorld) -> None:
    done = rotate(world.ledger, "log", BOB)
    entry = world.ledger.entry(done.index)
    assert isinstance(entry.predicate.body, KeyRotated)
    assert entry.predicate.artifacts == ()
    secret = (world.folder / "keys" / signing_files(world.folder / "keys")[1]).read_bytes()
    for shown in (repr(world.keys), repr(world.keys._source), repr(done), repr(entry), entry.leaf.decode()):
        assert "PRIVATE" not in shown
        assert secret.splitlines()[1].decode() not in shown
