"""Where signing keys live: the port, and the files that implement it.

    log-ed25519.pem         PKCS8, the first key that signs events and checkpoints
    delta-p256.pem          PKCS8, the first key that signs adapter deltas
    log-ed25519-ID.pem      a later one, with ID the first 16 hex digits of its keyid; delta-p256-ID.pem likewise
    .NAME.retired           a key on its way out: never read again, destroyed by whoever opens next

Rules: of each purpose there is one key, but while a rotation is under way, when there are two. Which of them signs is
not said here: the log says it. A new key is on disk before anything names it. A retired one is renamed first and
overwritten then, so that nobody ever reads noise, and a crash in between is finished by the next opening.

A KMS or HSM implements `SignerSource` instead: `held` lists what may be signed with now, `make` returns only once the
new key cannot be lost, `destroy` takes the right to sign away for good (or disables the key version, where a device can
do no more); every call may come from any thread, and again after a crash. Its signers pass what the device returns
through `low_s` when the key is P-256.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mass_gov.errors import KeyUnavailableError
from mass_gov.evidence.keyfiles import create_secret, destroy_secret, read_secret, sync_folder
from mass_gov.evidence.keyring import Purpose
from mass_gov.evidence.signing import Ed25519Signer, P256Signer, Signer

FIRST: dict[Purpose, str] = {"log": "log-ed25519.pem", "delta": "delta-p256.pem"}
"""File name of the first key of each purpose."""

_KEYID_DIGITS = 16
_LATER: dict[Purpose, re.Pattern[str]] = {
    "log": re.compile(r"log-ed25519-([0-9a-f]{16})\.pem"),
    "delta": re.compile(r"delta-p256-([0-9a-f]{16})\.pem"),
}
_RETIRED = re.compile(r"\.(?:log-ed25519|delta-p256)(?:-[0-9a-f]{16})?\.pem\.retired")


class SignerSource(Protocol):
    """Where the private keys of a log live, and how they come and go."""

    def held(self, purpose: Purpose) -> Mapping[str, Signer]:
        """Every key of a purpose that can sign now, by keyid; asked anew each time.

        Raises:
            KeyUnavailableError: there is none, or one that should be there cannot be used.
        """
        ...

    def make(self, purpose: Purpose) -> Signer:
        """A new key, which outlives a crash from the moment that this returns.

        Raises:
            KeyUnavailableError: it cannot be made or kept.
        """
        ...

    def destroy(self, purpose: Purpose, keyid: str) -> None:
        """Make sure that nobody signs with a key again; nothing happens when it is already gone.

        Raises:
            KeyUnavailableError: it cannot be destroyed.
        """
        ...

    def tidy(self) -> None:
        """Finish what a crash left of an earlier `destroy`; under the lock of rotations only."""
        ...

    def needs_tidying(self) -> bool:
        """Whether `tidy` has anything to do."""
        ...


class SignerFiles:
    """Private keys as PEM files in the key store's folder, encrypted where it has a password."""

    def __init__(self, folder: Path, password: bytes | None) -> None:
        self._folder = folder
        self._password = password

    def make_first(self, purpose: Purpose) -> None:
        """Make the first key of a purpose, unless another process was faster."""
        create_secret(self._folder / FIRST[purpose], _new(purpose).private_pem(self._password))

    def held(self, purpose: Purpose) -> Mapping[str, Signer]:
        """As `SignerSource.held`; one file each."""
        paths = self._paths(purpose)
        if not paths:
            raise _unusable(self._folder / FIRST[purpose], "is missing, and there is no later one")
        signers = [self._load(purpose, path) for path in paths]
        found = {signer.keyid: signer for signer in signers if signer is not None}
        return found or self.held(purpose)  # all vanished under our eyes: a rotation put another there first

    def make(self, purpose: Purpose) -> Signer:
        """As `SignerSource.make`: on disk, file and folder, when this returns."""
        signer = _new(purpose)
        create_secret(self._later(purpose, signer.keyid), signer.private_pem(self._password))
        return signer

    def destroy(self, purpose: Purpose, keyid: str) -> None:
        """As `SignerSource.destroy`: renamed, then overwritten and removed."""
        for path in self._paths(purpose):
            signer = self._load(purpose, path)
            if signer is not None and signer.keyid == keyid:
                retired = path.with_name(f".{path.name}.retired")
                try:
                    path.rename(retired)
                    sync_folder(self._folder)
                except OSError as error:
                    raise _unusable(
                        path, f"cannot be retired: {error.strerror}", "Make the folder writable."
                    ) from error
                destroy_secret(retired)

    def tidy(self) -> None:
        """As `SignerSource.tidy`."""
        for path in self._retired():
            destroy_secret(path)

    def needs_tidying(self) -> bool:
        """As `SignerSource.needs_tidying`."""
        return bool(self._retired())

    def __repr__(self) -> str:
        return f"SignerFiles({str(self._folder)!r})"

    def _later(self, purpose: Purpose, keyid: str) -> Path:
        stem = FIRST[purpose].removesuffix(".pem")
        return self._folder / f"{stem}-{keyid[:_KEYID_DIGITS]}.pem"

    def _paths(self, purpose: Purpose) -> list[Path]:
        names = (path.name for path in self._folder.iterdir())
        return [self._folder / n for n in sorted(names) if n == FIRST[purpose] or _LATER[purpose].fullmatch(n)]

    def _retired(self) -> list[Path]:
        return [path for path in sorted(self._folder.iterdir()) if _RETIRED.fullmatch(path.name)]

    def _load(self, purpose: Purpose, path: Path) -> Ed25519Signer | P256Signer | None:
        """The key in a file; None when it was retired since it was listed."""
        try:
            signer = (load_ed25519 if purpose == "log" else load_p256)(path, self._password)
        except KeyUnavailableError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        named = _LATER[purpose].fullmatch(path.name)
        if named is not None and not signer.keyid.startswith(named[1]):
            raise _unusable(path, "holds another key than its name says")
        return signer


def signing_files(folder: Path) -> list[str]:
    """Names of every file in a key store's folder that holds a signing key, or should."""
    names = [path.name for path in sorted(folder.iterdir())]
    return [n for n in names if n in FIRST.values() or any(later.fullmatch(n) for later in _LATER.values())]


def _new(purpose: Purpose) -> Ed25519Signer | P256Signer:
    return Ed25519Signer.generate() if purpose == "log" else P256Signer.generate()


def load_ed25519(path: Path, password: bytes | None) -> Ed25519Signer:
    """The Ed25519 key in a PEM file.

    Raises:
        KeyUnavailableError: missing, unreadable, another kind, or another password's.
    """
    key = _load_pem(path, password)
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable(path, "is not an Ed25519 key")
    return Ed25519Signer(key)


def load_p256(path: Path, password: bytes | None) -> P256Signer:
    """The P-256 key in a PEM file; as `load_ed25519`."""
    key = _load_pem(path, password)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _unusable(path, "is not a P-256 key")
    return P256Signer(key)


def _load_pem(path: Path, password: bytes | None) -> object:
    try:
        return load_pem_private_key(read_secret(path), password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(path, "is truncated, altered or of another key store") from error


def _unusable(path: Path, why: str, remedy: str = "Restore it from a back-up of the keys.") -> KeyUnavailableError:
    return KeyUnavailableError(f"The key file {path} {why}. {remedy}")
