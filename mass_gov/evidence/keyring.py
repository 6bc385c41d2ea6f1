"""The key ring: which public key is believed at which index of the log.

A ring starts with the log key that a log was opened with, and learns every other key from an event that was verified
under the keys that it knew before. Whoever reads a log in order feeds it; it never guesses.

    a key is valid      from the event after the one that named it, up to and with the event that hands over from it
    an event            of index i is signed by the log key valid at i, and by no other
    a rotation          of index i is also signed by the purpose's old key (where that is not the log key itself) and by
                        its new one, in this order: log key, old key, new key. All must verify
    a checkpoint        of size n is signed by the log key valid at n - 1, the one that signed its last event, and where
                        that event hands the log over, by the new key as well: so the first and the last head that each
                        key signs overlap, and both signatures must verify
    a delta             recorded at index i is signed by the delta key valid at i
    a compromised key   is believed up to its trusted size: from there to its end nobody knows who signed

What follows a compromise depends on the key that an auditor pinned. Under a key that was pinned before or was itself
compromised, nothing from the trusted size on is believed, because the event that hands over may be the thief's. Under
a key that came in later, only what the stolen key signed from the trusted size on is in doubt.

Handing over binds both ways: the new key's signature over the rotation says which key it succeeds, and the one over the
head that ends with it says after which history. So a later key that was pinned vouches for everything before it, and
somebody who only has the old key cannot put another history under a genuine rotation.

This module knows neither events nor where they are stored.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from mass_gov.errors import IntegrityError
from mass_gov.evidence.checkpoint import Checkpoint, read_checkpoint, verify_checkpoint
from mass_gov.evidence.signing import VerificationKey

Purpose = Literal["log", "delta"]
"""What a key signs: events and checkpoints, or deltas."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """A former key will not be believed as before: said by event `index`; `trusted_size` as in `Tenure.doubted`."""

    index: int
    compromised: bool
    trusted_size: int


@dataclass(frozen=True, slots=True)
class Tenure:
    """One key's time: valid at the indexes `first` to `last`, both included; `last` is None while it is in use."""

    purpose: Purpose
    key: VerificationKey
    first: int
    last: int | None = None
    revoked: Revocation | None = None

    @property
    def doubted(self) -> range:
        """The indexes at which its signatures are not believed: from the trusted size to its end. Mostly empty."""
        if self.revoked is None or not self.revoked.compromised or self.last is None:
            return range(0)
        return range(max(self.first, self.revoked.trusted_size), self.last + 1)


class KeyRing:
    """The keys of one log, as far as it was read. Not safe against concurrent learning; reading is."""

    def __init__(self, log_key: VerificationKey) -> None:
        self._tenures: dict[Purpose, list[Tenure]] = {"log": [Tenure("log", log_key, 0)], "delta": []}
        self._firsts: dict[Purpose, list[int]] = {"log": [0], "delta": []}

    def at(self, index: int, purpose: Purpose = "log") -> VerificationKey:
        """The key that is valid at `index`.

        Raises:
            IntegrityError: no key of this purpose is known yet.
        """
        return self.tenure_at(index, purpose).key

    def tenure_at(self, index: int, purpose: Purpose = "log") -> Tenure:
        """The tenure that covers `index`.

        Raises:
            IntegrityError: no key of this purpose is known yet.
        """
        place = bisect_right(self._firsts[purpose], index) - 1
        if place < 0:
            raise IntegrityError(f"The log names no {purpose} key for event {index}. Restore its first event.")
        return self._tenures[purpose][place]

    def head_signers(self, size: int) -> tuple[VerificationKey, ...]:
        """Who signs the head of `size` leaves, in order: the key of its last event, and the one it hands over to."""
        signer, following = self.at(max(size - 1, 0), "log"), self.at(size, "log")
        return (signer,) if signer.keyid == following.keyid else (signer, following)

    def in_use(self, purpose: Purpose = "log") -> VerificationKey:
        """The key that is valid for the next event.

        Raises:
            IntegrityError: no key of this purpose is known yet.
        """
        if not self._tenures[purpose]:
            raise IntegrityError(f"The log names no {purpose} key. Restore its first event.")
        return self._tenures[purpose][-1].key

    def find(self, keyid: str) -> Tenure | None:
        """The tenure of a key; None when the log never named it (yet)."""
        return next((tenure for tenure in self if tenure.key.keyid == keyid), None)

    def __iter__(self) -> Iterator[Tenure]:
        """Every tenure: the log keys in order, then the delta keys."""
        yield from self._tenures["log"]
        yield from self._tenures["delta"]

    def signers(self, index: int, purpose: Purpose, new: VerificationKey) -> tuple[VerificationKey, ...]:
        """Who must sign a rotation of `purpose` to `new` at `index`, in the order of the signatures."""
        log = self.at(index, "log")
        return (log, new) if purpose == "log" else (log, self.at(index, purpose), new)

    def name_delta(self, key: VerificationKey) -> None:
        """Learn the first delta key from the event that opens the log; saying it again changes nothing.

        Raises:
            IntegrityError: another one is known, or it is no P-256 key.
        """
        if self._tenures["delta"]:
            if self._tenures["delta"][0].key.keyid != key.keyid:
                raise IntegrityError("The log was opened with another delta key. Restore its first event.")
            return
        _check_kind("delta", key, 0)
        self._add(Tenure("delta", key, 0))

    def rotate(self, index: int, purpose: Purpose, old: str, new: VerificationKey) -> None:
        """Learn from a verified rotation at `index` that the key `old` hands over to `new`; again changes nothing.

        Raises:
            IntegrityError: `old` is not the key in use, or `new` was used before or is of another kind.
        """
        known = self.find(new.keyid)
        if known is not None and (known.purpose, known.first) == (purpose, index + 1):
            return
        current = self._tenures[purpose][-1] if self._tenures[purpose] else None
        if current is None or current.key.keyid != old or index < current.first:
            raise IntegrityError(f"Event {index} hands over from {old[:16]}, which is not the {purpose} key in use.")
        if known is not None:
            raise IntegrityError(f"Event {index} hands over to the key {new.keyid[:16]}, which was used before.")
        _check_kind(purpose, new, index)
        self._tenures[purpose][-1] = replace(current, last=index)
        self._add(Tenure(purpose, new, index + 1))

    def revoke(self, index: int, keyid: str, compromised: bool, trusted_size: int) -> None:
        """Learn from a verified revocation at `index`; saying it again changes nothing.

        Raises:
            IntegrityError: the key is unknown, in use, or was revoked otherwise.
        """
        tenure, revoked = self.find(keyid), Revocation(index, compromised, trusted_size)
        if tenure is None or tenure.last is None or tenure.revoked not in (None, revoked):
            raise IntegrityError(f"Event {index} revokes {keyid[:16]}, which is not a former key that still counts.")
        kept = self._tenures[tenure.purpose]
        kept[kept.index(tenure)] = replace(tenure, revoked=revoked)

    def doubted(self, size: int, pinned: str | None = None) -> tuple[range, ...]:
        """Indexes below `size` that are not believed after a compromise of log keys, in order, seen from a pinned key.

        Arguments:
            pinned: keyid of the log key that is trusted from outside; None for the first one.
        """
        anchor = self.find(pinned) if pinned is not None else None
        start = anchor.first if anchor is not None else 0
        found: list[range] = []
        for tenure in self._tenures["log"]:
            if not (gap := tenure.doubted):
                continue
            if start <= gap[-1]:  # the hand-over itself is in doubt, and with it every key after it
                return (*found, range(gap[0], max(size, gap[0])))
            found.append(range(gap[0], min(gap.stop, size)))
        return tuple(found)

    def __len__(self) -> int:
        return sum(map(len, self._tenures.values()))

    def _add(self, tenure: Tenure) -> None:
        self._tenures[tenure.purpose].append(tenure)
        self._firsts[tenure.purpose].append(tenure.first)


def verify_head(note: bytes, origin: str, keys: KeyRing) -> Checkpoint:
    """Verify a checkpoint of the log `origin` under every key that signs the head of its size.

    Raises:
        IntegrityError: as `verify_checkpoint`.
    """
    checkpoint = read_checkpoint(note)
    for key in keys.head_signers(checkpoint.size):
        checkpoint = verify_checkpoint(note, origin, key)
    return checkpoint


def _check_kind(purpose: Purpose, key: VerificationKey, index: int) -> None:
    wanted = "ed25519" if purpose == "log" else "ecdsa-p256"
    if key.algorithm != wanted:
        raise IntegrityError(f"Event {index} names a {key.algorithm} key for the {purpose}, which takes {wanted}.")
