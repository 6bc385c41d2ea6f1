"""Back-up and restore: copy a ledger, bring an older copy up to date, or seal a log and begin its successor.

A database that is older than the newest checkpoint outside is never continued: whoever has a copy of the missing events
would hold two logs under one name. Either the missing events come back, from an export (`bring_up_to_date`), or the log
ends where its last signed head says, and another begins that names that head in its first event (`succeed`).

Succeeding, step by step, and what a crash right after each leaves. In every state between, nothing can be appended to
either log, and the same command finishes:

    (a) prepare     the successor stands whole in a folder of its own, which nothing reads; the old log is as it was
    (b) seal file   the old database has another name and is read-only: there is no ledger, and `init` makes none while
                    there are checkpoints outside
    (c) put new     the successor is in place, and refuses to open beside checkpoints of another log
    (d) seal heads  the old log's checkpoints have names that start-up ignores: the successor opens

Nothing is deleted. Subject keys stay as they are: what was sealed in the old log can be read from it as before, and
what was erased stays erased. Stop every other process first; one that has the old file open is refused by (d) at the
next opening, and not before.
"""

from __future__ import annotations

import shutil
import sqlite3
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mass_gov.errors import InputError, IntegrityError, LedgerUnavailableError, MassGovError
from mass_gov.evidence.checkpoint import Checkpoint, read_checkpoint, verify_checkpoint
from mass_gov.evidence.export_lines import ExportReader
from mass_gov.evidence.keyfiles import sync_folder
from mass_gov.evidence.keystore import KeyStore
from mass_gov.ledger import Address, Ledger
from mass_gov.ledger.outside import OutsideCheckpoints
from mass_gov.ledger.restoring import open_behind
from mass_gov.records.events import LogOpened, Predecessor

STEPS = ("prepared", "file sealed", "put in place", "heads sealed")
"""The points at which tests end the process."""
STAGING = "ledger.successor"
_SIDE_FILES = ("-wal", "-shm")


@dataclass(frozen=True, slots=True)
class BroughtUp:
    """How many events a database had, and has now."""

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Succeeded:
    """A log that took over: its origin, the sealed head that its first event names, and where the old file lies."""

    origin: str
    predecessor: Predecessor
    sealed_file: Path | None


def back_up(source: Path, target: Path) -> None:
    """Copy an embedded ledger as it stands at one moment, while others may go on writing.

    Keys and checkpoints are no part of it, and do not belong beside it.

    Raises:
        InputError: there is something under that name already.
        LedgerUnavailableError: the ledger cannot be read, or the copy cannot be written.
    """
    if target.exists():
        raise InputError(f"{target} exists already, and a back-up overwrites nothing. Give another name.")
    if not source.is_file():
        raise LedgerUnavailableError(f"There is no ledger at {source}. Set MASS_GOV_HOME to where it lies.")
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        temporary.touch(mode=0o600)
        with _open(source) as from_, sqlite3.connect(temporary) as to:
            from_.backup(to)
            to.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it
        from_.close()
        to.close()
        temporary.replace(target)  # a crash before this leaves a dot file that the next back-up removes
        sync_folder(target.parent)
    except sqlite3.Error as error:
        raise LedgerUnavailableError(f"The back-up {target} cannot be made: {error}. Check the disk.") from error


def bring_up_to_date(
    where: Address | Path,
    keys: KeyStore,
    checkpoints: Path,
    export: Path,
    *,
    without_artifacts: bool = False,
    timeout: float = 30.0,
    trip: Callable[[str], None] = lambda step: None,
) -> BroughtUp:
    """Replay the events that a restored database lacks, from an export of the log; all of them, or nothing.

    Raises:
        IntegrityError: the export is not whole, not genuine, another log's, or does not reach the checkpoints outside.
        InputError: sealed artifacts did not come along.
        LedgerUnavailableError: the database cannot be read or written.
    """
    ledger = open_behind(where, keys, checkpoints, timeout=timeout, trip=trip)
    try:
        with export.open("rb") as stream:
            reader = ExportReader(stream)
            before, after = ledger.take(iter(reader), lambda: reader.closing, without_artifacts=without_artifacts)
    finally:
        ledger.close()
    Ledger.open(where, keys=keys, checkpoints=checkpoints, timeout=timeout).close()  # everything that start-up checks
    return BroughtUp(before, after)


def succeed(
    where: Address | Path, keys: KeyStore, checkpoints: Path, *, trip: Callable[[str], None] = lambda step: None
) -> Succeeded:
    """Seal the log at its newest known head, and begin a successor whose first event names that head.

    A successor that holds nothing yet is left as it is: there is nothing in it that could be sealed.

    Raises:
        IntegrityError: no signed head of the old log verifies under this key store.
        InputError: on a server, whose old database nothing here can set aside.
    """
    database = Address.of(where).path
    if database is None:
        raise InputError(
            "A server's database cannot be set aside from here. Keep it read-only under its name, make an empty one, "
            "and see docs/how-to/back-up-and-restore.md."
        )
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


def _newest_head(database: Path, keys: KeyStore, checkpoints: Path) -> Checkpoint:
    """The newest head of the old log that anybody here knows: outside, or in the database."""
    _, kept = _outside(checkpoints)
    notes = [note for note in (kept, _inside(database)) if note is not None]
    heads = [head for note in notes if (head := _verified(note, keys)) is not None]
    if not heads:
        raise IntegrityError(
            f"No signed head of a log stands in {checkpoints} or {database} that verifies under this key store. Give "
            "the log's own keys; `mass-gov init` makes a new log where there was none."
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
        with _open(database) as connection:
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


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=30.0)
