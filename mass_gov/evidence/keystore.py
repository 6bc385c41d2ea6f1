"""The key store: a folder outside the database and outside its back-ups.

    master.key            32 random bytes. Without a passphrase: base64. With one: JSON naming scrypt's parameters, and
                          the key wrapped (RFC 3394) under what scrypt makes of the passphrase
    log-ed25519*.pem      PKCS8: signs events and checkpoints. In a store with a passphrase both PEMs are encrypted
    delta-p256*.pem       PKCS8: signs adapter deltas.   under 256 bits derived from the master key, never under the
                          passphrase itself, because PKCS8 as written here stretches it too little. See `signers`
    .rotation.lock        held by whoever rotates a key, or finishes what a broken-off rotation left
    request.key           HMAC key that blinds short texts, wrapped by the master key; written last: it marks the
                          store as whole
    subjects/H.key        the 32-byte key of subject H, wrapped by the master key
    subjects/H.destroyed  the subject was erased; outlives any restored H.key

Rules: handles are `s-` and 32 hex digits; nothing else becomes a path. A store that lost its master key is never given
a new one, and a store that was used gets no key anew. The system's own subject gets its key first and is never erased:
what decides (policies, suites, reasons) is sealed for it. No key is logged or shown by `repr`.

Signing keys come and go as `signing_keys` says. This module does not know who any other subject is or what its key
seals.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from mass_gov.errors import InputError, KeyUnavailableError, NotFoundError, NotRetainedError, RefusedError
from mass_gov.evidence.keyfiles import (
    check_private_folder,
    create_secret,
    decode_secret,
    destroy_secret,
    encode_secret,
    make_private_folder,
    read_secret,
)
from mass_gov.evidence.master_key import create_master, is_protected, open_master
from mass_gov.evidence.signers import SignerFiles, SignerSource, load_ed25519, signing_files
from mass_gov.evidence.signing import Ed25519Signer
from mass_gov.evidence.signing_keys import SigningKeys

MASTER, REQUEST, SUBJECTS = "master.key", "request.key", "subjects"
SYSTEM_SUBJECT = "s-" + "0" * 32
"""Handle of what belongs to nobody: policies, suites, reasons."""

KEY_BYTES = 32
WRAPPED_BYTES = 40

_HANDLE = re.compile(r"s-[0-9a-f]{32}")


def new_subject_handle() -> str:
    """A random name for a subject: `s-` and 32 hex digits. It says nothing about who the subject is."""
    return f"s-{secrets.token_hex(16)}"


def is_handle(text: str) -> bool:
    """Whether a text has the form of a subject's handle."""
    return _HANDLE.fullmatch(text) is not None


class KeyStore(SigningKeys):
    """The keys of one installation. Open it with `KeyStore.open`.

    Attributes:
        folder: where it lies.
    """

    def __init__(self, folder: Path, master: bytes, request: bytes, source: SignerSource) -> None:
        super().__init__(folder, source)
        self._master = master
        self._request = request

    @classmethod
    def open(
        cls, folder: Path, passphrase: str | None = None, create: bool = False, source: SignerSource | None = None
    ) -> KeyStore:
        """Open a key store, or with `create` make what is missing of a new one.

        Arguments:
            source: where the signing keys live (a KMS, say); None for files in this folder.

        Raises:
            KeyUnavailableError: missing, incomplete, unreadable, truncated, open to others, or a passphrase that is
                wrong, missing or superfluous; the message says what to do.
        """
        if create:
            make_private_folder(folder)
            make_private_folder(folder / SUBJECTS)
        check_private_folder(folder)
        check_private_folder(folder / SUBJECTS)
        if create and not (folder / REQUEST).exists():
            _refuse_orphans(folder)
            _create(folder, passphrase, source)
        master, password = open_master(folder / MASTER, passphrase)
        signers = source or SignerFiles(folder, password)
        return cls(folder, master, _open_wrapped(folder / REQUEST, master), signers)

    @staticmethod
    def is_protected(folder: Path) -> bool:
        """Whether there is a store in `folder` that asks for a passphrase.

        Raises:
            KeyUnavailableError: its master key cannot be read.
        """
        return (folder / MASTER).exists() and is_protected(folder / MASTER)

    def subject_key(self, handle: str, create: bool = False) -> bytes:
        """The 32-byte key of a subject; with `create`, made on first use. Secret.

        Raises:
            InputError: not a handle.
            NotRetainedError: the subject was erased.
            KeyUnavailableError: there is no such key, or it does not open.
        """
        path = self._subject_path(handle)
        self._refuse_erased(handle)
        if create and not path.exists():
            self._refuse_second_system_key(handle, path)
            create_secret(path, encode_secret(aes_key_wrap(self._master, secrets.token_bytes(KEY_BYTES))))
            self._refuse_erased(handle)  # an erasure may have run in between; its mark wins
        return _open_wrapped(path, self._master)

    def destroy_subject(self, handle: str) -> None:
        """Destroy a subject's key for good; what it sealed is erased. Calling again finishes or does nothing.

        Raises:
            InputError: not a handle.
            RefusedError: it is the system's own, under which policies and suites are sealed.
            NotFoundError: no subject of that handle was ever known here.
            KeyUnavailableError: the key cannot be removed.
        """
        path = self._subject_path(handle)
        self._refuse_system(handle)
        if not path.exists() and not self.is_destroyed(handle):
            raise NotFoundError(f"The key store knows no subject {handle}. Check the handle.")
        self.finish_erasure(handle)

    def finish_erasure(self, handle: str) -> None:
        """Make sure that an erased subject's key is gone and marked, also where neither was ever here.

        Whoever calls this knows of the erasure (from the log, say): a restored key store may hold the key again.

        Raises:
            InputError: not a handle.
            RefusedError: it is the system's own.
            KeyUnavailableError: the key cannot be removed.
        """
        path, mark = self._subject_path(handle), self._mark_path(handle)
        self._refuse_system(handle)
        # The mark first: a crash right after it leaves a key that nobody reads any more, and this call finishes it.
        if not mark.exists():
            create_secret(mark, b"")
        destroy_secret(path)

    def holds_key(self, handle: str) -> bool:
        """Whether a subject's key is here, readable or not.

        Raises:
            InputError: not a handle.
        """
        return self._subject_path(handle).exists()

    @contextmanager
    def deciding_about_subjects(self) -> Iterator[None]:
        """Keep every other process from erasing or holding a subject meanwhile (flock on the folder of subjects).

        Between looking whether a legal hold stands and destroying a key, nobody may place one.

        Raises:
            KeyUnavailableError: the folder cannot be locked.
        """
        folder = self.folder / SUBJECTS
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _unusable(folder, f"cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # let go of by closing, and by the kernel after a crash
            yield
        finally:
            os.close(descriptor)

    def is_destroyed(self, handle: str) -> bool:
        """Whether the subject was erased.

        Raises:
            InputError: not a handle.
        """
        return self._mark_path(handle).exists()

    def request_commitment(self, data: bytes) -> str:
        """HMAC-SHA256 of `data` under the request key, hex: names a short text without a guessable digest of it."""
        return hmac.new(self._request, data, hashlib.sha256).hexdigest()

    def derived(self, info: str) -> bytes:
        """A 32-byte key for a purpose of its own: HKDF-SHA256 of the master key, without salt. Secret."""
        return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info.encode("ascii")).derive(
            self._master
        )

    def __repr__(self) -> str:
        return f"KeyStore({str(self.folder)!r})"

    def _refuse_system(self, handle: str) -> None:
        if handle == SYSTEM_SUBJECT:
            raise RefusedError(
                f"The subject {handle} is the system's own: policies, suites and reasons are sealed for it, and "
                "without them no decision can be checked. Erase the subject of the request instead."
            )

    def _refuse_erased(self, handle: str) -> None:
        if handle == SYSTEM_SUBJECT and self.is_destroyed(handle):
            # No erasure makes this mark: somebody put it there to have the checks that need policies skipped.
            mark = self._mark_path(handle)
            raise KeyUnavailableError(f"{mark} says that the system's own key was erased, which never is. Remove it.")
        if self.is_destroyed(handle):
            raise NotRetainedError(f"The subject {handle} was erased. What was sealed for it cannot be read any more.")

    def _refuse_second_system_key(self, handle: str, path: Path) -> None:
        """The system's key is the first that a store makes: where others are, it was lost, and policies with it."""
        others = handle == SYSTEM_SUBJECT and any((self.folder / SUBJECTS).glob("s-*"))
        if others and not path.exists():  # asked again: another process may have made it, and others after it
            raise KeyUnavailableError(f"The key file {path} is missing. Restore it from a back-up of the keys.")

    def _subject_path(self, handle: str) -> Path:
        if not _HANDLE.fullmatch(handle):
            raise InputError(f"{handle!r} is no subject handle. A handle is `s-` and 32 hex digits.")
        return self.folder / SUBJECTS / f"{handle}.key"

    def _mark_path(self, handle: str) -> Path:
        return self._subject_path(handle).with_suffix(".destroyed")


def open_signer(folder: Path, name: str, passphrase: str | None = None, create: bool = False) -> Ed25519Signer:
    """One Ed25519 key in a private folder of its own, under a key store's rules: what a witness has.

    Raises:
        KeyUnavailableError: as `KeyStore.open`.
    """
    check_private_folder(folder)
    if create and not (folder / name).exists():
        create_master(folder / MASTER, passphrase)
    _, password = open_master(folder / MASTER, passphrase)
    if create:
        create_secret(folder / name, Ed25519Signer.generate().private_pem(password))
    return load_ed25519(folder / name, password)


def _create(folder: Path, passphrase: str | None, source: SignerSource | None) -> None:
    """Make what is missing. A crash after any line leaves a store that the next call completes."""
    create_master(folder / MASTER, passphrase)
    master, password = open_master(folder / MASTER, passphrase)  # another process may have been first
    if source is None:
        files = SignerFiles(folder, password)
        files.make_first("log")
        files.make_first("delta")
    create_secret(folder / REQUEST, encode_secret(aes_key_wrap(master, secrets.token_bytes(KEY_BYTES))))


def _refuse_orphans(folder: Path) -> None:
    """Refuse to make keys where keys were used: only a store that no subject was ever in can be half-made."""
    used = [path.name for path in sorted((folder / SUBJECTS).glob("s-*"))]
    orphans = signing_files(folder)
    # Looked at after the others: those are only ever written once a master key, or a request key, stands.
    for lost, others in ((MASTER, [*orphans, *used]), (REQUEST, used)):
        if others and not (folder / lost).exists():
            raise KeyUnavailableError(
                f"{folder / lost} is missing while {others[0]} is there. Restore it from a back-up of the keys; a new "
                "one would not open what was sealed, nor find a task that was asked before."
            )


def _open_wrapped(path: Path, master: bytes) -> bytes:
    wrapped = decode_secret(read_secret(path), WRAPPED_BYTES, path)
    try:
        return aes_key_unwrap(master, wrapped)
    except (InvalidUnwrap, ValueError) as error:
        raise _unusable(path, "does not open with this store's master key") from error


def _unusable(path: Path, why: str, remedy: str = "Restore it from a back-up of the keys.") -> KeyUnavailableError:
    return KeyUnavailableError(f"The key file {path} {why}. {remedy}")
