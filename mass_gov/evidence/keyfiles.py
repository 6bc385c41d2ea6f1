"""Secret files: written once, atomically, for their owner alone, and read with suspicion.

Rules: a secret is created through a temporary file that is linked to its name only when it is whole and on disk, so
that two processes creating at once agree on one secret and a crash leaves none or all of it. It is never overwritten
but to destroy it. Files are 0600 and folders 0700, and this process's own; anything wider is refused, with the command
that mends it. A file is looked at before it is read: a pipe would hang, and a link lead elsewhere. Messages name
paths, never contents.

This module does not know what the secrets are for.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mass_gov.errors import KeyUnavailableError

MAX_SECRET_FILE_BYTES = 16 * 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_private_folder(folder: Path) -> None:
    """Create `folder` (0700) and its parents where missing; an existing one is left as it is.

    Raises:
        KeyUnavailableError: it cannot be created.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise KeyUnavailableError(
            f"The key folder {folder} cannot be created: {error.strerror}. Choose a folder that you may write."
        ) from error


def check_private_folder(folder: Path) -> None:
    """Refuse a key folder that is missing, another user's, or open to others.

    Raises:
        KeyUnavailableError: it is, with what to do.
    """
    try:
        found = folder.stat()
    except OSError as error:
        raise KeyUnavailableError(
            f"There is no key folder at {folder}: {error.strerror}. Restore it from a back-up; `mass-gov init` makes "
            "one where there is no ledger yet."
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise KeyUnavailableError(f"{folder} is not a folder. Move it away, or name another key folder.")
    _check_owner(folder, found)
    if found.st_mode & _OTHERS:
        raise KeyUnavailableError(f"The key folder {folder} is open to others. Run `chmod 700 {folder}`.")


def read_secret(path: Path) -> bytes:
    """The contents of a secret file.

    Raises:
        KeyUnavailableError: missing, unreadable, not a plain file, too long, another user's, or open to others.
    """
    try:
        with _open_plain(path, os.O_RDONLY) as stream:
            found = os.fstat(stream.fileno())
            data = stream.read(MAX_SECRET_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise KeyUnavailableError(f"The key file {path} is missing. Restore it from a back-up of the keys.") from error
    except OSError as error:
        raise KeyUnavailableError(
            f"The key file {path} cannot be read: {error.strerror}. Check its owner and its permissions."
        ) from error
    if len(data) > MAX_SECRET_FILE_BYTES:
        raise _no_key_file(path)
    _check_owner(path, found)
    if found.st_mode & _OTHERS:
        raise KeyUnavailableError(f"The key file {path} is open to others. Run `chmod 600 {path}`.")
    return data


def create_secret(path: Path, data: bytes) -> bytes:
    """Create `path` with `data`, unless it exists; returns what it holds in the end.

    Raises:
        KeyUnavailableError: it cannot be written, or what already stands there cannot be read.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _write_new(temporary, data)  # a crash from here on leaves a dot file that nothing reads
        try:
            path.hardlink_to(temporary)  # the secret exists from here on, whole
        except FileExistsError:
            pass  # another process was first: its secret is the one
        finally:
            temporary.unlink()
        sync_folder(path.parent)  # and survives a power cut from here on
    except OSError as error:
        raise KeyUnavailableError(
            f"The key file {path} cannot be written: {error.strerror}. Make the folder writable, on a disk with room."
        ) from error
    return read_secret(path)


def destroy_secret(path: Path) -> None:
    """Overwrite a secret with random bytes and remove it; nothing happens when it is already gone.

    A crash in between leaves a file of noise or no file; calling again finishes. Copy-on-write file systems, flash
    storage and back-ups may keep older blocks: what protects there is that the secret is itself wrapped.

    Raises:
        KeyUnavailableError: it cannot be removed, or is no plain file: nothing else is overwritten.
    """
    try:
        with _open_plain(path, os.O_RDWR) as stream:
            stream.write(secrets.token_bytes(os.fstat(stream.fileno()).st_size))
            stream.flush()
            os.fsync(stream.fileno())
        path.unlink()
        sync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise KeyUnavailableError(
            f"The key file {path} cannot be destroyed: {error.strerror}. Make it writable and try again."
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold an advisory lock over processes (flock(2)) for the block; gives false at once where another holds it.

    The lock ends with the process, however it ends. The file stays: removing it would let two hold it.

    Raises:
        KeyUnavailableError: the file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KeyUnavailableError(
            f"The lock {path} cannot be opened: {error.strerror}. Make the key folder writable and try again."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        except BlockingIOError:
            mine = False
        yield mine
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def encode_secret(secret: bytes) -> bytes:
    """One line of base64: how binary secrets stand in their files."""
    return base64.b64encode(secret) + b"\n"


def decode_secret(data: bytes, length: int, path: Path) -> bytes:
    """The `length` bytes of a one-line base64 file.

    Raises:
        KeyUnavailableError: truncated or altered.
    """
    try:
        secret = base64.b64decode(data.removesuffix(b"\n"), validate=True)
    except ValueError:
        secret = b""
    if len(secret) != length:
        raise KeyUnavailableError(
            f"The key file {path} is truncated or altered. Restore it from a back-up of the keys."
        )
    return secret


def _open_plain(path: Path, access: int) -> IO[bytes]:
    """Open a plain file; the caller closes it."""
    try:
        # Without O_NONBLOCK opening a pipe waits for its other end, for ever.
        descriptor = os.open(path, access | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _no_key_file(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_key_file(path)
    return os.fdopen(descriptor, "rb" if access == os.O_RDONLY else "r+b")


def _no_key_file(path: Path) -> KeyUnavailableError:
    return KeyUnavailableError(
        f"{path} is not a key file: a plain file of at most {MAX_SECRET_FILE_BYTES} bytes, and no link. Restore it "
        "from a back-up of the keys."
    )


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise KeyUnavailableError(
            f"{path} belongs to another user (uid {found.st_uid}), who can change it. Run as that user, or "
            f"`chown {os.geteuid()} {path}`."
        )


def _write_new(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
