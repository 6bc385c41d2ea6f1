"""Which private key signs now, and how the next one takes over without a moment at which there is none.

The order of a rotation, and what a crash right after each step leaves:

    lock          nothing
    made          two keys. The log uses the old one: the next opening destroys the new one, which nothing names
    recorded      two keys. The log uses the new one: the next opening destroys the old one
    destroyed     one key

Rules: which key is in use is the log's to say (`use`); of two this module knows by itself only that a rotation is under
way or was broken off. A key that the log does not use is destroyed under the lock that a rotation holds over
processes, after asking the log again, and never while the store lacks the key that the log does use. An old key is
destroyed and not kept, because nobody may sign with it again: whoever steals the store later cannot rewrite what
was before.

Where the keys live is `signers`' matter. Safe to use from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from mass_gov.errors import KeyUnavailableError
from mass_gov.evidence.keyfiles import locked
from mass_gov.evidence.keyring import Purpose
from mass_gov.evidence.signers import SignerSource
from mass_gov.evidence.signing import Signer, VerificationKey

LOCK = ".rotation.lock"
PURPOSES: tuple[Purpose, ...] = ("log", "delta")


class SigningKeys:
    """The signing keys of one installation; `KeyStore` adds those that seal.

    Attributes:
        folder: where the key store lies.
    """

    def __init__(self, folder: Path, source: SignerSource) -> None:
        self.folder = folder
        self._source = source
        self._held: dict[Purpose, Mapping[str, Signer]] = {purpose: source.held(purpose) for purpose in PURPOSES}
        self._in_use: Mapping[Purpose, str] = {}
        self._reloading = threading.Lock()

    @property
    def log_signer(self) -> Signer:
        """Ed25519, for events and checkpoints: the one that the log uses.

        Raises:
            KeyUnavailableError: there are two, and no log has said yet which it uses.
        """
        return self._signer("log")

    @property
    def delta_signer(self) -> Signer:
        """P-256, for adapter deltas: as `log_signer`."""
        return self._signer("delta")

    def public_keys(self, purpose: Purpose) -> tuple[VerificationKey, ...]:
        """The public half of every key of a purpose that this store can sign with: one, or two in a rotation."""
        return tuple(signer.public_key for signer in self._held[purpose].values())

    def held(self, purpose: Purpose, keyid: str) -> Signer:
        """A signing key by its keyid, in use or about to be.

        Raises:
            KeyUnavailableError: this store does not have it.
        """
        if keyid not in self._held[purpose]:
            with self._reloading:  # another process may have made it since
                self._held[purpose] = self._source.held(purpose)
        if keyid not in self._held[purpose]:
            raise KeyUnavailableError(
                f"The key store {self.folder} is not the ledger's, or older than it: it lacks the {purpose} key "
                f"{keyid[:16]}, with which the log goes on. Set MASS_GOV_KEYS, or restore a newer back-up of the keys."
            )
        return self._held[purpose][keyid]

    def use(self, in_use: Mapping[Purpose, str]) -> None:
        """Sign with these keys from here on (keyid by purpose): what the log says.

        Raises:
            KeyUnavailableError: this store does not have one of them; nothing is changed.
        """
        if in_use != self._in_use:
            self._in_use = {purpose: self.held(purpose, keyid).keyid for purpose, keyid in in_use.items()}

    def rotation(self) -> AbstractContextManager[bool]:
        """The lock of rotations, over processes; gives false at once where another process holds it."""
        return locked(self.folder / LOCK)

    def make_signer(self, purpose: Purpose) -> Signer:
        """A new key that the log may hand over to; under `rotation` only. It survives a crash when this returns."""
        made = self._source.make(purpose)
        self._held[purpose] = {**self._held[purpose], made.keyid: made}
        return made

    def settle(self, log_says: Callable[[], Mapping[Purpose, str]]) -> None:
        """Destroy the keys that the log does not use, unless a rotation is under way in another process.

        Arguments:
            log_says: asked once the lock is held, because what was read before may be older than the key.

        Raises:
            KeyUnavailableError: the store lacks a key in use (then nothing is destroyed), or cannot destroy one.
        """
        held = {purpose: self._source.held(purpose) for purpose in PURPOSES}
        if all(len(keys) == 1 for keys in held.values()) and not self._source.needs_tidying():
            return
        with self.rotation() as mine:
            if mine:
                self.finish_rotation(log_says())

    def finish_rotation(self, in_use: Mapping[Purpose, str]) -> None:
        """As `settle`, for who holds the lock."""
        self.use(in_use)
        self._source.tidy()
        for purpose, kept in in_use.items():
            for keyid in set(self._source.held(purpose)) - {kept}:
                self._source.destroy(purpose, keyid)
            self._held[purpose] = self._source.held(purpose)

    def _signer(self, purpose: Purpose) -> Signer:
        held, keyid = self._held[purpose], self._in_use.get(purpose)
        if keyid is not None:
            return self.held(purpose, keyid)
        if len(held) > 1:
            raise KeyUnavailableError(
                f"The key store {self.folder} holds {len(held)} {purpose} keys: a rotation is under way, or was broken "
                "off. Open the ledger with it; its log says which is in use."
            )
        return next(iter(held.values()))
