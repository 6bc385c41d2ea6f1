"""A witness: somebody else's program, which vouches for heads of logs and remembers what it vouched for.

For each head that it is given, as c2sp.org/tlog-witness orders it for `add-checkpoint`:

    (1) the request has the form of the specification, and its head is of a log that this witness follows
    (2) one of the log's keys that it was given signed the head
    (3) the proof starts from the size that it cosigned last, and the head is no smaller
    (4) the proof holds: what it saw before is a prefix of what it sees now
    (5) the new size and root are on disk, before
    (6) it signs, with the time of its own clock

Rules: a witness has a folder of its own, a key of its own (0600, under a passphrase where one is given) and no
database; it belongs on another machine, in other hands, than the log. Checking and remembering happen under one lock,
so that two requests at once cannot make it forget one. It never looks at events, and vouches for nothing but order.

The folder: `master.key` and `witness-ed25519.pem` (as in a key store), `name`, and `logs/<SHA-256 of the origin>.json`.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mass_gov.errors import InputError, IntegrityError, KeyUnavailableError, NotFoundError, RefusedError
from mass_gov.evidence.add_checkpoint import parse_request
from mass_gov.evidence.canonical import canonical_bytes, parse_canonical
from mass_gov.evidence.checkpoint import (
    Checkpoint,
    check_origin,
    open_note,
    parse_vkey,
    read_checkpoint,
    verify_checkpoint,
    vkey,
)
from mass_gov.evidence.cosignature import WitnessKey, cosign
from mass_gov.evidence.files import whole_file
from mass_gov.evidence.keyfiles import create_secret, make_private_folder, read_secret
from mass_gov.evidence.keystore import open_signer
from mass_gov.evidence.merkle import EMPTY_ROOT, verify_consistency
from mass_gov.evidence.signing import Ed25519Signer, VerificationKey

KEY_FILE, NAME_FILE, LOGS = "witness-ed25519.pem", "name", "logs"
MAX_KEYS = 16
"""Log keys that are believed for one origin: one at a time, and those that it rotated to."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What a witness knows of one log: whose heads it believes, and the last one that it vouched for."""

    origin: str
    keys: tuple[VerificationKey, ...]
    size: int = 0
    root: bytes = EMPTY_ROOT

    def document(self) -> dict[str, object]:
        """Plain JSON values, as they stand in the witness's folder."""
        keys = [vkey(self.origin, key) for key in self.keys]
        root = base64.b64encode(self.root).decode("ascii")
        return {"keys": keys, "origin": self.origin, "root": root, "size": self.size}


class Witness:
    """A witness, opened. Make one with `Witness.create`, open it with `Witness.open`."""

    def __init__(self, folder: Path, name: str, signer: Ed25519Signer) -> None:
        self.folder = folder
        self.name = name
        self._signer = signer

    @classmethod
    def create(cls, folder: Path, name: str, passphrase: str | None = None) -> Witness:
        """Make a witness with a new key; one that is there keeps its key and its name.

        Raises:
            InputError: the name cannot stand in a note, or the folder is another witness's.
            KeyUnavailableError: the folder cannot be written or is open to others.
        """
        check_origin(name)
        make_private_folder(folder)
        make_private_folder(folder / LOGS)
        signer = open_signer(folder, KEY_FILE, passphrase, create=True)
        if create_secret(folder / NAME_FILE, f"{name}\n".encode()) != f"{name}\n".encode():
            raise InputError(f"In {folder} lives a witness of another name. Choose another folder.")
        return cls(folder, name, signer)

    @classmethod
    def open(cls, folder: Path, passphrase: str | None = None) -> Witness:
        """Open a witness.

        Raises:
            KeyUnavailableError: there is none, or its key does not open.
        """
        if not (folder / NAME_FILE).exists():
            raise KeyUnavailableError(f"There is no witness in {folder}. Make one with `mass-gov witness init NAME`.")
        signer = open_signer(folder, KEY_FILE, passphrase)
        return cls(folder, read_secret(folder / NAME_FILE).decode("utf-8").rstrip("\n"), signer)

    @property
    def key(self) -> WitnessKey:
        """Name and public key: what verifiers put into their policy."""
        return WitnessKey(self.name, self._signer.public_key)

    def follow(self, origin: str, key: VerificationKey) -> Followed:
        """Believe heads of the log `origin` under `key` from now on, beside the keys that were given before.

        Raises:
            InputError: it has too many keys already.
        """
        with self._locked():
            known = self._read(origin) or Followed(origin, ())
            if key not in known.keys:
                known = replace(known, keys=(*known.keys, key))
            if len(known.keys) > MAX_KEYS:
                raise InputError(f"{origin} has {MAX_KEYS} keys here already. Ask why it needs another one.")
            self._write(known)
        return known

    def followed(self) -> list[Followed]:
        """Every log that is followed, by origin.

        Raises:
            IntegrityError: what this witness remembers was altered.
        """
        found = [_parse(path.read_bytes(), path) for path in (self.folder / LOGS).glob("*.json")]
        return sorted(found, key=lambda log: log.origin)

    def add_checkpoint(self, request: bytes, now: int) -> str:
        """Vouch for a head, or refuse; returns the cosignature line, its newline included.

        Arguments:
            request: the body of a tlog-witness `add-checkpoint`.
            now: seconds since 1970, by this witness's clock.

        Raises:
            InputError: not a request, or its proof starts beyond its head.
            NotFoundError: a log that is not followed.
            RefusedError: the proof starts from another size than the one cosigned last; the message names that one.
            IntegrityError: the head is not signed by the log, or does not extend what was cosigned: a fork.
        """
        asked = parse_request(request)  # (1)
        claimed = read_checkpoint(asked.checkpoint)
        with self._locked():
            known = self._read(claimed.origin)
            if known is None:
                raise NotFoundError(
                    f"The log {claimed.origin} is not followed here. `mass-gov witness follow KEY` takes its key."
                )
            head = _signed_by_one_of(known, asked.checkpoint)  # (2)
            if asked.old > head.size:
                raise InputError(f"A proof from size {asked.old} does not lead to the smaller {head.size}. Swap them.")
            _refuse_other_size(known, asked.old, head)  # (3)
            _refuse_fork(known, asked.proof, head)  # (4)
            self._write(replace(known, size=head.size, root=head.root))  # (5)
            # A crash here remembers a head that nobody holds a cosignature of: asked again with an empty proof from
            # this size, the witness signs it then.
            return cosign(open_note(asked.checkpoint)[0], self.name, self._signer, now)  # (6)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.folder / LOGS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # let go of by closing, and by the kernel after a crash
            yield
        finally:
            os.close(descriptor)

    def _read(self, origin: str) -> Followed | None:
        path = self._path(origin)
        try:
            return _parse(path.read_bytes(), path)
        except FileNotFoundError:
            return None

    def _write(self, log: Followed) -> None:
        with whole_file(self._path(log.origin)) as stream:
            stream.write(canonical_bytes(log.document()) + b"\n")

    def _path(self, origin: str) -> Path:
        return self.folder / LOGS / f"{hashlib.sha256(origin.encode('utf-8')).hexdigest()}.json"


def _signed_by_one_of(log: Followed, note: bytes) -> Checkpoint:
    """(2): the head, verified under the first of the log's keys that signed it."""
    for key in log.keys:
        try:
            return verify_checkpoint(note, log.origin, key)
        except IntegrityError:
            continue
    raise IntegrityError(f"None of the keys that this witness has for {log.origin} signed this head. Do not trust it.")


def _refuse_other_size(log: Followed, old: int, head: Checkpoint) -> None:
    """(3)"""
    if head.size < log.size:
        raise RefusedError(
            f"This witness cosigned {log.origin} at size {log.size}, and the head has {head.size}: an old head, or a "
            f"log that shrank. Give its newest head, with `mass-gov log prove --from {log.size}`."
        )
    if old != log.size:
        raise RefusedError(
            f"This witness cosigned {log.origin} at size {log.size} last, and the proof starts from {old}. Run "
            f"`mass-gov log prove --from {log.size}`."
        )


def _refuse_fork(log: Followed, proof: tuple[bytes, ...], head: Checkpoint) -> None:
    """(4)"""
    try:
        if head.size == 0 and head.root != EMPTY_ROOT:
            raise IntegrityError("An empty log has one root only.")
        verify_consistency(log.size, head.size, proof, log.root, head.root)
    except IntegrityError as error:
        raise IntegrityError(
            f"The head of size {head.size} does not extend the one of size {log.size} that this witness cosigned for "
            f"{log.origin}: the log was forked, or the proof is another's ({error}) Nothing was signed."
        ) from error


def _parse(data: bytes, path: Path) -> Followed:
    try:
        fields = parse_canonical(data.removesuffix(b"\n"))
        if not isinstance(fields, dict) or not isinstance(fields["keys"], list):
            raise ValueError("it is no object")
        origin, size, root = str(fields["origin"]), fields["size"], base64.b64decode(str(fields["root"]))
        named = [parse_vkey(str(key)) for key in fields["keys"]]
        log = Followed(origin, tuple(key for _, key in named), size if isinstance(size, int) else -1, root)
        if log.document() != fields or log.size < 0 or len(root) != len(EMPTY_ROOT):
            raise ValueError("it is not what was written")
    except (KeyError, ValueError, InputError, IntegrityError) as error:
        raise IntegrityError(
            f"What this witness remembers in {path} was altered ({error}). Restore it from a back-up; without it, the "
            "witness must start anew under another name."
        ) from error
    return log
