"""The key ring: who is believed at which index, and what a stolen key takes with it."""

from __future__ import annotations

import pytest

from mass_gov.errors import IntegrityError
from mass_gov.evidence.checkpoint import Checkpoint, sign_checkpoint
from mass_gov.evidence.keyring import KeyRing, verify_head
from mass_gov.evidence.signing import Ed25519Signer, P256Signer

ORIGIN = "example.org/log"
ONE, TWO, THREE = (Ed25519Signer.generate() for _ in range(3))
DELTA, NEXT_DELTA = P256Signer.generate(), P256Signer.generate()


@pytest.fixture
def ring() -> KeyRing:
    """Log keys ONE (events 0 to 4), TWO (5 to 9) and THREE; delta keys DELTA (0 to 6) and NEXT_DELTA."""
    ring = KeyRing(ONE.public_key)
    ring.name_delta(DELTA.public_key)
    ring.rotate(4, "log", ONE.keyid, TWO.public_key)
    ring.rotate(6, "delta", DELTA.keyid, NEXT_DELTA.public_key)
    ring.rotate(9, "log", TWO.keyid, THREE.public_key)
    return ring


def test_a_key_is_valid_after_the_event_that_named_it_up_to_the_one_that_hands_over(ring: KeyRing) -> None:
    log = [ring.at(index).keyid for index in range(12)]
    assert log == [ONE.keyid] * 5 + [TWO.keyid] * 5 + [THREE.keyid] * 2
    assert [ring.at(index, "delta").keyid for index in (0, 6, 7)] == [DELTA.keyid, DELTA.keyid, NEXT_DELTA.keyid]
    assert (ring.in_use().keyid, ring.in_use("delta").keyid) == (THREE.keyid, NEXT_DELTA.keyid)


def test_a_rotation_is_signed_by_the_log_key_then_the_old_key_then_the_new_one(ring: KeyRing) -> None:
    new = Ed25519Signer.generate().public_key
    assert [key.keyid for key in ring.signers(11, "log", new)] == [THREE.keyid, new.keyid]
    newer = P256Signer.generate().public_key
    assert [k.keyid for k in ring.signers(11, "delta", newer)] == [THREE.keyid, NEXT_DELTA.keyid, newer.keyid]


def _head(size: int, *signers: Ed25519Signer) -> bytes:
    return sign_checkpoint(Checkpoint(ORIGIN, size, bytes(32)), *signers)


@pytest.mark.parametrize(
    ("size", "signers"),
    [(1, [ONE]), (4, [ONE]), (5, [ONE, TWO]), (6, [TWO]), (7, [TWO]), (10, [TWO, THREE]), (11, [THREE])],
)
def test_a_head_is_signed_by_the_key_of_its_last_event_and_by_the_one_it_hands_over_to(
    ring: KeyRing, size: int, signers: list[Ed25519Signer]
) -> None:
    assert verify_head(_head(size, *signers), ORIGIN, ring).size == size
    for wrong in ([ONE], [TWO], [THREE]):
        if wrong != signers:
            with pytest.raises(IntegrityError, match="signed by the key"):
                verify_head(_head(size, *wrong), ORIGIN, ring)


def test_a_ring_learns_nothing_twice_and_nothing_that_contradicts_it(ring: KeyRing) -> None:
    ring.rotate(4, "log", ONE.keyid, TWO.public_key)
    ring.name_delta(DELTA.public_key)
    assert len(ring) == 5
    with pytest.raises(IntegrityError, match="not the log key in use"):
        ring.rotate(12, "log", ONE.keyid, Ed25519Signer.generate().public_key)
    with pytest.raises(IntegrityError, match="used before"):
        ring.rotate(12, "log", THREE.keyid, ONE.public_key)
    with pytest.raises(IntegrityError, match="takes ed25519"):
        ring.rotate(12, "log", THREE.keyid, P256Signer.generate().public_key)
    with pytest.raises(IntegrityError, match="takes ecdsa-p256"):
        ring.rotate(12, "delta", NEXT_DELTA.keyid, Ed25519Signer.generate().public_key)
    with pytest.raises(IntegrityError, match="another delta key"):
        ring.name_delta(NEXT_DELTA.public_key)
    with pytest.raises(IntegrityError, match="former key"):
        ring.revoke(12, THREE.keyid, True, 3)
    assert ring.in_use().keyid == THREE.keyid


@pytest.mark.parametrize(
    ("stolen", "trusted", "pinned", "gaps"),
    [
        (ONE, 3, None, [(3, 20)]),  # the hand-over of event 4 may be the thief's
        (ONE, 3, ONE, [(3, 20)]),
        (ONE, 3, TWO, [(3, 5)]),  # a later key was pinned: what it signed stands on its own
        (ONE, 3, THREE, [(3, 5)]),
        (ONE, 5, None, []),  # witnesses saw the hand-over: nothing that it signed is in doubt
        (ONE, 0, None, [(0, 20)]),
        (TWO, 3, None, [(5, 20)]),  # it signed nothing before event 5
        (TWO, 7, ONE, [(7, 20)]),
        (TWO, 7, THREE, [(7, 10)]),
    ],
)
def test_after_a_compromise_trust_ends_at_the_trusted_size_seen_from_the_pinned_key(
    ring: KeyRing, stolen: Ed25519Signer, trusted: int, pinned: Ed25519Signer | None, gaps: list[tuple[int, int]]
) -> None:
    ring.revoke(12, stolen.keyid, True, trusted)
    found = ring.doubted(20, pinned.keyid if pinned else None)
    assert [(gap.start, gap.stop) for gap in found] == gaps


def test_a_revocation_without_a_compromise_takes_nothing_back(ring: KeyRing) -> None:
    ring.revoke(12, ONE.keyid, False, 12)
    assert ring.doubted(20) == ()
    with pytest.raises(IntegrityError, match="still counts"):
        ring.revoke(13, ONE.keyid, True, 0)
