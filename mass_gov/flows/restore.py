"""Back-up and restore: copy a ledger, and bring an older copy up to date.

A database that is older than the newest checkpoint outside is never continued: whoever has a copy of the missing events
would hold two logs under one name. Either the missing events come back, from an export, which is here; or the log is
sealed and another succeeds it (`succession`). Needs no model and no torch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mass_gov.errors import InputError, LedgerUnavailableError
from mass_gov.evidence.export_lines import ExportReader
from mass_gov.evidence.keyfiles import sync_folder
from mass_gov.evidence.keystore import KeyStore
from mass_gov.ledger import Address, Ledger
from mass_gov.ledger.restoring import open_behind


@dataclass(frozen=True, slots=True)
class BroughtUp:
    """How many events a database had, and has now."""

    before: int
    after: int


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
        with open_file(source) as from_, sqlite3.connect(temporary) as to:
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


def open_file(path: Path) -> sqlite3.Connection:
    """Open an embedded ledger's file as it is, to copy it or to fold its write-ahead log in."""
    return sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=30.0)
