"""Seal a log that cannot be continued, and begin its successor: a log whose first event names the last known head.

Succeeding, step by step, and what a crash right after each leaves. In every state between, nothing can be appended to
either log, and the same command finishes:

    (a) prepare     the successor stands whole in a folder of its own, which nothing reads; the old log is as it was
    (b) seal file   the old database has another name and is read-only: there is no ledger, and `init` makes none while
                    there are checkpoints outside
    (c) put new     the successor is in place, and refuses to open beside checkpoints of another log
    (d) seal heads  the old log's checkpoints have names that start-up ignores: the successor opens

Nothing is deleted. Subject keys stay as they are: what was sealed in the old log can be read from it as before, and
what was erased stays erased. Stop every other process first; one that has the old file open is refused by (d) at the
next opening, and not before. On a server (a) and (b) are whoever runs it: the old database is set aside, and the
successor is made in the empty one that the address leads to. Needs no model and no torch.
"""

from __future__ import annotations

import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mass_gov.errors import InputError, IntegrityError, MassGovError
from mass_gov.evidence.checkpoint import Checkpoint, read_checkpoint, verify_checkpoint
from mass_gov.evidence.keyfiles import sync_folder
from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows.restore import open_file
from mass_gov.ledger import Address, Ledger
from mass_gov.ledger.outside import OutsideCheckpoints
from mass_gov.records.events import LogOpened, Predecessor

STEPS = ("prepared", "file sealed", "put in place", "heads sealed")
"""The points at which tests end the process."""
STAGING = "ledger.successor"
_SIDE_FILES = ("-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Succeeded:
    """A log that took over: its origin, the sealed head that its first event names, and where the old file lies."""

    origin: str
    predecessor: Predecessor
    sealed_file: Path | None


def succeed(
    where: Address | Path,
    keys: KeyStore,
    checkpoints: Path,
    *,
    owner: Address | None = None,
    trip: Callable[[str], None] = lambda step: None,
) -> Succeeded:
    """Seal the log at its newest known head, and begin a successor whose first event names that head.

    A successor that holds nothing yet is left as it is: there is nothing in it that could be sealed.

    Arguments:
        owner: on a server, as whom the successor's tables are made; None for `where` itself.

    Raises:
        IntegrityError: no signed head of the old log verifies under this key store.
        InputError: on a server, whose database holds another log: nothing here can set it aside.
    """
    database = Address.of(where).path
    if database is None:
        return _succeed_on_server(Address.of(where), keys, checkpoints, owner, trip)
    staging = database.with_name(STAGING)
    sealed = _in_progress(database, staging, checkpoints)
    if sealed is None:
        head = _newest_head(database, keys, checkpoints)
        sealed = Predecessor(origin=head.origin, size=head.size, root=head.root.hex())
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(mode=0o700, parents=True)
        _make(staging, keys, sealed)  # (a)
        trip("prepared")
    old = _sealed_name(database, sealed)
    if _opened(database) != sealed:
        if database.exists():
            _set_aside(database, old)  # (b)
        trip("file sealed")
        (staging / "ledger.sqlite3").replace(database)  # (c)
        sync_folder(database.parent)
    trip("put in place")
    _seal_heads(checkpoints, sealed)  # (d)
    trip("heads sealed")
    shutil.rmtree(staging, ignore_errors=True)
    with Ledger.open(database, keys=keys, checkpoints=checkpoints) as ledger:
        return Succeeded(ledger.origin, sealed, old if old.exists() else None)


def _succeed_on_server(
    where: Address, keys: KeyStore, checkpoints: Path, owner: Address | None, trip: Callable[[str], None]
) -> Succeeded:
    """(c) and (d): the successor in an empty database, or what a crash left of it."""
    size, _ = _outside(checkpoints)
    head = _newest_head(None, keys, checkpoints) if size else None
    named = Predecessor(origin=head.origin, size=head.size, root=head.root.hex()) if head is not None else None
    with tempfile.TemporaryDirectory() as aside:  # the real folder is still the old log's
        ledger = Ledger.open(
            where, keys=keys, checkpoints=Path(aside), create=named is not None, owner=owner, predecessor=named
        )
        with ledger:
            body = ledger.entry(0).predicate.body
            sealed = body.predecessor if isinstance(body, LogOpened) else None
            origin, events = ledger.origin, ledger.size
    if sealed is None or (head is not None and head.origin != origin and sealed != named):
        raise InputError(
            f"{where} holds a log already, {origin}. Keep that database read-only under its name, and set "
            "MASS_GOV_DATABASE_URL to an empty one."
        )
    if (head is None or head.origin == origin) and events > 1:
        raise InputError(
            f"{where} is where {origin} goes on. To seal it, set MASS_GOV_DATABASE_URL to an empty database first."
        )
    trip("put in place")
    _seal_heads(checkpoints, sealed)  # (d)
    trip("heads sealed")
    Ledger.open(where, keys=keys, checkpoints=checkpoints).close()
    return Succeeded(origin, sealed, None)


def sealed_note(checkpoints: Path, predecessor: Predecessor) -> bytes | None:
    """The head at which a predecessor was sealed, as it was kept outside; None where it is not there."""
    for kind in ("cosigned", "checkpoint"):
        path = checkpoints / f"{predecessor.size:020d}.{kind}.{_tail(predecessor)}.sealed"
        if path.is_file():
            return path.read_bytes()
    return None


def _in_progress(database: Path, staging: Path, checkpoints: Path) -> Predecessor | None:
    """What a succession that a crash cut short had sealed; None where none is under way."""
    prepared, standing = _opened(staging / "ledger.sqlite3"), _opened(database)
    if not database.exists() and prepared is not None:
        return prepared  # after (b)
    if standing is None:
        return None
    _, note = _outside(checkpoints)
    if note is not None and read_checkpoint(note).origin == standing.origin:
        return standing  # after (c)
    with Ledger.open(database, keys=None, checkpoints=database.with_name(".none")) as ledger:
        return standing if ledger.size == 1 else None  # after (d): there is nothing yet that could be sealed


def _opened(database: Path) -> Predecessor | None:
    """Which log the one in a file succeeds, unverified; None where there is no such file, or it succeeds none."""
    if not database.is_file():
        return None
    try:
        with Ledger.open(database, keys=None, checkpoints=database.with_name(".none")) as ledger:
            body = ledger.entry(0).predicate.body
    except MassGovError:
        return None
    return body.predecessor if isinstance(body, LogOpened) else None


def _outside(checkpoints: Path) -> tuple[int, bytes | None]:
    outside = OutsideCheckpoints(checkpoints, lambda step: None)
    sizes = outside.sizes()
    return (sizes[-1], outside.note(sizes[-1])) if sizes else (0, None)


def _newest_head(database: Path | None, keys: KeyStore, checkpoints: Path) -> Checkpoint:
    """The newest head of the old log that anybody here knows: outside, or in the database."""
    _, kept = _outside(checkpoints)
    notes = [note for note in (kept, _inside(database) if database is not None else None) if note is not None]
    heads = [head for note in notes if (head := _verified(note, keys)) is not None]
    if not heads:
        raise IntegrityError(
            f"No signed head of a log stands in {checkpoints} or in the database that verifies under this key store. "
            "Give the log's own keys; `mass-gov init` makes a new log where there was none."
        )
    return max(heads, key=lambda head: head.size)


def _inside(database: Path) -> bytes | None:
    """The newest head in the database; None where it cannot be read: it may be damaged, which is why it is sealed."""
    if not database.is_file():
        return None
    try:
        with Ledger.open(database, keys=None, checkpoints=database.with_name(".none")) as ledger:
            return ledger.latest_checkpoint().note
    except MassGovError:
        return None


def _verified(note: bytes, keys: KeyStore) -> Checkpoint | None:
    for key in keys.public_keys("log"):
        try:
            return verify_checkpoint(note, read_checkpoint(note).origin, key)
        except IntegrityError:
            continue
    return None


def _make(staging: Path, keys: KeyStore, sealed: Predecessor) -> None:
    """(a) The successor, whole, with a folder of checkpoints of its own: the real one is still the old log's."""
    Ledger.open(
        staging / "ledger.sqlite3", keys=keys, checkpoints=staging / "checkpoints", create=True, predecessor=sealed
    ).close()


def _set_aside(database: Path, old: Path) -> None:
    """(b) Give the old database its sealed name, read-only; what stands beside it goes first, and is nothing alone."""
    try:
        with open_file(database) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
    except sqlite3.Error:
        pass  # damaged: it is kept as it is, with what stands beside it
    for suffix in _SIDE_FILES:
        side = database.with_name(database.name + suffix)
        if side.exists():
            side.replace(old.with_name(old.name + suffix))
    database.replace(old)
    old.chmod(stat.S_IRUSR)
    sync_folder(old.parent)


def _seal_heads(checkpoints: Path, sealed: Predecessor) -> None:
    """(d) Give the old log's checkpoints names that start-up ignores, the newest last: until then nothing opens."""
    outside = OutsideCheckpoints(checkpoints, lambda step: None)
    for size in outside.sizes():
        for kind in ("checkpoint", "cosigned"):
            path = checkpoints / f"{size:020d}.{kind}"
            if path.is_file() and read_checkpoint(path.read_bytes()).origin == sealed.origin:
                path.replace(path.with_name(f"{path.name}.{_tail(sealed)}.sealed"))
    if checkpoints.is_dir():
        sync_folder(checkpoints)


def _sealed_name(database: Path, sealed: Predecessor) -> Path:
    return database.with_name(f"{database.stem}.{_tail(sealed)}.{sealed.size}.sealed{database.suffix}")


def _tail(sealed: Predecessor) -> str:
    """The part of an origin that tells logs apart, as a file name can hold it."""
    return "".join(c if c.isalnum() or c == "-" else "_" for c in sealed.origin.rpartition("/")[2])
