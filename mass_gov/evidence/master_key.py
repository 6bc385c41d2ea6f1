"""The master key's file: what a passphrase protects, and everything else in a key store through it.

Without a passphrase: one line of base64. With one: JSON naming scrypt's parameters, and the key wrapped (RFC 3394)
under what scrypt (RFC 7914) makes of the passphrase. The PEM files of signing keys are encrypted under a password
derived from the master key (HKDF, RFC 5869), so that they too are worth the stretching.

This module does not know where a passphrase comes from.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from mass_gov.errors import KeyUnavailableError
from mass_gov.evidence.keyfiles import create_secret, decode_secret, encode_secret, read_secret

KEY_BYTES = 32
MASTER_FORMAT = "mass-gov:master-key:v1"
# OWASP's floor for scrypt: 128 MiB and about 0.3 s, once per process.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**17, 8, 1

_PEM_INFO = b"mass-gov:keystore:pem:v1"


def create_master(path: Path, passphrase: str | None) -> None:
    """Make a master key, unless there is one."""
    create_secret(path, _encode_master(secrets.token_bytes(KEY_BYTES), passphrase))


def is_protected(path: Path) -> bool:
    """Whether a passphrase opens the master key in this file.

    Raises:
        KeyUnavailableError: it cannot be read.
    """
    return read_secret(path).startswith(b"{")


def open_master(path: Path, passphrase: str | None) -> tuple[bytes, bytes | None]:
    """The 32-byte master key, and the password of the PEM files beside it (None without a passphrase). Secret.

    Raises:
        KeyUnavailableError: unreadable, truncated, altered, or a passphrase that is wrong, missing or superfluous.
    """
    data = read_secret(path)
    if not data.startswith(b"{"):
        if passphrase is not None:
            raise _unusable(path, "is not protected by a passphrase, and one was given", "Open it without.")
        return decode_secret(data, KEY_BYTES, path), None
    if not passphrase:
        raise _unusable(path, "is protected by a passphrase", "Give the passphrase in MASS_GOV_PASSPHRASE.")
    salt, n, r, p, wrapped = _parse_master(data, path)
    try:
        master = aes_key_unwrap(_stretch(passphrase, salt, n, r, p), wrapped)
    except (InvalidUnwrap, ValueError) as error:
        raise _unusable(path, "does not open with this passphrase", "Give the right one.") from error
    return master, _pem_password(master)


def _parse_master(data: bytes, path: Path) -> tuple[bytes, int, int, int, bytes]:
    try:
        fields = json.loads(data)
        n, r, p = int(fields["n"]), int(fields["r"]), int(fields["p"])
        salt, wrapped = bytes.fromhex(fields["salt"]), bytes.fromhex(fields["wrapped"])
        known = fields["format"] == MASTER_FORMAT and fields["kdf"] == "scrypt"
    except (ValueError, KeyError, TypeError) as error:
        raise _unusable(path, "is truncated or altered") from error
    # Bounds keep an altered file from asking for all the memory there is.
    if not (known and 2 <= n <= 2**20 and n & (n - 1) == 0 and 1 <= r <= 32 and 1 <= p <= 16):
        raise _unusable(path, "is of an unknown kind")
    return salt, n, r, p, wrapped


def _stretch(passphrase: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return Scrypt(salt=salt, length=KEY_BYTES, n=n, r=r, p=p).derive(passphrase.encode("utf-8"))


def _pem_password(master: bytes) -> bytes:
    derived = HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=_PEM_INFO).derive(master)
    return derived.hex().encode("ascii")


def _encode_master(master: bytes, passphrase: str | None) -> bytes:
    if passphrase is None:
        return encode_secret(master)
    salt = secrets.token_bytes(16)
    wrapped = aes_key_wrap(_stretch(passphrase, salt, SCRYPT_N, SCRYPT_R, SCRYPT_P), master)
    fields: dict[str, str | int] = {"format": MASTER_FORMAT, "kdf": "scrypt"}
    fields |= {"n": SCRYPT_N, "r": SCRYPT_R, "p": SCRYPT_P, "salt": salt.hex(), "wrapped": wrapped.hex()}
    return json.dumps(fields, indent=1).encode("ascii") + b"\n"


def _unusable(path: Path, why: str, remedy: str = "Restore it from a back-up of the keys.") -> KeyUnavailableError:
    return KeyUnavailableError(f"The key file {path} {why}. {remedy}")
